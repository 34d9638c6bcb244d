"""No value changes without a word: what is stored is what Python reads in what was sent, or it is refused."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import re
import tempfile
import typing as t
from decimal import Decimal, localcontext
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from target_duckdb.config import Config
from target_duckdb.target import Target
from target_duckdb_harness import Warehouse, record, schema, state

DATE, TIME, MOMENT = ({"type": ["null", "string"], "format": one} for one in ("date", "time", "date-time"))
ID = {"type": "integer"}
WAYS = ("records", "jsonl", "gzip", "parquet")


def sent(folder: Path, way: str, texts: t.Sequence[str]) -> list[t.Any]:
    """Messages of one record for each JSON text, in one of the ways; parquet holds what is in the quotes as text."""
    records = [f'{{"id": {number}, "a": {text}}}' for number, text in enumerate(texts)]
    if way == "records":
        return [f'{{"type": "RECORD", "stream": "things", "record": {one}}}' for one in records]
    path, encoding = folder / "in", {"format": "jsonl", "compression": "none"}
    content = "".join(f"{one}\n" for one in records).encode()
    if way == "parquet":
        encoding = {"format": "parquet"}
        with duckdb.connect() as connection:
            connection.execute("create table t (id bigint, a varchar)")
            for number, text in enumerate(texts):
                connection.execute("insert into t values (?, ?)", [number, json.loads(text, parse_float=str)])
            connection.execute(f"copy t to '{path}' (format parquet)")
    elif way == "gzip":
        encoding["compression"] = "gzip"
        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
    return [{"type": "BATCH", "stream": "things", "encoding": encoding, "manifest": [str(path)]}]


def stored(of: dict[str, t.Any], texts: t.Sequence[str], way: str) -> list[t.Any] | str:
    """What is in the table after a load, as texts but for numbers; or how it was refused."""
    with tempfile.TemporaryDirectory() as name:
        warehouse = Warehouse(Path(name, "w.duckdb"))
        got = warehouse.load(schema({"id": ID, "a": of}), *sent(Path(name), way, texts), state(1))
        if got.error:
            assert re.match(r"stream 'things', (file \S+, )?(line \d+, )?column 'a': ", str(got.error))
            return str(got.error)
        kind = warehouse.types()["a"]
        column = "a" if kind in {"DOUBLE", "BIGINT", "HUGEINT"} or kind.startswith("DECIMAL") else "a::varchar"
        return [value for (value,) in warehouse.rows(f"select {column} from things order by id")]


REFUSED = {
    "date": [
        *("2024-01-31 to 2024-02-15", "2024-01-31garbage", "2024-01-3x", "2024-01-31 BC", "2024-02-30", "24-01-31"),
        "12024-01-31",
        *(" 024-01-31", "0000-01-01", "20240131", "2024-01-31T10:00:00Z", "2024-01-31 00:00:00 BST", "epoch", ""),
    ],
    "time": [
        *("10:00:00 BST", "10:00:00garbage", "10:00:00 to 11:00:00", "24:00:00", "23:59:60", "10:00:00.1234567"),
        *("10:00:00+99:00", "10:00:00.123456001Z", "10:00:00 UTC", "10.5", ""),
    ],
    "date-time": [
        *("2024-06-05 10:00:00 BST", "2024-06-05 10:00:00 UTC", "2024-06-05T10:00:00.123456789Z", "2024-06-05x"),
        *("2024-06-05T10:00:00Z to 2024-06-06T10:00:00Z", "2024-06-05T10:00:00+24:00", "24-06-05T10:00:00Z"),
        *("2024-06-05T10:00:00 Europe/Berlin", "0000-01-01T00:00:00Z", "2024-06-05T24:00:01Z", "now", ""),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "12024-06-05T10:00:00Z"),
    ],
}
KEPT = {
    "date": {
        "2024-01-31": "2024-01-31",
        "2024-1-3": "2024-01-03",
        "2024-01-31T00:00:00+00:00": "2024-01-31",
        "2024-01-31T00:00:00.000000Z": "2024-01-31",
        "2024-01-31 00:00:00+02:00": "2024-01-31",  # as it is written
        "-infinity": "-infinity",
    },
    "time": {
        "10:00:00": "10:00:00",
        "10:00": "10:00:00",
        "10:00:00.5+02:00": "08:00:00.5",
        "10:00:00.123456000Z": "10:00:00.123456",
    },
    "date-time": {
        "2024-06-05T10:00:00Z": "2024-06-05 10:00:00",
        "2024-06-05T10:00:00.123456+00:00": "2024-06-05 10:00:00.123456",
        "2024-06-05T10:00:00.123456-05:30": "2024-06-05 15:30:00.123456",
        "2024-06-05T10:00:00+0200": "2024-06-05 08:00:00",
        "2024-06-05T10:00:00.123000000Z": "2024-06-05 10:00:00.123",
        "2024-06-05T24:00:00Z": "2024-06-06 00:00:00",  # the same moment
        "2024-06-05": "2024-06-05 00:00:00",
        "infinity": "infinity",
    },
}


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in REFUSED.items() for text in texts])
def test_a_date_or_time_with_anything_else_is_refused(form: str, text: str) -> None:
    of = {"type": "string", "format": form}
    good = json.dumps(next(iter(KEPT[form])))
    for way in WAYS if text == REFUSED[form][0] else ("records",):
        said = stored(of, [good, json.dumps(text), good], way)
        place = {"records": "line 3, ", "parquet": ""}.get(way, "line 2, ")
        assert isinstance(said, str), way
        assert f"{place}column 'a': " in said
        assert text not in said or not text


@pytest.mark.parametrize("form", KEPT)
def test_dates_and_times_that_are_kept(form: str) -> None:
    of = {"type": "string", "format": form}
    for way in WAYS:
        assert stored(of, list(map(json.dumps, KEPT[form])), way) == list(KEPT[form].values()), way


@pytest.mark.parametrize("text", ["2024-01-31garbage", "2024-01-31 to 2024-02-15", "2024-1-3"])
def test_a_text_column_that_is_said_to_be_dates_keeps_its_texts(warehouse: Warehouse, text: str) -> None:
    warehouse.load(schema({"id": ID, "a": {"type": "string"}}), record({"id": 1, "a": text}))
    assert warehouse.load(schema({"id": ID, "a": DATE}), record({"id": 2, "a": "2024-01-31"})).error is None
    dated = next(name for name in warehouse.types() if name.startswith("a_2"))
    assert warehouse.rows(f"select {dated} from things where id = 1") == [(text,)]


MOMENT_TEXT = re.compile(
    r"(?:(\d{4})[-/](\d\d?)[-/](\d\d?))?(?:(?:[T ]|(?<![\d]))(\d\d?):(\d\d)(?::(\d\d?)(?:\.(\d*))?)?"
    r"(Z|[+-]\d\d(?::?\d\d(?::\d\d)?)?)?)?"
)


def read(form: str, text: str) -> dt.datetime | None:
    """The moment in UTC that a person reads in a text, of a time on the first of January 2000; nothing if none."""
    text = re.sub(r"(?<=[T ]) (?=\d:)|(?<=:\d) $", "", text)  # a blank instead of a 0 changes nothing
    found = MOMENT_TEXT.fullmatch(text)
    if not found or (found[1] is None) != (form == "time") or (form == "time" and found[4] is None):
        return None
    year, month, day, hour, minute, second = (int(one or 0) for one in found.groups()[:6])
    fraction, zone = found[7] or "", found[8] or "Z"
    if form == "time":
        year, month, day = 2000, 1, 1
    is_end_of_day = form == "date-time" and (hour, minute, second, fraction.strip("0")) == (24, 0, 0, "")
    try:
        zone = "+000000" if zone == "Z" else zone.replace(":", "").ljust(7, "0")
        offset = dt.datetime.strptime(zone, "%z").utcoffset() or dt.timedelta()
        if fraction[6:].strip("0") or (hour > 23 and not is_end_of_day):
            return None
        midnight = dt.datetime(year, month, day, 0, minute, second, int(f"{fraction:0<6}"[:6]), dt.UTC)
        moment = midnight + dt.timedelta(hours=hour)
        if form == "date":
            return midnight if moment.time() == dt.time() else None
        return moment - offset
    except (ValueError, OverflowError):
        return None


def spelled(form: str, moment: dt.datetime) -> str:
    """As DuckDB prints it."""
    text = moment.replace(tzinfo=None).isoformat(" ")
    text = text.rstrip("0") if "." in text else text
    return {"date": text[:10], "time": text[11:]}.get(form, text)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A format, and texts that are of it or nearly so."""
    form = draw(st.sampled_from(["date", "time", "date-time"]))
    moment = st.datetimes(dt.datetime.fromisoformat("0001-01-03"), dt.datetime.fromisoformat("9999-12-29"))

    def text() -> str:
        zone = draw(st.sampled_from(["", "Z", "+00:00", "+05:30", "-0800", "+14"]))
        value = draw(moment)
        if draw(st.booleans()):
            value = value.replace(hour=0, minute=0, second=0, microsecond=0)
        written = value.isoformat(draw(st.sampled_from(["T", " "])), draw(st.sampled_from(["seconds", "auto"])))
        written = {"date": written[:10], "time": written[11:] + zone}.get(form, written + zone)
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(written)))
            cut = draw(st.integers(0, 1))
            put = st.sampled_from([*"0123456789-:+.TZ /", "", " BST", "24", "garbage", " to 2024-01-01", "00"])
            written = written[:at] + draw(put) + written[at + cut :]
        return written

    return form, [text() for _ in range(draw(st.integers(1, 4)))]


