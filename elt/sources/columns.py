"""Read columns of a CSV file, block by block: the values of Python's csv module, at Arrow's speed.

Arrow accepts much that the csv module refuses (text behind a closing quote, an unclosed quote), and reads some
of it differently. So a file is divided into blocks of whole records, and Arrow gets a block only where the two cannot
differ: valid UTF-8, quotes only where the format has them, one kind of line end. From the first other block on, and
from one that Arrow refuses, the csv module reads the rest of the file: it decides, and it names what is wrong.
"""

from __future__ import annotations

import codecs
import itertools
import lzma
import re
import typing as t
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv as arrow

from elt.sources import csv_files

if t.TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_BYTES = 16 << 20
"""Bytes of a block; the csv module reads a file with a longer record."""
BLOCK_RECORDS = 100_000
"""Records of a block from the csv module."""


@dataclass(frozen=True)
class Column:
    """Hold a column of some records as a dictionary: each different text once, and codes."""

    texts: Sequence[str]
    """Different texts, in no order."""
    codes: NDArray[np.int32]
    """For each record the index of its text."""


@dataclass(frozen=True)
class Block:
    """Hold consecutive records."""

    rows: int
    columns: tuple[Column, ...]
    """Requested columns, in the order of the request."""


def blocks(path: Path, columns: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8") -> Iterator[Block]:
    """Read the wanted columns of a CSV file.

    Raises:
        DataError: the file cannot be read, lacks a column or holds a ragged record.
    """
    stat = csv_files.stat(path)
    header = csv_files.header(path, columns, delimiter=delimiter, encoding=encoding)
    done = 0
    if header and delimiter.isascii() and delimiter not in '"\r\n':
        places = [header.index(column) for column in columns]
        for block in _ahead(_by_arrow(path, len(header), places, delimiter, encoding)):
            if block is None:
                break
            done += block.rows
            yield block
        else:
            csv_files.remember(path, delimiter, encoding, stat, done)
            return
    rest = itertools.islice(csv_files.records(path, columns, delimiter=delimiter, encoding=encoding), done, None)
    while some := [*itertools.islice(rest, BLOCK_RECORDS)]:
        yield Block(len(some), tuple(map(_column, zip(*some, strict=True))))


def _column(texts: Sequence[str]) -> Column:
    places: dict[str, int] = {}
    codes = np.array([places.setdefault(text, len(places)) for text in texts], np.int32)
    return Column([*places], codes)


Made = t.TypeVar("Made")


def _ahead(items: Generator[Made]) -> Iterator[Made]:
    """Yield the items, and make the next one in a thread meanwhile: reading and Arrow release the GIL."""
    end = object()
    with closing(items), ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield t.cast("Made", item)


class _DifferentError(Exception):
    """Signal that Arrow might read other values than the csv module."""


def _by_arrow(
    path: Path, width: int, places: Sequence[int], delimiter: str, encoding: str
) -> Generator[Block | None]:
    """Yield the records below the header as far as Arrow may read them, then None if the csv module must go on."""
    quoting = _quoting(delimiter)
    is_first = True
    try:
        for text in _texts(path, "utf-8-sig" if encoding == "utf-8" else encoding):
            _check(text, quoting)
            yield _parsed(text, width, places, delimiter, header=is_first)
            is_first = False
    except (_DifferentError, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError, pa.ArrowInvalid):
        yield None  # the csv module finds the same fault, and reports it for a person


def _texts(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield the text of a file as UTF-8, in pieces that end where a record may end.

    Raises:
        UnicodeError: the file is no text of this encoding.
        _DifferentError: a record is longer than a piece may be.
    """
    name = codecs.lookup(encoding).name
    decoder = None if name.startswith("utf-8") else codecs.getincrementaldecoder(encoding)()
    rest = b""
    with csv_files.opened(path) as file:
        if name == "utf-8-sig":
            rest = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
        while read := file.read(BLOCK_BYTES):
            text = rest + (decoder.decode(read).encode() if decoder else read)
            end = _end(text)
            if not end and len(text) > BLOCK_BYTES:
                raise _DifferentError
            if end:
                yield text[:end]
            rest = text[end:]
    rest += decoder.decode(b"", final=True).encode() if decoder else b""
    if rest:
        yield rest


def _end(text: bytes) -> int:
    """Return the end of the last complete record: after a line break with an even number of quotes before it."""
    end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end) if b'"' in text else 0  # `in` is ten times as fast
    while quotes % 2:
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    return end


def _quoting(delimiter: str) -> re.Pattern[bytes]:
    """Return the pattern of text in which quotes enclose whole fields only, and are doubled within."""
    mark = re.escape(delimiter.encode())
    field = rb'"[^"]*+(?:""[^"]*+)*+"'
    return re.compile(rb'(?:[^"]*+(?:(?<=[\n%b])|\A)%b(?=[\r\n%b]|\Z))*+[^"]*+' % (mark, field, mark))


def _check(text: bytes, quoting: re.Pattern[bytes]) -> None:
    """Check that Arrow and the csv module read the same values.

    Raises:
        _DifferentError: that is not certain.
        UnicodeError: it is no UTF-8, which Arrow would notice in the wanted columns only.
    """
    if not text.isascii():
        text.decode()
    if (
        (b"\r" in text and text.count(b"\r") != text.count(b"\r\n"))
        or b"\0" in text  # which Arrow takes for the end of all in some places
        or text.startswith(codecs.BOM_UTF8)  # which Arrow leaves out of every text
        or (b'"' in text and not quoting.fullmatch(text))
    ):
        raise _DifferentError


def _parsed(text: bytes, width: int, places: Sequence[int], delimiter: str, *, header: bool) -> Block:
    """Parse the requested columns of complete records.

    Raises:
        pa.ArrowInvalid: a record is ragged, or the text holds none.
    """
    names = [*map(str, range(width))]
    wanted = [names[place] for place in places] or names[:1]
    table = arrow.read_csv(
        pa.py_buffer(text),
        arrow.ReadOptions(
            column_names=names, skip_rows_after_names=int(header), block_size=len(text) + 1, use_threads=False
        ),
        arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        arrow.ConvertOptions(
            check_utf8=False,
            include_columns=[*dict.fromkeys(wanted)],
            column_types=dict.fromkeys(wanted, pa.dictionary(pa.int32(), pa.string())),
            strings_can_be_null=False,
        ),
    )
    if not table.num_rows:
        return Block(0, (Column([], np.array([], np.int32)),) * len(places))
    chunks = [table.column(name).chunk(0) for name in wanted[: len(places)]]
    return Block(table.num_rows, tuple(Column(one.dictionary.to_pylist(), _codes(one)) for one in chunks))


def _codes(array: pa.DictionaryArray) -> NDArray[np.int32]:
    return t.cast("NDArray[np.int32]", np.from_dlpack(array.indices))  # to_numpy would import pandas
