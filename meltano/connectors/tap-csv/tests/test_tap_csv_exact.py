"""No value changes without a word: what a type takes gives its text back, as Python reads it; the rest is refused."""

from __future__ import annotations

import datetime as dt
import re
import tempfile
import typing as t
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tap_csv import types
from tap_csv.config import SAMPLE_ROWS
from tap_csv_harness import discover, run

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_csv_harness import Sync

TYPED: dict[str, t.Any] = {"incremental": False}
STRICT = (*types.candidates(";"), types.decimal(5, 0, strict=True), types.decimal(38, 37, strict=True))
KINDS = (*STRICT, *map(types.named, ("date", "time", "date-time")))
EACH = ", ".join(
    f"{kind.from_text.format(v='v')}, case when {(kind.fast or 'false').format(v='v')} "
    f"then {kind.quick.format(v='v')} end, {kind.meant('v')}"
    for kind in KINDS
)
QUERY = f"select v, {EACH} from (select unnest(?) as v)"

NUMBERS = st.from_regex(
    r"[ \t]?[-+]?(0|[1-9][0-9]{0,21}|[0-9]{1,3})?([.,][0-9]{0,12})?0{0,3}([eE][-+]?[0-9]{1,3})?[ _x]?", fullmatch=True
)
TIMES = st.from_regex(
    r"([0-9]{4}-[01]?[0-9]-[0-3]?[0-9])?[ T]?([0-2]?[0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,9})?)?)?"
    r" ?(Z|z|UTC|BST|[+-][0-2][0-9](:?[0-9]{2})?)?[ x]?",
    fullmatch=True,
)
WRITTEN = st.one_of(
    *(st.integers(), st.floats(), st.decimals(places=2), st.dates(), st.times(), st.datetimes(), st.booleans())
).map(str)
TOUCHED = st.builds(
    lambda text, place, char: text[: place % (len(text) + 1)] + char + text[1 + place % (len(text) + 1) :],
    WRITTEN,
    st.integers(0, 40),
    st.sampled_from("0123456789+-.:eE_xTZ \t/"),
)
TEXTS = st.one_of(NUMBERS, TIMES, WRITTEN, TOUCHED).filter(bool)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine as the tap's."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def plain(text: str) -> str:
    """A number without blanks around it and zeros at the end of its fraction."""
    text = text.strip(" \t\n\f\r")
    return re.sub(r"\.?0+$", "", text) if re.fullmatch(r"[^.eE]*\.\d+", text) else text


