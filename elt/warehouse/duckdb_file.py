"""Implement a warehouse as a DuckDB file."""

from __future__ import annotations

import typing as t

from elt import quoting
from elt.warehouse.base import Warehouse

if t.TYPE_CHECKING:
    from pathlib import Path

    import duckdb


class DuckDBFile(Warehouse):
    """Store a warehouse in a DuckDB file, which takes one writer at a time.

    Args:
        path: the file, named `warehouse_<environment>.duckdb`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = path.stem.removeprefix("warehouse_")

    def __str__(self) -> str:
        """Return its name for messages."""
        return str(self.path)

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self.path.exists()

    def connect(self, *, write: bool = False) -> duckdb.DuckDBPyConnection:
        """Open the file, read-only unless told otherwise."""
        import duckdb  # noqa: PLC0415 - most verbs name a warehouse and open none

        return duckdb.connect(str(self.path), read_only=not write)

    def attach(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Attach the file read-only to a connection."""
        connection.execute(f"attach {quoting.text(self.path)} as {quoting.name(name)} (read_only)")
