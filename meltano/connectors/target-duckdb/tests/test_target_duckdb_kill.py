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
from conftest import lines, record, schema, state
from test_target_duckdb_batch import batch, jsonl

if t.TYPE_CHECKING:
    from pathlib import Path

    from conftest import Warehouse

KILLS = int(os.environ.get("TARGET_DUCKDB_KILLS", "10"))
"""How many kills there are in all, by RECORD and by BATCH."""
ROWS, STEP, BATCH_ROWS = 30_000, 500, 1_000
PROPERTIES = {"id": {"type": "integer"}, "a": {"type": "string"}, "at": {"type": "string", "format": "date-time"}}


def rows(start: int) -> list[dict[str, t.Any]]:
    """What a source gives from a bookmark on; every key comes twice, and the second one counts."""
    return [
        {"id": number // 2, "a": f"value {number}", "at": "2020-01-01T00:00:00Z"} for number in range(start, 2 * ROWS)
    ]


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
        said, killed = run.states(chance.randint(1, 2 * ROWS // BATCH_ROWS - 10), chance.random() * 0.05)
        between += killed and bool(said)
        start = said[-1] if said else 0
        # What a STATE covers is there: the last value of every key up to the bookmark, or one that came later.
        count, distinct = warehouse.rows("select count(*), count(distinct id) from things")[0]
        assert count == distinct >= start // 2
        said, killed = Run(config, source(start, folder)).states()
        assert not killed
        assert said[-1:] == ([2 * ROWS] if start < 2 * ROWS else [])
        query = "select count(*), count(distinct id), count(*) filter (a = 'value ' || (2 * id + 1)) from things"
        assert warehouse.rows(query) == [(ROWS, ROWS, ROWS)]
    # A kill that comes before the first commit or after the last would prove little.
    assert between >= 0.8 * ((KILLS + 1) // 2)


def test_kill_while_a_table_is_overwritten(warehouse: Warehouse, tmp_path: Path) -> None:
    """The old table or the new one is there, never half of one, and no STATE was said of the half."""
    chance = random.Random(6)
    config = tmp_path / "config.json"
    settings = {"path": str(warehouse.path), "batch_size_rows": BATCH_ROWS, "load_method": "overwrite"}
    config.write_text(json.dumps(settings | {"temp_dir": str(tmp_path)}))
    query = "select count(*), any_value(a) = 'old' from things"
    for _ in range(3):
        warehouse.load(schema(PROPERTIES), record({"id": -1, "a": "old"}), load_method="overwrite")
        run = Run(config, by_record(0, tmp_path))
        timer = threading.Timer(0.25 + chance.random() * 0.5, run.process.kill)
        timer.start()
        said, killed = run.states()
        timer.cancel()
        assert said == ([] if killed else [2 * ROWS])
        assert warehouse.rows(query) in ([(1, True)], [(ROWS, False)])
        assert Run(config, by_record(0, tmp_path)).states() == ([2 * ROWS], False)
        assert warehouse.rows(query) == [(ROWS, False)]
        assert warehouse.rows("select table_name from duckdb_tables()") == [("things",)]
