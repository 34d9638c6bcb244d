"""Parse the output of Meltano: print progress, and find out why a run failed."""

from __future__ import annotations

import re
import time
import typing as t
from dataclasses import dataclass

import yaml

from elt import layout

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


DBT = "dbt-duckdb"
QUOTED = "quoted"
COMMAND_ENDED = "Command exited with return code"
"""Prefix of the line that a task logs after the output of a command."""
_PREFIX = re.compile(r"^\S+Z \[\w+ *\] (?P<plugin>\S+) *(?P<text>.*)$")
"""Pattern of the time, level and plugin that Meltano puts before a line. Lines without it continue the one before."""
_LOADING = re.compile(r': (?P<rows>\d+) rows loaded into .*?"(?P<schema>[^"]+)"\."(?P<table>[^"]+)"$')
_JUDGED = re.compile(
    r"(tap-csv|target-duckdb): (?P<what>.+(, column .+: kept as text, .+| rows do not fit, .+| of the same key"
    r"| rows are gone from the source, .+| rows of the source are not in .+))$"
)
"""Pattern of a line that only the author of the model can judge."""
_REFUSED = re.compile(r"tap-csv: (?P<file>.+?), line \d+[:,]")
"""Pattern of an error of the tap about a place in a file."""
_RESULT = re.compile(
    r"\d+ of \d+ (?P<result>OK created|OK snapshotted|FAIL|ERROR|WARN) ?(?P<what>.+?) [. ]*\[(?P<how>.+)\]$"
)
_FAILED = re.compile(r"Failure in (?P<what>\w+ \w+)")
_HEAD = re.compile(r"(Compilation|Parsing|Runtime|Database|Dependency) Error( in (?P<where>.+))?$")
"""Pattern of the line above an error of dbt."""
_ENCOUNTERED = "Encountered an error:"
"""Line above an error that keeps dbt from building anything."""
_RAW = "Raw Error:"
_READING = re.compile(r"Error reading \w+: (?P<where>\S+) - ")
_PLACE = re.compile(r'(in "<unicode string>", )?(?P<place>line \d+(, column \d+)?)$')
_MISMATCH = re.compile(r" *\| (?P<column>\w+) +\| (?P<model>.*?) *\| (?P<contract>.*?) *\| (?P<how>\w+( \w+)+) *\|$")
"""Pattern of a row of the table in which dbt shows how a model differs from its contract."""
_NOISE = re.compile(
    r"METRIC: |Skipping parse of env|sys:1: |ResourceWarning|Beginning sync|(Block r|R)un completed|$"
)
_TOTALS = re.compile(r"Done\. PASS=\d+")
_COMPILED = re.compile(r"compiled code at (?P<path>.+)$")
_DATABASE = re.compile(r"\b(?P<kind>[A-Z]\w+(?: [A-Z]\w+)*) Error: ")
"""Pattern of the beginning of an error of DuckDB."""
_DRAWING = re.compile(r"LINE \d+: ")
"""Pattern of the first line of the excerpt of the query that DuckDB shows below an error."""
ERROR_LINES = 4
"""Lines of an error of DuckDB that are shown: after a call with wrong types it lists all functions."""
FINAL = {
    *("Binder", "Catalog", "Constraint", "Conversion", "Invalid Input", "Mismatch Type", "Not implemented"),
    *("Out of Range", "Parser", "Syntax"),
}
"""Kinds of errors of DuckDB caused by the statement or the data. Others (lock, connection, memory) are transient."""
_OF_PROJECT = re.compile(r"(Compilation|Parsing) Error")
_OF_RESULT = re.compile(r"This model has an enforced contract|Got \d+ results?|actual differs from expected")
_PLACED = re.compile(r"\b(line \d+|column (['\"]).*?\2): ")
"""Pattern of the position of a value in the input that a tap or the target refuses."""


def reason(lines: Iterable[str]) -> str:
    """Return why a run of Meltano failed, by its output."""
    outcome = Outcome()
    for line in lines:
        outcome.take(line)
    return outcome.reason()


def _encountered(lines: Sequence[str]) -> str:
    """Summarize an error that kept dbt from building anything: file or model, position and reason."""
    head = _HEAD.match(lines[0])
    where = head["where"] if head else None
    message = [*lines[1:]] if head and len(lines) > 1 else [*lines]
    if reading := _READING.match(message[0]):
        where = reading["where"]
    if _RAW in message:  # of YAML that cannot be read; above it stand lines of the file
        where = where or _unreadable()
        message = message[message.index(_RAW) + 2 :]
        places = [place["place"] for line in message if (place := _PLACE.match(line))]
        message = [", ".join(line for line in message if not _PLACE.match(line))]
    else:  # below the reason may follow the line of a template, with its text
        places = [place["place"] for line in message[1:2] if (place := _PLACE.match(line))]
    return ": ".join(filter(None, (", ".join(filter(None, (where, *places[-1:]))), message[0])))


