"""What a dialect has to say of its kind of database."""

# ruff: noqa: S608 - names are quoted by the dialect

from __future__ import annotations

import abc
import typing as t
from dataclasses import dataclass, replace

from elt_singer import sql
from elt_singer.settings import Setting

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tap_sql.config import Config
    from tap_sql.model import Column, Horizon, Table

    Ask = Callable[[str], list[tuple[t.Any, ...]]]
    """Runs a statement on the server, and returns its rows."""

SOURCE = "src"
"""Name under which the database is attached."""
CLEARTEXT = Setting(
    "cleartext_password",
    "boolean",
    "Send the password itself if the server asks for it",
    default=False,
)
"""Off, since whoever else listens there while the server or the tunnel to it is down could ask for it."""


@dataclass(frozen=True)
class Server:
    """Where a server listens, and as whom to connect."""

    host: str
    port: int
    user: str
    password: str
    database: str


class Dialect(abc.ABC):
    """How to attach, list, quote and bound."""

    name: t.ClassVar[str]
    """DuckDB's type of the attachment."""
    executable: t.ClassVar[str]
    settings: t.ClassVar[Sequence[Setting]]
    """Those of connecting."""
    duckdb_settings: t.ClassVar[t.Mapping[str, str]] = {}
    count: t.ClassVar[str]
    """The server's type of a count that DuckDB reads."""
    query_options: t.ClassVar[str] = ""
    """What a statement needs to run within the transaction."""
    speaks_first: t.ClassVar[bool] = False
    """Whether the server does, so that a silent one is found by listening."""

    @abc.abstractmethod
    def attach(self, config: Config, folder: str) -> list[str]:
        """Return statements that attach the database read-only, none of which shows a password in an error.

        Args:
            config: the settings.
            folder: for files of certificates that the settings hold as text.

        Raises:
            SettingsError: the settings do not fit.
        """

    @abc.abstractmethod
    def server(self, config: Config) -> Server | None:
        """Return where the server listens; none for a file."""

    def check(self, ask: Ask) -> None:  # noqa: B027 - most give a snapshot
        """Refuse a server that gives no snapshot.

        Raises:
            SourceError: it gives none; the message has the statement to run.
        """

    @abc.abstractmethod
    def tables(self, ask: Ask, config: Config, only: Iterable[tuple[str, str]] | None = None) -> list[Table]:
        """Return the tables and views that can be read, or those of them that are asked for."""

    @abc.abstractmethod
    def horizon(self, ask: Ask, overlap_seconds: int) -> Horizon:
        """Return before which time no row can commit any more."""

    def quote(self, name: str) -> str:
        """Quote an identifier."""
        return sql.name(name)

    @abc.abstractmethod
    def literal(self, value: str, bound: str) -> str:
        """Write a bound of a replication key."""

    @abc.abstractmethod
    def text(self, expression: str, bound: str) -> str:
        """Write a replication key as text that `literal` takes."""

    def ordered(self, key: str, bound: str) -> str:  # noqa: ARG002
        """Return the expression by which a replication key is compared, for one that is not in order itself."""
        return key

    def place(self, table: Table) -> str:
        """Write a table's name as the server has it."""
        return f"{self.quote(table.schema)}.{self.quote(table.name)}"

    def query(self, statement: str) -> str:
        """Write the result of a server's statement as DuckDB selects from it."""
        return f"{self.name}_query('{SOURCE}', {sql.literal(statement)}{self.query_options})"

    def rows(self, table: Table, columns: Sequence[Column], where: str) -> str:
        """Return what DuckDB selects the columns' values from: the server's own statement, which reads exactly."""
        values = (f"{one.kind.remote.format(self.quote(one.name))} as {self.quote(one.name)}" for one in columns)
        return self.query(f"select {', '.join(values)} from {self.place(table)}{where}")

    def conversion_errors(self, table: Table, columns: Sequence[Column], where: str) -> str | None:
        """Return a statement that says of columns whether values cannot be carried; none where all can."""
        found = [
            one.kind.conversion_error.format(self.quote(one.name)) for one in columns if one.kind.conversion_error
        ]
        said = ", ".join(f"coalesce(bool_or({one}), false) as n{place}" for place, one in enumerate(found))
        return f"select {said} from {self.place(table)}{where}" if found else None

    def zeros(self, table: Table, columns: Sequence[Column], where: str) -> str | None:  # noqa: ARG002
        """Return a statement that counts values that become null, for a warning; none where none can."""
        return None


class Listed:
    """Tables as a server lists their columns, one a row."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], Table] = {}
        self._keys: dict[tuple[str, str], list[tuple[int, str]]] = {}

    def add(self, table: Table, column: Column, place: int | None) -> None:
        """Add a column.

        Args:
            table: its table, without columns.
            column: the column.
            place: its own in the primary key.
        """
        at = (table.schema, table.name)
        self._tables.setdefault(at, table).columns[column.name] = column
        if place is not None:
            self._keys.setdefault(at, []).append((place, column.name))

    def tables(self) -> list[Table]:
        """Return the tables with their keys."""
        return [
            replace(table, keys=tuple(column for _, column in sorted(self._keys.get(at, ()))))
            for at, table in self._tables.items()
        ]


def scan(table: Table) -> str:
    """Write a table as DuckDB's scanner reads it: in parallel, and streamed."""
    return f"{SOURCE}.{sql.name(table.schema)}.{sql.name(table.name)}"


def secret(kind: str, server: Server, database: str, host: str = "") -> str:
    """Write the statement that keeps how to connect, so that no message of an attachment shows it."""
    fields = {"host": host or server.host, "user": server.user, "password": server.password, "database": database}
    given = ", ".join(f"{name} {sql.literal(value)}" for name, value in fields.items() if value)
    return f"create secret (type {kind}, port {server.port}, {given})"


def options(given: t.Mapping[str, str | None]) -> str:
    """Write options of libpq's form."""
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in given.items() if value}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items())
