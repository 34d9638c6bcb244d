"""BATCH messages, and that they and RECORDs give the same table."""

from __future__ import annotations

import gzip
import json
import tempfile
import typing as t
import uuid
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_duckdb.errors import SettingsError
from target_duckdb_harness import Warehouse, record, schema, state

PROPERTIES = {"id": {"type": "integer"}, "a": {"type": ["null", "string"]}}


def jsonl(folder: Path, *records: t.Any, compressed: bool = False) -> str:
    """A file of records, one a line; its address."""
    path = folder / f"{uuid.uuid4()}.jsonl{'.gz' if compressed else ''}"
    text = "".join(json.dumps(one) + "\n" for one in records).encode()
    path.write_bytes(gzip.compress(text) if compressed else text)
    return f"file://{path}"


def parquet(folder: Path, query: str, name: str = "") -> str:
    """A file of what a query gives; its address."""
    path = folder / (name or f"{uuid.uuid4()}.parquet")
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        target = str(path).replace("'", "''")
        connection.execute(f"copy ({query}) to '{target}' (format parquet)")
    return f"file://{path}"


def batch(*manifest: str, form: str = "parquet", compression: str | None = None) -> dict[str, t.Any]:
    """A BATCH message."""
    encoding = {"format": form} | ({"compression": compression} if compression else {})
    return {"type": "BATCH", "stream": "things", "encoding": encoding, "manifest": list(manifest)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files of a batch lie."""
    (tmp_path / "batch").mkdir()
    return tmp_path / "batch"


@pytest.mark.parametrize("compression", [None, "none", "gzip"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_several_files_of_which_the_last_wins(
    warehouse: Warehouse, folder: Path, form: str, compression: str | None
) -> None:
    rows = [[(1, "a"), (2, "b"), (1, "c")], [(2, ""), (3, None)]]
    if form == "jsonl":
        files = [
            jsonl(folder, *({"id": i, "a": a} for i, a in one), compressed=compression == "gzip") for one in rows
        ]
    else:
        values = (", ".join(f"({i}, {'null' if a is None else repr(a)})" for i, a in one) for one in rows)
        files = [parquet(folder, f"from (values {one}) t(id, a)") for one in values]
    got = warehouse.load(
        schema(),
        record({"id": 3, "a": "before"}),
        state(0),
        batch(*files, form=form, compression=compression),
        state(1),
        record({"id": 1, "a": "after"}),
        batch_folder=f"file://{folder}",
    )
    assert (got.error, got.states) == (None, [0, 1])
    assert warehouse.rows("from things order by id") == [(1, "after"), (2, ""), (3, None)]
    assert list(folder.iterdir()) == []


def test_files_can_stay(warehouse: Warehouse, folder: Path) -> None:
    file = jsonl(folder, {"id": 1})
    for stays in ({"clean_up_batch_files": False, "batch_folder": str(folder)}, {}):
        assert warehouse.load(schema(), batch(file, form="jsonl"), **stays).error is None
        assert Path(file.removeprefix("file://")).exists()
    with pytest.raises(SettingsError, match="not one on s3"):
        warehouse.load(batch_folder="s3://b")


def test_files_of_somebody_else_are_not_removed(warehouse: Warehouse, folder: Path) -> None:
    """A message may name any file; the tap's own lie in the folder that it was given."""
    elsewhere = folder.parent / "batch-of-mine"
    elsewhere.mkdir()
    (folder / "link").symlink_to(elsewhere)
    mine = Path(parquet(elsewhere, "select 1 as id", "mine.parquet").removeprefix("file://"))
    for way in (mine, folder / ".." / elsewhere.name / mine.name, folder / "link" / mine.name):
        assert warehouse.load(schema(), batch(f"file://{way}"), batch_folder=str(folder)).error is None
        assert mine.exists()
    (folder / "named.parquet").symlink_to(mine)
    got = warehouse.load(schema(), batch(f"file://{folder}/named.parquet"), batch_folder=str(folder))
    assert got.error is None
    assert mine.exists()
    assert warehouse.rows("select count(*) from things") == [(1,)]


@pytest.mark.parametrize("name", ["a b.parquet", "a%20b.parquet", "a*[x]?.parquet", "it's.parquet"])
def test_odd_paths(warehouse: Warehouse, folder: Path, name: str) -> None:
    file = parquet(folder, "select 1 as id", name)
    assert warehouse.load(schema(), batch(file.replace(" ", "%20"))).error is None
    assert warehouse.rows("select id from things") == [(1,)]


@pytest.mark.parametrize("load_method", ["append-only", "overwrite", "upsert"])
def test_load_methods(warehouse: Warehouse, folder: Path, load_method: str) -> None:
    warehouse.load(schema(), record({"id": 1}), record({"id": 9}))
    files = [parquet(folder, f"select {number} as id, 'x' as a") for number in (1, 2, 1)]
    warehouse.load(schema(), *map(batch, files), state(1), load_method=load_method, add_metadata_columns=True)
    expected = {"append-only": [1, 1, 1, 2, 9], "overwrite": [1, 2], "upsert": [1, 2, 9]}[load_method]
    assert [one for (one,) in warehouse.rows("select id from things order by id")] == expected
    assert warehouse.rows("select distinct _sdc_extracted_at is null from things where a = 'x'") == [(False,)]


def test_types_that_parquet_may_have(warehouse: Warehouse, folder: Path) -> None:
    of = {
        "id": {"type": "integer"},
        "n": {"type": "integer"},
        "d": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "o": {"type": "object"},
        "p": {"type": "array"},
        "m": {"type": "number", "multipleOf": 0.01},
        "s": {"type": "string"},
    }
    exact = (
        "1::hugeint as id, 5.0::double as n, timestamptz '2020-01-01 02:00:00+02' as d, date '2020-01-01' as day, "
    )
    exact += "{'x': [1, null]} as o, [1, 2] as p, 1.25::decimal(9, 2) as m, 5 as s, 'not named' as z"
    text = "'1' as \"ID\", '5' as n, '2020-01-01T00:00:00Z' as d, '2020-01-01' as day, "
    text += "'{\"x\": [1, null]}' as o, '[1, 2]' as p, '1.25' as m, '5' as s"
    for number, query in enumerate((exact, text)):
        file = parquet(folder, f"select {query}")
        assert warehouse.load(schema(of), batch(file), default_target_schema=f"s{number}").error is None
    rows = warehouse.rows("select * replace (m::varchar as m, d::varchar as d, day::varchar as day) from s0.things")
    assert rows == [(1, 5, "2020-01-01 00:00:00", "2020-01-01", '{"x":[1,null]}', "[1,2]", "1.25", "5")]
    assert warehouse.rows("from s0.things except from s1.things") == []


@pytest.mark.parametrize("kind", ["object", "string"])
def test_nested_fractions_are_json(warehouse: Warehouse, folder: Path, kind: str) -> None:
    file = parquet(folder, "select 1 as id, {'x': -0.5::decimal(1,1), 'y': [0.1234::decimal(4,4)]} as a")
    got = warehouse.load(schema({"id": {"type": "integer"}, "a": {"type": [kind, "null"]}}), batch(file), state(1))
    assert got.error is None
    assert warehouse.rows("select a::varchar from things") == [('{"x":-0.5,"y":[0.1234]}',)]


def test_flattened_objects(warehouse: Warehouse, folder: Path) -> None:
    of = {
        "id": {"type": "integer"},
        "o": {"type": "object", "properties": {"x": {"type": "integer"}, "y/~": {"type": "string"}}},
    }
    files = [
        parquet(folder, "select 1 as id, {'x': 5, 'y/~': 'a'} as o"),
        parquet(folder, """select 2 as id, '{"x": 5, "y/~": "a"}' as o"""),
        parquet(folder, """select 3 as id, 5 as o__x, 'a' as "o__y/~" """),
    ]
    line = jsonl(folder, {"id": 4, "o": {"x": 5, "y/~": "a"}})
    got = warehouse.load(schema(of), batch(*files), batch(line, form="jsonl"), data_flattening_max_level=1)
    assert got.error is None
    assert warehouse.rows("from things order by id") == [(number, 5, "a") for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("other", [{}, {"o": {"type": "object"}}], ids=["flat", "with an object"])
def test_decimals_keep_every_digit(
    warehouse: Warehouse, folder: Path, compressed: bool, other: dict[str, t.Any]
) -> None:
    number = "12345678901234567890.0123456789"
    path = folder / "x.jsonl"
    text = f'{{"id": 1, "m": {number}, "o": {{"m": 0.5}}}}\n{{"id": 2, "m": "x"}}\n'.encode()
    message = batch(str(path), form="jsonl", compression="gzip" if compressed else "none")
    of = {"id": {"type": "integer"}, "m": {"type": "number", "multipleOf": 1e-10}, **other}
    path.write_bytes(gzip.compress(text) if compressed else text)
    said = f"stream 'things', file {path}, line 2, column 'm': the value does not fit DECIMAL(38,10)"
    assert str(warehouse.load(schema(of), message).error) == said
    text = text.replace(b'"x"', b"null")
    path.write_bytes(gzip.compress(text) if compressed else text)
    assert warehouse.load(schema(of), message).error is None
    assert warehouse.rows("select m::varchar from things order by id") == [(number,), (None,)]


def test_refusals(warehouse: Warehouse, folder: Path) -> None:
    file = parquet(folder, "select * from (values (1, 'x'), (null, 'y')) t(id, a)")
    path = file.removeprefix("file://")
    good = [schema(), record({"id": 7}), state(1)]

    def refused(*messages: t.Any) -> str:
        got = warehouse.load(*good, *messages, state(9), batch_size_rows=1)
        assert got.states == [1]
        assert warehouse.rows("select id from things") == [(7,)]
        assert Path(path).exists()
        return str(got.error)

    assert refused(batch(file)) == f"stream 'things', file {path}, line 2, column 'id': the record lacks a key"
    assert refused(batch("file:///none")) == "stream 'things', file /none, line 4: no such file"
    assert "BATCH has a file on s3; only local files are read" in refused(batch("s3://x/y"))
    assert "BATCH has format 'avro'" in refused(batch(file, form="avro"))
    assert "BATCH has compression 'zip'" in refused(batch(file, form="jsonl", compression="zip"))
    assert "column 'id': a value does not fit BIGINT" in refused(batch(parquet(folder, "select 'x' as id")))
    assert "column 'id': a value does not fit BIGINT" in refused(batch(parquet(folder, "select 1.5::double as id")))
    assert "cannot be read" in refused(batch(jsonl(folder, {"id": 1})))
    bad = jsonl(folder, {"id": 1}, {"id": "x"}, compressed=True)
    Path(bad.removeprefix("file://")).write_bytes(gzip.compress(b'{"id": 1}\n\n{"id": "x"}\n'))
    said = refused(batch(bad, form="jsonl", compression="gzip"))
    assert (
        said
        == f"stream 'things', file {bad.removeprefix('file://')}, line 3, column 'id': the value does not fit BIGINT"
    )


def test_a_line_without_an_object_is_no_row(warehouse: Warehouse, folder: Path) -> None:
    keyless = schema() | {"key_properties": []}
    for line in ("null", " null \r", "1", "[]", "true"):
        file = jsonl(folder, {"id": 1, "a": "null"})
        with (path := Path(file.removeprefix("file://"))).open("a", newline="") as lines:
            lines.write(f"\n{line}\n")
        got = warehouse.load(keyless, batch(file, form="jsonl"))
        assert got.error, line
        assert f"{path}, line 3" in str(got.error)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(timezones=st.timezones() | st.none()).map(lambda one: one.isoformat())
KINDS: list[tuple[dict[str, t.Any], st.SearchStrategy[t.Any], str]] = [
    ({"type": "integer"}, st.integers(-(2**63), 2**63 - 1), "BIGINT"),
    ({"type": "integer", "maximum": 2**126}, st.integers(-(2**126), 2**126), "HUGEINT"),
    ({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53), "DOUBLE"),
    ({"type": "string"}, TEXTS, "VARCHAR"),
    ({"type": "boolean"}, st.booleans(), "BOOLEAN"),
    ({"type": "string", "format": "date"}, st.dates().map(str), "DATE"),
    ({"type": "string", "format": "date-time"}, st.datetimes().map(lambda one: one.isoformat() + "Z"), "TIMESTAMP"),
    ({"type": "string", "format": "time"}, st.times().map(str), "TIME"),
    ({"type": "object"}, st.dictionaries(TEXTS, JSONS, max_size=3), "JSON"),
    ({"type": "array"}, st.lists(JSONS, max_size=3), "JSON"),
    ({"type": "number", "multipleOf": 0.001}, st.decimals(-(10**12), 10**12, places=3).map(float), "DECIMAL(38,3)"),
    (
        {"type": "string", "format": "singer.decimal"},
        st.decimals(-(10**20), 10**20, places=10).map(str),
        "DECIMAL(38,10)",
    ),
]


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, t.Any], dict[str, str], list[dict[str, t.Any]]]:
    """Properties of a schema, their types, and records that fit it, of which some share a key."""
    names = draw(st.lists(TEXTS.filter(lambda name: name and "\0" not in name), max_size=5, unique_by=str.lower))
    kinds = {name: draw(st.sampled_from(KINDS)) for name in names if name.lower() != "id"}
    one = st.fixed_dictionaries(
        {"id": st.integers(0, 5)}, optional={name: st.none() | kind[1] for name, kind in kinds.items()}
    )
    properties = {"id": {"type": "integer"}} | {name: kind[0] for name, kind in kinds.items()}
    types = {"id": "BIGINT"} | {name: kind[2] for name, kind in kinds.items()}
    return properties, types, draw(st.lists(one, max_size=12))