@settings(max_examples=60, deadline=None)
@given(moments(), st.sampled_from(["records", "parquet"]))
@example(("time", ["10:20:30.1-3456"]), "records")  # DuckDB's pattern took the offset for digits
@example(("date", ["2024-01-3x"]), "records")
@example(("date", ["12000-01-01"]), "records")
@example(("time", ["10:10:3 "]), "records")
@example(("date-time", ["2024-01-31T 0:20:30Z"]), "records")
@example(("date-time", ["2024-01-31T10:20:3.Z", "2024-01-31 10:20:3 "]), "records")
def test_dates_and_times_are_what_python_reads(drawn: tuple[str, list[str]], way: str) -> None:
    form, texts = drawn
    expected = [read(form, text) for text in texts]
    got = stored({"type": "string", "format": form}, list(map(json.dumps, texts)), way)
    if isinstance(got, str):
        # More may be refused than is read here, but nothing that Python writes.
        canonical = re.compile(r"(\d{4}-\d\d-\d\d)?[T ]?(\d\d:\d\d:\d\d(\.\d{6})?(Z|[+-]\d\d:\d\d)?)?")
        assert not all(one and canonical.fullmatch(text) for one, text in zip(expected, texts, strict=True))
    else:
        assert got == [one and spelled(form, one) for one in expected]


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(2**53 - 3, 2**53 + 5).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(json.dumps),
    st.floats(-100, 100).map(lambda one: json.dumps(round(one, 2) + 0.1)),
    st.decimals(-(10**6), 10**6, places=3).map(str),
    st.decimals(allow_nan=False, allow_infinity=False)
    .filter(lambda one: abs(one.adjusted()) < 40)
    .map(lambda one: re.sub(r"^(-?)\.", r"\g<1>0.", str(one))),
    st.tuples(st.integers(-(10**20), 10**20), st.integers(-22, 22)).map(lambda one: f"{one[0]}e{one[1]}"),
)


