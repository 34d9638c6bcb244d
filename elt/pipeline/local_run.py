"""Run load, transformation and tests locally, without any server, in a warehouse of its own.

The local run uses the plugins and models of the pipeline, by one call of Meltano, on the same extracts. Warehouse,
Meltano's state (SQLite) and dbt's folders are in `.state/inner`, so the stack's are never touched, and both may
run at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from elt import disk, layout
from elt.config import meltano_plugins, process_env, secret_files
from elt.errors import DataError
from elt.pipeline import quality
from elt.pipeline.meltano_log import DBT, Outcome
from elt.sources import connections, csv_files, meltano_yml, seed
from elt.warehouse import factory

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from elt.config.settings import Settings

LOG = "run.log"


def run(settings: Settings, select: Sequence[str], *, full_refresh: bool = False, source: str | None = None) -> None:
    """Load the extracts if they changed, build and test the models, and compare the result with the extracts.

    Args:
        settings: the checked settings.
        select: dbt selection; empty for all models. With one the comparison is left out, since models that
            were not built may be older than the extracts.
        full_refresh: load even unchanged extracts, and build incremental models anew.
        source: load the job of this name in place of the extracts; build what bears its tag, and all that stands on
            that, and compare it.

    Raises:
        DataError: a step failed; the message says why and where the log is.
    """
    started = time.perf_counter()
    disk.refuse_full()
    layout.prepare()
    layout.LOCAL_RUN.mkdir(exist_ok=True)
    with _locked():
        listed = [] if source else seed.ensure()
        warehouse = factory.local_warehouse(settings.elt_environment)
        if select and not warehouse.exists() and not any(one.startswith("+") for one in select):
            raise DataError(
                f"run: nothing is built in {layout.LOCAL_RUN} yet: run `elt run` once, or `elt run +{select[0]}`"
            )
        stamp, inputs = warehouse.path.with_suffix(".loaded.json"), _inputs(listed)
        is_loaded = warehouse.exists() and stamp.exists() and stamp.read_text() == inputs
        load = bool(source) or full_refresh or not is_loaded or not meltano_yml.is_of_files()
        if source:
            select = select or [f"tag:{source}+"]
        elif load:
            stamp.unlink(missing_ok=True)
        else:
            print("load: skipped, the extracts are as they were at the last load (--full-refresh loads anew)")
        build = "build" + ("-selected" if select else "") + ("-full-refresh" if full_refresh else "")
        loads = meltano_yml.loads(source) if source else meltano_yml.loads() if load else []
        blocks = [*loads, f"{DBT}:{build}"]
        options = ["--full-refresh"] if full_refresh else []  # without it Meltano goes on from its bookmarks
        env = process_env.build(settings, local_run=True) | {"ELT_SELECT": " ".join(select)}
        connections.refuse_missing(blocks, env, settings.elt_environment)
        print(f"run: meltano run {' '.join([*options, *blocks])} (log: {layout.LOCAL_RUN / LOG})", flush=True)
        outcome = Outcome(started)
        code = _meltano([*options, *blocks], env, outcome, secret_files.values(settings.elt_environment).values())
        if load and not source and outcome.loaded:
            stamp.write_text(inputs)  # of before the load: what changed meanwhile is loaded the next time
        if code != 0:
            raise DataError(f"run: {outcome.reason()} (log: {layout.LOCAL_RUN / LOG})")
        if select and select != [f"tag:{source}+"]:
            print("quality: left out, since only a part was built; elt run compares all")
        else:
            quality.check(layout.EXTRACT, warehouse, source=source)
    print(f"run: done in {time.perf_counter() - started:.1f} s; `elt sql --local` opens the result")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Refuse a second run at the same time, since the warehouse takes one writer."""
    with (layout.LOCAL_RUN / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError("run: another `elt run` is at work in this clone: wait for it") from None
        yield


def _inputs(listed: Sequence[csv_files.Extract]) -> str:
    """Return size and time of all files that determine the raw tables, to decide whether to load."""
    connectors = (layout.MELTANO_PROJECT / "connectors").rglob("src/**/*.py")
    paths = [*connectors, *(path for path, _ in meltano_plugins.files()), layout.ROOT / "uv.lock"]
    paths += [path for one in listed for path in one.files()]
    states = {str(path): path.stat() for path in paths}
    return json.dumps({path: [state.st_size, state.st_mtime_ns] for path, state in states.items()})


def _meltano(words: Sequence[str], env: dict[str, str], outcome: Outcome, secrets: Collection[str]) -> int:
    """Run `meltano run`, write every line without secrets to the log and to the outcome; return the exit code."""
    # The guard leaves nothing of Meltano's tap and target behind, whatever ends this process. A run that was
    # killed is still noted as running, hence --force; that no other runs is known from the lock.
    guard = str(Path(sys.prefix) / "bin" / "elt-guard")
    command = [guard, "-t", "5", "meltano", "run", "--force", *words]
    with (
        (layout.LOCAL_RUN / LOG).open("w") as log,
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
            for said in process.stdout:
                line = secret_files.masked(said, secrets)
                log.write(line)
                outcome.take(line.rstrip())
        except BaseException:
            process.terminate()
            raise
        return process.wait()
