"""The inner loop: load, transform and test without any server, in a warehouse of its own.

It runs the very plugins and models of the pipeline, by one call of Meltano, on the same extracts. Warehouse,
Meltano's state (SQLite) and dbt's folders stand under `.state/inner`, so the stack's are never touched, and both may
run at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import yaml

from elt import environment, extracts, layout, quality
from elt.errors import DataError

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from elt.settings import Settings

LOAD = ("tap-csv", "target-duckdb")
DBT = "dbt-duckdb"
QUOTED = "quoted"
LOG = "run.log"

_PREFIX = re.compile(r"^\S+Z \[\w+ *\] (?P<plugin>\S+) *(?P<text>.*)$")
"""What Meltano puts before a line: time, level, plugin. Lines without it go on with the one before."""
_LOADING = re.compile(r"(?P<table>\w+): (?P<rows>\d+) rows loaded into ")
_RESULT = re.compile(r"\d+ of \d+ (?P<result>OK created|FAIL|ERROR|WARN) ?(?P<what>.+?) [. ]*\[(?P<how>.+)\]$")
_FAILED = re.compile(r"Failure in (?P<what>\w+ \w+)")
_WHY = re.compile(
    r"[A-Z]\w+ Error: |This model has an enforced contract|Got \d+ results?|actual differs from expected"
)
_HEAD = re.compile(r"(Compilation|Parsing|Runtime|Database|Dependency) Error( in (?P<where>.+))?$")
"""Above what dbt says of an error, which begins in the next line."""
_ENCOUNTERED = "Encountered an error:"
"""Above the error that keeps dbt from building anything."""
_RAW = "Raw Error:"
_READING = re.compile(r"Error reading \w+: (?P<where>\S+) - ")
_PLACE = re.compile(r'(in "<unicode string>", )?(?P<place>line \d+(, column \d+)?)$')
_MISMATCH = re.compile(r" *\| (?P<column>\w+) +\| (?P<model>.*?) *\| (?P<contract>.*?) *\| (?P<how>\w+( \w+)+) *\|$")
"""A line of the table in which dbt says where a model and its contract differ."""
_NOISE = re.compile(
    r"METRIC: |Skipping parse of env|sys:1: |ResourceWarning|Beginning sync|(Block r|R)un completed|$"
)
_TOTALS = re.compile(r"Done\. PASS=\d+")


def run(settings: Settings, select: Sequence[str], *, full_refresh: bool = False) -> None:
    """Load the extracts if they changed, build and test the models, and compare the result with the extracts.

    Args:
        settings: the checked settings.
        select: dbt selection; empty for all models. With one the comparison is left out, since models that
            were not built may be older than the extracts.
        full_refresh: load even unchanged extracts, and build incremental models anew.

    Raises:
        DataError: a step failed; the message says why and where the log is.
    """
    started = time.perf_counter()
    layout.prepare()
    layout.INNER.mkdir(exist_ok=True)
    with _alone():
        listed = extracts.ensure()
        warehouse = layout.warehouse(settings.elt_environment, layout.INNER)
        if select and not warehouse.exists() and not any(one.startswith("+") for one in select):
            raise DataError(
                f"run: nothing is built in {layout.INNER} yet: run `elt run` once, or `elt run +{select[0]}`"
            )
        stamp, inputs = warehouse.with_suffix(".loaded.json"), _inputs(listed)
        load = full_refresh or not warehouse.exists() or not stamp.exists() or stamp.read_text() != inputs
        if load:
            stamp.unlink(missing_ok=True)
        else:
            print("load: skipped, the extracts are as they were at the last load (--full-refresh loads anew)")
        build = "build" + ("-selected" if select else "") + ("-full-refresh" if full_refresh else "")
        blocks = [*(LOAD if load else ()), f"{DBT}:{build}"]
        env = environment.build(settings, inner=True) | {"ELT_SELECT": " ".join(select)}
        print(f"run: meltano run {' '.join(blocks)} (log: {layout.INNER / LOG})", flush=True)
        outcome = _Outcome(started)
        code = _meltano(blocks, env, outcome)
        if load and outcome.loaded:
            stamp.write_text(inputs)  # of before the load: what changed meanwhile is loaded the next time
        if code != 0:
            raise DataError(f"run: {outcome.reason()} (log: {layout.INNER / LOG})")
        if select:
            print("quality: left out, since only a part was built; elt run compares all")
        else:
            quality.check(layout.EXTRACT, warehouse)
    print(f"run: done in {time.perf_counter() - started:.1f} s; `elt sql --inner` opens the result")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Refuse a second run at the same time, since the warehouse takes one writer."""
    with (layout.INNER / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError("run: another `elt run` is at work in this clone: wait for it") from None
        yield


def _inputs(listed: Sequence[extracts.Extract]) -> str:
    """Size and time of all that decides on the raw tables, to tell whether a load would change anything."""
    connectors = (layout.MELTANO_PROJECT / "connectors").rglob("src/**/*.py")
    paths = [*connectors, extracts.MELTANO_YML, layout.ROOT / "uv.lock"]
    paths += [path for one in listed for path in one.files()]
    states = {str(path): path.stat() for path in paths}
    return json.dumps({path: [state.st_size, state.st_mtime_ns] for path, state in states.items()})


def _meltano(blocks: Sequence[str], env: dict[str, str], outcome: _Outcome) -> int:
    """Run the blocks; every line goes to the log, and through the outcome to the person. Returns the exit code."""
    # The guard leaves nothing of Meltano's tap and target behind, whatever ends this process. A run that was
    # killed is still noted as running, hence --force; that no other runs is known from the lock.
    guard = str(Path(sys.prefix) / "bin" / "elt-guard")
    command = [guard, "-t", "5", "meltano", "run", "--force", *blocks]
    with (
        (layout.INNER / LOG).open("w") as log,
        subprocess.Popen(
            command,
            cwd=layout.MELTANO_PROJECT,  # relative paths of meltano.yml count from there
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                outcome.take(line.rstrip())
        except BaseException:
            process.terminate()
            raise
        return process.wait()


def reason(lines: Iterable[str]) -> str:
    """Why a run of Meltano failed, out of what it printed."""
    outcome = _Outcome()
    for line in lines:
        outcome.take(line)
    return outcome.reason()


def _encountered(lines: Sequence[str]) -> str:
    """An error that kept dbt from building anything: file or model, place and reason."""
    head = _HEAD.match(lines[0])
    where = head["where"] if head else None
    told = [*lines[1:]] if head and len(lines) > 1 else [*lines]
    if reading := _READING.match(told[0]):
        where = reading["where"]
    if _RAW in told:  # of YAML that cannot be read; above it stand lines of the file
        where = where or _unreadable()
        told = told[told.index(_RAW) + 2 :]
        places = [place["place"] for line in told if (place := _PLACE.match(line))]
        told = [", ".join(line for line in told if not _PLACE.match(line))]
    else:  # below the reason may follow the line of a template, with its text
        places = [place["place"] for line in told[1:2] if (place := _PLACE.match(line))]
    return ": ".join(filter(None, (", ".join(filter(None, (where, *places[-1:]))), told[0])))


def _unreadable() -> str | None:
    """The file that dbt does not name when it cannot read it: one of those that it begins with."""
    for name in ("dbt_project.yml", "profiles.yml"):
        try:
            yaml.safe_load((layout.DBT_PROJECT / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return name
    return None


class _Outcome:
    """Reads Meltano's output: prints progress, and keeps what explains a failure.

    Args:
        started: what progress counts from, as time.perf_counter() has it; none prints nothing.
    """

    def __init__(self, started: float | None = None) -> None:
        self.loaded = False
        """Whether dbt began, which it does only after a complete load."""
        self._started = started
        self._plugin = "meltano"
        self._lines: list[tuple[str, str]] = []
        self._failed: list[str] = []

    def take(self, line: str) -> None:
        """Take one line of output."""
        prefixed = _PREFIX.match(line)
        if prefixed:
            self._plugin, text = prefixed["plugin"], prefixed["text"]
        else:
            text = line
        if self._plugin == DBT:
            self.loaded = True
            text = re.sub(r"^(\x1b\[0m)?\d\d:\d\d:\d\d *", "", text)
        text = text.strip()
        before = self._lines[-1][1] if self._lines else ""
        if not _NOISE.match(text):
            # what Meltano only quotes, such as the standard error of a discovery, has no prefix
            self._lines.append((self._plugin if prefixed else QUOTED, text))
        if loading := _LOADING.search(text):
            self._say(f"load   raw.{loading['table']}: {int(loading['rows']):,} rows")
        elif result := _RESULT.match(text):
            self._say(f"dbt    {result['result']} {result['what']} [{result['how']}]")
        elif _TOTALS.match(text) or text.startswith("dropped "):
            self._say(f"dbt    {text}")
        if failed := _FAILED.match(text):
            self._failed.append(failed["what"])
        elif self._failed and ": " not in self._failed[-1] and (_WHY.match(text) or _HEAD.match(before)):
            self._failed[-1] += f": {text}"
        elif self._failed and (found := _MISMATCH.match(text)):
            model, contract = found["model"] or "nothing", found["contract"] or "nothing"
            self._failed[-1] += f" {found['column']}: {found['how']}, model {model}, contract {contract}."

    def _say(self, text: str) -> None:
        if self._started is not None:
            print(f"{time.perf_counter() - self._started:6.1f} s  {text}", flush=True)

    def reason(self) -> str:
        """Why the run failed, as far as the output tells: what dbt names, or the plugin's last word."""
        if self._failed:
            more = f" (and {len(self._failed) - 1} more)" if len(self._failed) > 1 else ""
            return f"dbt: {self._failed[0]}{more}"
        said = [text for plugin, text in self._lines if plugin == DBT]
        if _ENCOUNTERED in said[:-1]:
            return f"dbt: {_encountered(said[said.index(_ENCOUNTERED) + 1 :])}"
        if self.loaded:
            return self._last(DBT)
        if any(re.search("Extractor (and loader )?failed", text) for _, text in self._lines):
            return self._last("tap-csv")
        if any("Loader failed" in text for _, text in self._lines):
            return self._last("target-duckdb")
        return self._last(QUOTED, "meltano")

    def _last(self, *plugins: str) -> str:
        """The last line of the first of these plugins that said anything."""
        for wanted in plugins:
            if said := [text for plugin, text in self._lines if plugin == wanted]:
                return said[-1]
        return "meltano failed"