def fits_double(text: str) -> bool:
    """Whether a DOUBLE holds a number as README says."""
    value, double = Decimal(text), float(text)
    if double in {float("inf"), -float("inf")}:
        return False
    return abs(double) < 2**53 or value in {Decimal(repr(double)), Decimal(f"{double:.17g}"), Decimal(double)}


def of_decimal(text: str, precision: int, scale: int) -> Decimal | None:
    """The DECIMAL that holds a number as it is; none if there is none."""
    value = Decimal(text)
    with localcontext(prec=400):
        fits = value == round(value, scale) and abs(value) < Decimal(10) ** (precision - scale)
    return value if fits else None


@settings(max_examples=50, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=4), st.booleans(), st.sampled_from(WAYS))
@example(["1541815603606036481"], False, "records")
@example(["12345678901234567.89"], False, "records")
@example(["9007199254740993.0"], False, "jsonl")
@example(["9007199254740993", "0.1"], True, "records")
def test_numbers_are_what_python_reads_or_are_refused(texts: list[str], quoted: bool, way: str) -> None:
    values = [json.dumps(one) if quoted else one for one in texts]
    got = stored({"type": "number"}, values, way)
    assert isinstance(got, str) == (not all(map(fits_double, texts))), got
    if not isinstance(got, str):
        assert got == list(map(float, texts))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(NUMBERS, min_size=1, max_size=3),
    st.sampled_from([(38, 2), (18, 2), (10, 3), (5, 0), (38, 14), (38, 38)]),
    st.booleans(),
    st.sampled_from(WAYS),
)
@example(["0.30000000000000004"], (38, 2), False, "records")
@example(["99999999999999.99"], (18, 1), False, "records")
@example(["12345678901234567.89", "0.1"], (38, 2), False, "gzip")
@example(["61.302805129502139"], (38, 14), False, "records")
def test_decimals_are_what_python_reads_or_are_refused(
    texts: list[str], digits: tuple[int, int], quoted: bool, way: str
) -> None:
    precision, scale = digits
    of = {"type": "number", "multipleOf": 1, "x-singer.decimal": {"precision": precision, "scale": scale}}
    got = stored(of, [json.dumps(one) if quoted else one for one in texts], way)
    expected = [of_decimal(text, precision, scale) for text in texts]
    if isinstance(got, str):
        assert any(one is None for one in expected) or any(re.search("[eE]", text) for text in texts)
        return
    for text, one, value in zip(texts, expected, got, strict=True):
        # Else only what a DOUBLE adds behind its 15th digit is left out.
        noise = one is None and abs(float(value) - float(text)) <= 1e-15 * abs(float(text))
        assert value == one or (noise and abs(value) < Decimal(10) ** (15 - scale))


NESTED = [
    '{"x": 0.1000000000000000055511151231257827, "y": [1e400, {"z": " 1.10 "}]}',
    "[0.1234567890123456789, -12345678901234567.5, 5.10, true, null]",
    '{"s": "a \\"quote\\" \\\\ \\u00e9 \\ud83d\\ude00 é", "n": 1.23456789012345678e-5}',
    "0.1234567890123456789",
    "1e-400",
    "12345678901234567890e+1",
    "-0.1234567890123456789",
    '{"u": "a-9e-123 9e-1234", "x": -0.1234567890123456789e-7}',
    '{"x": 5.5, "y": 0.30000000000000004, "t": "0.1234567890123456789"}',
    '"0.1234567890123456789"',
    "{}",
]


