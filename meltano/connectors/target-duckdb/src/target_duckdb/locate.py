"""Which record does not fit, after DuckDB said only that one does not."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import replace

import duckdb

from target_duckdb.database import one_line
from target_duckdb.errors import DatabaseError

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from target_duckdb.jsonl import Reader

_MALFORMED = re.compile(r"Malformed JSON in file .*?, at byte \d+ in line \d+: (.*)")
_TWICE = re.compile(r'^.* has duplicate key "(.*)"$', re.MULTILINE)
"""What comes before it is the record; a quote within that has a backslash before it."""


def conversion_error(
    connection: duckdb.DuckDBPyConnection, reader: Reader, path: Path, error: Exception, folder: Path
) -> tuple[int, str | None, str]:
    """Find the first line that cannot be read, by halves: DuckDB itself is asked, so its opinion is what counts.

    Args:
        connection: where to try.
        reader: how the file is read.
        path: the file.
        error: what DuckDB said of the whole file.
        folder: for parts of it.

    Returns:
        The line counted from 0, the column if it is known, and what is wrong.
    """
    with path.open("rb") as file:
        numbered = [(number, line) for number, line in enumerate(file) if line.strip()]
    numbers, lines = [number for number, _ in numbered], [line for _, line in numbered]
    attempt = _Attempt(connection, folder / "part.jsonl")
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        if attempt.fails(reader, lines[low:middle]):
            high = middle
        else:
            low = middle
    line = lines[low].rstrip()
    said = attempt.fails(reader, [line]) or error
    try:
        json.loads(line)
    except ValueError as malformed:
        what = malformed.msg if isinstance(malformed, json.JSONDecodeError) else "wrong encoding"
        where = f" at character {malformed.pos + 1}" if isinstance(malformed, json.JSONDecodeError) else ""
        return numbers[low], None, f"is not JSON: {what}{where}"
    if found := _MALFORMED.search(str(said)):
        return numbers[low], None, f"is not JSON: {found[1].strip()}"
    if found := _TWICE.search(str(said)):
        return numbers[low], None, f"the key {found[1]!r} stands twice"
    return numbers[low], *_first_error(attempt, reader, line)


def _first_error(attempt: _Attempt, reader: Reader, line: bytes) -> tuple[str | None, str]:
    """Return the column for which a line cannot be read, if it is known, and what is wrong."""
    bare = replace(reader, columns=[], metadata=False, versions=False)
    columns = list(reader.columns)
    if columns and attempt.fails(replace(bare, columns=columns), [line]):
        while len(columns) > 1:
            half = columns[: len(columns) // 2]
            columns = half if attempt.fails(replace(bare, columns=half), [line]) else columns[len(half) :]
        return columns[0].name, f"the value does not fit {columns[0].type}"
    if reader.versions and attempt.fails(replace(bare, versions=True), [line]):
        return None, "the version of the record does not fit BIGINT"
    if reader.metadata and attempt.fails(replace(bare, metadata=True), [line]):
        return None, "time_extracted of the record does not fit TIMESTAMP"
    return None, "the record does not fit its schema"


class _Attempt:
    """Reads some lines and tells whether that fails."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def fails(self, reader: Reader, lines: Sequence[bytes]) -> duckdb.Error | None:
        self._path.write_bytes(b"\n".join(line.rstrip(b"\n") for line in lines) + b"\n")
        size = max(map(len, lines), default=0) + (2 << 20)
        try:
            reader.read(self._connection, "temp.attempt", self._path, size, exact=True)
            self._connection.execute("drop table temp.attempt")
        except duckdb.OutOfMemoryException as error:
            raise DatabaseError(one_line(error)) from error
        except duckdb.Error as error:
            return error
        return None
