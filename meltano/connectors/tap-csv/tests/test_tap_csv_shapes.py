"""Files as people have them: what stands around the rows, and how values are written in them."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import lzma
import tempfile
import typing as t
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_csv import catalog, source
from tap_csv.config import Config
from tap_csv.convert import Converter
from tap_csv.errors import InputError, SettingsError
from tap_csv_harness import TEXT, run

if t.TYPE_CHECKING:
    from tap_csv_harness import Sync

WITH_LINES = {**TEXT, "add_metadata_columns": True}
LINE = "_sdc_source_lineno"


def settings_error(**entry: t.Any) -> str:
    """What is said of the settings of an entity."""
    with pytest.raises(SettingsError) as caught:
        Config.from_dict({"files": [{"entity": "e", "path": "x.csv", "keys": [], **entry}]})
    return str(caught.value)


STATEMENT = 'Konto;DE 12\n\n"Zeitraum;\nid;a\n1;x\n2;y\nSaldo;9;"\nSeite 1'
SHAPES: dict[str, tuple[str, dict[str, t.Any], tuple[int, int]]] = {
    "preamble and footer": (STATEMENT, {"delimiter": ";", "skip": 3, "skip_footer": 2}, (5, 6)),
    "comments": ('#a "\nid;a\n# b\n1;x\n#"c;\n\n2;y\n#', {"delimiter": ";", "comment": "#"}, (4, 7)),
    "comment of two letters": ("-- a\nid;a\n1;x\n-- b\n2;y", {"delimiter": ";", "comment": "--"}, (3, 5)),
    "no header": ("1;x\n2;y\n", {"delimiter": ";", "header": False, "names": ["id", "a"]}, (1, 2)),
    "all": (
        "Titel\n#c\n1;x\n#d\n2;y\nEnde\n\x1a",
        {"delimiter": ";", "header": False, "names": ["id", "a"], "skip": 1, "skip_footer": 1, "comment": "#"},
        (3, 5),
    ),
    "sep of Excel": ("sep=;\nid;a\n1;x\n2;y\n", {}, (3, 4)),
    "sep in quotes": ('"sep=\t"\nid\ta\n1\tx\n2\ty\n', {}, (3, 4)),
    "sep beside the setting": ("sep=,\nid;a\n1;x\n2;y\n", {"delimiter": ";"}, (3, 4)),
    "sep without header": ("sep=;\n1;x\n2;y\n", {"header": False, "names": ["id", "a"]}, (2, 3)),
    "end-of-file byte": ("id;a\n1;x\n2;y\n\x1a", {"delimiter": ";"}, (2, 3)),
    "end-of-file byte in the last line": ("id;a\n1;x\n2;y\x1a", {"delimiter": ";"}, (2, 3)),
}


@pytest.mark.parametrize(
    ("encoding", "line_end", "packed"), [("utf-8", "\n", False), ("utf-16", "\r\n", True), ("utf-8-sig", "\r", False)]
)
@pytest.mark.parametrize(("text", "entry", "lines"), SHAPES.values(), ids=SHAPES)
def test_what_stands_around_the_rows(
    sync: Sync, text: str, entry: dict[str, t.Any], lines: tuple[int, int], encoding: str, line_end: str, packed: bool
) -> None:
    content = text.replace("\n", line_end).encode(encoding)
    got = sync(gzip.compress(content) if packed else content, encoding=encoding, settings=WITH_LINES, **entry)
    assert got.error is None
    assert [(one["id"], one["a"], one[LINE]) for one in got.records] == list(zip("12", "xy", lines, strict=True))


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("mark", ["", "\x1a"])
def test_lines_around_are_counted_however_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, line_end: str, mark: str, *, ended: bool
) -> None:
    path = tmp_path / "in.csv"
    lines = ["a", "", "id,v", "1,x", "2,y", "", "b"]
    path.write_text(line_end.join(lines) + (line_end if ended else "") + mark, newline="")
    monkeypatch.setattr(source, "_CHUNK", size)
    monkeypatch.setattr(source.Source.segments, "__defaults__", (size, size))
    monkeypatch.setattr(catalog.split, "__defaults__", (size,))
    got = run({"files": [{"entity": "e", "path": str(path), "keys": [], "skip": 2, "skip_footer": 2}]} | WITH_LINES)
    assert got.error is None
    assert [(one["id"], one["v"], one[LINE]) for one in got.records] == [("1", "x", 4), ("2", "y", 5)]


def test_errors_count_the_lines_of_the_file(sync: Sync) -> None:
    assert "line 5, column 'a': ragged row" in str(sync(b"x\ny\nid,a\n1,x\n2\n", skip=2).error)
    assert "line 3, column 'id': the key is no column" in str(sync(b"x\ny\nno,a\n", skip=2).error)
    assert "line 4, column 'a': the header names it" in str(sync(b"x\n#\n#\nid,a,a\n", skip=1, comment="#").error)
    assert "line 3: is not utf-8" in str(sync(b"\xff\nid,a\n1,\xff\n", skip=1).error)
    assert "line 2: is not utf-8, set its encoding: byte 0xff at offset 7" in str(sync(b"x\nid,a,\xff", skip=1).error)
    assert "line 3, column 'a': ragged row" in str(sync(b"sep=;\nid;a\n1\n").error)
    ragged = sync(b"1,x\n2,y,z\n", header=False, names=["id", "a"]).error
    assert "line 2, column 'a': ragged row: 3 fields in the row, 2 in `names`" in str(ragged)
    assert "the file holds no header behind `skip: 3`" in str(sync(b"id,a\n1,x\n", skip=3).error)
    assert "the file holds no header" in str(sync(b"# id,a\n#1,x\n", comment="#").error)
    assert "the file is empty" in str(sync(b"", header=False, names=["id"]).error)


def test_settings_of_the_shape_that_do_not_fit() -> None:
    assert "entity 'e': skip: a number of lines" in settings_error(skip=-1)
    assert "skip_footer must be of type integer" in settings_error(skip_footer="x")
    for comment in ("", ",a", '"', "a\n"):
        assert "entity 'e': comment: some text in one line" in settings_error(comment=comment)
    assert "header: false needs `names`" in settings_error(header=False)
    assert "names: set `header: false` too" in settings_error(names=["a"])
    assert "names: 'A' stands there twice" in settings_error(header=False, names=["A", "a"])
    assert "names: must be a list of names" in settings_error(header=False, names=["A", ""])
    assert "keys: 'id' is none of `names`" in settings_error(header=False, names=["A"], keys=["id"])


@pytest.mark.parametrize(
    "changed",
    [
        {"skip": 1},
        {"skip_footer": 1},
        {"comment": "#"},
        {"header": False, "names": ["id", "a"]},
        {"unnamed_columns": "keep"},
        {"null_values": ["N/A"]},
    ],
)
def test_a_file_is_loaded_again_when_its_shape_is_said_otherwise(sync: Sync, changed: dict[str, t.Any]) -> None:
    settings = {"infer_types": False}
    content = b"id,a\nid,a\n1,x\n1,x\n"
    first = sync(content, settings=settings)
    assert len(first.records) == 3
    assert sync(content, settings=settings, state=first.state).records == []
    assert len(sync(content, settings=settings, state=first.state, **changed).records) >= 2


def test_comments_between_quotes_are_read_fast(sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Converter, "_by_python", lambda *_: pytest.fail("Python read it"))
    content = b'id,a\n1,"x\n#y"\n#"z,\n2,"v"\n'
    assert [one["a"] for one in sync(content, comment="#").records] == ["x\n#y", "v"]


def zipped(content: bytes) -> bytes:
    """A zip file that holds this as its only file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.csv", content)
    return packed.getvalue()