@pytest.mark.parametrize("way", ["records", "jsonl", "gzip"])
@pytest.mark.parametrize("columns", [1, 300])
def test_json_keeps_the_digits_of_its_numbers(warehouse: Warehouse, tmp_path: Path, way: str, columns: int) -> None:
    of = schema({"id": ID, "a": {"type": ["object", "array", "null"]}} | {f"c{one}": ID for one in range(columns)})
    assert warehouse.load(of, *sent(tmp_path, way, NESTED), state(1)).error is None
    stored = [value for (value,) in warehouse.rows("select a from things order by id")]
    assert [json.loads(one, parse_float=Decimal) for one in stored] == [
        json.loads(one, parse_float=Decimal) for one in NESTED
    ]


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b'{"id": 1}\n' * 999)[:-9]], ids=["none", "cut off"])
def test_a_damaged_file_with_a_column_of_json(warehouse: Warehouse, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").write_bytes(content)
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "jsonl", "compression": "gzip"}}
    got = warehouse.load(schema({"id": ID, "a": {"type": "object"}}), {**batch, "manifest": [f"{tmp_path}/in"]})
    assert "stream 'things'" in str(got.error)


@pytest.mark.parametrize("way", ["records", "jsonl", "gzip"])
@pytest.mark.parametrize("kind", [{"type": "string"}, {}, {"type": ["string", "number", "object"]}])
def test_numbers_among_json_keep_their_digits_in_texts(
    warehouse: Warehouse, tmp_path: Path, way: str, kind: dict[str, t.Any]
) -> None:
    texts = [*NESTED, '{"a": 0.1234567890123456789}']
    of = schema({"id": ID, "a": kind, "b": {"type": "object"}})
    assert warehouse.load(of, *sent(tmp_path, way, texts), state(1)).error is None
    for (value,), text in zip(warehouse.rows("select a from things order by id"), texts, strict=True):
        said = json.loads(text, parse_float=Decimal)
        assert said in (value, json.loads(value, parse_float=Decimal))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["true", "false", "1", "0", "1.0", '"true"', '"False"', '"0"', "null"])
def test_what_is_a_boolean(text: str, way: str) -> None:
    value = json.loads(text)
    expected = {"true": "true", "1": "true", "1.0": "true", "false": "false", "0": "false"}
    assert stored({"type": ["null", "boolean"]}, [text], way) == [
        None if value is None else expected[str(value).lower()]
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["2", "-1", "0.5", "1e400", '"2"', '"yes"', '"t"', '""'])
def test_what_is_no_boolean(text: str, way: str) -> None:
    assert "the value does not fit BOOLEAN" in str(stored({"type": "boolean"}, [text], way)).replace(" a ", " the ")


@pytest.mark.parametrize("kind", ["integer", "tinyint", "double", "decimal(4, 1)"])
def test_numbers_of_parquet_as_booleans(warehouse: Warehouse, tmp_path: Path, kind: str) -> None:
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "parquet"}, "manifest": [f"{tmp_path}/x"]}
    for values, fits in ((("0", "1", "null"), True), (("0", "2"), False)):
        rows = ", ".join(f"({number}, {value}::{kind})" for number, value in enumerate(values))
        duckdb.sql(f"copy (from (values {rows}) as v(id, a)) to '{tmp_path}/x' (format parquet)")
        got = warehouse.load(schema({"id": ID, "a": {"type": ["null", "boolean"]}}), batch)
        assert (got.error is None) == fits, got.error
    assert warehouse.rows("select a from things order by id") == [(False,), (True,), (None,)]


NANOSECONDS = "DuckDB would cut its nanoseconds: write it in microseconds, or as text"
CUT = {
    "a time": (pa.time64("ns"), 1, TIME, NANOSECONDS),
    "a moment": (pa.timestamp("ns", "UTC"), 1, MOMENT, NANOSECONDS),
    "a decimal": (
        pa.decimal256(39, 0),
        Decimal(1),
        {"type": "number"},
        "DuckDB would round it to a DOUBLE: write at most 38 digits",
    ),
    "a time that fits": (pa.time64("ns"), 1000, TIME, ""),
    "a moment that fits, as pandas writes it": (pa.timestamp("ns", "UTC"), -1000, MOMENT, ""),
    "a time of microseconds": (pa.time64("us"), 1, TIME, ""),
    "a moment of microseconds": (pa.timestamp("us", "UTC"), 1, MOMENT, ""),
    "a decimal of 38 digits": (pa.decimal256(38, 0), Decimal(1), {"type": "number"}, ""),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("kind", "value", "of", "what"), CUT.values(), ids=CUT)
def test_digits_of_parquet_are_not_cut(
    warehouse: Warehouse,
    tmp_path: Path,
    kind: pa.DataType,
    value: object,
    of: dict[str, t.Any],
    what: str,
    *,
    nested: bool,
) -> None:
    values = pa.array([{"t": value} if nested else value], pa.struct([("t", kind)]) if nested else kind)
    pq.write_table(pa.table({"id": [1], "A": values, "other": values}), tmp_path / "x")
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "parquet"}, "manifest": [f"{tmp_path}/x"]}
    got = warehouse.load(schema({"id": ID, "a": {"type": "object"} if nested else of}), batch)
    if nested and kind in {pa.time64("ns"), pa.timestamp("ns", "UTC")}:
        what = NANOSECONDS
    assert (f"column 'A': {what}" in str(got.error)) == bool(what), got.error
    assert (got.error is not None) == bool(what)
    assert warehouse.load(schema({"id": ID}, stream="less"), {**batch, "stream": "less"}).error is None