def parquet_of(folder: Path, types: dict[str, str], records: list[dict[str, t.Any]]) -> str:
    """A parquet file with the very types of the columns, written without the target's code."""
    path = folder / "typed.parquet"
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        columns = [f"c{number} {kind}" for number, kind in enumerate(types.values())]
        connection.execute(f"create table t ({', '.join(columns)})")
        for one in records:
            row = [
                json.dumps(one[name]) if types[name] == "JSON" and one.get(name) is not None else one.get(name)
                for name in types
            ]
            marks = ", ".join("?" if kind != "TIMESTAMP" else "?::timestamptz::timestamp" for kind in types.values())
            connection.execute(f"insert into t values ({marks})", row)
        exact = {"HUGEINT": "::decimal(38, 0)"}  # DuckDB would write it as DOUBLE
        quoted = ", ".join(
            f'c{number}{exact.get(kind, "")} as "{name.replace(chr(34), chr(34) * 2)}"'
            for number, (name, kind) in enumerate(types.items())
        )
        connection.execute(f"copy (select {quoted} from t) to '{path}' (format parquet)")
    return str(path)


@settings(max_examples=60, deadline=None)
@given(streams(), st.sampled_from(["append-only", "upsert", "overwrite"]), st.integers(1, 13))
def test_records_and_batches_give_the_same_table(
    stream: tuple[dict[str, t.Any], dict[str, str], list[dict[str, t.Any]]], load_method: str, batch_size_rows: int
) -> None:
    properties, types, records = stream
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "batch").mkdir()
        loads = {
            "records": [record(one) for one in records],
            "jsonl": [batch(jsonl(folder / "batch", *records), form="jsonl")],
            "gzip": [batch(jsonl(folder / "batch", *records, compressed=True), form="jsonl", compression="gzip")],
            "parquet": [batch(parquet_of(folder / "batch", types, records))],
        }
        warehouse = Warehouse(folder / "w.duckdb")
        for way, messages in loads.items():
            got = warehouse.load(
                schema(properties),
                *messages,
                state(1),
                load_method=load_method,
                batch_size_rows=batch_size_rows,
                default_target_schema=way,
            )
            assert got.error is None, way
        rows = {way: warehouse.rows(f"from {way}.things order by all") for way in loads}
        assert len({way: repr(found) for way, found in rows.items()}) == 4
        assert rows["jsonl"] == rows["gzip"] == rows["parquet"] == rows["records"]
        expected = len(records) if load_method == "append-only" else len({one["id"] for one in records})
        assert len(rows["records"]) == expected


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_folder_named_like_a_partition_changes_no_value(warehouse: Warehouse, folder: Path, form: str) -> None:
    partition = folder / "a=north"
    partition.mkdir()
    if form == "parquet":
        file = parquet(partition, "select 1 as id, 'south' as a")
    else:
        file = jsonl(partition, {"id": 1, "a": "south"})
    assert warehouse.load(schema(), batch(file, form=form)).error is None
    assert warehouse.rows("select a from things") == [("south",)]


