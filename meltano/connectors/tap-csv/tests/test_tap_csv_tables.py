"""JSON and parquet files: the same entry, columns and state; each value as it stands there."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import typing as t
import zipfile
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tap_csv import inspection, tables
from tap_csv_harness import TEXT, Synced, discover

if t.TYPE_CHECKING:
    from pathlib import Path

    from tap_csv_harness import Sync

TYPED: dict[str, t.Any] = {}


def batch(folder: Path) -> dict[str, t.Any]:
    return {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": str(folder)}}}


def both(sync: Sync, tmp_path: Path, path: Path | bytes, **entry: t.Any) -> tuple[Synced, Synced]:
    """A run with RECORD and one with BATCH messages."""
    return sync(path, settings=TYPED, **entry), sync(path, settings=batch(tmp_path), **entry)


LINES = b"""\xef\xbb\xbf{"id": 9007199254740993, "price": 1.10, "big": 123456789012345678.123456, "at": "2024-01-31"}
{"id": 2, "price": -0.5, "nested": {"a": [1.10, "x", null]}, "at": "2024-02-01", "ok": true, "text": ""}

{"id": 3, "price": 1E2, "nested": null, "at": null, "ok": false, "text": "00501"}
"""


@pytest.mark.parametrize("form", ["lines", "array", "gzip", "pretty"])
def test_json(sync: Sync, tmp_path: Path, form: str) -> None:
    """Numbers digit by digit; an empty text is none that is missing; what is nested is JSON."""
    lines = [line for line in LINES.splitlines() if line]
    content = {
        "lines": LINES,
        "array": b"[" + b",\n".join(lines).replace(b"\xef\xbb\xbf", b"") + b"]",
        "gzip": gzip.compress(LINES),
        "pretty": LINES.replace(b", ", b",\n  "),
    }[form]
    records, batches = both(sync, tmp_path, content)
    assert records.error is None
    kinds = {name: (one.get("format"), one["type"]) for name, one in records.types.items()}
    assert kinds["at"] == ("date", ["string", "null"])
    assert kinds["id"][1] == ["integer", "null"]
    assert kinds["ok"][1] == ["boolean", "null"]
    assert kinds["big"][1] == ["string", "null"]  # more digits than a decimal of one place has
    first, second, third = batches.rows()
    assert list(records.types) == ["id", "price", "big", "at", "nested", "ok", "text"]
    assert first == (
        9007199254740993,
        Decimal("1.10"),
        "123456789012345678.123456",
        dt.date(2024, 1, 31),
        None,
        None,
        None,
    )
    assert second[4:] == ('{"a":[1.10,"x",null]}', True, "")
    assert third[1:] == (Decimal(100), None, None, None, False, "00501")
    assert [one["id"] for one in records.records] == [9007199254740993, 2, 3]
    assert [one["text"] for one in records.records] == [None, "", "00501"]


def test_metadata_and_state_of_json(sync: Sync, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(LINES)
    got = sync(path, settings={"add_metadata_columns": True})
    assert [one["_sdc_source_lineno"] for one in got.records] == [1, 2, 4]
    assert sync(path, settings={"add_metadata_columns": True}, state=got.state).records == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": 1}\n{"id": 2', "input.csv, line 2: is no JSON, or cut off"),
        (b'[{"id": 1},\n{"id": 2}', "input.csv, line 2: is cut off: the array lacks its end"),
        (b'[{"id": 1}\n{"id": 2}]', "input.csv, line 2: is no JSON: a comma is missing"),
        (b'[{"id": 1}]\n{}', "input.csv, line 2: something stands behind the end"),
        (b'{"id": 1}\n{"id": nan, "a": "' + b"x" * 99 + b'"}', "input.csv, line 2: is no JSON"),
        (b'{"id": 1}\n{"id": NaN}', "input.csv, line 2: is no JSON that is read here: NaN is no number of JSON"),
        (b'{"id": 1}\n{"id": 1, "id": 2}', "input.csv, line 2: is no JSON that is read here: an object names a key"),
        (b'{"id": 1}\n[1]', "input.csv, line 2: each row must be an object"),
        (b'{"id": 1}\n{"id": null}', "input.csv, line 2, column 'id': a key must not be empty"),
        (b'{"id": 1}\n{"a": 1}', "input.csv, line 2, column 'id': a key must not be empty"),
        (b'{"id": 1, "ID": 2}', "column 'ID': another column's name differs only in case"),
        (b'{"id": 1, "a": "\\u0000"}', "line 1, column 'a': a value holds a NUL"),
        (b'{"id": "\\ud800"}', "half of a surrogate pair"),
        (b'{"a": 1}', "column 'id': the key is no column"),
        (b'{"id": 1, "a": "\xff"}', "is not utf-8"),
        (b"[]", "holds no object with a key"),
    ],
)
def test_json_that_is_refused(sync: Sync, content: bytes, message: str) -> None:
    got = sync(content, settings=TYPED)
    assert message in str(got.error)
    assert not got.state or not got.state["bookmarks"]["things"]["files"]


def test_json_behind_the_sample(sync: Sync) -> None:
    """A key or a kind of value that the sample has not is refused, and what lets it in is named."""
    content = b'{"id": 1, "a": 1}\n' * 3 + b'{"id": 2, "b": 1}\n'
    got = sync(content, settings={"infer_rows": 2})
    assert "line 4, column 'b': the sample has no such key: `infer_rows: -1`" in str(got.error)
    assert sync(content, settings={"infer_rows": -1}).records[-1] == {"id": 2, "a": None, "b": 1}
    named = sync(content, settings={"infer_rows": 2}, columns={"b": "integer"})
    assert named.records[-1] == {"id": 2, "a": None, "b": 1}
    got = sync(b'{"id": 1, "a": 1}\n' * 3 + b'{"id": 2, "a": "x"}\n', settings={"infer_rows": 2})
    assert "line 4, column 'a': the value is no integer" in str(got.error)


def test_a_catalog_leaves_keys_of_json_out(sync: Sync) -> None:
    content = b'{"id": 1, "a": 1}\n{"id": 2, "b": 1}\n'
    properties = {name: {"type": ["integer", "null"]} for name in ("id", "a", "b")}
    marks = [{"breadcrumb": ["properties", "b"], "metadata": {"selected": False}}]
    entry = {"tap_stream_id": "things", "schema": {"properties": properties}, "metadata": marks}
    got = sync(content, settings=TYPED, catalog={"streams": [entry]})
    assert got.records == [{"id": 1, "a": 1}, {"id": 2, "a": None}]


def test_json_in_small_pieces(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small they are, of bytes read and of segments."""
    monkeypatch.setattr("tap_csv.source._CHUNK", 16)
    monkeypatch.setattr(tables, "SEGMENT", 300)
    rows = [{"id": number, "text": f'é"\n{{[{number}' * 3} for number in range(50)]
    for content in (json.dumps(rows), "\n".join(map(json.dumps, rows)), json.dumps(rows, indent=1)):
        got, batches = both(sync, tmp_path, content.encode())
        assert got.error is None
        assert got.records == rows
        assert batches.rows() == [tuple(row.values()) for row in rows]