def test_the_checksum_of_a_gzip_file(warehouse: Warehouse, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b'{"id": 1}\n'))
    packed[-8] ^= 1
    (tmp_path / "x").write_bytes(packed)
    encoding = {"format": "jsonl", "compression": "gzip"}
    batch = {"type": "BATCH", "stream": "things", "encoding": encoding, "manifest": [f"{tmp_path}/x"]}
    assert f"file {tmp_path}/x: cannot be read: CRC check failed" in str(warehouse.load(schema(), batch).error)


@pytest.mark.parametrize("key", ["amount", "amo\\u0075nt", "caf\u00e9", "caf\\u00E9", "c\\u0061f\u00e9"])
@pytest.mark.parametrize("neighbour", ["5.10", "0.12345678901234567891"])
def test_digits_behind_a_key_however_it_is_spelled(warehouse: Warehouse, key: str, neighbour: str) -> None:
    name = json.loads(f'"{key}"')
    exact, text = {"type": "number", "multipleOf": 1e-20, "minimum": -9, "maximum": 9}, {"type": ["number", "string"]}
    number, spelled = "0.12345678901234567891", name.replace("\u00e9", "\\u00e9")
    for of, as_stored in ((exact, Decimal), (text, str)):
        records = (
            f'{{"type": "RECORD", "stream": "things", "record": {{"id": {id_}, "{one}": {value}, "\\u0078": "{{"}}}}'
            for id_, one, value in ((1, key, number), (2, spelled, neighbour))
        )
        got = warehouse.load(schema({"id": ID, name: of}), *records, state(1), load_method="overwrite")
        assert got.error is None
        found = warehouse.rows(f'select "{name}" from things order by id')
        assert found == [(as_stored(number),), (as_stored(neighbour),)]


def test_a_text_that_begins_as_marked_ones_did(warehouse: Warehouse) -> None:
    text, of = "\x01=[1]", {"id": ID, "a": {"type": "string"}, "j": {"type": ["array", "string"]}}
    records = ('{"id": 1, "a": "\\u0001=[1]", "j": "\\u0001=[1]"}', '{"id": 2, "j": [0.1234567890123456789]}')
    got = warehouse.load(
        schema(of), *(f'{{"type": "RECORD", "stream": "things", "record": {one}}}' for one in records)
    )
    assert got.error is None
    found = warehouse.rows("select a, j from things order by id")
    assert found == [(text, json.dumps(text)), (None, "[0.1234567890123456789]")]


HUGE = {"type": "integer", "maximum": 10**30}
INEXACT = {
    "a fraction that no DOUBLE shows": (HUGE, "1.00000000000000000001"),
    "a fraction of many digits": (HUGE, "4503599627370495.1"),
    "more digits than a DOUBLE, with an exponent": (HUGE, "45035996273704951e-1"),
    "a number too small": (HUGE, "1e-400"),
    "a decimal too small": ({"type": "number", "multipleOf": 0.01}, "1e-400"),
}