def moment(text: str) -> dt.datetime | None:
    """The instant of an ISO 8601 text that Python reads, in UTC, where nothing of it is lost."""
    form = r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2})(:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?"
    found = re.fullmatch(form, text.strip(" \t\n\f\r"))
    if not found or re.search(r"\.\d{6}0*[1-9]", text):
        return None
    year, month, day, hour, minute, second, zone = found.groups()
    clock = f"T{hour:0>2}{minute}{second or ':00'}{zone or ''}" if hour else ""
    try:
        read = dt.datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}{clock}")
        read = (read if read.tzinfo else read.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
    return read.replace(tzinfo=None)


def gives_back(text: str, kind: types.Type, value: t.Any) -> bool:  # noqa: PLR0911 - a table of types
    """Whether the value of a type gives the text back."""
    match kind.name:
        case "integer":
            return plain(text) == str(int(value))
        case "number":
            return plain(text) in {plain(repr(value)), plain(f"{Decimal(repr(value)):f}")}
        case "boolean":
            return str(value).lower() == text.lower()
        case "date":
            return moment(text) == dt.datetime.combine(value, dt.time())
        case "time":
            return moment(f"2000-01-01T{text.strip()}") == dt.datetime.combine(dt.date(2000, 1, 1), value)
        case "date-time":
            return bool(moment(text) == value)
        case "string":
            return bool(text == value)
        case _:
            return plain(f"{value:f}") == plain(text)


@settings(deadline=None, max_examples=15)
@given(texts=st.lists(TEXTS, min_size=1, max_size=80))
@example(
    ["00501", "501", "+49", "1E5", "12E3", "007.5", "-0", "-0.00", "1.", ".5", "1_000", "0x10", "1.500", "1.000"]
)
@example(["12345678901234567890123", "9007199254740993", "9007199254740993.0", "0.1234567890123456", "1e-07", "1e5"])
@example([f"0.{'0' * 330}1", f"1.{'0' * 400}", "1e22", "1e+22", "12345678901234.5678", "99999999999999.99", "\t7 "])
@example(["2024-01-1x", "2024-01-31 BST", "2024-01-31 24:00:00", "2024-01-31 10:00:1Z", "2024-01-1T 10:00:00"])
@example(["10000-01-01", "0000-01-01", "0044-03-15 (BC)", "infinity", "2024-01-31 10:00:00.123456789", "24:00:00"])
@example(["99999999999999", "-9999999999999", "99999999999.99", "-999999999.9999", "-9.99999999999", " 2024-1-31 "])
@example(["2024-01-31 10:00:00+02:00:30", "2024-01-31 10:00:00+0230", "0001-01-01 00:00:00+01:00", "t", "yes", "1"])
def test_what_a_type_takes_gives_the_text_back(engine: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    rows = engine.execute(QUERY, [texts]).fetchall()
    assert len(rows) == len(texts)
    for text, *found in rows:
        for at, kind in enumerate(KINDS):
            value, fast_value, is_meant = found[3 * at : 3 * at + 3]
            assert value is None or gives_back(text, kind, value), (kind.name, text, value)
            assert fast_value is None or fast_value == value, (kind.name, text, value, fast_value)
            assert value is not None or not is_meant, (kind.name, text)
            if is_meant and len(text.encode()) <= types.SHORT:
                for wider in types.implied(kind):
                    assert found[3 * KINDS.index(wider) + 2], (kind.name, wider.name, text)


@settings(deadline=None, max_examples=15)
@given(
    integer=st.integers(-(2**63), 2**63 - 1),
    price=st.decimals(-(10**14) + 1, 10**14 - 1, places=2),
    number=st.floats(allow_nan=False, allow_infinity=False),
    moment=st.datetimes(),
)
@example(0, Decimal("0.00"), 5e-324, dt.datetime(1, 1, 1))  # noqa: DTZ001
@example(-1, Decimal("-0.01"), 1.7976931348623157e308, dt.datetime(9999, 12, 31, 23, 59, 59, 999999))  # noqa: DTZ001
def test_what_is_written_plainly_is_taken(
    engine: duckdb.DuckDBPyConnection, integer: int, price: Decimal, number: float, moment: dt.datetime
) -> None:
    signless = price or abs(price)
    price_type = types.decimal(16, 2, strict=True)
    for kind, text, value in (
        (types.INTEGER, str(integer), integer),
        (price_type, str(signless), signless),
        (types.NUMBER, repr(number), number),
        (types.DATE, str(moment.date()), moment.date()),
        (types.TIME, moment.strftime("%H:%M:%S.%f"), moment.time()),
        (types.DATE_TIME, moment.isoformat(" "), moment),
        (types.DATE_TIME, moment.isoformat() + "Z", moment),
    ):
        padded = [text, f" {text}", f"{text} "] if kind.schema["type"] in {"integer", "number"} else [text] * 3
        query = f"select {kind.from_text.format(v='v')} from (select unnest(?) as v)"
        assert [row[0] for row in engine.execute(query, [padded]).fetchall()] == [value] * 3, kind.name


@pytest.mark.parametrize(
    "kind",
    [types.INTEGER, types.decimal(16, 2, strict=True), types.DATE, types.DATE_TIME],
    ids=lambda kind: kind.name,
)
def test_a_text_is_cast_once(engine: duckdb.DuckDBPyConnection, kind: types.Type) -> None:
    """And not once more for the check that it gives the text back: DuckDB plans a cast before both."""
    query = f"explain select {kind.value('v', text=False)} as value from (select unnest(['x']) as v)"
    plan = re.sub(r"\s", "", "".join(row[1] for row in engine.execute(query).fetchall()).replace("│", ""))
    assert f"TRY_CAST(vAS{kind.sql.replace(' ', '')})" in plan


LATE = {
    "10001": ("00501", "+49", "1e3", "1_000", "1.5", "1.000", "-0", "0x10", "1" * 20),
    "19.99": ("19.999", "1e1", "007.5", "-0.00", ".5", "1" * 23),
    "0.123456": ("1E5", "12345678901234567890123", "0.12345678901234567", "+1.5", "00.5", "inf", "9007199254740993"),
    "true": ("t", "1", "yes", " true"),
    "2024-01-31": ("2024-01-31 00:00:00", "2024-01-31 to 2024-02-15", "2024-01-31garbage", "2024-01-1x"),
    "2024-01-31 10:00:00": ("2024-01-31 10:00:00 BST", "2024-01-31 24:00:00", "2024-01-31 10:00:00.1234567"),
    "10:00:00": ("10:00", "24:00:00", "10:00:00+02:00"),
}
"""Texts that a sample of others rules out; what of each kind `sure` excludes in the sample, too."""


@pytest.mark.parametrize("by_batch", [True, False])
@pytest.mark.parametrize(("early", "late"), [(early, late) for early, texts in LATE.items() for late in texts])
def test_what_a_sample_rules_out_is_refused_after_it(
    sync: Sync, tmp_path: Path, early: str, late: str, *, by_batch: bool
) -> None:
    (tmp_path / "rows").mkdir()
    batch = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path / "rows")}}
    more = {"batch_config": batch} if by_batch else {}
    content = f"id,v\n1,{early}\n2,{late}\n".encode()
    got = sync(content, settings={**TYPED, **more, "infer_rows": 1})
    assert "input.csv, line 3, column 'v': the value is no " in str(got.error)
    assert got.records == []