def test_settings_that_mean_nothing(sync: Sync) -> None:
    assert "is a json file, in which `skip` means nothing" in str(sync(b'{"id": 1}', format="json", skip=1).error)
    assert "delimiter, quotechar and their like mean nothing" in str(sync(b'{"id": 1}', delimiter=";").error)
    assert sync(b'[id],"a"\n1,2\n', keys=["[id]"]).records == [{"[id]": "1", "a": "2"}]
    assert sync(b'{"id": 1}\n{"id": 2}\n', format="csv", keys=[]).records == [{'{"id": 1}': '{"id": 2}'}]
    assert "format: one of csv, json, parquet, xlsx" in str(sync(b"", format="orc").error)


def test_files_of_several_formats(sync: Sync, tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id\n1\n")
    (tmp_path / "2.csv").write_text('{"id": 2}\n')
    assert "2.csv: is of another format than" in str(sync(tmp_path).error)
    (tmp_path / "1.csv").write_text('{"id": 1, "a": 5}\n')
    assert [one["id"] for one in sync(tmp_path).records] == ["1", "2"]


COLUMNS = {
    "id": "9007199254740993::bigint",
    "small": "200::utinyint",
    "huge": "170141183460469231731687303715884105::decimal(38,0)",
    "price": "12345678901234567.89::decimal(19,2)",
    "ratio": "0.1::double",
    "single": "0.5::float",
    "ok": "true",
    "day": "date '2024-02-29'",
    "hour": "time '10:00:00.123456'",
    "stamp": "timestamp '2024-02-29 10:00:00.123456'",
    "zoned": "timestamptz '2024-02-29 10:00:00.5+02'",
    "nano": "timestamp_ns '2024-02-29 10:00:00.123456'",
    "text": "'00501'",
    "empty": "''",
    "id_of_all": "uuid 'eeccb8c5-9943-b2bb-bb5e-222f4e14b687'",
    "bytes": "'\\x00ab'::blob",
    "nested": "{'a': [1.25::decimal(4,2), null], '{b}': 0.5::decimal(1,1)}",
    "nothing": "null::integer",
}


def parquet(path: Path, query: str) -> Path:
    with duckdb.connect() as engine:
        engine.execute(f"set TimeZone = 'UTC'; copy ({query}) to '{path}' (format parquet, row_group_size 2048)")
    return path


def test_types_of_parquet(sync: Sync, tmp_path: Path) -> None:
    listed = ", ".join(f"{value} as {name}" for name, value in COLUMNS.items())
    path = parquet(tmp_path / "in.data", f"select {listed}")
    records, batches = both(sync, tmp_path, path)
    assert records.error is None
    expected = (
        9007199254740993,
        200,
        Decimal(170141183460469231731687303715884105),
        Decimal("12345678901234567.89"),
        0.1,
        0.5,
        True,
        dt.date(2024, 2, 29),
        dt.time(10, 0, 0, 123456),
        dt.datetime.fromisoformat("2024-02-29 10:00:00.123456"),
        dt.datetime.fromisoformat("2024-02-29 08:00:00.5"),
        dt.datetime.fromisoformat("2024-02-29 10:00:00.123456"),
        "00501",
        "",
        "eeccb8c5-9943-b2bb-bb5e-222f4e14b687",
        "AGFi",
        '{"a":[1.25,null],"{b}":0.5}',
        None,
    )
    got = dict(zip(COLUMNS, batches.rows()[0], strict=True))
    assert got == dict(zip(COLUMNS, expected, strict=True))
    said = records.records[0]
    assert said["id"] == 9007199254740993
    assert said["zoned"] == "2024-02-29T08:00:00.500000Z"
    assert said["text"] == "00501"
    assert records.types["price"]["multipleOf"] == 0.01


def test_parquet_of_many_rows(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of rows in their order, numbered from 1; left out when nothing changed."""
    monkeypatch.setattr(tables, "SEGMENT", 10_000)
    path = parquet(tmp_path / "in.parquet", "select range as id, range % 7 as a from range(20_000)")
    settings = {"add_metadata_columns": True, **batch(tmp_path)}
    got = sync(path, settings=settings)
    assert got.error is None
    rows = got.rows()
    assert [(row[0], row[1], row[-1]) for row in rows] == [(one, one % 7, one + 1) for one in range(20_000)]
    assert len(got.of_type("BATCH")) > 3
    assert sync(path, settings=settings, state=got.state).of_type("BATCH") == []
    empty = parquet(tmp_path / "empty.parquet", "select range as id from range(0)")
    assert sync(empty, settings=TYPED).records == []
    assert sync(empty, settings=TYPED).error is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'nan'::double", "line 3, column 'a': the value is no number"),
        ("timestamp_ns '2024-02-29 10:00:00.123456789'", "line 3, column 'a': the value is no date-time"),
        ("'infinity'::timestamp", "line 3, column 'a': the value is no date-time"),
    ],
)
def test_parquet_that_is_refused(sync: Sync, tmp_path: Path, value: str, message: str) -> None:
    path = parquet(
        tmp_path / "in.parquet", f"select range as id, case range when 2 then {value} end as a from range(9)"
    )
    for got in both(sync, tmp_path, path):
        assert message in str(got.error)
    assert sync(path, settings=TEXT).error is None


CUT = {
    "a time": (pa.time64("ns"), 1, "DuckDB would cut its nanoseconds"),
    "a moment": (pa.timestamp("ns", "UTC"), 1, "DuckDB would cut its nanoseconds"),
    "a decimal": (pa.decimal256(40, 39), Decimal(1), "DuckDB would round it to a DOUBLE"),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("kind", "value", "message"), CUT.values(), ids=CUT)
def test_parquet_of_which_duckdb_would_read_another_value(
    sync: Sync, tmp_path: Path, kind: pa.DataType, value: object, message: str, *, nested: bool
) -> None:
    values = pa.array([[value]], pa.list_(kind)) if nested else pa.array([value], kind)
    pq.write_table(pa.table({"id": [1], "a": values}), path := tmp_path / "in.parquet")
    for got in (*both(sync, tmp_path, path), *both(sync, tmp_path, path, columns={"a": "string"})):
        assert f"in.parquet, column 'a': {message}" in str(got.error)
    catalog = discover({"files": [{"entity": "things", "path": str(path), "keys": ["id"]}]})
    catalog["streams"][0]["metadata"][1]["metadata"]["selected"] = False
    assert sync(path, settings=TYPED, catalog=catalog).records == [{"id": 1}]


def test_parquet_as_text_has_all_its_digits(sync: Sync, tmp_path: Path) -> None:
    values = "2::double ** 81 as a, 0.1::double as b, timestamp_ns '2024-02-29 10:00:00.123456789' as c"
    path = parquet(tmp_path / "in.parquet", f"select 1 as id, {values}")
    records, _ = both(sync, tmp_path, path, columns=dict.fromkeys("abc", "string"))
    expected = {"id": 1, "a": "2.4178516392292583e+24", "b": "0.1", "c": "2024-02-29 10:00:00.123456789"}
    assert records.records == [expected]


def test_columns_of_parquet_by_the_settings(sync: Sync, tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", "select range as id, '1,5' || range as a, 1 as b from range(2)")
    records, _ = both(sync, tmp_path, path, columns={"id": "string", "b": "decimal(5,2)"})
    assert records.records[0] == {"id": "0", "a": "1,50", "b": 1.0}
    got = sync(path, settings=TYPED, columns={"a": "integer"})
    assert "line 1, column 'a': the value is no integer" in str(got.error)
    nulls = parquet(tmp_path / "null.parquet", "select nullif(range, 4) as id from range(9)")
    assert "line 5, column 'id': a key must not be empty" in str(sync(nulls, settings=TYPED).error)


def test_parquet_that_is_broken(sync: Sync, tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", "select range as id, random() as a from range(5000)")
    whole = path.read_bytes()
    assert "input.csv: is a damaged parquet file" in str(sync(whole[:-100], settings=TYPED).error)
    bad = whole[:500] + b"\xff" * 5000 + whole[5500:]
    got = sync(bad, settings=TYPED)
    assert got.error is not None
    assert "input.csv" in str(got.error)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(path, "in.parquet")
    assert "in.zip!in.parquet: is within a zip file, and read from its end: unpack it" in str(
        sync(tmp_path / "in.zip", settings=TYPED).error
    )


def test_inspection(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_bytes(LINES)
    found = inspection.inspect(str(tmp_path / "in.json"))
    assert {one.name: one.type for one in found.columns}["price"] == "decimal(16,2)"
    assert found.rows == 3
    assert ["id"] in found.keys
    found = inspection.inspect(str(parquet(tmp_path / "in.parquet", "select 1.5::decimal(9,3) as a")))
    assert [(one.name, one.type) for one in found.columns] == [("a", "decimal(9,3)")]


def test_times_of_nanoseconds_that_have_none(sync: Sync, tmp_path: Path) -> None:
    """As pandas writes all of them."""
    moments = pa.array([1709200800_123456_000, None], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"id": [1, 2], "a": moments}), path := tmp_path / "in.parquet")
    for got in both(sync, tmp_path, path):
        assert got.error is None
    assert [one["a"] for one in sync(path, settings=TYPED).records] == ["2024-02-29T10:00:00.123456Z", None]
