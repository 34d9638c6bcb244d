"""Numbers, money and dates as people write them, beside what Python makes of the same texts."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import tempfile
import typing as t
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tap_csv import formats, types
from tap_csv.config import Config
from tap_csv.errors import SettingsError
from tap_csv_harness import discover, run

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_csv_harness import Sync

TYPED: dict[str, t.Any] = {"incremental": False}
GERMAN = {"delimiter": ";", "decimal_separator": ",", "thousands_separator": "."}


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine as the tap's."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def made(engine: duckdb.DuckDBPyConnection, kind: types.Type, texts: list[str]) -> list[t.Any]:
    """What a type makes of texts; the same by its fast way."""
    slow, fast = kind.from_text.format(v="v"), (kind.fast or "false").format(v="v")
    quick = f"try(case when {fast} then {kind.quick.format(v='v')} end)"
    found = engine.execute(f"select {slow}, {quick} from (select unnest(?) as v)", [texts]).fetchall()
    for text, (value, other) in zip(texts, found, strict=True):
        assert other is None or other == value, text
    return [value for value, _ in found]


NOTATIONS = [
    formats.Notation(",", "."),
    formats.Notation(".", ","),
    formats.Notation(",", " "),
    formats.Notation(","),
]
NUMBERS = st.from_regex(r"-?[0-9]{1,4}([., ][0-9]{1,3}){0,3}( |x)?", fullmatch=True)


def number(text: str, notation: formats.Notation) -> Decimal | None:
    """The number that Python finds in a text of a notation."""
    mark = re.escape(notation.thousands or "#")
    whole = rf"(?:0|[1-9]\d*|[1-9]\d{{0,2}}(?:{mark}\d{{3}})+)"
    found = re.fullmatch(rf"\s*(-?{whole})(?:{re.escape(notation.decimal)}(\d+))?\s*", text)
    return found and Decimal(found[1].replace(notation.thousands or "#", "") + "." + (found[2] or "0"))


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(NUMBERS, min_size=1, max_size=60), notation=st.sampled_from(NOTATIONS))
@example(
    ["1.234,56", "12.34,5", "1234,56", "1.234", "-1.234.567,8", "1234.56", ",5", "007,5", "0,5", "-0"], NOTATIONS[0]
)
def test_a_number_gives_its_text_back_in_its_notation(
    engine: duckdb.DuckDBPyConnection, texts: list[str], notation: formats.Notation
) -> None:
    prices = made(engine, formats.written(types.decimal(24, 12, strict=True), notation), texts)
    for text, value in zip(texts, prices, strict=True):
        expected = number(text, notation)
        assert value == (None if expected is None or (text.startswith("-0") and not expected) else expected), text
    for text, value in zip(texts, made(engine, formats.written(types.INTEGER, notation), texts), strict=True):
        assert value is None or number(text, notation) == value, text


def test_numbers_of_a_notation_are_found_in_a_sample(sync: Sync) -> None:
    content = b"id;price;count;code;point\n1;1.234,56;1.234;00501;1.5\n2;-0,50;7;1.234;2.5\n"
    got = sync(content, settings=TYPED, **GERMAN)
    kinds = {name: types.of_schema(one).name for name, one in got.types.items()}
    assert kinds == {
        "id": "integer",
        "price": "decimal(16,2)",
        "count": "integer",
        "code": "string",
        "point": "string",
    }
    assert got.records == [
        {"id": 1, "price": 1234.56, "count": 1234, "code": "00501", "point": "1.5"},
        {"id": 2, "price": -0.5, "count": 7, "code": "1.234", "point": "2.5"},
    ]
    refused = sync(content + b"3;1.23,4;1;x;x\n", settings={**TYPED, "infer_rows": 2}, **GERMAN)
    assert "line 4, column 'price': the value is no decimal(16,2)" in str(refused.error)
    named = sync(content, settings=TYPED, columns={"price": "number", "count": "decimal(8,2)"}, **GERMAN)
    assert [(one["price"], one["count"]) for one in named.records] == [(1234.56, 1234.0), (-0.5, 7.0)]


def test_a_catalog_keeps_the_notation(sync: Sync, tmp_path: Path) -> None:
    content = b"id;price\n1;1.234,56\n"
    (tmp_path / "input.csv").write_bytes(content)
    files = [{"entity": "things", "path": str(tmp_path / "input.csv"), "keys": ["id"], **GERMAN}]
    assert sync(content, catalog=discover({"files": files}), **GERMAN).records == [{"id": 1, "price": 1234.56}]


def test_keys_with_marks_between_thousands_stay_apart(sync: Sync) -> None:
    got = sync(b"id;v\n1.234;a\n1234;b\n", settings=TYPED, **GERMAN)
    assert [one["id"] for one in got.records] == ["1.234", "1234"]


MONEY = {
    "$5": "5.00",
    "($1,234.50)": "-1234.50",
    "( 7 )": "-7.00",
    "-€5.1": "-5.10",
    "€ -5": "-5.00",
    "5 EUR": "5.00",
    "€\u00a05": "5.00",
    "\u00a31,000": "1000.00",
    "12": "12.00",
    **dict.fromkeys(("5.123", "(-5)", "x5", "1.5e3", "5-", "($5", "$", "1,23", "1 2", "--5", "$5 000"), None),
}


def test_money(engine: duckdb.DuckDBPyConnection, sync: Sync) -> None:
    kind = formats.named("Money( 12 , 2 )", formats.Notation(".", ","))
    assert kind.name == "money(12,2)"
    assert made(engine, kind, list(MONEY)) == [None if one is None else Decimal(one) for one in MONEY.values()]
    got = sync("id;v\n1;(1.234,50 €)\n2;\n".encode(), settings=TYPED, columns={"v": "money(12,2)"}, **GERMAN)
    assert got.records == [{"id": 1, "v": -1234.5}, {"id": 2, "v": None}]
    refused = sync(b"id,v\n1,$5\n2,$5.005\n", settings=TYPED, columns={"v": "money(12,2)"})
    assert "line 3, column 'v': the value is no money(12,2); `columns: {v: string}`" in str(refused.error)


FORMATS = [
    "%d.%m.%Y",
    "%m/%d/%y",
    "%Y%m%d",
    "%d %b %Y",
    "%B %d, %Y",
    "%d/%m/%Y %H:%M",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%b %d %Y %I:%M %p",
]


@settings(deadline=None, max_examples=60)
@given(
    moments=st.lists(st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2067, 12, 31)), min_size=1),  # noqa: DTZ001
    form=st.sampled_from(FORMATS),
    letter=st.sampled_from("0123456789./:, x"),
    place=st.integers(0, 30),
)
def test_a_date_of_a_format_is_what_python_reads(
    engine: duckdb.DuckDBPyConnection, moments: list[dt.datetime], form: str, letter: str, place: int
) -> None:
    """Or none, where a letter of it was changed."""
    has_time = "%H" in form or "%I" in form
    kind = formats.named(f"{'date-time' if has_time else 'date'}({form})")
    texts = [moment.strftime(form) for moment in moments]
    touched = [text[: place % len(text)] + letter + text[place % len(text) + 1 :] for text in texts]
    for text, value in zip([*texts, *touched], made(engine, kind, [*texts, *touched]), strict=True):
        try:
            expected = dt.datetime.strptime(text.strip(), form)  # noqa: DTZ007
        except ValueError:
            assert value is None, text
            continue
        if text in texts or value is not None:
            assert value == (expected if has_time else expected.date()), text


@settings(deadline=None, max_examples=60)
@given(
    moments=st.lists(st.datetimes(dt.datetime(1972, 1, 1), dt.datetime(2037, 12, 31)), min_size=1),  # noqa: DTZ001
    zone=st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]
    ),
)
@example([dt.datetime(2024, 3, 31, 2, 30), dt.datetime(2024, 10, 27, 2, 30)], "Europe/Berlin")  # noqa: DTZ001
@example([dt.datetime(2024, 10, 27, 1, 59), dt.datetime(2024, 10, 27, 3)], "Europe/Berlin")  # noqa: DTZ001
@example([dt.datetime(2024, 4, 7, 1, 45), dt.datetime(2024, 10, 6, 2, 15)], "Australia/Lord_Howe")  # noqa: DTZ001
@example([dt.datetime(2011, 12, 30, 12), dt.datetime(2011, 12, 31, 0, 30)], "Pacific/Apia")  # noqa: DTZ001
def test_a_local_time_is_taken_where_it_is_one(
    engine: duckdb.DuckDBPyConnection, moments: list[dt.datetime], zone: str
) -> None:
    kind = formats.named(f"date-time(%Y-%m-%d %H:%M, {zone})")
    moments = [moment.replace(second=0, microsecond=0) for moment in moments]
    values = made(engine, kind, [f"{moment:%Y-%m-%d %H:%M}" for moment in moments])
    for moment, value in zip(moments, values, strict=True):
        early, late = (moment.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
        is_one = early.utcoffset() == late.utcoffset()
        assert value == (early.astimezone(dt.UTC).replace(tzinfo=None) if is_one else None), moment


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("date(%d.%m)", "a format has day, month and year, each once"),
        ("date(%d.%m.%Y %H)", "a date has no time: `date-time(FORMAT)`"),
        ("date-time(%d.%m.%Y %I)", "a format has %H, or %I with %p"),
        ("date(%a %d.%m.%Y)", "%a is none of %d %m"),
        ("date-time(%d.%m.%Y, Europe/Nowhere)", "Europe/Nowhere is no zone"),
        ("date-time(%d.%m.%Y %H%z, Europe/Berlin)", "Europe/Berlin is no zone that such a format may have"),
        ("date(%d.%d.%m.%Y)", "a format has day, month and year, each once"),
        ("money(2,4)", "a type is one of integer, number"),
        ("date()", "a type is one of integer, number"),
    ],
)
def test_formats_that_cannot_be_read(name: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Config.from_dict({"files": [{"entity": "e", "path": "x", "keys": [], "columns": {"a": name}}]})
    assert f"entity 'e': columns: 'a': {message}" in str(caught.value)


def test_separators_that_cannot_be() -> None:
    for entry, message in (
        ({"decimal_separator": ";"}, "decimal_separator: a point or a comma"),
        ({"thousands_separator": "."}, "thousands_separator: one of"),
        ({"thousands_separator": "x"}, "and not the decimal_separator"),
    ):
        with pytest.raises(SettingsError, match=message):
            Config.from_dict({"files": [{"entity": "e", "path": "x", "keys": [], **entry}]})


def test_what_is_written_otherwise_is_loaded_again(sync: Sync) -> None:
    content = b"id,v\n1,01/02/2024\n"
    first = sync(content, settings={}, columns={"v": "date(%d/%m/%Y)"})
    assert [one["v"] for one in first.records] == ["2024-02-01"]
    assert sync(content, settings={}, state=first.state, columns={"v": "date(%d/%m/%Y)"}).records == []
    again = sync(content, settings={}, state=first.state, columns={"v": "date(%m/%d/%Y)"})
    assert [one["v"] for one in again.records] == ["2024-01-02"]
    assert sync(
        content, settings={}, state=first.state, decimal_separator=",", columns={"v": "date(%d/%m/%Y)"}
    ).records


VALUES = st.tuples(
    st.none() | st.decimals(-(10**9), 10**9, places=2),
    st.none() | st.integers(-(10**9), 10**9),
    st.none() | st.dates(dt.date(1000, 1, 1)),
    st.none() | st.text(st.sampled_from("ab;,'\" .é"), min_size=1, max_size=6).filter(lambda text: text != "-"),
)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(VALUES, min_size=1, max_size=20),
    notation=st.sampled_from(NOTATIONS),
    delimiter=st.sampled_from(",;\t"),
    form=st.sampled_from(["%d.%m.%Y", "%m/%d/%Y", "%Y%m%d"]),
    line_ends=st.sampled_from([("\n", "\n"), ("\r\n", "\r\n"), ("\r\n", "\n")]),
    batch=st.booleans(),
)
def test_values_of_a_file_in_any_notation(
    rows: list[tuple[t.Any, ...]],
    notation: formats.Notation,
    delimiter: str,
    form: str,
    line_ends: tuple[str, str],
    batch: bool,
) -> None:
    """The first of the line ends is that of the rows, the other one that of the header."""

    def shown(value: t.Any) -> str:
        if isinstance(value, dt.date):
            return value.strftime(form)
        if isinstance(value, Decimal | int):
            text = f"{value:,}".replace(",", "#").replace(".", notation.decimal)
            return text.replace("#", notation.thousands or "")
        return "-" if value is None else value

    rows = [(None if row[0] is None else row[0] + Decimal("0.00"), *row[1:]) for row in rows]
    rows = [(abs(row[0]) if row[0] is not None and not row[0] else row[0], *row[1:]) for row in rows]
    text = io.StringIO(newline="")
    for at, row in enumerate([("id", "n", "i", "d", "s"), *((at, *row) for at, row in enumerate(rows))]):
        writer = csv.writer(text, delimiter=delimiter, lineterminator=line_ends[at == 0])
        writer.writerow([str(row[0]), *map(shown, row[1:])])
    entry: dict[str, t.Any] = {"delimiter": delimiter, "decimal_separator": notation.decimal, "null_values": ["-"]}
    entry |= {"thousands_separator": notation.thousands, "columns": {"d": f"date({form})", "s": "string"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_text(text.getvalue(), newline="")
        more = {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": folder}}} if batch else {}
        got = run({"files": [{"entity": "e", "path": str(path), "keys": ["id"], **entry}], **TYPED, **more})
        found = got.rows() if batch else [tuple(one.values()) for one in got.records]
    assert got.error is None
    if not batch:
        found = [
            (*row[:3], row[3] and dt.date.fromisoformat(row[3]), row[4])  # a record says dates as texts
            for row in [(one[0], one[1] if one[1] is None else Decimal(repr(one[1])), *one[2:]) for one in found]
        ]
    assert [row[1:] for row in found] == rows
