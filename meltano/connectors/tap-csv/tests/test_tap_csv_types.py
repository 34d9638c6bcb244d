"""Types: found, named or taken from a catalog; DuckDB's way, Python's way, RECORD and BATCH give the same values."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tap_csv import readable, types
from tap_csv_harness import Synced, discover, run

if t.TYPE_CHECKING:
    from tap_csv_harness import Sync

TYPED: dict[str, t.Any] = {"incremental": False}
WAYS = ("duckdb", "python")


def batch(folder: Path) -> dict[str, t.Any]:
    """Settings that ask for BATCH messages."""
    return {**TYPED, "batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": f"file://{folder}"}}}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rows are read by DuckDB where it reads them as Python does, or always by Python."""
    only(request.param, monkeypatch)
    return str(request.param)


def only(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows be read in one way only."""
    if way == "python":
        monkeypatch.setattr(readable, "quoted_text", lambda *_: None)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["1", "-2", " 4 "], "integer"),
        (["+4915112345678", "1"], "string"),  # a number to call, not to count with
        (["12345678901234567.89", "1.5"], "string"),  # more digits than a DOUBLE holds
        (["0.30000000000000004", "1.5"], "number"),  # as a DOUBLE is written
        (["9223372036854775807", "0"], "integer"),
        (["9223372036854775808"], "integer"),
        (["9" * 39], "string"),  # no type holds all its digits
        (["007", "1"], "string"),  # a code, not a number
        (["1_000"], "string"),
        (["1", "2.5", "-1e3"], "string"),  # a number would give -1000.0 back
        (["1E5", "12E3"], "string"),  # codes
        (["1e-07", "2.5"], "number"),  # just so a DOUBLE is written
        (["19.99", "5", "0.5"], "decimal(16,2)"),
        (["-0.125", "5.10"], "decimal(18,4)"),
        (["0.12345", "5.1"], "number"),
        (["123456789012345.678", "0.5"], "string"),  # too many digits for either
        (["1.0", "2.0"], "decimal(16,2)"),
        (["-0"], "number"),  # only a DOUBLE keeps the sign
        ([".5"], "string"),
        (["1."], "string"),
        (["+49", "1"], "string"),
        (["0x10"], "string"),
        (["12345678901234567890123.5"], "string"),
        (["01.5"], "string"),
        (["nan", "1.5"], "string"),
        (["true", "FALSE"], "boolean"),
        (["t", "f"], "string"),
        (["2024-01-31", "1999-12-1"], "date"),
        (["2024-02-30"], "string"),
        (["01/02/2024"], "string"),  # nobody knows which of both is the month
        (["2024-01-31 10:00:00", "2024-01-31T10:00:00.5+02:00", "2024-01-31"], "date-time"),
        (["2024-01-31 10:00:00+0200", "2024-01-31T10:00:00-03"], "date-time"),
        (["2024-01-31 10:00:00 BST"], "string"),  # Britain's, Brazil's or Bangladesh's
        (["2024-01-31 10:00:00 UTC"], "string"),
        (["2024-01-31 10:00:00 Europe/Berlin"], "string"),
        (["2024-01-31 24:00:00"], "string"),
        (["2024-12-31 23:59:60"], "string"),
        (["2024-01-31 10:00:00.1234567"], "string"),  # a nanosecond would be cut
        (["2024-01-31 10:00:00.123456000"], "date-time"),
        (["2024-01-31 to 2024-02-15"], "string"),
        (["2024-01-31garbage"], "string"),
        (["2024-01-3x"], "string"),
        (["0000-01-01"], "string"),
        (["10:00:00", "23:59:59.5"], "time"),
        (["24:00:00"], "string"),
        (["10:00:00.1234567"], "string"),
        (["10:00:00+02:00"], "string"),
        (["infinity"], "string"),
        (["x", "1"], "string"),
        (["", ""], "string"),
        (["", "1"], "integer"),
    ],
)
def test_type_that_is_found(sync: Sync, values: list[str], found: str) -> None:
    got = sync(("k,v\n" + "".join(f"k,{value}\n" for value in values)).encode(), keys=[], settings=TYPED)
    assert got.error is None
    schema = got.types["v"]
    assert types.of_schema(schema).name == found
    assert schema["type"][1] == "null"


VALUES = {
    "integer": [("12", 12), (" 12 ", 12), ("1.0", 1), ("1e3", 1000), ("9007199254740993", 9007199254740993)],
    "number": [("1.5", 1.5), ("-0.1", -0.1), ("1e22", 1e22)],
    "decimal(20,2)": [("123456789012345678.12", Decimal("123456789012345678.12")), ("1", Decimal("1.00"))],
    "boolean": [("true", True), ("F", False), ("1", True)],
    "date": [("2024-01-31", dt.date(2024, 1, 31)), ("2024-01-31 00:00", dt.date(2024, 1, 31))],
    "time": [("10:00:00.25", dt.time(10, 0, 0, 250_000))],
    "date-time": [
        ("2024-01-31 10:00:00.25", dt.datetime(2024, 1, 31, 10, 0, 0, 250_000)),  # noqa: DTZ001 - UTC as parquet has it
        ("2024-01-31T00:30:00+02:00", dt.datetime(2024, 1, 30, 22, 30)),  # noqa: DTZ001
    ],
    "string": [("x", "x"), (" x", " x"), ("é\u2028", "é\u2028")],
}
NOT_SUCH = {
    "integer": ["1.5", "x", "12e-1", "9223372036854775808", "9007199254740993.5", "nan", "inf"],
    "number": ["x", "nan", "inf", "1e400"],
    "decimal(20,2)": ["0.125", "1" * 19, "1.0000000000000001e+18", "x"],
    "boolean": ["2", "on"],
    "date": [
        "2024-02-30",
        "2024-01-31 10:00",
        "infinity",
        "x",
        "2024-01-1x",
        "2024-01-31 BST",
        "2024-01-30 24:00:00",
    ],
    "time": ["25:00:00", "x", "24:00:00", "23:59:60", "10:00:00.1234567", "10:00:00+02:00"],
    "date-time": [
        *("2024-13-01", "infinity", "x", "2024-01-31 10:00:00 BST", "2024-01-31 24:00:00", "2024-01-31 10:00:1Z"),
        *("2024-01-31 10:00:00.123456789", "2024-01-31 10:00:00+02:00:30", "2024-01-1T 10:00:00"),
    ],
}


@pytest.mark.parametrize("kind", VALUES)
def test_values(sync: Sync, tmp_path: Path, way: str, kind: str) -> None:
    content = "id,v\n" + "".join(f"{number},{text}\n" for number, (text, _) in enumerate(VALUES[kind])) + "n,\n"
    columns = {"id": "string", "v": kind}
    got = sync(content.encode(), columns=columns, settings=batch(tmp_path))
    assert got.error is None
    values = [value for _, value in VALUES[kind]]
    assert [value for _, value in got.rows()] == [*values, None]
    records = sync(content.encode(), columns=columns, settings=TYPED).records
    sent = [record["v"] for record in records]
    if kind in {"date", "time"}:
        sent = [value and type(values[0]).fromisoformat(value) for value in sent]  # type: ignore[attr-defined]
    elif kind == "date-time":
        sent = [value and dt.datetime.fromisoformat(value).replace(tzinfo=None) for value in sent]
    elif kind.startswith("decimal"):
        sent = [None if value is None else pytest.approx(Decimal(str(value))) for value in sent]
    assert sent == [*values, None]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in NOT_SUCH.items() for text in texts])
def test_a_conversion_error_names_its_place(sync: Sync, tmp_path: Path, way: str, kind: str, text: str) -> None:
    good = VALUES[kind][0][0]
    content = f'id,v\n1,{good}\n\n2,{text}\n3,"{text}"\n'
    (tmp_path / "batch").mkdir()
    got = sync(
        content.encode(), columns={"v": kind}, settings=batch(tmp_path / "batch") if way == "duckdb" else TYPED
    )
    assert list((tmp_path / "batch").iterdir()) == []
    assert f"input.csv, line 4, column 'v': the value is no {kind}" in str(got.error)
    assert got.state is None


def test_a_conversion_error_late_in_the_file(sync: Sync) -> None:
    """Its type was found from rows before it; whoever looks at all rows finds another."""
    content = b"id,v\n" + b"".join(b"%d,1\n" % number for number in range(30_000)) + b"x,y\n"
    got = sync(content, settings=TYPED)
    assert "line 30002, column 'id': the value is no integer" in str(got.error)
    whole = sync(content, settings={**TYPED, "infer_rows": -1})
    assert whole.error is None
    assert {types.of_schema(schema).name for schema in whole.types.values()} == {"string"}


@pytest.mark.parametrize("rows_before", [300, 5000])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_narrowest_type_is_found_behind_a_glance(tmp_path: Path, parts: int, rows_before: int) -> None:
    """As by a look at all types in all rows, of few and of many; wider ones need no look mostly."""
    late = ["1.5", "1.2345", "1.23456789", "9" * 25, "x", "7.0", "2024-01-01 10:00:00", "true"]
    early = ["1", "1", "1", "1", "1", "1", "2024-01-01", "false"]
    names = ["text", "place", "row", "line", "v", "texts", *(f"c{place}" for place in range(2 * len(late)))]
    header = "id," + ",".join(names[: 2 * len(late)]) + "\n"
    for part in range(parts):
        rows = [",".join([str(number), *early, *early]) for number in range(rows_before)]
        rows += [",".join([str(rows_before + part), *late, *(late if part == parts - 1 else early)])]
        (tmp_path / f"{part}.csv").write_text(header + "\n".join(rows) + "\n")
    files = [{"entity": "e", "path": str(tmp_path), "keys": []}]
    sample, whole = (run({"files": files, **TYPED, "infer_rows": rows}) for rows in (10_000, -1))
    assert sample.error is None
    assert sample.types == whole.types
    found = [types.of_schema(one).name for one in sample.types.values()][:9]
    assert found[:5] == ["integer", "decimal(16,2)", "decimal(18,4)", "number", "integer"]
    assert found[5:] == ["string", "decimal(16,2)", "date-time", "boolean"]


@pytest.mark.parametrize("text", ["x", "x" * 2000, '"' + "x\n" * 20 + '"', '7" pipe'])
@pytest.mark.parametrize("number", [3000, 3001])
def test_a_sample_has_the_rows_that_are_asked_for(sync: Sync, text: str, number: int) -> None:
    """Though no more of the file is read for it than its first lines seem to need."""
    rows = [f"{place},x\n" if place < 2500 else f"{place},{text}\n" for place in range(1, 4001)]
    rows[number - 1] = f"late,{text}\n"
    got = sync(("id,v\n" + "".join(rows)).encode(), settings={**TYPED, "infer_rows": 3000})
    assert (got.error is None) == (number == 3000), got.error


def test_decimals_keep_every_digit(sync: Sync, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,v\n1,12345678901234567890.123456789\n")
    files = [{"entity": "e", "path": str(path), "keys": ["id"], "columns": {"v": "decimal(38,9)"}}]
    got = run({"files": files, **batch(tmp_path)})
    assert got.rows() == [(1, Decimal("12345678901234567890.123456789"))]
    assert got.types["v"]["multipleOf"] == 1e-9


def test_a_catalog_says_the_types(sync: Sync, tmp_path: Path) -> None:
    path = tmp_path / "input.csv"
    path.write_text("id,a,b\n1,1.50,2024-01-01\n")
    files = [{"entity": "things", "path": str(path), "keys": ["id"]}]
    catalog = discover({"files": files})
    catalog["streams"][0]["schema"]["properties"]["a"] = {"type": ["null", "number"], "multipleOf": 0.01}
    catalog["streams"][0]["schema"]["properties"]["b"] = {"type": "string"}
    got = sync(path, catalog=catalog, settings=batch(tmp_path))
    assert got.rows() == [(1, Decimal("1.50"), "2024-01-01")]


def test_empty_is_null_unless_all_is_text(sync: Sync, way: str) -> None:
    content = b'id,a,b\n1,,\n2,"",x\n'
    assert [one["a"] for one in sync(content, settings=TYPED).records] == [None, None]
    assert [one["a"] for one in sync(content, settings={**TYPED, "infer_types": False}).records] == ["", ""]


def test_columns_that_are_not_there(sync: Sync) -> None:
    got = sync(b"id\n1\n", columns={"price": "number"})
    assert "line 1, column 'price': `columns` gives it a type, but it is no column of the header" in str(got.error)


# What the fields of a file may look like: plausible values, and the characters that matter to CSV.
PLAUSIBLE = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.dates().map(str),
    st.datetimes().map(str),
    st.times().map(str),
    st.sampled_from(["", "true", "t", "1", "007", "1e3", "1_0", "nan", "infinity", "epoch", " 1 ", "2024-01-01 "]),
    st.text(st.sampled_from(" \",;'\n\r\té0a"), max_size=4),
)


@st.composite
def csv_bytes(draw: st.DrawFn) -> bytes:
    """A file with two to four columns, well formed or nearly so."""
    width = draw(st.integers(2, 4))
    line_end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    lines = [",".join(f"c{at}" for at in range(width))]
    for _ in range(draw(st.integers(1, 6))):
        fields = []
        for _ in range(draw(st.sampled_from([width] * 12 + [width - 1, width + 1, width + 2]))):
            field = draw(PLAUSIBLE)
            quoted = draw(st.booleans())
            fields.append('"' + field.replace('"', '""') + '"' if quoted else field)
        lines.append(",".join(fields) + draw(st.sampled_from([""] * 20 + [",", ",,", " "])))
    return (line_end.join(lines) + draw(st.sampled_from(["", line_end]))).encode()


@settings(deadline=None, max_examples=80)
@given(content=csv_bytes(), kinds=st.lists(st.sampled_from([*VALUES, None]), min_size=4, max_size=4))
@example(b"c0,c1\n1,2,\n", [None] * 4)
@example(b"c0,c1\n1,,\n", [None] * 4)
@example(b"c0,c1\n1.0000000000000001e+18,0", ["decimal(20,2)", None, None, None])
@example(b'c0,c1\n1, "2"\n', [None] * 4)
@example(b'c0,c1\n1,"2" \n', [None] * 4)
@example(b'c0,c1\n1,5" pipe\n2,"a\nb"\n', [None] * 4)
def test_both_ways_and_both_messages_give_the_same(content: bytes, kinds: list[str | None]) -> None:
    outcomes = []
    for way in WAYS:
        for by_batch in (False, True):
            with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
                only(way, monkeypatch)
                path = Path(folder) / "in.csv"
                path.write_bytes(content)
                header = content.splitlines()[0].decode().split(",")
                columns = {name: kind for name, kind in zip(header, kinds, strict=False) if kind}
                files = [{"entity": "e", "path": str(path), "keys": ["c0"], "columns": columns}]
                got = run({"files": files, **(batch(Path(folder)) if by_batch else TYPED)})
                outcomes.append(_outcome(got, folder))
    assert outcomes[0] == outcomes[1] == outcomes[2] == outcomes[3]


def _outcome(got: Synced, folder: str) -> t.Any:
    """What a run gave, in a form that is the same for RECORD and BATCH."""
    if got.error:
        return str(got.error).replace(folder, "")
    names, schemas = list(got.types), list(got.types.values())
    rows: list[tuple[t.Any, ...]] = [tuple(record[name] for name in names) for record in got.records] or got.rows()
    return schemas, [[_plain(value, schema) for value, schema in zip(row, schemas, strict=True)] for row in rows]


def _plain(value: t.Any, schema: dict[str, t.Any]) -> t.Any:
    form = schema.get("format")
    if form == "date-time" and isinstance(value, str):
        return dt.datetime.fromisoformat(value).replace(tzinfo=None)
    if form in {"date", "time"} and value is not None:
        return str(value)
    if schema.get("multipleOf") and value is not None:
        return float(value)
    return value


def test_the_schema_is_json(sync: Sync) -> None:
    for kind in (*types.candidates(","), types.decimal(38, 0, strict=True)):
        again = types.of_schema(json.loads(json.dumps(types.property_of(kind))))
        assert (again.name, again.sql) == (kind.name, kind.sql)


OPEN = {"exclusiveMinimum": True, "exclusiveMaximum": True}


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"multipleOf": 0.01}, "decimal(38,2)"),
        ({"multipleOf": 0.01, "minimum": 0}, "decimal(38,2)"),
        ({"multipleOf": 0.01, "exclusiveMinimum": -1e36, "exclusiveMaximum": 1e36}, "decimal(38,2)"),
        ({"multipleOf": 0.01, "minimum": -(10**8), "maximum": 10**8, **OPEN}, "decimal(10,2)"),
        ({"multipleOf": 0.01, "exclusiveMinimum": -1e8, "exclusiveMaximum": 1e8}, "decimal(10,2)"),
        ({"multipleOf": 10**-23}, "decimal(38,23)"),
        ({"multipleOf": 1e-24}, "number"),  # too few digits would be left before the point
        ({"multipleOf": 1e-30, "x-singer.decimal": {"precision": 38, "scale": 30}}, "decimal(38,30)"),
        ({"multipleOf": 1e-38, "minimum": -(10**62), "maximum": 10**62, **OPEN}, "number"),  # PostgreSQL's numeric
        ({"multipleOf": 0.01, "minimum": 0, "maximum": float("inf")}, "decimal(38,2)"),
        ({"multipleOf": float("nan")}, "number"),
        ({"multipleOf": "x"}, "number"),
        ({"type": "integer", "maximum": float("inf")}, "integer"),
        ({"type": "integer", "maximum": 2**63, "exclusiveMaximum": True}, "integer"),
        ({"type": "integer", "maximum": 2**63}, "integer"),
    ],
)
def test_type_of_a_number_of_a_catalog(schema: dict[str, t.Any], name: str) -> None:
    """The target has the same rule."""
    found = types.of_schema({"type": "number", **schema})
    assert found.name == name
    assert (found == types.HUGE) == (schema.get("maximum") == 2**63 and "exclusiveMaximum" not in schema)


def test_integers_beyond_64_bits_keep_every_digit_both_ways(sync: Sync, tmp_path: Path) -> None:
    values = [12345678901234567890123, 12345678901234567890124, -9223372036854775809, 5, 10**38 - 1]
    content = ("id,k\n" + "".join(f"{value},k\n" for value in values)).encode()
    got = sync(content, settings=TYPED)
    assert [one["id"] for one in got.records] == values
    assert [int(row[0]) for row in sync(content, settings=batch(tmp_path)).rows()] == values


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("decimal(38,2)", "1.239", False),
        ("decimal(38,0)", "9.5", False),
        ("decimal(38,10)", "1e-11", False),
        ("decimal(37,2)", "1.2301", False),
        ("decimal(20,2)", "1.00000000000000000000000009", False),
        ("decimal(20,2)", "1e-30", False),
        ("decimal(20,2)", "1.5e3", True),
        ("decimal(38,2)", "1.2300", True),
        ("decimal(38,2)", "-.5", True),
        ("decimal(5,2)", "1000.00", False),
        ("decimal(18,18)", "0.25", True),
        ("decimal(5,2)", " 1.5 ", True),
        ("decimal(5,2)", "1e-400", False),
        ("decimal(5,2)", "-0.0e5", True),
        ("decimal(5,2)", " - ", False),  # of which DuckDB makes 0
        ("money(5,2)", " - ", False),
    ],
)
def test_a_decimal_is_exact_or_refused(sync: Sync, kind: str, value: str, *, fits: bool) -> None:
    for other in ("", 'x"y'):  # the latter is for Python to read
        got = sync(f"id,v,o\n1,{value},{other}\n".encode(), columns={"v": kind}, settings=TYPED)
        assert (got.error is None) == fits
        if fits:
            assert got.records[0]["v"] == float(value)


def test_a_catalog_with_multiples_refuses_what_it_would_round(sync: Sync) -> None:
    properties = {"id": {"type": "string"}, "v": {"type": "number", "multipleOf": 0.01}}
    catalog = {"streams": [{"tap_stream_id": "things", "schema": {"properties": properties}}]}
    assert sync(b"id,v\n1,1.23\n", catalog=catalog).records[0]["v"] == 1.23
    assert "is no decimal(38,2)" in str(sync(b"id,v\n1,1.239\n", catalog=catalog).error)


def test_a_folder_named_like_a_partition_changes_no_value(
    sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "region=north"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    content = b"id,region\n1,south\n2,east\n"
    assert [one["region"] for one in sync(content).records] == ["south", "east"]
    assert [one["region"] for one in sync(content + b'3,"x\ny"z\n').records][:2] == ["south", "east"]


def test_types_are_found_where_the_sample_ends_within_a_row(sync: Sync) -> None:
    rows = "".join(f'{number} 5" pipe,"x\n{"y" * 900}"\n' for number in range(20_000))
    got = sync(f"a,b\n{rows}".encode(), keys=[], settings=TYPED)
    assert got.error is None
    assert len(got.records) == 20_000
