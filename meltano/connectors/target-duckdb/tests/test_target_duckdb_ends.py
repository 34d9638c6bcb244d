"""However a run ends, nothing of it stays in the temporary folder; what was killed before is cleared."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import typing as t

import pytest
from target_duckdb_harness import lines, record, schema, state

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb_harness import Warehouse

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
BEHIND = {"held": False, "young": False, "link": False, "empty": True, "unlocked": True}
"""Folders of other runs, by whether they are stale."""


@contextlib.contextmanager
def started(warehouse: Warehouse, *begin: str, **settings: t.Any) -> t.Iterator[tuple[subprocess.Popen[str], Path]]:
    """A target that waits for its input, once it has a temporary folder; and where that lies."""
    folder = warehouse.path.with_name("tmp")
    folder.mkdir()
    config = warehouse.path.with_suffix(".json")
    config.write_text(json.dumps({"path": str(warehouse.path), "temp_dir": str(folder), **settings}))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*begin, sys.executable, "-m", "target_duckdb.cli", "--config", str(config)]
    with subprocess.Popen(command, **pipes) as process:
        try:
            while process.poll() is None and not list(folder.glob("*/in-use")):
                time.sleep(0.02)
            yield process, folder
        finally:
            process.kill()


def send(process: subprocess.Popen[str], *messages: t.Any) -> None:
    """Give messages to a target that runs."""
    assert process.stdin
    process.stdin.write(lines(messages).decode())
    process.stdin.flush()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_nothing(warehouse: Warehouse, number: signal.Signals) -> None:
    with started(warehouse, batch_size_rows=1) as (process, folder):
        send(process, schema(), record({"id": 1}), state(1), record({"id": 2}))
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert process.stderr
        assert process.stderr.read() == f"target-duckdb: ended by {number.name}; what was committed stays\n"
        assert list(folder.iterdir()) == []
    assert (1,) in warehouse.rows("select id from things")


def test_a_signal_while_duckdb_works_leaves_nothing(warehouse: Warehouse) -> None:
    texts = [record({"id": number, "a": "x" * 2000}) for number in range(30_000)]
    with started(warehouse, batch_size_rows=30_001, settings={"threads": 1}) as (process, folder):
        send(process, schema(), *texts)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr
        assert "Traceback" not in process.stderr.read()
        assert list(folder.iterdir()) == []


def test_a_signal_that_is_ignored_stays_so(warehouse: Warehouse) -> None:
    with started(warehouse, "nohup") as (process, _):
        process.send_signal(signal.SIGHUP)
        assert process.communicate(lines([schema(), record({"id": 1}), state(1)]).decode())[0] == "1\n"


def test_stale_folders_are_cleared(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    for name in BEHIND:
        path = folder / f"target-duckdb-{name}"
        path.mkdir(parents=True)
        (path / "0-0.jsonl").write_text("{}")
        if name in {"held", "young", "unlocked"}:
            (path / "in-use").touch()
        if name == "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        if name != "young":
            os.utime(path, (time.time() - 90_000,) * 2)
    (folder / "another").mkdir()
    with (folder / "target-duckdb-held" / "in-use").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert warehouse.load(schema(), record({"id": 1}), temp_dir=str(folder)).error is None
    stay = {f"target-duckdb-{name}" for name, is_stale in BEHIND.items() if not is_stale}
    assert {path.name for path in folder.iterdir()} == {"another", *stay}
    assert (tmp_path / "elsewhere" / "0-0.jsonl").exists()


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        (">&-", "standard output is closed: send it to /dev/null to drop it"),
        ("<&-", "standard input is closed: there are no messages"),
    ],
)
def test_closed_streams_are_refused_before_anything_is_done(warehouse: Warehouse, closed: str, said: str) -> None:
    config = warehouse.path.with_suffix(".json")
    config.write_text(json.dumps({"path": str(warehouse.path)}))
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "target_duckdb.cli", "--config", config]
    done = subprocess.run(command, input=lines([schema(), record({"id": 1})]), capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (1, f"target-duckdb: {said}\n")
    assert not warehouse.path.exists()


def test_a_reader_that_is_gone(warehouse: Warehouse) -> None:
    with started(warehouse) as (process, folder):
        assert process.stdout
        process.stdout.close()
        send(process, schema(), record({"id": 1}), state(1))
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 1
        assert process.stderr
        said = process.stderr.read()
        assert said == "target-duckdb: output closed by the reader of STATE; what was committed stays\n"
        assert list(folder.iterdir()) == []
    assert warehouse.rows("select id from things") == [(1,)]
