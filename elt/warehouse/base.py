"""What the workspace asks of a warehouse, whatever holds its tables."""

from __future__ import annotations

import abc
import typing as t

if t.TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import duckdb


class Warehouse(abc.ABC):
    """The raw tables and marts of one environment, as DuckDB sees them."""

    environment: str

    @abc.abstractmethod
    def __str__(self) -> str:
        """Name it for a person."""

    @abc.abstractmethod
    def exists(self) -> bool:
        """Say whether anything was loaded into it yet."""

    @abc.abstractmethod
    def connect(self, *, write: bool = False) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open it, read-only unless told otherwise.

        Raises:
            duckdb.Error: it cannot be opened, as while somebody writes.
        """

    @abc.abstractmethod
    def attach(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Attach it read-only to a connection.

        Args:
            connection: of DuckDB.
            name: under which statements find it there.

        Raises:
            duckdb.Error: it cannot be opened.
        """
