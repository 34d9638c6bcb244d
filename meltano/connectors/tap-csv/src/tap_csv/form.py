"""What the rows of a file become, and what became of a segment of them."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from tap_csv.config import Shape

if t.TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tap_csv.config import Dialect
    from tap_csv.errors import InputError
    from tap_csv.files import File
    from tap_csv.tables import Native
    from tap_csv.types import Type

FILE, MODIFIED, LINE = "_sdc_source_file", "_sdc_source_file_mtime", "_sdc_source_lineno"
"""Metadata columns: a row's file, when that was changed last, and the row's line."""


@dataclass(frozen=True)
class Form:
    """What the rows of a file become."""

    path: File
    dialect: Dialect
    header: tuple[str, ...]
    keys: tuple[str, ...]
    types: Mapping[str, Type]
    """Types of the columns that are sent, in their order."""
    shape: Shape = field(default_factory=Shape)
    rejected: str = ""
    """Name of the stream of rows that do not fit; empty if such a row is refused."""
    ends_empty: bool = False
    """Whether the last column has no name, and must hold no value."""
    modified: float | None = None
    """When the file was changed last, in seconds since 1970, if columns say where a row is from."""
    stream: str | None = None
    """Name of the stream for RECORD messages; none for a parquet file."""
    extracted: str = ""
    """When the run began, as RECORD messages say it."""
    empty_is_null: bool = True
    is_rows: bool = False
    """Whether segments hold rows as texts, which tell an empty one from none."""
    natives: Mapping[str, Native] = field(default_factory=dict)
    """The columns of a parquet file, of which segments are ranges of rows."""

    def keeps_empty(self, column: str) -> bool:
        """Whether an empty field of the column is an empty text."""
        return not self.empty_is_null and self.types[column].sql == "VARCHAR"


class Made(t.NamedTuple):
    """What became of a segment."""

    path: Path
    """The file of its rows."""
    rows: int
    rejected: int = 0
    """How many rows do not fit."""
    records: Path | None = None
    """A file of RECORD messages of these."""
    first: InputError | None = None
    """What to say of the first of them."""

    def forget(self) -> None:
        """Remove the files."""
        self.path.unlink(missing_ok=True)
        if self.records:
            self.records.unlink(missing_ok=True)
