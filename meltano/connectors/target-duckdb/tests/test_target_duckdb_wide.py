"""Wide tables: records of thousands of columns load, and every value as from a narrow one."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from target_duckdb import jsonl
from target_duckdb_harness import Warehouse, record, schema

if t.TYPE_CHECKING:
    from pathlib import Path

TYPES: dict[str, dict[str, t.Any]] = {
    "id": {"type": "integer"},
    "text": {"type": ["null", "string"]},
    "number": {"type": ["null", "number"]},
    "whole": {"type": ["null", "integer"]},
    "exact": {"type": ["null", "number"], "multipleOf": 0.01},
    "any": {"type": ["null", "object", "array"]},
    "moment": {"type": ["null", "string"], "format": "date-time"},
}
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.just("Infinity")
JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "text": st.none() | st.text(st.characters(codec="utf-8")) | NUMBERS,
            "number": st.none() | NUMBERS,
            "whole": st.none() | st.integers(-(2**64), 2**64) | st.floats(-1e18, 1e18),
            "exact": st.none() | st.decimals(-(10**15), 10**15, places=2).map(float),
            "any": JSON,
            "moment": st.none() | st.datetimes().map(str),
            "unknown": JSON,
            "version": JSON,
        },
    ),
    max_size=3,
)


def loaded(path: Path, rows: list[dict[str, t.Any]], version: object, *, metadata: bool) -> list[t.Any]:
    """The table, or what was refused."""
    house = Warehouse(path)
    path.unlink(missing_ok=True)
    records = [
        record({"id": n} | row, version=version, time_extracted="2024-01-31T10:00:00Z") for n, row in enumerate(rows)
    ]
    got = house.load(schema(TYPES), *records, add_metadata_columns=metadata)
    if got.error:
        return [str(got.error)]
    chosen = "* exclude (_sdc_batched_at)" if metadata else "*"
    return [house.types(), house.rows(f"select {chosen} from things order by id")]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, version=st.none() | st.integers(0, 2**63), metadata=st.booleans())
@example(rows=[{"number": float("inf"), "text": 1e15}], version=1, metadata=True)
@example(rows=[{"text": "\u2028\x01\x00"}], version=None, metadata=True)
def test_a_wide_record_loads_as_a_narrow_one(
    tmp_path: Path, rows: list[dict[str, t.Any]], version: int | None, *, metadata: bool
) -> None:
    narrow = loaded(tmp_path / "narrow.duckdb", rows, version, metadata=metadata)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_WIDE", 0)
        assert loaded(tmp_path / "narrow.duckdb", rows, version, metadata=metadata) == narrow


@pytest.mark.parametrize("text", ["1e400", "-1e400", "1e15", "12345678901234567890123", "0.1e1", "-0.0", "1.10"])
def test_a_number_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    names = ("text", "number", "whole", "exact", "any")
    lines = [
        schema(TYPES),
        *(f'{{"type":"RECORD","stream":"things","record":{{"id":1,"{one}":{text}}}}}' for one in names),
    ]
    results = []
    for wide in (jsonl._WIDE, 0):
        monkeypatch.setattr(jsonl, "_WIDE", wide)
        for line in lines[1:]:
            house = Warehouse(tmp_path / "w.duckdb")
            house.path.unlink(missing_ok=True)
            error = house.load(lines[0], line).error
            results.append(str(error) if error else house.rows("from things"))
    assert results[: len(names)] == results[len(names) :]


def test_a_record_of_3000_columns(tmp_path: Path) -> None:
    """Under the limits of the target's own; the second load appends to what is there."""
    house = Warehouse(tmp_path / "w.duckdb")
    columns = {f"c{n}": {"type": ["null", "string"]} for n in range(3000)}
    for load_number in range(2):
        result = house.run(schema(columns, keys=["c0"]), record({name: f"{load_number} {name}" for name in columns}))
        assert result.returncode == 0, result.stderr[-500:]
    assert house.rows("select c0, c2999 from things order by 1") == [("0 c0", "0 c2999"), ("1 c0", "1 c2999")]


def test_a_value_that_does_not_fit_among_many_columns(tmp_path: Path) -> None:
    house = Warehouse(tmp_path / "w.duckdb")
    columns = {"id": {"type": "integer"}} | {f"c{n}": {"type": ["null", "integer"]} for n in range(400)}
    error = house.load(schema(columns), record({"id": 1, "c350": 1}), record({"id": 2, "c350": "x"})).error
    assert str(error) == "stream 'things', line 3, column 'c350': the value does not fit BIGINT"


def test_too_little_memory_names_the_setting(tmp_path: Path) -> None:
    house = Warehouse(tmp_path / "w.duckdb")
    columns = {f"c{n}": {"type": ["null", "string"]} for n in range(2000)}
    limit = {"memory_limit": "64MB"}
    error = str(house.load(schema(columns, keys=[]), record(dict.fromkeys(columns, "x")), settings=limit).error)
    assert error.startswith("stream 'things': Out of Memory Error")
    assert error.endswith('; `settings` of the target raise the limit: {"memory_limit": "4GB"}')
    assert "SET " not in error
