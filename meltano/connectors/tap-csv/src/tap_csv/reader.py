"""Rows of one CSV file, each with the line on which it begins; what is malformed is refused there."""

from __future__ import annotations

import codecs
import csv
import typing as t
from collections import Counter

from tap_csv.errors import InputError

if t.TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from tap_csv.files import FileSettings

    Row = tuple[int, list[str]]

_END = "\0"
"""Handed to the csv module after the last line. No file may hold it, so it shows whether a quote is still open."""


class CSVFile:
    """One file and the settings to read it with."""

    def __init__(self, path: Path, settings: FileSettings) -> None:
        self.path = path
        self._settings = settings

    def header(self) -> list[str]:
        """Names of the columns, checked like the rows are.

        Raises:
            InputError: the file cannot be read or its header does not fit.
        """
        rows = self.read()
        try:
            return next(rows)[1]
        finally:
            rows.close()

    def read(self, keys: Sequence[str] | None = None) -> Generator[Row, None, None]:
        """Read the file from its beginning.

        Args:
            keys: columns that must hold a value in every row; the keys of the settings unless given.

        Yields:
            A line number and the fields: first the header, then each row, always as long as the header. Blank lines
            are passed over, as Python's csv module does it.

        Raises:
            InputError: at the first thing that does not fit.
        """
        ended: list[bool] = []
        reader = csv.reader(self._lines(ended), **self._settings.dialect)
        line = 1
        try:
            header = next(reader)
            if ended:
                self._refuse_end(header, line)
            key_indexes = self._check_header(header, self._settings.keys if keys is None else keys)
            yield line, header

            width = len(header)
            line = reader.line_num + 1
            for row in reader:
                if ended:
                    if row == [_END]:
                        return
                    self._refuse_end(row, line)
                if len(row) == width:
                    for index in key_indexes:
                        if not row[index]:
                            raise InputError("a key must not be empty", self.path, line=line, column=header[index])
                    yield line, row
                elif row:
                    self._refuse_ragged(row, header, line)
                line = reader.line_num + 1
        except csv.Error as error:
            hint = "; is a quote left open?" if "field larger" in str(error) else ""
            raise InputError(f"{error}{hint}", self.path, line=line) from None

    def _lines(self, ended: list[bool]) -> Iterator[str]:
        """Lines with their ends, then `_END`, before which `ended` becomes true."""
        try:
            # newline="" leaves line ends alone: inside quotes they belong to the value.
            with self.path.open(encoding=self._settings.encoding, newline="") as file:
                for number, line in enumerate(file, 1):
                    if "\0" in line:
                        where = line.index("\0") + 1
                        raise InputError(f"NUL at character {where} of the line", self.path, line=number)
                    yield line
        except UnicodeError:
            raise self._undecodable() from None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", self.path) from None
        ended.append(True)
        yield _END

    def _check_header(self, header: list[str], keys: Sequence[str]) -> list[int]:
        """Indexes of the key columns, once the header is found to be sound."""
        for position, name in enumerate(header or [""], 1):
            if not name.strip():
                raise InputError(f"column {position} of the header has no name", self.path, line=1)
        name, times = Counter(header).most_common(1)[0]
        if times > 1:
            raise InputError(f"the header names it {times} times", self.path, line=1, column=name)
        for key in keys:
            if key not in header:
                raise InputError(
                    f"the key is no column of the header ({', '.join(header)})", self.path, line=1, column=key
                )
        return [header.index(key) for key in keys]

    def _refuse_ragged(self, row: list[str], header: list[str], line: int) -> t.NoReturn:
        what = f"{len(row)} fields in the row, {len(header)} in the header"
        if len(row) < len(header):
            what, column = f"ragged row: {what}, this is the first without one", header[len(row)]
        else:
            what, column = f"ragged row: {what}, of which this is the last", header[-1]
        raise InputError(what, self.path, line=line, column=column)

    def _refuse_end(self, row: list[str], line: int) -> t.NoReturn:
        if row == [_END]:
            empty = self.path.stat().st_size == 0
            raise InputError("the file is empty" if empty else "the file holds no header", self.path)
        raise InputError("a quote or an escape is still open at the end of the file", self.path, line=line)

    def _undecodable(self) -> InputError:
        """Where the first byte stands that the encoding does not know.

        The text layer knows it only within its buffer, so the file is decoded once more, counting: first in large
        steps, then byte by byte from the step that failed.
        """
        encoding = self._settings.encoding
        decoder = codecs.getincrementaldecoder(encoding)()
        line, last, step = 1, "", 1 << 16
        with self.path.open("rb") as file:
            while True:
                state, start = decoder.getstate(), file.tell()
                chunk = file.read(step)
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeError as error:
                    if step > 1:
                        decoder.setstate(state)
                        file.seek(start)
                        step = 1
                        continue
                    what = str(error)
                    if isinstance(error, UnicodeDecodeError):  # not so when UTF-16 lacks its byte order mark
                        # Counted from the end of what was being decoded: its beginning may lack a stripped mark.
                        offset = file.tell() - len(error.object) + error.start
                        what = f"byte {error.object[error.start]:#04x} at offset {offset}: {error.reason}"
                    name = encoding.removesuffix("-sig")
                    return InputError(f"is not {name}, set its encoding: {what}", self.path, line=line)
                line += _line_ends(last + text) - _line_ends(last)
                last = text[-1:] or last


def _line_ends(text: str) -> int:
    """Ends of lines as the text layer counts them: LF, CRLF or a lone CR."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")
