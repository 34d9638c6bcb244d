"""Find the CSV files that are loaded, and read their records independently of the tap."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import lzma
import operator
import re
import sys
import typing as t
import zlib
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from elt import layout
from elt.errors import DataError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from elt.sources.columns import Block

    CsvReader = t.Any  # its type has no public name

SUFFIXES = (".csv", ".csv.gz", ".csv.zst", ".csv.bz2", ".csv.xz", ".csv.zip")
"""Suffixes of the files that the tap reads from a folder."""


ELSEWHERE = "a `path` elsewhere"


@dataclass(frozen=True)
class Extract:
    """Describe one entry of tap-csv's `files`."""

    table: str
    path: Path
    """Path of a file or of a folder of CSV files, or a glob."""
    delimiter: str = ","
    encoding: str = "utf-8"
    other: tuple[str, ...] = ()
    """Settings of the entry that say which rows there are, and that only the tap knows."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether its path is a URL."""
        return ELSEWHERE in self.other

    def uncounted(self) -> str:
        """Return why the records cannot be counted independently of the tap; empty if they can."""
        if self.other:
            return f"its entry sets {', '.join(self.other)}"
        return next((f"{path} is {kind}" for path in self.files() if (kind := _other_format(path))), "")

    def files(self) -> list[Path]:
        """List the files of the path; none when it does not exist."""
        if self.path.is_dir():
            return sorted(p for p in self.path.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file())
        if any(character in str(self.path) for character in "*?["):
            return sorted(Path(self.path.anchor).glob(str(self.path.relative_to(self.path.anchor))))
        return [self.path] if self.path.exists() else []

    def required(self) -> list[Path]:
        """List the files of the path.

        Raises:
            DataError: there is none; the message says what to do.
        """
        if not (files := self.files()):
            raise DataError(self.missing())
        return files

    def rows(self) -> int:
        """Return the number of records; a file that was read completely is not read again (`remembering`).

        Raises:
            DataError: there is no file, or one cannot be read.
        """
        return sum(_rows(path, delimiter=self.delimiter, encoding=self.encoding) for path in self.required())

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read the requested columns of all files, many records at a time: for more than a few 100,000.

        Raises:
            DataError: there is no file, or one cannot be read, lacks a column or holds a ragged record.
        """
        from elt.sources.columns import blocks  # noqa: PLC0415 - brings Arrow, and a DAG imports this module

        for path in self.required():
            yield from blocks(path, columns, delimiter=self.delimiter, encoding=self.encoding)

    def records(self, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Read the requested columns of all files, record by record.

        Raises:
            DataError: there is no file, or one cannot be read, lacks a column or holds a ragged record.
        """
        for path in self.required():
            yield from records(path, columns, delimiter=self.delimiter, encoding=self.encoding)

    def missing(self) -> str:
        """Explain that there is no file, and what to do."""
        ours = " (scripts/seed.sh writes those of the grocery data)" if self.path.parent == layout.EXTRACT else ""
        return (
            f"{self.path} is missing: put the extract of table {self.table} there{ours}, or fix {layout.MELTANO_YML}"
        )


Counts: t.TypeAlias = "dict[tuple[Path, str, str], tuple[int, int, int]]"
"""Size, time of change and number of records of the files that were read completely."""
_counts: ContextVar[Counts | None] = ContextVar("counts", default=None)


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Remember, within the context, the number of records of files that are read completely."""
    token = _counts.set({})
    try:
        yield
    finally:
        _counts.reset(token)


def remember(path: Path, delimiter: str, encoding: str, state: tuple[int, int], rows: int) -> None:
    """Remember the number of records of a file that was read completely, within `remembering`.

    Args:
        path: the file.
        delimiter: with which it was read.
        encoding: with which it was read.
        state: result of `stat` before.
        rows: number of its records.
    """
    if (counts := _counts.get()) is not None:
        counts[path, delimiter, encoding] = (*state, rows)


def _rows(path: Path, *, delimiter: str, encoding: str) -> int:
    from elt.sources.columns import blocks  # noqa: PLC0415 - brings Arrow, and a DAG imports this module

    known = (_counts.get() or {}).get((path, delimiter, encoding))
    if known is None or known[:2] != stat(path):
        return sum(block.rows for block in blocks(path, (), delimiter=delimiter, encoding=encoding))
    return known[2]


def stat(path: Path) -> tuple[int, int]:
    """Return size in bytes and time of the last change in nanoseconds.

    Raises:
        DataError: the file cannot be read.
    """
    with _readable(path):
        found = path.stat()
        return found.st_size, found.st_mtime_ns


def header(path: Path, columns: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8") -> list[str]:
    """Read the first record of a CSV file, which must name these columns; empty if the file is.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    with _reader(path, delimiter, encoding) as reader:
        return _header(path, reader, columns)


