"""A DuckDB to which the database is attached, and what becomes of its errors."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import socket
import typing as t
from pathlib import Path

import duckdb
from elt_singer import sql
from elt_singer.errors import one_line

from tap_sql.errors import LostError, SourceError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_sql.config import Config
    from tap_sql.dialects.base import Dialect

_MEMORY = "400MB"
_LOST = re.compile(
    r"connect|terminating|server closed|gone away|lost connection|shutting down|starting up|recovery|timeout|"
    r"broken pipe|ssl syscall|could not receive|could not send|too many (clients|connections)",
    re.IGNORECASE,
)
"""Words of messages after which another try is worth it."""
_FINAL = re.compile(
    r"authentication|access denied|password|does not exist|unknown database|permission|pg_hba|certificate",
    re.IGNORECASE,
)
"""Words of messages after which it is not."""
_AT = re.compile(r"^.*?(?:Postgres at \".*?\"|MySQL database with parameters \".*?\"): |^\w[\w ]* Error: ", re.DOTALL)
_HOST = re.compile(r"\.* Attempted host: .*$")
_CLEARTEXT = re.compile(r"restricted_auth|authentication method requirement")
"""Words of drivers that refuse the way in which the server wants to know the password."""
_QUERY = re.compile(r"query \".*?\"(?=: )|: \"from .*$", re.DOTALL)


class Engine:
    """A DuckDB to which the database is attached read-only."""

    def __init__(self, dialect: Dialect, config: Config, folder: Path) -> None:
        """Attach the database.

        Args:
            dialect: its kind.
            config: the settings.
            folder: for temporary files.

        Raises:
            LostError: the host is silent or refuses.
            SourceError: the database refuses.
        """
        self._dialect = dialect
        _knock(dialect, config)
        self.connection = duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(folder / "spill")})
        try:
            with self.telling():
                for statement in (
                    f"load {sql.literal(str(_extension(dialect.name)))}",
                    "set TimeZone = 'UTC'",
                    "set preserve_insertion_order = false",
                    *(f"set {name} = {sql.literal(value)}" for name, value in dialect.duckdb_settings.items()),
                    *dialect.attach(config, str(folder)),
                ):
                    self.connection.execute(statement)
        except BaseException:
            self.connection.close()
            raise

    def ask(self, statement: str) -> list[tuple[t.Any, ...]]:
        """Run a statement on the server, within the transaction if there is one, and return its rows.

        Raises:
            LostError: the connection broke.
            SourceError: the server refuses.
        """
        with self.telling():
            return self.connection.execute(f"from {self._dialect.query(statement)}").fetchall()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read everything within as of one moment."""
        with self.telling():
            self.connection.execute("begin")
        try:
            yield
        finally:
            with contextlib.suppress(duckdb.Error):
                self.connection.execute("rollback")

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Turn DuckDB's errors into ours, which show neither how to connect nor a value.

        Raises:
            LostError: the connection failed or broke.
            SourceError: the server refuses.
        """
        try:
            yield
        except duckdb.Error as error:
            said = _HOST.sub("", _QUERY.sub("query", _AT.sub("", one_line(error))))
            if _CLEARTEXT.search(said):
                way = "let TLS check its certificate, or set cleartext_password: true if nobody else may listen there"
                raise SourceError(f"the server asks for the password itself: {way}") from None
            is_lost = _LOST.search(said) and not _FINAL.search(said)
            raise (LostError if is_lost else SourceError)(said) from None

    def close(self) -> None:
        """Leave the database."""
        self.connection.close()


def _extension(name: str) -> Path:
    """Return the scanner's file in its wheel, so that nothing is fetched and no folder must be prepared."""
    module = f"duckdb_extension_{name}_scanner"
    found = importlib.util.find_spec(module)
    folders = (found.submodule_search_locations if found else None) or ()
    for folder in folders:
        path = Path(folder, "extensions", f"v{duckdb.__version__}", f"{name}_scanner.duckdb_extension")
        if path.is_file():
            return path
    package = f"{module.replace('_', '-')} of version {duckdb.__version__}"
    how = f"set ELT_GROUPS={name} in .env, and run scripts/bootstrap.sh (elsewhere: install elt-tap-sql[{name}])"
    raise SourceError(f"{package} is missing: {how}")


def _knock(dialect: Dialect, config: Config) -> None:
    """Find a host that is silent, for which a driver may wait without end.

    Raises:
        LostError: it did not answer in time.
    """
    server = dialect.server(config)
    if server is None or server.host.startswith("/"):
        return
    where = f"{server.host}:{server.port}"
    try:
        with socket.create_connection((server.host, server.port), timeout=config.connect_timeout) as client:
            if dialect.speaks_first:
                client.recv(1)
    except TimeoutError:
        raise LostError(f"{where} is silent for {config.connect_timeout} s") from None
    except OSError as error:
        raise LostError(f"{where} cannot be connected to: {error.strerror or error}") from None
