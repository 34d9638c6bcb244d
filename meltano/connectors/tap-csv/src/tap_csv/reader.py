"""Rows as Python's csv module reads them, the judge of what is malformed, and the line where each begins."""

from __future__ import annotations

import csv
import io
import json
import typing as t
from collections import Counter

from tap_csv.errors import InputError
from tap_csv.source import undecodable

if t.TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from tap_csv.config import Dialect, Shape
    from tap_csv.files import File
    from tap_csv.source import Segment

    Row = tuple[int, list[str]]
    ConversionErrors = Mapping[int, tuple[str, str]]
    """What is wrong with a row, by its first line: a column, and why its value does not fit."""

_DELIMITERS = ";\t|,"
"""What a header is looked through for that has one column only."""
_UNNAMED = "set `unnamed_columns: keep` (or drop)"
_END = "\0"
"""Handed to the csv module after the last line. No file may hold it, so it shows whether a quote is still open."""


class Rejected(t.NamedTuple):
    """A row that does not fit."""

    line: int
    """Where it begins."""
    reason: str
    raw: str
    """The row as it stands there, without the end of its last line."""


class OpenEndError(Exception):
    """A quote or an escape is still open at the end of a segment, so the next one belongs to it."""

    def __init__(self, line: int) -> None:
        """Begin.

        Args:
            line: where the row begins that goes on.
        """
        super().__init__(line)
        self.line = line


class _Wanted(t.NamedTuple):
    """What fits."""

    header: Sequence[str]
    keys: Sequence[int]
    """Indexes of the columns that must hold a value."""
    nulls: Container[str]
    failed: ConversionErrors
    ends_empty: bool


