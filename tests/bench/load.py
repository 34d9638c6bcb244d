"""Much at once, and much in a row: what the stack does with more than a person asks; writes its part of the page.

A hundred runs of ten tasks are asked for at once; a thousand files of DAGs lie in the folder; a small DAG runs again
and again, and what grows meanwhile is told.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import httpx
from e2e.fresh_clone import below

from bench import page
from bench.dags.load import WIDTH
from bench.measure import DATA
from bench.platforms import Ours, both, seconds_of_run
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


def _count(ours: Ours, query: str) -> int:
    connection = databases.connect(ours.settings(), "airflow")
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return int(cursor.fetchone()[0])  # type: ignore[index]
    finally:
        connection.close()


def _ended(ours: Ours, dag: str) -> int:
    """How many runs of a DAG have succeeded.

    Raises:
        AssertionError: one failed.
    """
    failed = _count(ours, f"select count(*) from dag_run where dag_id = '{dag}' and state = 'failed'")
    assert not failed, f"{failed} runs of {dag} failed"
    return _count(ours, f"select count(*) from dag_run where dag_id = '{dag}' and state = 'success'")


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
    parser.add_argument("--in-a-row", type=int, default=1440, help="runs of two tasks, one after the other")
    arguments = parser.parse_args(words)
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name, both(Path(name)) as (ours, _):
        ours.start(empty=True)
        api = ours.api()
        api._http.timeout = httpx.Timeout(120)  # a hundred runs are asked for faster than they are answered
        rows = [at_once(ours, api, arguments.at_once)]
        rows.append(many_files(ours, api, arguments.files))
        rows += in_a_row(ours, api, arguments.in_a_row)
        api.close()
        ours.stop()
    table = page.table(HEAD, rows)
    print(f"\n{table}\n")
    page.put("load", table)
    print(f"bench: wrote {page.PAGE}")


if __name__ == "__main__":
    main(sys.argv[1:])
