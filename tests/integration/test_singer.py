"""tap-csv and target-duckdb together: RECORD and BATCH give the same table, and kill -9 loses and doubles nothing."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_csv.config import Config as TapConfig
from tap_csv.tap import Tap
from target_duckdb.config import Config as TargetConfig
from target_duckdb.target import Target
from workspace import BIN

VALUES = {
    "integer": st.integers(-(2**63), 2**63 - 1).map(str),
    "number": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "decimal(20,4)": st.decimals(-(10**15), 10**15, places=4).map(str),
    "boolean": st.sampled_from(["true", "false"]),
    "date": st.dates().map(str),
    "time": st.times().map(str),
    "date-time": st.datetimes().map(str),
    "string": st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12),
}
TABLES = st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6).flatmap(
    lambda kinds: st.tuples(
        st.just(kinds), st.lists(st.tuples(*(st.one_of(st.just(""), VALUES[kind]) for kind in kinds)), max_size=8)
    )
)


FILES, ROWS = 150, 100
"""What is loaded while both are killed, so many that a kill comes between the first and the last of them."""


def loaded(folder: Path, files: list[dict[str, t.Any]], *, batch: bool) -> tuple[list[t.Any], list[t.Any]]:
    """Columns and rows of the table that a file becomes."""
    config: dict[str, t.Any] = {"files": files}
    if batch:
        config["batch_config"] = {"encoding": {"format": "parquet"}, "storage": {"root": str(folder)}}
    messages = io.BytesIO()
    with Tap(TapConfig.from_dict(config), messages) as tap:
        tap.sync()
    path = folder / f"{batch}.duckdb"
    with Target(TargetConfig.from_dict({"path": str(path)}), io.StringIO()) as target:
        target.run(io.BytesIO(messages.getvalue()))
    with duckdb.connect(str(path), read_only=True) as connection:
        described = connection.execute("describe things").fetchall()
        return described, connection.execute("from things order by id").fetchall()


@settings(deadline=None, max_examples=25)
@given(table=TABLES)
def test_by_record_and_by_batch_the_table_is_the_same(table: tuple[list[str], list[tuple[str, ...]]]) -> None:
    kinds, rows = table
    names = [f"c{number}" for number in range(len(kinds))]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "in.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([["id", *names], *([str(number), *row] for number, row in enumerate(rows))])
        columns = dict(zip(names, kinds, strict=True))
        files = [{"entity": "things", "path": str(path), "keys": ["id"], "columns": columns}]
        by_record, by_batch = (loaded(Path(name), files, batch=batch) for batch in (False, True))
    assert by_record == by_batch
    assert len(by_record[1]) == len(rows)


def test_both_killed_and_run_again_lose_and_double_nothing(tmp_path: Path) -> None:
    """Many files, so that the state of each is said; a second run goes on after the last one that was said."""
    chance = random.Random(7)
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        lines = "".join(f"{number * ROWS + row},{number}\n" for row in range(ROWS))
        (tmp_path / "in" / f"{number:03}.csv").write_text("id,n\n" + lines)
    for name in ("batch", "tmp"):
        (tmp_path / name).mkdir()
    files = [{"entity": "things", "path": str(tmp_path / "in"), "keys": ["id"]}]
    storage = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path / "batch")}}
    database = tmp_path / "w.duckdb"
    write(tmp_path / "target.json", {"path": str(database), "temp_dir": str(tmp_path / "tmp")})
    write(tmp_path / "tap.json", {"files": files, "batch_config": storage})
    state: dict[str, t.Any] = {}
    cut = 0
    for states, wait in [*((chance.randint(1, 20), chance.random() / 10) for _ in range(4)), (None, 0.0)]:
        known = len(sent(state))
        state = run_pair(tmp_path, state, states, wait)
        cut += known < len(sent(state)) < FILES
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute("select count(*), count(distinct id), sum(n) from things").fetchone()
    assert found == (FILES * ROWS, FILES * ROWS, ROWS * sum(range(FILES)))
    assert len(sent(state)) == FILES
    assert cut >= 3  # a kill before the first commit or after the last would prove little


def sent(state: dict[str, t.Any]) -> dict[str, t.Any]:
    """The files that a state says were sent."""
    bookmarks = state.get("bookmarks", {}).get("things", {})
    return t.cast("dict[str, t.Any]", bookmarks.get("files", {}))


def write(path: Path, content: object) -> Path:
    """A file of JSON."""
    path.write_text(json.dumps(content))
    return path


def run_pair(folder: Path, state: dict[str, t.Any], states: int | None, wait: float) -> dict[str, t.Any]:
    """Run the pipe from a state; kill both some time after so many states. Returns the state that was said last."""
    before = write(folder / "state.json", state)
    tap = subprocess.Popen(
        [BIN / "tap-csv", "--config", folder / "tap.json", "--state", before],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    target = subprocess.Popen(
        [BIN / "target-duckdb", "--config", folder / "target.json"],
        stdin=tap.stdout,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert tap.stdout
    assert target.stdout
    tap.stdout.close()
    said = []
    for line in target.stdout:
        if line.endswith(b"\n"):  # the last one may be cut off
            said.append(line)
        if len(said) == states:
            time.sleep(wait)
            for process in (tap, target):
                process.kill()
    target.stdout.close()
    tap.wait()
    target.wait()
    return t.cast("dict[str, t.Any]", json.loads(said[-1]))