def test_a_refusal_names_the_way_out(sync: Sync) -> None:
    rows = "".join(f"{number},19.99\n" for number in range(3))
    refused = sync(f"id,unit price\n{rows}9,19.999\n".encode(), settings={**TYPED, "infer_rows": 2})
    assert "line 5, column 'unit price': the value is no decimal(16,2); " in str(refused.error)
    assert '`columns: {"unit price": number}` in the settings' in str(refused.error)
    content = f"id,price\n{rows}9,19.999\n".encode()
    assert sync(content, settings=TYPED, columns={"Price": "number"}).records[-1] == {"id": 9, "price": 19.999}


def test_what_columns_names_takes_more(sync: Sync) -> None:
    content = b"id,a,b,c\n1,00501,1E5,t\n2,+49,007.5,1\n"
    got = sync(content, settings=TYPED, columns={"a": "integer", "b": "number", "c": "boolean"})
    assert got.records == [{"id": 1, "a": 501, "b": 1e5, "c": True}, {"id": 2, "a": 49, "b": 7.5, "c": True}]


def test_zeros_may_follow_in_a_column_of_integers(sync: Sync) -> None:
    got = sync(b"id,v\n1,7\n2,7.0\n3,-12.00\n", settings={**TYPED, "infer_rows": 1})
    assert [one["v"] for one in got.records] == [7, 7, -12]


def test_a_catalog_of_discovery_is_as_strict(sync: Sync) -> None:
    catalog = {
        "streams": [
            {
                "tap_stream_id": "things",
                "schema": {"properties": {"id": {"type": "integer"}, "v": {"type": "boolean"}}},
            }
        ]
    }
    assert sync(b"id,v\n1,true\n", catalog=catalog).records == [{"id": 1, "v": True}]
    assert "line 2, column 'id': the value is no integer" in str(sync(b"id,v\n01,true\n", catalog=catalog).error)
    assert "line 2, column 'v': the value is no boolean" in str(sync(b"id,v\n1,yes\n", catalog=catalog).error)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["1.500", "12.250"], "string"),
        (["1.500", "700"], "string"),
        (["1.500", "0.5"], "decimal(16,2)"),
        (["1.500", "0.0005"], "decimal(18,4)"),
        (["1500", "700"], "integer"),
        (["007", "008"], "code"),
        (["007", "1.500"], "code"),
        (["19.99"], "decimal(16,2)"),
    ],
)
def test_points_before_three_digits_of_a_semicolon_file(
    sync: Sync, caplog: pytest.LogCaptureFixture, values: list[str], found: str
) -> None:
    content = "id;v\n" + "".join(f"{number};{value}\n" for number, value in enumerate(values))
    got = sync(content.encode(), settings=TYPED, delimiter=";")
    assert types.of_schema(got.types["v"]).name == ("string" if found == "code" else found)
    said = "column 'v': kept as text, since points before three digits may mark thousands"
    assert (said in caplog.text) == (found == "string")
    if found in {"string", "code"}:
        assert [one["v"] for one in got.records] == values
    if found == "string":
        assert "`columns: {v: number}`" in caplog.text


def test_a_thousand_behind_the_sample_is_not_one(sync: Sync) -> None:
    got = sync(b"id;v\n1;700\n2;1.000\n", settings={**TYPED, "infer_rows": 1}, delimiter=";")
    assert "line 3, column 'v': the value is no integer" in str(got.error)


def test_keys_and_columns_are_found_in_whatever_case(sync: Sync) -> None:
    got = sync(b"Auftragsnr,Menge\n007,5\n", keys=["auftragsnr"], columns={"AUFTRAGSNR": "string"}, settings=TYPED)
    assert got.error is None
    assert got.of_type("SCHEMA")[0]["key_properties"] == ["Auftragsnr"]
    assert got.records == [{"Auftragsnr": "007", "Menge": 5}]
    catalog = {"streams": [{"tap_stream_id": "things", "schema": {"properties": {"Auftragsnr": {"type": "string"}}}}]}
    got = sync(b"Auftragsnr,Menge\n007,5\n,6\n", keys=["auftragsnr"], catalog=catalog)
    assert "line 3, column 'Auftragsnr': a key must not be empty" in str(got.error)


