"""Define the interface of a warehouse, whatever stores its tables."""

from __future__ import annotations

import abc
import typing as t

if t.TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import duckdb


class Warehouse(abc.ABC):
    """Give access to the raw tables and marts of one environment through DuckDB."""

    environment: str

    @abc.abstractmethod
    def __str__(self) -> str:
        """Return its name for messages."""

    @abc.abstractmethod
    def exists(self) -> bool:
        """Return whether anything was loaded into it yet."""

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
