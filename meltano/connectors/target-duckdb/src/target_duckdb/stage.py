"""Rows that are read and checked, on their way to a table."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from target_duckdb.errors import InputError, MissingKeyError

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb.spool import Spool

LACKS_KEY = "the record lacks a key"


@dataclass
class Stage:
    """Rows that are read and checked, on their way to a table."""

    source: str
    """What to select from."""
    row: str
    """The expression that orders the rows."""
    values: dict[str, str]
    """Expressions by the names of the columns they go to."""
    rows: int
    versions: int = 0
    file: Path | None = None
    """The file of a BATCH that they are of."""
    spool: Spool | None = None
    """Else the lines of the input that they are of."""

    def error(self, row: int, what: str, column: str, stream: str) -> InputError:
        """Return the error that a row, counted from 0, does not fit."""
        kind = MissingKeyError if what == LACKS_KEY else InputError
        if self.spool:
            return kind(what, stream=stream, line=self.spool.line(row), column=column)
        return kind(what, stream=stream, file=self.file, line=row + 1, column=column)
