"""Wide tables: time and memory grow with the number of columns, and every value arrives as Python reads it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
import tempfile
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tap_csv_harness import Cost, cost_of, run

KINDS: dict[str, tuple[tuple[str, ...], t.Callable[[str], object]]] = {
    "integer": (("0", "-12", "345"), int),
    "number": (("1.5", "-0.25", "12345.678901"), Decimal),
    "boolean": (("true", "false"), "true".__eq__),
    "date": (("2024-01-31", "1999-12-01"), lambda text: str(dt.date.fromisoformat(text))),
    "time": (("10:00:00", "23:59:59"), lambda text: str(dt.time.fromisoformat(text))),
    "date-time": (
        ("2024-01-31 10:00:00", "1999-12-01T23:59:59Z"),
        lambda text: dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC),
    ),
    "text": (("x", "two\nlines", 'a "word", more', " é "), str),
    "mixed": (("12", "x", "2024-01-31", "true"), str),
}
"""Texts by the type that a column of them is, and how Python reads one."""


def sent(kind: str, value: object) -> object:
    """What a record holds, as `KINDS` has it."""
    if value is None or kind in {"text", "mixed", "integer", "boolean", "date", "time"}:
        return value
    return Decimal(str(value)) if kind == "number" else dt.datetime.fromisoformat(str(value))


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=400),
    rows=st.integers(1, 4),
    draw=st.randoms(use_true_random=False),
    quoted=st.booleans(),
)
@example(kinds=["integer"], rows=1, draw=random.Random(1), quoted=False)
def test_every_value_as_python_reads_it(kinds: list[str], rows: int, draw: t.Any, *, quoted: bool) -> None:
    texts = [[draw.choice((*KINDS[kind][0], "")) for kind in kinds] for _ in range(rows)]
    texts[0] = [KINDS[kind][0][0] for kind in kinds]  # no column without a value, which would be text
    texts += [[KINDS[kind][0][1] for kind in kinds]]
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([[f"c{place}" for place in range(len(kinds))], *texts])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "wide.csv")
        path.write_text(table.getvalue(), encoding="utf-8", newline="")
        got = run({"files": [{"entity": "wide", "path": str(path), "keys": []}], "incremental": False})
    assert got.error is None
    read = list(csv.reader(io.StringIO(table.getvalue())))[1:]
    expected = [
        [KINDS[kind][1](text) if text else None for kind, text in zip(kinds, row, strict=True)] for row in read
    ]
    assert [
        [sent(kind, value) for kind, value in zip(kinds, record.values(), strict=True)] for record in got.records
    ] == expected


def wide(folder: Path, columns: int, rows: int = 100) -> Path:
    """Settings for a table of columns of all kinds."""
    path = folder / f"{columns}.csv"
    cells = [KINDS[kind][0] for kind in sorted(KINDS)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"c{place}" for place in range(columns)])
        for row in range(rows):
            writer.writerow(
                [cells[place % len(cells)][row % len(cells[place % len(cells)])] for place in range(columns)]
            )
    config = folder / f"{columns}.json"
    config.write_text(json.dumps({"files": [{"entity": "wide", "path": str(path), "keys": []}]}))
    return config


@pytest.mark.parametrize("what", ["--discover", "--test"])
def test_time_and_memory_grow_with_the_columns_and_not_with_their_square(tmp_path: Path, what: str) -> None:
    costs: dict[int, Cost] = {}
    for columns in (1, 250, 2000):
        costs[columns] = cost_of("--config", wide(tmp_path, columns), what)
    start, few, many = costs.values()
    assert many.seconds - start.seconds < 2 * 8 * max(0.1, few.seconds - start.seconds)
    assert many.peak < 600 << 20
