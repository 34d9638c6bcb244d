"""Tables and their columns, as a dialect finds them in a database's catalog."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from elt_singer.json_schema import Schema

TIMES = ("timestamp", "timestamptz", "date")


@dataclass(frozen=True)
class Kind:
    """How the values of one type are read."""

    schema: Schema
    """JSON schema of the values, without null."""
    duckdb: str
    """DuckDB's type of the values that are sent."""
    remote: str = "{}"
    """The server's expression of a value; `{}` stands for the column's quoted name."""
    local: str = "{}"
    """DuckDB's expression over what the server sends."""
    bound: str = ""
    """`timestamp`, `timestamptz`, `date`, `integer` or `text` if the column may be a replication key."""
    is_scanned: bool = True
    """Whether the scanner reads the bare column exactly."""
    conversion_error: str = ""
    """The server's condition of a value that DuckDB would read as another, with `{0}` for the column."""


@dataclass(frozen=True)
class Column:
    """A column."""

    name: str
    kind: Kind
    is_nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A table or a view."""

    schema: str
    name: str
    columns: dict[str, Column]
    keys: tuple[str, ...] = ()
    is_view: bool = False
    is_plain: bool = False
    """Whether the scanner finds this table, and it alone, by its name, and all its rows."""
    rows: int | None = None
    """The catalog's estimate of their number."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why columns cannot be carried, by their names."""

    @property
    def stream(self) -> str:
        """Name of its stream."""
        return f"{self.schema}-{self.name}"

    @property
    def is_scanned(self) -> bool:
        """Whether the scanner may read it; DuckDB tells no names apart that differ only in case."""
        return self.is_plain and len({name.lower() for name in self.columns}) == len(self.columns)

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Horizon:
    """No row that commits after it was read bears a key, set at or after its transaction's start, below these."""

    utc: str
    """In UTC, as ISO 8601 writes a time without an offset."""
    local: str
    """The same or earlier, for columns without a zone, which may hold the server's time."""
    is_seen: bool
    """Whether open transactions could be looked at; if not, `overlap_seconds` were taken off."""

    def for_bound(self, bound: str) -> str:
        """Return the one that counts for a kind of key."""
        if bound == "date":
            return min(self.utc, self.local)[:10]
        return self.utc if bound == "timestamptz" else min(self.utc, self.local)
