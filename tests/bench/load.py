"""Much at once, and much in a row: what the stack does with more than a person asks; writes its part of the page.

A hundred runs of ten tasks are asked for at once; a thousand files of DAGs lie in the folder; fifty schedules of one
minute load, build, check and publish; a small DAG runs again and again, and what grows meanwhile is told.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import yaml
from e2e.fresh_clone import below

from bench import page
from bench.dags.load import WIDTH
from bench.measure import DATA
from bench.platforms import Ours, both, seconds_of_run
from elt.orchestration import POOL
from elt.services import databases

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from elt.orchestration.api import AirflowApi

TIMEOUT_SECONDS = 1800
"""Seconds for any one part."""
DAG_FILE = """\
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag

@dag(dag_id="bench_many_{number}", schedule=None)
def many():
    BashOperator(task_id="only", bash_command="true")

many()
"""
OF_SCHEDULES = "dag_id like 'bench_schedule_%'"
HEAD = ["", "s", "a second", "PSS, MiB", "processes", "connections", "open files", "state, MiB"]


def at_once(ours: Ours, api: AirflowApi, runs: int) -> list[str]:
    """Ask for many runs at once, and wait for the last one."""
    api.wait_for_dag("bench_wide", 90)
    began = time.monotonic()
    for _ in range(runs):
        api.trigger("bench_wide")
    _wait(lambda: _ended(ours, "bench_wide") == runs, "the runs")
    seconds = time.monotonic() - began
    tasks = runs * WIDTH
    return _row(ours, f"{runs} runs of {WIDTH} tasks at once", seconds, f"{tasks / seconds:.1f} tasks")


def many_files(ours: Ours, api: AirflowApi, files: int) -> list[str]:
    """Put many files into the folder of DAGs, wait until each is parsed, run one, and take them away again."""
    folder = ours.clone.root / "airflow" / "dags" / "many"
    folder.mkdir()
    began = time.monotonic()
    for number in range(files):
        (folder / f"many_{number}.py").write_text(DAG_FILE.format(number=number))
    _wait(lambda: _count(ours, "select count(*) from dag where dag_id like 'bench_many_%'") == files, "the files")
    seconds = time.monotonic() - began
    row = _row(ours, f"{files:,} files of DAGs until all are parsed", seconds, f"{files / seconds:.0f} files")
    latency = max(seconds_of_run(api, "bench_many_0").values())
    print(f"bench: a run of one task beside them took {latency:.1f} s", flush=True)
    shutil.rmtree(folder)
    return row


def schedules(ours: Ours, api: AirflowApi, number: int) -> list[str]:
    """Let schedules of one minute wait for a file, give it to them, and wait until all have published.

    One more loads a file that is not there, and fails. The writer pool is asked whether one that waits holds a slot,
    and in which order the runs came to their ends.

    Raises:
        AssertionError: a run failed that should not, or the other way round.
    """
    extract = ours.clone.root / ".state" / "extract"
    kept = extract.with_name("kept")
    ours.elt("seed", "--example")
    extract.rename(kept)
    moment = datetime.now(UTC) + timedelta(seconds=90)
    entry = {"interval": f"{moment.minute} * * * *", "annotations": {"elt": {"wait_for": "tap-csv"}}}
    names = [f"bench_schedule_{one:02}" for one in range(number)]
    listed = [{"name": name, "job": "extract_load", **entry} for name in names]
    broken = {"name": "bench_broken", "job": "promotions", "interval": entry["interval"]}
    path = ours.clone.root / "meltano" / "meltano.yml"
    before = path.read_text()
    project = yaml.safe_load(before)
    project["jobs"].append({"name": "promotions", "tasks": ["tap-csv--promotions target-duckdb"]})
    project["schedules"] += [*listed, broken]
    path.write_text(yaml.safe_dump(project))
    is_waiting = f"select count(*) from task_instance where {OF_SCHEDULES} and state = 'deferred'"
    _wait(lambda: _count(ours, is_waiting) == number, "the schedules")
    has_slot = f"select count(*) from task_instance where {OF_SCHEDULES} and state in ('running', 'queued')"
    assert not _count(ours, has_slot), "one that waits for its file holds a slot"
    _wait(lambda: _runs(ours, "dag_id = 'bench_broken'", "failed") == 1, "the broken one")
    began, slowest = time.monotonic(), 0.0
    kept.rename(extract)
    while _runs(ours, OF_SCHEDULES, "success") < number:
        assert not _runs(ours, OF_SCHEDULES, "failed")
        assert time.monotonic() < began + TIMEOUT_SECONDS, "the schedules did not come to their end"
        asked = time.monotonic()
        api._json("GET", "/api/v2/dags?limit=50")
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(1)
    seconds = time.monotonic() - began
    writing = f"select min(start_date), max(end_date) from task_instance where {OF_SCHEDULES} and pool = '{POOL}'"
    spans = _rows(ours, f"{writing} group by dag_id")
    together = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    print(f"bench: {together} runs under way at once at most; list of DAGs in {slowest:.2f} s at most", flush=True)
    path.write_text(before)
    rate = f"{number / seconds * 60:.1f} runs a minute"
    return _row(ours, f"{number} schedules of one minute until all have published", seconds, rate)


def in_a_row(ours: Ours, api: AirflowApi, runs: int) -> list[list[str]]:
    """Run a small DAG again and again; what the stack holds before, in the middle and at the end."""
    rows = [_row(ours, "before runs of two tasks in a row", 0, "")]
    for part in (1, 2):
        began = time.monotonic()
        for _ in range(runs // 2):
            seconds_of_run(api, "bench_small")
        seconds = time.monotonic() - began
        rows.append(_row(ours, f"after {part * (runs // 2):,} of them", seconds, f"{runs // 2 / seconds:.1f} runs"))
    return rows


def _row(ours: Ours, label: str, seconds: float, rate: str) -> list[str]:
    """A line of the table: what it took, and what the stack holds now."""
    processes = below(ours.clone.root)
    sizes = ours.memory()
    files = sum(len(list(Path(f"/proc/{process.pid}/fd").iterdir())) for process in processes if process.is_running())
    state = sum(path.stat().st_size for path in (ours.clone.root / ".state").rglob("*") if path.is_file())
    connections = _count(ours, "select count(*) from pg_stat_activity where client_port is not null")
    figures = [f"{sum(sizes.values()) >> 20:,}", str(len(sizes)), str(connections), f"{files:,}", f"{state >> 20:,}"]
    print(f"bench: {label}: {seconds:.1f} s; {dict(zip(HEAD[3:], figures, strict=True))}", flush=True)
    return [label, f"{seconds:.1f}" if seconds else "", rate, *figures]


def _rows(ours: Ours, query: str) -> list[tuple[t.Any, ...]]:
    connection = databases.connect(ours.settings(), "airflow")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
    finally:
        connection.close()


def _count(ours: Ours, query: str) -> int:
    return int(_rows(ours, query)[0][0])


def _runs(ours: Ours, which: str, state: str) -> int:
    """How many runs are in a state."""
    return _count(ours, f"select count(*) from dag_run where {which} and state = '{state}'")


def _ended(ours: Ours, dag: str) -> int:
    """How many runs of a DAG have succeeded.

    Raises:
        AssertionError: one failed.
    """
    failed = _runs(ours, f"dag_id = '{dag}'", "failed")
    assert not failed, f"{failed} runs of {dag} failed"
    return _runs(ours, f"dag_id = '{dag}'", "success")


def _wait(condition: t.Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < limit, f"{what} did not come to their end"
        time.sleep(0.5)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh load", description=__doc__.partition("\n")[0])
    parser.add_argument("--at-once", type=int, default=100, help="runs of ten tasks that are asked for at once")
    parser.add_argument("--files", type=int, default=1000, help="files of DAGs")
    parser.add_argument("--schedules", type=int, default=50, help="schedules of one minute")
    parser.add_argument("--in-a-row", type=int, default=1440, help="runs of two tasks, one after the other")
    arguments = parser.parse_args(words)
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name, both(Path(name)) as (ours, _):
        ours.start(empty=True)
        api = ours.api()
        api._http.timeout = httpx.Timeout(120)  # a hundred runs are asked for faster than they are answered
        parts = {at_once: arguments.at_once, many_files: arguments.files, schedules: arguments.schedules}
        rows = [part(ours, api, number) for part, number in parts.items() if number]
        rows += in_a_row(ours, api, arguments.in_a_row) if arguments.in_a_row else []
        api.close()
        ours.stop()
    table = page.table(HEAD, rows)
    print(f"\n{table}\n")
    page.put("load", table)
    print(f"bench: wrote {page.PAGE}")


if __name__ == "__main__":
    main(sys.argv[1:])