def _unreadable() -> str | None:
    """Return which of dbt's first two files is no valid YAML, since dbt does not name it."""
    for name in ("dbt_project.yml", "profiles.yml"):
        try:
            yaml.safe_load((layout.DBT_PROJECT / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return name
    return None


@dataclass
class _Failure:
    """Collect what dbt prints of a model or test that failed."""

    what: str
    why: str = ""
    head: str = ""
    compiled: str = ""
    open_lines: int = 0
    """Number of further lines that may belong to an error of DuckDB."""

    def take(self, text: str, before: str) -> None:
        """Take one line of output, and the one before it."""
        if found := _COMPILED.match(text):
            self.compiled = self.compiled or found["path"]
        elif not self.why and (_DATABASE.match(text) or _OF_RESULT.match(text) or _HEAD.match(before)):
            self.why, self.head = text, before
            self.open_lines = ERROR_LINES - 1 if _DATABASE.match(text) else 0
        elif found := _MISMATCH.match(text):
            model, contract = found["model"] or "nothing", found["contract"] or "nothing"
            self.why += f" {found['column']}: {found['how']}, model {model}, contract {contract}."
        elif self.open_lines and text and not _DRAWING.match(text):
            self.why += f" {text}"
            self.open_lines -= 1
        else:
            self.open_lines = 0

    def is_final(self) -> bool:
        return bool(_OF_PROJECT.match(self.head) or _OF_RESULT.match(self.why)) or _is_refusal(self.why)

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.what, self.why)))


def _is_refusal(text: str) -> bool:
    """Return whether an error names what is wrong in a statement or in the input."""
    return is_final(text) if _DATABASE.search(text) else bool(_PLACED.search(text))


def is_final(text: str) -> bool:
    """Return whether an error of DuckDB is caused by the statement or the data."""
    named = _DATABASE.search(text)
    return named is not None and named["kind"] in FINAL


class Outcome:
    """Read Meltano's output line by line: print progress, and keep what explains a failure.

    Args:
        started: begin of the run in seconds, as time.perf_counter() counts them; None prints no progress.
    """

    def __init__(self, started: float | None = None) -> None:
        self.loaded = False
        """Return whether dbt has begun, which it does only after a complete load."""
        self._started = started
        self._plugin = "meltano"
        self._lines: list[tuple[str, str]] = []
        self._failed: list[_Failure] = []

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
            self._progress(f"load   {loading['schema']}.{loading['table']}: {int(loading['rows']):,} rows")
        elif judged := _JUDGED.match(text):
            self._progress(f"load   {judged['what']}")
        elif result := _RESULT.match(text):
            self._progress(f"dbt    {result['result']} {result['what']} [{result['how']}]")
        elif _TOTALS.match(text) or text.startswith("dropped "):
            self._progress(f"dbt    {text}")
        if failed := _FAILED.match(text):
            self._failed.append(_Failure(failed["what"]))
        elif self._failed:
            self._failed[-1].take(text, before)

    def _progress(self, text: str) -> None:
        if self._started is not None:
            print(f"{time.perf_counter() - self._started:6.1f} s  {text}", flush=True)

    def reason(self) -> str:
        """Return why the run failed: what dbt reports, or the last line of the plugin that failed."""
        if self._failed:
            more = f" (and {len(self._failed) - 1} more)" if len(self._failed) > 1 else ""
            sql = f" (its SQL: {self._failed[0].compiled})" if self._failed[0].compiled else ""
            return f"dbt: {self._failed[0]}{more}{sql}"
        texts = [text for plugin, text in self._lines if plugin == DBT]
        if _ENCOUNTERED in texts[:-1]:
            return f"dbt: {_encountered(texts[texts.index(_ENCOUNTERED) + 1 :])}"
        if self.loaded:
            return self._last(DBT)
        if any(re.search("Extractor (and loader )?failed", text) for _, text in self._lines):
            text = self._last("tap-")
            refused = _REFUSED.match(text)
            return f"{text} (`elt inspect {refused['file']}` explains)" if refused else text
        if any("Loader failed" in text for _, text in self._lines):
            return self._last("target-")
        return self._last(QUOTED, "meltano")

    def is_final(self) -> bool:
        """Return whether a retry would fail as well: by a model, a test, a contract or the input."""
        if self._failed:
            return any(one.is_final() for one in self._failed)
        texts = [text for plugin, text in self._lines if plugin == DBT]
        if _ENCOUNTERED in texts[:-1]:
            return bool(_OF_PROJECT.match(texts[texts.index(_ENCOUNTERED) + 1])) or _RAW in texts
        return not self.loaded and _is_refusal(self.reason())

    def _last(self, *kinds: str) -> str:
        """Return the last line of the first kind of plugins, given by a prefix of their names, that printed any."""
        for kind in kinds:
            if texts := [text for plugin, text in self._lines if plugin.startswith(kind)]:
                return texts[-1]
        return "meltano failed"