class Reader:
    """Reads one segment of a file."""

    def __init__(self, path: File, dialect: Dialect, shape: Shape, segment: Segment) -> None:
        self.header_line = segment.line
        self.size_of_header = 0
        """Bytes of the lines up to the end of the header, once it was read."""
        self.unsent: set[str] = set()
        """Of its columns those that have no name there, and are left out."""
        self.rejected: list[Rejected] = []
        """Rows that do not fit, once they were read, if they are wanted."""
        self._path = path
        self._segment = segment
        self._ended = False
        self._dialect = dialect.options()
        self._shape = shape
        self._row_begins = True
        self._is_comment = False
        self._taken: list[str] | None = None
        # Of the whole process, but all that is read at one time is of one entity. Where a quote was left open, so
        # much is read before that is said. Each character has a byte at least; the bytes are looked at later.
        csv.field_size_limit(shape.max_field_bytes)

    def header(self, keys: Sequence[str]) -> list[str]:
        """Names of the columns, which the first row holds.

        Raises:
            InputError: the header is missing or does not fit.
            OpenEndError: it goes on in the next segment.
        """
        if not self._segment.data and self._segment.last:
            where = f" behind `skip: {self._shape.skip}`" if self._shape.skip else ""
            raise InputError(f"the file holds no header{where}", self._path)
        self._taken = []
        reader = csv.reader(self._lines(), **self._dialect)
        try:
            header = next(reader)
            while self._is_comment:
                self.header_line = self._segment.line + reader.line_num
                self._row_begins, self._is_comment = True, False
                header = next(reader)
        except csv.Error as error:
            raise self._refused(error, self.header_line) from None
        if self._ended:
            lines = self._segment.line + reader.line_num - self.header_line
            self._end(header, self.header_line, lines)
            if header == [_END]:
                if not self._segment.last:
                    raise OpenEndError(self.header_line)
                raise InputError("the file holds no header", self._path)
        self.size_of_header = len("".join(self._taken).encode())
        header = self._named(header)
        self._check_header(header, keys)
        return header

    def rows(
        self, header: Sequence[str], keys: Sequence[str], failed: ConversionErrors, *, ends_empty: bool = False
    ) -> Iterator[Row]:
        """Each row, with the number of its first line.

        Args:
            header: names of the columns.
            keys: columns that must hold a value in every row.
            failed: rows of which it is known that they do not fit.
            ends_empty: whether the last column has no name, and must hold none.

        Yields:
            A line number and the fields, always as many as there are columns. Blank lines are passed over.

        Raises:
            InputError: at the first thing that does not fit.
            OpenEndError: the last row goes on in the next segment.
        """
        reader = csv.reader(self._lines(), **self._dialect)
        key_indexes, nulls = [header.index(key) for key in keys], {"", *self._shape.null_values}
        wanted = _Wanted(header, key_indexes, nulls, failed, ends_empty)
        before, width = self._segment.line, len(header)
        if self._shape.quarantines:
            self._taken = []
        line = before
        try:
            for row in reader:
                if self._ended:
                    self._end(row, line, before + reader.line_num - line)
                    return
                if (
                    len(row) == width
                    and nulls.isdisjoint([row[index] for index in key_indexes])
                    and line not in failed
                    and not (ends_empty and row[-1])
                ):
                    yield line, row
                elif row and (fitted := self._fitted(row, line, wanted)):
                    yield line, fitted
                if self._taken:
                    self._taken.clear()
                line = before + reader.line_num
                self._row_begins = True
        except csv.Error as error:
            raise self._refused(error, line) from None

    def _lines(self) -> Iterator[str]:
        """Lines with their ends, then `_END`."""
        # newline="" leaves line ends alone: inside quotes they belong to the value.
        segment, comment = self._segment, self._shape.comment
        file = io.TextIOWrapper(io.BytesIO(segment.data), encoding="utf-8", newline="")
        try:
            for number, line in enumerate(file, segment.line):
                if "\0" in line:
                    where = line.index("\0") + 1
                    raise InputError(f"NUL at character {where} of the line", self._path, line=number)
                if self._taken is not None:
                    self._taken.append(line)
                if comment is not None:
                    self._is_comment = self._row_begins and line.startswith(comment)
                    self._row_begins = False
                    line = "\n" if self._is_comment else line  # noqa: PLW2901 - blank, so that lines are counted
                yield line
        except UnicodeError:
            try:
                segment.data.decode()
            except UnicodeDecodeError as error:
                read = segment.offset + len(segment.data)
                raise undecodable(error, self._path, "utf-8", read, segment.line) from None
        self._ended = True
        yield _END

    def _end(self, row: list[str], line: int, lines: int) -> None:
        """Look at the row that holds what was handed over after the last line, and how many lines it takes up."""
        if row == [_END] and lines == 1:
            return
        if not self._segment.last:
            raise OpenEndError(line)
        raise InputError("a quote or an escape is still open at the end of the file", self._path, line=line)

    def _refused(self, error: csv.Error, line: int) -> InputError:
        """Return what to raise.

        Raises:
            OpenEndError: what is refused is no more than that the segment ends.
        """
        if self._ended and "unexpected end of data" in str(error):  # so says a strict dialect
            self._end([], line, 0)
        if "field larger" in str(error):
            return self.too_long(line)
        return InputError(str(error), self._path, line=line)

    def too_long(self, line: int) -> InputError:
        """Return what to raise of a row that holds a field that is too long."""
        most = self._shape.max_field_bytes
        what = f"a field of more than {most:,} bytes; is a quote left open? If not, raise `max_field_bytes`"
        return InputError(what, self._path, line=line)

    def _named(self, header: list[str]) -> list[str]:
        """Return the header, with names for nameless columns, such as the last where rows end with a delimiter."""
        how = self._shape.unnamed_columns
        nameless = [place for place, name in enumerate(header or [""]) if not name.strip()]
        if not nameless:
            return header
        is_end = nameless == [len(header) - 1] and not header[-1]
        if len(nameless) >= len(header) or not (how or is_end):
            what = f"column {nameless[0] + 1} of the header has no name; {_UNNAMED}"
            raise InputError(what, self._path, line=self.header_line)
        named, others = list(header), {name.lower() for name in header}
        for place in nameless:
            named[place] = f"column_{place + 1}"
            while how != "keep" and named[place] in others:
                named[place] += "_"
        if how != "keep":
            self.unsent = {named[place] for place in nameless}
        return named

    def _check_header(self, header: list[str], keys: Sequence[str]) -> None:
        name, times = Counter(header).most_common(1)[0]
        if times > 1:
            raise InputError(f"the header names it {times} times", self._path, line=self.header_line, column=name)
        same = Counter(name.lower() for name in header)
        for name in header:
            if same[name.lower()] > 1:
                raise InputError(
                    "another column's name differs only in case", self._path, line=self.header_line, column=name
                )
        if len(header) == 1 and (found := next((one for one in _DELIMITERS if one in name), None)):
            what = f"the header is one column, which holds {json.dumps(found)}; set `delimiter: {json.dumps(found)}`"
            raise InputError(what, self._path, line=self.header_line)
        for key in keys:
            if not same[key.lower()]:
                what = f"the key is no column of the header ({', '.join(header)})"
                raise InputError(what, self._path, line=self.header_line, column=key)

    def _fitted(self, row: list[str], line: int, wanted: _Wanted) -> list[str] | None:
        """Return a row that does not fit, made to fit if nothing is lost by it, or none if it is rejected.

        Raises:
            InputError: it is refused.
        """
        width = len(wanted.header)
        if self._shape.ragged == "pad" and not any(row[width:]):
            row = row[:width] + [""] * (width - len(row))
        what, column = self._why_not(row, line, wanted)
        if not what:
            return row
        if not self._shape.quarantines:
            raise InputError(what, self._path, line=line, column=column)
        raw = "".join(self._taken or ())
        end = next(one for one in ("\r\n", "\n", "\r", "") if raw.endswith(one))
        reason = what if column is None else f"column {column!r}: {what}"
        self.rejected.append(Rejected(line, reason, raw.removesuffix(end)))
        return None

    def _why_not(self, row: list[str], line: int, wanted: _Wanted) -> tuple[str, str | None]:
        """Why a row does not fit, and in which column; empty if it does."""
        header = wanted.header
        if len(row) != len(header):
            where = "the header" if self._shape.header else "`names`"
            what = f"ragged row: {len(row)} fields in the row, {len(header)} in {where}"
            if len(row) < len(header):
                return f"{what}, this is the first without one", header[len(row)]
            return f"{what}, of which this is the last", header[-1]
        for index in wanted.keys:
            if row[index] in wanted.nulls:
                return "a key must not be empty", header[index]
        if wanted.ends_empty and row[-1]:
            return f"a value in column {len(header)}, which has no name in the header; {_UNNAMED}", None
        column, what = wanted.failed.get(line, ("", ""))
        return what, column