def test_a_double_that_may_have_lost_digits_is_no_integer(warehouse: Warehouse, folder: Path) -> None:
    for value, fits in (("2.0::double ** 53 - 1", True), ("2.0::double ** 53", False), ("1e25::double", False)):
        got = warehouse.load(schema(), batch(parquet(folder, f"select {value} as id")))
        assert (got.error is None) == fits, value


def test_a_column_that_duckdb_takes_for_itself_is_refused(warehouse: Warehouse, folder: Path) -> None:
    file = parquet(folder, "select 1 as id, 2 as file_row_number")
    assert "column 'file_row_number': DuckDB gives" in str(warehouse.load(schema(), batch(file)).error)


@pytest.mark.parametrize(
    ("settings", "left"), [({"hard_delete": True}, [2]), ({"load_method": "append-only"}, [1, 2])]
)
def test_keys_of_the_source_retire_all_other_rows(
    warehouse: Warehouse,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, t.Any],
    left: list[int],
) -> None:
    warehouse.load(schema(), record({"id": 1}), record({"id": 2}))
    files = [parquet(tmp_path, "select 2 as id"), parquet(tmp_path, "select 7::utinyint as id")]
    got = warehouse.load(schema(), batch(*files) | {"type": "KEYS"}, state(1), **settings)
    assert (got.error, got.states) == (None, [1])
    assert warehouse.rows("select id from things order by id") == [(one,) for one in left]
    said = "things: 1 rows of the source are not in" if left == [2] else "things: KEYS have no effect"
    assert said in caplog.text


def test_keys_are_refused_as_a_whole(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.load(schema(), record({"id": 1}))
    keys = {"type": "KEYS"}
    good, bad = parquet(tmp_path, "select 2 as id"), parquet(tmp_path, "select 'x' as id")
    assert "'id': a value does not fit" in str(warehouse.load(schema(), batch(good, bad) | keys).error)
    assert "lacks a key" in str(warehouse.load(schema(), batch(parquet(tmp_path, "select 2 as a")) | keys).error)
    assert "KEYS of a stream that has none" in str(warehouse.load(schema(keys=()), batch(good) | keys).error)
    assert warehouse.rows("select id from things") == [(1,)]