CENTS = {"type": "number", "multipleOf": 0.01}
NO_NUMBERS = [
    *((of, text) for of in ({"type": "integer"}, HUGE, {"type": "number"}, CENTS) for text in ("- ", " -", "+\\t")),
    (CENTS, "454.2_80942947"),
    (CENTS, "0.00_1"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("of", "text"), NO_NUMBERS)
def test_texts_of_which_duckdb_would_make_another_number(of: dict[str, t.Any], text: str, way: str) -> None:
    assert "column 'a': " in str(stored(of, [f'"{text}"'], way))


@pytest.mark.parametrize(("of", "text"), INEXACT.values(), ids=INEXACT)
def test_texts_of_numbers_that_would_be_rounded(of: dict[str, t.Any], text: str) -> None:
    others = ["0.30000000000000004"] if "multipleOf" in of else []  # which is read exactly
    assert "column 'a': the value does not fit" in str(stored(of, [f'"{text}"', *others], "records"))
    assert len(stored(of, ['"1.0"', '"1e2"', '"0e-5"', '"-0.0"'], "records")) == 4


@pytest.mark.parametrize(
    "value",
    [
        "0.1234567890123456789",
        "1e400",
        "-0.10",
        '{"a": [1.10, "\\u00e9", {}], "b" :null}',
        '"\\ud800 é"',
        "null",
        "7",
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        '{"type":"STATE","value":%s}',
        ' {"value" : %s , "x": {"value": 1}, "type" : "STATE"} ',
    ],
)
def test_a_state_is_said_as_it_came(warehouse: Warehouse, value: str, form: str) -> None:
    output = io.StringIO()
    config = Config.from_dict({"path": str(warehouse.path)})
    with Target(config, output) as target:
        target.run(io.BytesIO(form.replace("%s", value).encode() + b"\n"))
    assert output.getvalue() == value.replace("é", "\\u00e9") + "\n"


@pytest.mark.parametrize("way", WAYS)
def test_keys_do_not_merge(warehouse: Warehouse, tmp_path: Path, way: str) -> None:
    first, second = "1541815603606036481", "1541815603606036482"
    of = schema({"id": ID, "a": {"type": "number"}}, keys=["a"])
    got = warehouse.load(of, *sent(tmp_path, way, [first, second]), state(1))
    assert "column 'a': " in str(got.error)


UNFIT = {
    "nanoseconds": ("timestamp_ns '2024-01-01 00:00:00.123456789'", MOMENT),
    "a time of a date": ("timestamp '2024-01-01 10:00:00'", DATE),
    "a moment of a date": ("timestamptz '2024-01-01 10:00:00+00'", DATE),
    "too many digits": ("1.005::double", {"type": "number", "multipleOf": 0.01}),
    "a longer decimal": ("1.005::decimal(9, 3)", {"type": "number", "multipleOf": 0.01}),
    "an integer beyond DOUBLE": ("9007199254740993::bigint", {"type": "number"}),
    "a huge integer": ("170141183460469231731687303715884105727::hugeint::decimal(38, 0)", {"type": "number"}),
    "a decimal beyond DOUBLE": ("12345678901234567.89::decimal(19, 2)", {"type": "number"}),
    "a structure": ("{'x': 1}", DATE),
}


@pytest.mark.parametrize(("value", "of"), UNFIT.values(), ids=UNFIT)
def test_values_of_parquet_that_would_change(
    warehouse: Warehouse, tmp_path: Path, value: str, of: dict[str, t.Any]
) -> None:
    path = tmp_path / "x.parquet"
    with duckdb.connect() as connection:
        value = value if "hugeint" not in value else "99999999999999999999999999999999999999::decimal(38, 0)"
        connection.execute(f"copy (select 1 as id, {value} as a) to '{path}' (format parquet)")
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "parquet"}, "manifest": [str(path)]}
    got = warehouse.load(schema({"id": ID, "a": of}), batch)
    assert str(got.error).startswith(f"stream 'things', file {path}, column 'a': a value does not fit ")


def test_values_of_parquet_that_stay(warehouse: Warehouse, tmp_path: Path) -> None:
    values = {
        "day": ("timestamp '2024-01-31 00:00:00'", DATE, "2024-01-31"),
        "nanos": ("timestamp_ns '2024-01-01 00:00:00.123456'", MOMENT, "2024-01-01 00:00:00.123456"),
        "price": ("19.99::double", {"type": "number", "multipleOf": 0.01}, "19.99"),
        "noise": ("0.1::double + 0.2::double", {"type": "number", "multipleOf": 0.01}, "0.30"),
        "shorter": ("1.500::decimal(9, 3)", {"type": "number", "multipleOf": 0.01}, "1.50"),
        "whole": ("9007199254740992::bigint", {"type": "number"}, "9007199254740992.0"),
        "single": ("1.5::float", {"type": "number"}, "1.5"),
        # Of these DuckDB (1.5.5) writes another number.
        "power": ("2::double ** 81", {"type": "string"}, "2.4178516392292583e+24"),
        "letter": ("-(2::double ** 807)", {"type": "string"}, "-8.5350584740862135e+242"),
        "tenth": ("0.1::double", {"type": "string"}, "0.1"),
        "none": ("'nan'::double", {"type": "string"}, "nan"),
    }
    path = tmp_path / "x.parquet"
    with duckdb.connect() as connection:
        columns = ", ".join(f"{value} as {name}" for name, (value, *_) in values.items())
        connection.execute(f"copy (select 1 as id, {columns}) to '{path}' (format parquet)")
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "parquet"}, "manifest": [str(path)]}
    of = {name: one for name, (_, one, _) in values.items()}
    assert warehouse.load(schema({"id": ID, **of}), batch).error is None
    for name, (*_, expected) in values.items():
        assert warehouse.rows(f"select {name}::varchar from things") == [(expected,)], name


@pytest.mark.parametrize("text", ["4503599627370497.5", "-4503599627370497.5", "9007199254740993.0", "1.5"])
def test_a_fraction_is_no_integer_where_a_double_does_not_show_it_either(text: str) -> None:
    for of in (ID, ID | {"maximum": 2**100}):
        for way in WAYS:
            for json_text in (text, f'"{text}"'):
                assert "column 'a': " in stored(of, [json_text], way), (of, way, json_text)