def records(
    path: Path, columns: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8"
) -> Iterator[tuple[str, ...]]:
    """Read the requested columns of a CSV file, record by record, by Python's csv module.

    Raises:
        DataError: the file cannot be read, lacks a column or holds a ragged record.
    """
    number, state = 0, stat(path)
    with _reader(path, delimiter, encoding) as reader:
        names = _header(path, reader, columns)
        wanted = _picker([names.index(column) for column in columns])
        width = len(names)
        for row in filter(None, reader):
            number += 1
            if len(row) != width:
                raise DataError(f"quality: {path}, line {reader.line_num}: {len(row)} fields instead of {width}")
            yield wanted(row)
    remember(path, delimiter, encoding, state, number)


def _header(path: Path, reader: CsvReader, columns: Sequence[str]) -> list[str]:
    names: list[str] = next(reader, [])
    if missing := [column for column in columns if column not in names]:
        raise DataError(f"quality: {path} lacks the column {', '.join(missing)}")
    return names


def _picker(places: list[int]) -> t.Callable[[list[str]], tuple[str, ...]]:
    """Return the fastest function that picks the fields at these indices: there may be millions of records."""
    if len(places) > 1:
        return operator.itemgetter(*places)
    return lambda row: tuple(row[place] for place in places)


@contextlib.contextmanager
def _reader(path: Path, delimiter: str, encoding: str) -> Iterator[CsvReader]:
    """Open a file for the csv module.

    Raises:
        DataError: the file cannot be read.
    """
    with _readable(path), text(path, "utf-8-sig" if encoding == "utf-8" else encoding) as lines:
        yield csv.reader(lines, delimiter=delimiter)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Translate errors of reading a file into one of one line.

    Raises:
        DataError: it cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"quality: {path} is missing: run scripts/seed.sh") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError, LookupError, csv.Error) as error:
        raise DataError(f"quality: {path} cannot be read: {error}") from error


def text(path: Path, encoding: str) -> t.TextIO:
    """Open a text file for reading, decompressed if it is compressed, with its line ends as they are."""
    codecs.lookup(encoding)  # for its error, before a file is open
    return io.TextIOWrapper(opened(path), encoding=encoding, newline="")


def opened(path: Path) -> t.BinaryIO:
    """Open a file for reading, decompressed if it is compressed."""
    for mark, unpack in _UNPACK.items():
        if _begins(path, mark):
            return t.cast("t.BinaryIO", unpack(path))
    return path.open("rb")


def _begins(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _other_format(path: Path) -> str:
    """Return what a file is that is not counted here, by its first bytes; empty if it may be one."""
    with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError), opened(path) as file:
        begin = file.read(1024)
        for mark, kind in ((b"PK", "a zip file or a workbook"), (b"PAR1", "a parquet file")):
            if begin.startswith(mark):
                return kind
        if _SEPARATOR.match(begin):
            return "a file whose first line names its delimiter"
        return "a file of JSON" if _BEGINS_JSON.match(begin) else ""
    return ""


_SEPARATOR = re.compile(rb"(?:\xef\xbb\xbf)?(\"?)sep=.\1\r?\n")
"""The first line in which Excel looks for the delimiter."""
_BEGINS_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*(?:\{|\])|\{\s*[\"}])")


def _unzstd(path: Path) -> t.BinaryIO:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only where a file asks for it
    else:
        from backports import zstd  # noqa: PLC0415 - likewise
    return t.cast("t.BinaryIO", zstd.open(path, "rb"))


_UNPACK: dict[bytes, t.Callable[[Path], t.Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
"""How to open compressed files, by their first bytes."""