@settings(deadline=None, max_examples=4)
@given(rows=st.lists(st.tuples(*[TEXTS.filter(lambda text: not set(text) & set('",\n\r'))] * 6), max_size=3))
def test_every_value_of_a_file_gives_its_text_back(rows: list[tuple[str, ...]]) -> None:
    """By RECORD and BATCH alike, whatever types are found."""
    content = "".join(",".join(row) + "\n" for row in [tuple("abcdef"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_text(content)
        config = {"files": [{"entity": "e", "path": str(path), "keys": []}], **TYPED}
        batch = {"encoding": {"format": "parquet"}, "storage": {"root": folder}}
        sent, loaded = run(config), run({**config, "batch_config": batch})
        assert sent.error is None
        assert loaded.error is None
        kinds = [types.of_schema(schema) for schema in sent.types.values()]
        found = loaded.rows()
    assert len(found) == len(sent.records) == len(rows)
    for texts, values, record in zip(rows, found, sent.records, strict=True):
        for text, kind, value, said in zip(texts, kinds, values, record.values(), strict=True):
            assert gives_back(text, kind, value), (kind.name, text, value)
            assert said == value or _read(said, kind) == value, (kind.name, text, said)


def _read(said: t.Any, kind: types.Type) -> t.Any:
    """The value of what a RECORD message says."""
    if kind.sql == "TIMESTAMP":
        return dt.datetime.fromisoformat(said).replace(tzinfo=None)
    if kind.sql == "DATE":
        return dt.date.fromisoformat(said)
    return dt.time.fromisoformat(said) if kind.sql == "TIME" else Decimal(str(said))


def test_a_fraction_that_a_double_does_not_show_is_no_integer(sync: Sync) -> None:
    got = sync(b"id,a\n1,4503599627370495.0\n2,4503599627370497.5\n", keys=["id"], columns={"a": "integer"})
    assert "line 3, column 'a': the value is no integer" in str(got.error)


@pytest.mark.parametrize("texts", [("1.1", "1.10"), ("2.0", "2"), ("0.123456", "0.1234560")])
def test_keys_with_a_point_stay_apart(sync: Sync, texts: tuple[str, str]) -> None:
    content = ("Id,v\n" + "".join(f"{text},{text}\n" for text in texts)).encode()
    got = sync(content, keys=["id"], settings=TYPED)
    assert [row["Id"] for row in got.records] == list(texts)
    assert got.types["v"]["type"] == ["number", "null"]
    named = sync(content, keys=["id"], columns={"id": "number"}, settings=TYPED)
    assert named.types["Id"] == {"type": ["number", "null"]}


@pytest.mark.parametrize("late", ["12.0", " 12", "12 ", "-0"])
@pytest.mark.parametrize("by_catalog", [False, True])
def test_a_late_key_that_another_spelling_would_merge_is_refused(
    sync: Sync, tmp_path: Path, late: str, *, by_catalog: bool
) -> None:
    """In a column that is no key `12.0` is twelve, as the README says."""
    rows = "".join(f"{number},{number}\n" for number in range(SAMPLE_ROWS))
    path = tmp_path / "keys.csv"
    path.write_text(f"id,v\n{rows}{late},12.0\n")
    config = {"files": [{"entity": "things", "path": str(path), "keys": ["id"]}]} | TYPED
    got = sync(path, settings=TYPED, catalog=discover(config) if by_catalog else None)
    assert f"line {SAMPLE_ROWS + 2}, column 'id': the value is no integer" in str(got.error)
    path.write_text(f"id,v\n{rows}{SAMPLE_ROWS},12.0\n")
    assert sync(path, settings=TYPED).records[-1]["v"] == 12


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-01-31T00:00:00+10:00", "2024-01-31"),
        ("2024-01-31 00:00", "2024-01-31"),
        ("2024-01-31T10:00:00+10:00", ""),
        ("2024-01-30T22:00:00-02:00", ""),
    ],
)
def test_a_midnight_is_the_one_that_is_written(sync: Sync, text: str, day: str) -> None:
    got = sync(f"id,d\n1,{text}\n".encode(), keys=["id"], columns={"d": "date"})
    assert [row["d"] for row in got.records] == ([day] if day else [])
    assert bool(got.error) is not bool(day)
