"""`elt logs TASK` shows the last try of a task as plain lines."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from workspace import BIN, ROOT, apart, run

from elt.services import task_logs


def entry(event: str, **more: object) -> str:
    return json.dumps({"timestamp": "2026-11-28T09:50:14.815316Z", "level": "info", "event": event, **more}) + "\n"


LINES = [
    entry("::group::Pre Execute"),
    entry("2026-11-28T09:50:14.737026Z [info     ] dbt-duckdb   09:50:14  Done. PASS=8"),
    "a line that is no JSON\n",
    entry("Task failed", error_detail=[{"exc_type": "DataError", "exc_value": "no\nrows", "frames": []}]),
]
READABLE = [
    "09:50:14  dbt-duckdb   09:50:14  Done. PASS=8",
    "a line that is no JSON",
    "09:50:14  Task failed",
    "09:50:14  DataError: no",
    "09:50:14  rows",
]


@pytest.fixture
def logs(state):
    """Two runs of a task, the later one with two tries; only the last try says what is wanted."""
    folder = state / "logs/tasks/dag_id=a"
    for run_id, attempt, age, lines in (("x", 1, 20, []), ("y", 1, 10, []), ("y", 2, 5, LINES), ("z", 1, 30, [])):
        file = folder / f"run_id={run_id}" / "task_id=load" / f"attempt={attempt}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines) or entry("another"))
        os.utime(file, (time.time() - age,) * 2)
    return apart(state)


def test_the_last_try_is_printed_as_plain_lines(logs):
    done = run("elt", "logs", "load", env=logs)
    assert (done.returncode, done.stdout.splitlines()) == (0, READABLE)
    assert done.stderr.endswith("run_id=y/task_id=load/attempt=2.log\n")
    assert run("elt", "logs", "load", "-n", "2", env=logs).stdout.splitlines() == READABLE[-2:]


def test_a_name_that_is_none_tells_the_tasks(logs):
    done = run("elt", "logs", "lode", env=logs)
    assert done.returncode == 1
    assert "of the tasks there are load" in done.stderr


def test_what_is_added_is_followed(logs, state):
    path = max((state / "logs").rglob("attempt=*.log"), key=lambda file: file.stat().st_mtime)
    command = [BIN / "elt", "logs", "load", "-n", "1", "-f"]
    with subprocess.Popen(command, cwd=ROOT, env=logs, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "09:50:14  rows\n"
        with path.open("a") as file:
            for part in (entry("new")[:30], entry("new")[30:]):  # half a line is not shown
                file.write(part)
                file.flush()
                time.sleep(0.3)
        assert process.stdout.readline() == "09:50:14  new\n"
        process.terminate()


@pytest.mark.parametrize(
    "line", ["", "\n", "[1]\n", "{}\n", '{"event": 1}\n', "null\n", '{"event": "x", "error_detail": 3}\n']
)
def test_no_line_is_a_traceback(line):
    assert isinstance(task_logs.readable(line), str)