JSON_NUMBER = r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.from_regex(JSON_NUMBER, fullmatch=True).filter(lambda text: text != "-0"), min_size=1, max_size=3),
    st.sampled_from(
        [{}, {"type": ["string", "number", "null"]}, {"anyOf": [{"type": "number"}, {"type": "string"}]}]
    ),
    st.sampled_from(["records", "jsonl", "gzip"]),
)
@example(["1.10", "5", "12345678901234567890.25"], {}, "records")
@example(["0.12345678901234567891", "0.12345678901234567892"], {"type": ["string", "number"]}, "jsonl")
def test_numbers_stay_as_they_are_written_where_texts_may_stand_too(
    texts: list[str], of: dict[str, t.Any], way: str
) -> None:
    others = ['"1.5\\u0000 \\" x"', "null", "true", '""', '"null"', '["a"]']
    got = stored(of, [*texts, *others], way)
    assert got == [*texts, '1.5\0 " x', None, "true", "", "null", '["a"]']


@pytest.mark.parametrize("nested", ["1", '{"a": 1.50}'])
@pytest.mark.parametrize("text", ["1.2.3", "1-2", "5e", "01.5"])
def test_what_is_no_number_does_not_become_a_text(text: str, nested: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        warehouse = Warehouse(Path(name, "w.duckdb"))
        line = '{"type": "RECORD", "stream": "things", "record": {"id": 1, "o": %s, "a": %s}}'
        got = warehouse.load(schema({"id": ID, "a": {}, "o": {}}), line % (nested, "1.5"), line % (nested, text))
        assert "line 3: is not JSON" in str(got.error)


@pytest.mark.parametrize("way", ["records", "jsonl"])
def test_no_two_keys_become_one_double(warehouse: Warehouse, tmp_path: Path, way: str) -> None:
    of = schema({"id": ID, "a": {"type": "number"}}, keys=["a"])
    good = ["0.1", "-0.30000000000000004", "5", '"1.50"', "1e-7", "1E+3"]
    assert warehouse.load(of, *sent(tmp_path, way, good)).error is None
    expected = [0.1, -0.30000000000000004, 5.0, 1.5, 1e-7, 1e3]
    assert warehouse.rows("select a from things order by id") == [(one,) for one in expected]
    for text in ("0.12345678901234567891", "0.10000000000000000001", '"0.10000000000000000001"'):
        got = warehouse.load(of, *sent(tmp_path, way, ["0.1", text]))
        assert "column 'a': the value does not fit DOUBLE" in str(got.error)


@pytest.mark.parametrize("way", ["records", "jsonl", "gzip"])
@pytest.mark.parametrize("keys", [["a"], []])
def test_numbers_among_texts_are_as_they_are_written(
    warehouse: Warehouse, tmp_path: Path, way: str, keys: list[str]
) -> None:
    texts = ["0.10000000000000000001", "0.1", "5.10", "1E5", "1e-400", "12345678901234567890.5", "7"]
    nested = ['{"x": 0.1234567890123456789}', "[1e-400]", '["0.1234567890123456789"]']
    of = schema({"id": ID, "a": {"type": "string"}}, keys=keys)
    assert warehouse.load(of, *sent(tmp_path, way, ['"a"', *texts, *nested]), state(1)).error is None
    got = [value for (value,) in warehouse.rows("select a from things order by id")]
    assert [one.replace(" ", "") for one in got] == [one.replace(" ", "") for one in ("a", *texts, *nested)]


def test_a_number_among_texts_whose_key_is_spelled_oddly(warehouse: Warehouse) -> None:
    line = '{"type": "RECORD", "stream": "things", "record": {"id": 1, "\\u0061": 0.1234567890123456789}}'
    assert warehouse.load(schema({"id": ID, "a": {"type": "string"}}), line).error is None
    assert warehouse.rows("select a from things") == [("0.1234567890123456789",)]


TRUTHS = {
    "integer": (ID, "4503599627370497"),
    "huge": (ID | {"maximum": 10**30}, "12345678901234567890123"),
    "decimal": ({"type": "number", "multipleOf": 0.01}, "0.30000000000000004"),
    "number": ({"type": "number"}, "9007199254740994"),
}


@pytest.mark.parametrize("way", ["records", "jsonl"])
@pytest.mark.parametrize(("of", "neighbour"), TRUTHS.values(), ids=TRUTHS)
def test_true_among_numbers_is_1_whatever_stands_beside_it(of: dict[str, t.Any], neighbour: str, way: str) -> None:
    for others in ([], [neighbour]):
        assert stored(of, ["true", "false", *others], way)[:2] == [1, 0]
        assert "the value does not fit" in stored(of, ['"true"', *others], way)


TWICE = {
    "stream": ('"record": {"id": 1}, "stream": "other"', "stream"),
    "another type": ('"record": {"id": 1}, "type": "STATE", "value": {"a": {}}', "type"),
    "the same type": ('"record": {"id": 1}, "x": {}, "type": "RECORD"', "type"),
    "escaped": ('"record": {"id": 1}, "\\u0074ype": "RECORD"', "type"),
    "before the record": ('"stream": "things", "record": {"id": 1}', "stream"),
    "record": ('"record": {"id": 1}, "record": {"id": 2}', "record"),
}


@pytest.mark.parametrize("columns", [1, 300])
@pytest.mark.parametrize(("members", "key"), TWICE.values(), ids=TWICE)
def test_a_record_that_names_what_it_is_twice(warehouse: Warehouse, members: str, key: str, columns: int) -> None:
    of = schema({"id": ID} | {f"c{one}": ID for one in range(columns)})
    line = '{"type": "RECORD", "stream": "things", %s}'
    for before in (0, 1, 3):  # the first of a stream is read by Python, those that begin like it are not
        got = warehouse.load(of, *([line % '"record": {"id": 1}'] * before), line % members, state(1))
        assert str(got.error) == f"stream 'things', line {before + 2}: the key {key!r} stands twice"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('{"type": "STATE", "value": 1, "value": 2}', "value"),
        ('{"type": "SCHEMA", "stream": "s", "schema": {"properties": {"a": {}, "a": {}}}}', "a"),
    ],
)
def test_a_message_with_a_key_twice(warehouse: Warehouse, line: str, key: str) -> None:
    got = warehouse.load(line)
    assert str(got.error).endswith(f"line 1: the key {key!r} stands twice")
    assert got.states == []


