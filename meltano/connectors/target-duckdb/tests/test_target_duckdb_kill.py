"""kill -9 at any moment of a load, then a second run: nothing is lost and nothing is doubled."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import typing as t

import pytest
from target_duckdb_harness import lines, record, schema, state
from test_target_duckdb_batch import batch, jsonl

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb_harness import Warehouse

KILLS = int(os.environ.get("TARGET_DUCKDB_KILLS", "10"))
"""How many kills there are in all, by RECORD and by BATCH."""
KEYS, STEP, BATCH_ROWS = 15_000, 500, 1_000
ALL = 4 * KEYS
EXPECTED = (KEYS, KEYS, 2 * KEYS + 1)
"""Rows, keys, and how far the number of the last record of a key is from twice the key."""
PROPERTIES = {"id": {"type": "integer"}, "n": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}


def key(number: int) -> int:
    """Every key comes twice in a row, and again in a second round, which replaces what was covered long ago."""
    return number // 2 % KEYS


def rows(start: int) -> list[dict[str, t.Any]]:
    """What a source gives from a bookmark on."""
    return [{"id": key(number), "n": number, "at": "2020-01-01T00:00:00Z"} for number in range(start, ALL)]


def by_record(start: int, folder: Path) -> t.Iterator[bytes]:
    """The source as RECORD messages with a STATE now and then."""
    yield lines([schema(PROPERTIES)])
    left = rows(start)
    for at in range(0, len(left), STEP):
        part = left[at : at + STEP]
        yield lines([*map(record, part), state({"next": start + at + len(part)})])


def by_batch(start: int, folder: Path) -> t.Iterator[bytes]:
    """The source as BATCH messages."""
    yield lines([schema(PROPERTIES)])
    left = rows(start)
    for at in range(0, len(left), BATCH_ROWS):
        part = left[at : at + BATCH_ROWS]
        yield lines([batch(jsonl(folder, *part), form="jsonl"), state({"next": start + at + len(part)})])


class Run:
    """One run of the target as a program, fed by a thread as by a tap."""

    def __init__(self, config: Path, source: t.Iterable[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "target_duckdb.cli", "--config", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # nothing is left to be flushed when the process was killed
        )
        self._source = source
        self._feeder = threading.Thread(target=self._feed)
        self._feeder.start()

    def _feed(self) -> None:
        assert self.process.stdin
        with self.process.stdin as pipe, contextlib.suppress(BrokenPipeError):
            for part in self._source:
                while part:
                    part = part[pipe.write(part) :]  # noqa: PLW2901 - what is left of it

    def states(self, kill_after: int | None = None, wait: float = 0) -> tuple[list[int], bool]:
        """The bookmarks that were said, and whether the process was killed at the STATE of that number."""
        assert self.process.stdout
        said: list[int] = []
        killed = False
        timer = threading.Timer(wait, self.process.send_signal, [signal.SIGKILL])
        for line in self.process.stdout:
            said.append(json.loads(line)["next"])
            if len(said) == kill_after:
                timer.start()
        timer.cancel()
        if timer.ident:
            timer.join()
        killed = self.process.wait() == -signal.SIGKILL
        self._feeder.join()
        self.process.stdout.close()
        return said, killed


@pytest.mark.parametrize("source", [by_record, by_batch])
def test_kills(warehouse: Warehouse, tmp_path: Path, source: t.Callable[[int, Path], t.Iterator[bytes]]) -> None:
    chance = random.Random(5)
    folder = tmp_path / "batch"
    folder.mkdir()
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"path": str(warehouse.path), "batch_size_rows": BATCH_ROWS, "temp_dir": str(tmp_path)})
    )
    between = 0
    for _ in range((KILLS + 1) // 2):
        warehouse.path.unlink(missing_ok=True)
        run = Run(config, source(0, folder))
        # After so many commits, and then up to the time of a few more.
        said, killed = run.states(chance.randint(1, ALL // BATCH_ROWS - 10), chance.random() * 0.05)
        start = said[-1] if said else 0
        between += killed and 0 < start < ALL
        # What a STATE covers is there: of every key the last record before the bookmark, or one after it.
        rows_found = warehouse.rows("select id, n from things")
        found = dict(rows_found)
        assert len(rows_found) == len(found)
        covered = {key(number): number for number in range(start)}
        assert [one for one, number in covered.items() if found.get(one, -1) < number] == []
        said, killed = Run(config, source(start, folder)).states()
        assert not killed
        assert said[-1:] == ([ALL] if start < ALL else [])
        assert warehouse.rows("select count(*), count(distinct id), min(n - 2 * id) from things") == [EXPECTED]
    # A kill that comes before the first commit or after the last would prove little.
    assert between >= 0.8 * ((KILLS + 1) // 2)


def test_kill_while_a_table_is_overwritten(warehouse: Warehouse, tmp_path: Path) -> None:
    """The old table or the new one is there, never half of one, and no STATE was said of the half."""
    chance = random.Random(6)
    config = tmp_path / "config.json"
    settings = {"path": str(warehouse.path), "batch_size_rows": BATCH_ROWS, "load_method": "overwrite"}
    config.write_text(json.dumps(settings | {"temp_dir": str(tmp_path)}))
    query = "select count(*), min(n) = -1 from things"
    for _ in range(3):
        warehouse.load(schema(PROPERTIES), record({"id": -1, "n": -1}), state(0), load_method="overwrite")
        run = Run(config, by_record(0, tmp_path))
        timer = threading.Timer(0.25 + chance.random() * 0.5, run.process.kill)
        timer.start()
        said, killed = run.states()
        timer.cancel()
        assert said == [ALL] or (killed and not said)
        assert warehouse.rows(query) in ([(KEYS, False)], [] if said else [(1, True)])
        assert Run(config, by_record(0, tmp_path)).states() == ([ALL], False)
        assert warehouse.rows(query) == [(KEYS, False)]
        assert warehouse.rows("select table_name from duckdb_tables()") == [("things",)]