CELLS = st.text(st.sampled_from("ab#;,\"'\n\r \\"), max_size=6)


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8),
    around=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    comments=st.lists(st.tuples(st.integers(0, 8), st.text(st.sampled_from("a\"',;# "), max_size=5)), max_size=4),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quotechar=st.sampled_from(['"', "'"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    header=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
    size=st.sampled_from([3, 30, 1 << 20]),
    batch=st.booleans(),
)
def test_a_file_of_any_shape_is_read(
    rows: list[tuple[str, str, str]],
    around: tuple[int, int],
    comments: list[tuple[int, str]],
    delimiter: str,
    quotechar: str,
    quoting: t.Literal[0, 1],
    line_end: str,
    header: bool,
    encoding: str,
    size: int,
    batch: bool,
) -> None:
    """Of random rows that Python writes among lines that are none; a row must not look like a comment."""
    rows = [(f"r{row[0]}", *row[1:]) for row in rows]
    names = ["id", "a", "b"]
    blocks = [_written(row, delimiter, quotechar, quoting, line_end) for row in ([names] if header else []) + rows]
    for at, text in sorted(comments, reverse=True):
        blocks.insert(min(at, len(blocks)), f"#{text}{line_end}")
    skip, footer = around
    text = f"x{quotechar}{line_end}" * skip + "".join(blocks) + f"y{delimiter}{quotechar}{line_end}" * footer
    if not text:
        return
    entry: dict[str, t.Any] = {"delimiter": delimiter, "quotechar": quotechar, "encoding": encoding, "comment": "#"}
    entry |= {"skip": skip, "skip_footer": footer} | ({} if header else {"header": False, "names": names})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(source, "_CHUNK", size)
        monkeypatch.setattr(source.Source.segments, "__defaults__", (size, size))
        monkeypatch.setattr(catalog.split, "__defaults__", (size,))
        path = Path(folder) / "in.csv"
        path.write_bytes(text.encode(encoding))
        more = {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": folder}}} if batch else {}
        got = run({"files": [{"entity": "e", "path": str(path), "keys": ["id"], **entry}], **TEXT, **more})
        found = [tuple(one.values()) for one in got.records] + got.rows()
    assert got.error is None
    assert found == rows


TYPED = st.tuples(
    st.one_of(st.none(), st.decimals(-(10**11), 10**11, places=2)),
    st.one_of(st.none(), st.dates(dt.date(1970, 1, 1), dt.date(2067, 12, 31))),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), st.text(st.sampled_from("abü;,.\"'\n\\-1 "), min_size=1, max_size=6)),
)
PACKERS: dict[str, t.Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(TYPED, min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from(
        [{}, {"quotechar": "'"}, {"escapechar": "\\"}, {"escapechar": "\\", "doublequote": False}]
    ),
    marks=st.sampled_from([(".", ""), (".", ","), (",", ""), (",", "."), (",", "'"), (",", " ")]),
    null=st.sampled_from(["", "N/A", "NULL"]),
    day=st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%y", "%d-%b-%Y"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    packer=st.sampled_from([*PACKERS]),
    metadata=st.booleans(),
    batch=st.booleans(),
)
def test_values_of_any_dialect_are_what_python_wrote(
    rows: list[tuple[t.Any, ...]],
    delimiter: str,
    quoting: dict[str, t.Any],
    marks: tuple[str, str],
    null: str,
    day: str,
    line_end: str,
    encoding: str,
    packer: str,
    metadata: bool,
    batch: bool,
) -> None:
    """Numbers, dates, booleans and texts, however they are written, in whatever the file is packed."""
    point, thousands = marks

    def texts(number: int, row: tuple[t.Any, ...]) -> list[str]:
        amount, date, flag, text = row
        plain = f"{amount:,.2f}".translate({ord(","): thousands, ord("."): point}) if amount is not None else None
        dated = date.strftime(day) if date else None
        return [str(number), *(null if one is None else str(one) for one in (plain, dated, flag, text))]

    content = io.StringIO(newline="")
    # With a line end of LF Python 3.11 leaves a CR unquoted, which then ends a line too.
    writer = csv.writer(content, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL, **quoting)
    writer.writerow(["id", "amount", "day", "flag", "text"])
    writer.writerows(texts(number, row) for number, row in enumerate(rows))
    entry: dict[str, t.Any] = {"delimiter": delimiter, "encoding": encoding, "decimal_separator": point, **quoting}
    entry |= ({"thousands_separator": thousands} if thousands else {}) | ({"null_values": [null]} if null else {})
    types = {"amount": "decimal(16,2)", "day": f"date({day})", "flag": "boolean", "text": "string"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(PACKERS[packer](content.getvalue().encode(encoding)))
        more = {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": folder}}} if batch else {}
        listed = [{"entity": "e", "path": str(path), "keys": ["id"], "columns": types, **entry}]
        got = run({"files": listed, "add_metadata_columns": metadata, **more})
        found = [row[:5] for row in got.rows()] or [tuple(one.values())[:5] for one in got.records]
    assert got.error is None
    assert len(found) == len(rows)
    for number, (row, (place, amount, date, *others)) in enumerate(zip(rows, found, strict=True)):
        assert place == number
        assert (None if amount is None else Decimal(str(amount))) == row[0]
        assert date is None if row[1] is None else str(date) == row[1].isoformat()
        assert tuple(others) == row[2:]


def _written(row: t.Iterable[str], delimiter: str, quotechar: str, quoting: t.Literal[0, 1], line_end: str) -> str:
    text = io.StringIO(newline="")
    # With a line end of LF Python 3.11 leaves a CR unquoted, which then ends a line too.
    quoting = csv.QUOTE_ALL if line_end == "\n" else quoting
    csv.writer(text, delimiter=delimiter, quotechar=quotechar, quoting=quoting, lineterminator=line_end).writerow(row)
    return text.getvalue()


BATCH: t.Any = pytest.mark.parametrize("batch", [False, True])


def values(sync: Sync, folder: Path, content: bytes, *, batch: bool, **entry: t.Any) -> list[tuple[t.Any, ...]]:
    """The rows of a file, typed, by RECORD or BATCH."""
    more: dict[str, t.Any] = {}
    if batch:
        (folder / "rows").mkdir(exist_ok=True)
        more["batch_config"] = {"encoding": {"format": "parquet"}, "storage": {"root": str(folder / "rows")}}
    got = sync(content, settings={"incremental": False, **more, **entry.pop("settings", {})}, **entry)
    if got.error:
        raise got.error
    return got.rows() if batch else [tuple(one.values()) for one in got.records]


ROUTES = [b"id,a,\n1,x,\n2,y,\n", b'id,a,\n1,x,\r\n2,"y",\n']
"""By DuckDB, and by Python since line ends differ."""


@BATCH
@pytest.mark.parametrize("content", ROUTES)
def test_an_empty_column_at_the_end_is_dropped(sync: Sync, tmp_path: Path, content: bytes, *, batch: bool) -> None:
    assert values(sync, tmp_path, content, batch=batch) == [(1, "x"), (2, "y")]
    with pytest.raises(
        InputError, match="line 4: a value in column 3, which has no name in the header; set `unnamed"
    ):
        values(sync, tmp_path, content + b"3,z, \n", batch=batch)
    assert values(sync, tmp_path, content, batch=batch, unnamed_columns="keep") == [(1, "x", None), (2, "y", None)]
    assert values(sync, tmp_path, content + b"3,z,u\n", batch=batch, unnamed_columns="drop")[-1] == (3, "z")


@BATCH
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n\n"])
def test_columns_without_a_name_are_kept_or_dropped(
    sync: Sync, tmp_path: Path, line_end: bytes, *, batch: bool
) -> None:
    content = b"id,,column_2_, \n1,x,y,z\n".replace(b"\n", line_end)
    with pytest.raises(InputError, match="line 1: column 2 of the header has no name; set `unnamed_columns: keep` "):
        values(sync, tmp_path, content, batch=batch)
    assert values(sync, tmp_path, content, batch=batch, unnamed_columns="keep") == [(1, "x", "y", "z")]
    assert values(sync, tmp_path, content, batch=batch, unnamed_columns="drop") == [(1, "y")]
    got = sync(content, unnamed_columns="keep")
    assert list(got.types) == ["id", "column_2", "column_2_", "column_4"]
    assert "line 1, column 'column_1'" in str(sync(b",column_1,id\n", unnamed_columns="keep").error)
    assert "column 1 of the header has no name" in str(sync(b",\n", unnamed_columns="keep").error)
    assert "unnamed_columns: keep or drop" in settings_error(unnamed_columns="x")


@BATCH
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n\n"])
def test_texts_that_mean_null(sync: Sync, tmp_path: Path, line_end: bytes, *, batch: bool) -> None:
    content = b'id,n,s,d\n1,\\N,"NULL",2024-01-31\n2,12,,N/A\n3,,x,\\N\n'.replace(b"\n", line_end)
    day: t.Any = dt.date(2024, 1, 31) if batch else "2024-01-31"
    entry: dict[str, t.Any] = {"null_values": ["\\N", "NULL", "N/A"], "batch": batch}
    expected = [(1, None, None, day), (2, 12, None, None), (3, None, "x", None)]
    assert values(sync, tmp_path, content, **entry) == expected
    named = {"n": "integer", "d": "date", "s": "string"}
    assert values(sync, tmp_path, content, columns=named, **entry) == expected
    texts = values(sync, tmp_path, content, settings={"infer_types": False}, **entry)
    assert texts == [("1", None, None, "2024-01-31"), ("2", "12", "", None), ("3", "", "x", None)]
    with pytest.raises(InputError, match="column 'id': a key must not be empty"):
        values(sync, tmp_path, content + b"NULL,1,x,\n", **entry)
    with pytest.raises(InputError, match="column 'n': the value is no integer"):
        values(sync, tmp_path, content + b"4,null,x,\n", columns=named, **entry)
    assert "null_values: must be a list of texts" in settings_error(null_values=[1])
    assert "escapechar takes the '\\\\' away" in settings_error(null_values=["\\N"], escapechar="\\")