JSON_OF_TEXT = {
    "1": '"1"',
    '"1"': '"\\"1\\""',
    "true": '"true"',
    "null": '"null"',
    "1.50": '"1.50"',
    "": '""',
    "x": '"x"',
    '{"a": 1': '"{\\"a\\": 1"',
    ' {"a b": [1, " x "]} ': '{"a b":[1," x "]}',
    '[0.1234567890123456789, "a  \\" b"]': '[0.1234567890123456789,"a  \\" b"]',
}


@pytest.mark.parametrize("kind", ["string", "binary"])
def test_a_text_of_parquet_is_json_if_it_is_an_object_or_array(
    warehouse: Warehouse, tmp_path: Path, kind: str
) -> None:
    texts = pa.array(JSON_OF_TEXT, pa.string()).cast(kind)
    pq.write_table(pa.table({"id": range(len(texts)), "a": texts}), tmp_path / "x")
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "parquet"}, "manifest": [f"{tmp_path}/x"]}
    assert warehouse.load(schema({"id": ID, "a": {"type": "object"}}), batch).error is None
    got = warehouse.rows("select a::varchar from things order by id")
    assert got == [(one,) for one in JSON_OF_TEXT.values()]


@pytest.mark.parametrize("of", [{"type": "string"}, {"type": "object"}])
def test_bytes_of_parquet_are_utf_8(warehouse: Warehouse, tmp_path: Path, of: dict[str, t.Any]) -> None:
    batch = {"type": "BATCH", "stream": "things", "encoding": {"format": "parquet"}, "manifest": [f"{tmp_path}/x"]}
    for value, stored in ((b'\xc3\xa9"\\', 'é"\\'), (b"\xff", None), ({"x": b"\xc3\xa9"}, None)):
        pq.write_table(pa.table({"id": [1], "a": pa.array([value])}), tmp_path / "x")
        got = warehouse.load(schema({"id": ID, "a": of}), batch)
        if stored:
            assert warehouse.rows(
                "select a->>'$' from things" if of["type"] == "object" else "select a from things"
            ) == [(stored,)]
        else:
            assert "column 'a': a value does not fit" in str(got.error)


def test_json_of_parquet_is_what_a_record_makes_of_it(warehouse: Warehouse, tmp_path: Path) -> None:
    texts = ["null", '"x"', '{"a":  0.1234567890123456789}', None]
    pq.write_table(pa.table({"id": range(4), "a": pa.array(texts, pa.json_())}), tmp_path / "x")
    batch = {"type": "BATCH", "encoding": {"format": "parquet"}, "manifest": [f"{tmp_path}/x"]}
    for kind, expected in (
        ("object", [None, '"x"', '{"a":0.1234567890123456789}', None]),
        ("string", [None, "x", texts[2], None]),
    ):
        of = schema({"id": ID, "a": {"type": kind}}, stream=kind)
        assert warehouse.load(of, {**batch, "stream": kind}).error is None
        assert warehouse.rows(f"select a::varchar from {kind} order by id") == [(one,) for one in expected]


PRICE = {"type": "number", "multipleOf": 0.01, "x-singer.decimal": {"precision": 18, "scale": 2}}


@pytest.mark.parametrize("way", ["records", "jsonl"])
def test_a_table_keeps_its_double_where_decimals_come(warehouse: Warehouse, tmp_path: Path, way: str) -> None:
    warehouse.load(schema({"id": ID, "a": {"type": "number"}}), record({"id": 9, "a": 0.5}))
    of = schema({"id": ID, "a": PRICE})
    assert warehouse.load(of, *sent(tmp_path, way, ["19.99", "null", "1234567890123.45"])).error is None
    assert warehouse.types() == {"id": "BIGINT", "a": "DOUBLE"}
    assert warehouse.rows("select a from things order by id") == [(19.99,), (None,), (1234567890123.45,), (0.5,)]
    got = warehouse.load(of, *sent(tmp_path, way, ["1.5", "1234567890123456.78"]))
    place = "line 3" if way == "records" else f"file {tmp_path / 'in'}, line 2"
    what = "the value does not fit DOUBLE, which the table has"
    assert str(got.error) == f"stream 'things', {place}, column 'a': {what}"
