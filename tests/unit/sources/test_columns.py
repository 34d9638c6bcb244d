"""The columns of a CSV file are what Python's csv module reads, whatever the file holds."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import sys
import threading
import zipfile
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elt.errors import DataError
from elt.sources import columns, csv_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BOM = "\ufeff"


def by_csv(path, wanted, delimiter=",", encoding="utf-8"):
    """What the csv module reads, or the message of what it refuses."""
    try:
        return [*csv_files.records(path, wanted, delimiter=delimiter, encoding=encoding)]
    except DataError as error:
        return str(error)


def by_blocks(path, wanted, delimiter=",", encoding="utf-8"):
    """The same by blocks."""
    found = []
    try:
        for block in columns.blocks(path, wanted, delimiter=delimiter, encoding=encoding):
            texts = [[column.texts[code] for code in column.codes.tolist()] for column in block.columns]
            assert all(len(column) == block.rows for column in texts)
            assert all(len({*column.texts}) == len(column.texts) for column in block.columns)
            found += zip(*texts, strict=True) if texts else [()] * block.rows
    except DataError as error:
        return str(error)
    return found


@pytest.fixture
def only_arrow(monkeypatch):
    """Lets no record be read by the csv module, but for the header."""
    monkeypatch.setattr(columns.csv_files, "records", mock.Mock(side_effect=AssertionError("not read by Arrow")))


FIELD = st.text(st.sampled_from('ab1 ,;"\r\n\t\0é€\u2028\ufeff'), max_size=24)
RECORD = st.lists(FIELD, min_size=1, max_size=4)


def written(records, delimiter, quoting, line_end):
    """Records as the csv module writes them, each field quoted or only those that need it."""
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=line_end).writerows(records)
    return file.getvalue()


@st.composite
def texts(draw):
    """A file that a program wrote, or what people and broken programs make of one."""
    if draw(st.booleans()):
        return draw(st.text(st.sampled_from('ab1,;"\r\n\t é'), max_size=60))
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(FIELD, min_size=width, max_size=width), max_size=12))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    head = [[f"c{place}" for place in range(width)]]
    text = written(head + rows, draw(st.sampled_from(",;\t")), quoting, end)
    if draw(st.booleans()):  # one character more or less
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(['"', "\n", "\r", ",", "", "x", "\0"])) + text[place + 1 :]
    return draw(st.sampled_from(["", BOM, BOM + BOM])) + text


@settings(deadline=None, max_examples=300)
@given(
    text=texts(),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "UTF-8", "utf-16", "latin-1", "cp1252"]),
    block=st.integers(1, 40),
    packed=st.booleans(),
)
@example(text='a,b\n1,"x"y\n', delimiter=",", encoding="utf-8", block=40, packed=False)  # text behind a closing quote
@example(
    text='a,b\n1,x"y"\n2,"\n', delimiter=",", encoding="utf-8", block=40, packed=False
)  # a quote that nothing closes
@example(
    text='a,b\n"1\n",2\n3,"4\r\n5"\r\n', delimiter=",", encoding="utf-8", block=3, packed=False
)  # line breaks within quotes
@example(
    text='a\n""\n\n\n', delimiter=",", encoding="utf-8", block=40, packed=False
)  # an empty field is a record, an empty line none
@example(text=f"a,b\n1,2\n{BOM}3,4\n", delimiter=",", encoding="utf-8", block=4, packed=False)  # a mark that is text
@example(text='\0\n""\n""\n', delimiter=",", encoding="utf-8", block=40, packed=False)
@example(text="a,b\r1,2\r3,4\r", delimiter=",", encoding="utf-8", block=40, packed=False)
def test_blocks_are_what_the_csv_module_reads(tmp_path_factory, text, delimiter, encoding, block, packed):
    path = tmp_path_factory.mktemp("file") / "a.csv"
    data = text.encode(encoding, errors="replace")
    path.write_bytes(gzip.compress(data) if packed else data)
    try:
        names = csv_files.header(path, (), delimiter=delimiter, encoding=encoding)
    except DataError:
        names = []
    wanted = tuple(dict.fromkeys(names[::-1][:2]))
    with mock.patch.object(columns, "BLOCK_BYTES", block):
        for some in (wanted, ()):
            assert by_blocks(path, some, delimiter, encoding) == by_csv(path, some, delimiter, encoding)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(st.lists(st.text(st.sampled_from('ab1,"\né€'), max_size=5), min_size=2, max_size=2), min_size=1),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    block=st.integers(100, 200),
)
@example(rows=[["", '1\n",\n']] * 99, quoting=csv.QUOTE_ALL, end="\n", block=100)
def test_what_a_program_wrote_is_read_by_arrow(tmp_path_factory, rows, quoting, end, block):
    path = tmp_path_factory.mktemp("file") / "a.csv"
    path.write_text(written([["a", "b"], *rows], ",", quoting, end), newline="", encoding="utf-8")
    expected = by_csv(path, ("a", "b"))
    refuse = mock.Mock(side_effect=AssertionError("not read by Arrow"))
    with mock.patch.object(columns.csv_files, "records", refuse), mock.patch.object(columns, "BLOCK_BYTES", block):
        assert by_blocks(path, ("a", "b")) == expected == [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,b\n1,2\n3,4,5\n", "line 3: 3 fields instead of 2"),
        (b"a,b\n1,2\n3\n", "line 3: 1 fields instead of 2"),
        (b"a,b\n1,\xff\n", "can't decode byte 0xff"),
        (b"a,b\n" + b"1,2\n" * 9999 + b"1,\xff\n", "can't decode byte 0xff"),
        (b"\x1f\x8b\x08\x00broken", "cannot be read"),
        (b"b,c\n1,2\n", "lacks the column a"),
        (b"", "lacks the column a"),
    ],
)
def test_what_is_wrong_is_named_as_by_the_csv_module(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    assert message in by_blocks(path, ("a",))
    assert by_blocks(path, ("a",)) == by_csv(path, ("a",))


def test_a_stray_quote_is_read_as_the_tap_reads_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"2"3\n4,5" "6\n7,8\n')
    assert by_blocks(path, ("b",)) == by_csv(path, ("b",)) == [("23",), ('5" "6',), ("8",)]


def test_a_late_oddity_gives_no_record_twice_and_none_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(columns, "BLOCK_RECORDS", 700)
    path = tmp_path / "a.csv"
    lines = [f'{number},"x{number % 7}"' for number in range(5000)]
    lines[3000] = '3000,5" pipe'
    path.write_text("\n".join(["a,b", *lines, ""]))
    found = by_blocks(path, ("b", "a"))
    assert found == by_csv(path, ("b", "a"))
    assert [number for _, number in found] == [str(number) for number in range(5000)]


def test_all_files_of_an_extract_are_read_and_counted_once(tmp_path, only_arrow):
    for name, text in (("1.csv", "a,b\n1,x\n"), ("2.csv", "b,a\ny,2\nz,3\n")):
        (tmp_path / name).write_text(text)
    one = csv_files.Extract("t", tmp_path)
    with csv_files.remembering():
        read = [block.columns[0].texts[code] for block in one.blocks(("a",)) for code in block.columns[0].codes]
        assert read == ["1", "2", "3"]
        with mock.patch.object(columns, "blocks", side_effect=AssertionError("read again")):
            assert one.rows() == 3
            (tmp_path / "2.csv").write_text("b,a\ny,2\n")
            with pytest.raises(AssertionError, match="read again"):
                one.rows()
    assert one.rows() == 2


def test_who_stops_early_leaves_no_thread_and_no_open_file(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_BYTES", 16)
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 1000)
    found = columns.blocks(path, ("a",))
    assert next(found).rows
    found.close()
    assert threading.active_count() == 1


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_compressed_files_are_counted(tmp_path, pack):
    path = tmp_path / "in.csv"
    path.write_bytes(pack(b"id,a\n1,x\n2,y\n"))
    one = csv_files.Extract("t", path)
    assert one.rows() == 2
    assert one.uncounted() == ""
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match="cannot be read"):
        one.rows()


def test_what_cannot_be_counted_is_said(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id\n1\n")
    assert csv_files.Extract("t", path).uncounted() == f"{path} is a zip file or a workbook"
    path.write_bytes(b'[{"id": 1}]')
    assert csv_files.Extract("t", path).uncounted() == f"{path} is a file of JSON"
    path.write_bytes(b"PAR1")
    assert csv_files.Extract("t", path).uncounted() == f"{path} is a parquet file"
    assert csv_files.Extract("t", path, other=("skip",)).uncounted() == "its entry sets skip"
