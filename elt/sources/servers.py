"""Speak to a server that holds the shop: its transactions, and the few words in which its SQL is its own."""

from __future__ import annotations

import contextlib
import re
import typing as t

import duckdb
import psycopg2

from elt import layout, quoting
from elt.config import meltano_plugins, process_env
from elt.errors import ConfigError, DataError, SetupError, StackError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from elt.config.settings import Settings

Engine = t.Literal["postgres", "mysql"]
DATABASE = "shop"
"""Database of the stack's PostgreSQL."""
ATTACHED = "server"
"""What DuckDB calls a database of MySQL."""
TAP = "tap-mysql"
"""Plugin of meltano.yml whose settings name the server of MySQL."""
ERRORS = (psycopg2.Error, duckdb.Error)
_PACKAGE = "duckdb_extension_mysql_scanner"
_TLS = ("ssl", "ssl_ca", "ssl_cert", "ssl_key", "sqlalchemy_url")
_METHODS = "default-auth=mysql_native_password;restricted-auth=mysql_native_password,client_ed25519,parsec"
"""Ways to log in that do not give the password to whoever listens there, as tap-mysql has them."""
_BEGIN = (
    "set session sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,STRICT_ALL_TABLES'",
    # Else a change locks all rows that it looks at, and waits for the one that is committed late.
    "set session transaction isolation level read committed",
    "start transaction",
)


class Postgres:
    """Hold a session of PostgreSQL."""

    number = "('x' || {})::bit(32)::bigint"
    """What makes a number of eight hexadecimal digits."""
    seconds = "make_interval(secs => {})"
    """What is added to a moment."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url, connect_timeout=5, options="-c TimeZone=UTC")
        self.close = self._connection.close
        self.commit = self._connection.commit

    def run(self, statement: str) -> int:
        """Change rows, within a transaction that `commit` ends, and return how many."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.rowcount

    def ask(self, query: str) -> list[tuple[t.Any, ...]]:
        """Return the rows of a query."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()


class Database(t.NamedTuple):
    """Hold what leads to a database of MySQL or MariaDB."""

    host: str
    port: int
    user: str
    password: str
    database: str
    cleartext: bool = False
    """Whether the server may have the password itself."""


class MySQL:
    """Hold a session of MySQL or MariaDB, by DuckDB's extension for it."""

    number = "conv({}, 16, 10)"
    seconds = "interval {} second"

    def __init__(self, to: Database) -> None:
        self._connection = duckdb.connect()
        self._is_open = False
        self.close = self._connection.close
        attach(self._connection, to)

    def run(self, statement: str) -> int:
        """Change rows, within a transaction that `commit` ends, and return how many."""
        first: tuple[str, ...] = ()
        if not self._is_open:
            self._connection.execute("begin")
            self._is_open, first = True, _BEGIN
        for one in (*first, statement):
            self._connection.execute(f"call mysql_execute('{ATTACHED}', {quoting.text(one)})")
        return int(self.ask("select row_count()")[0][0])

    def ask(self, query: str) -> list[tuple[t.Any, ...]]:
        """Return the rows of a query."""
        return asked(self._connection, query)

    def commit(self) -> None:
        """End the transaction."""
        if self._is_open:
            self._is_open = False
            self._connection.execute("commit")


Session = Postgres | MySQL


def attach(connection: duckdb.DuckDBPyConnection, to: Database) -> None:
    """Attach a database of MySQL to DuckDB.

    Raises:
        SetupError: the extension is not installed.
    """
    try:
        folder = layout.package(_PACKAGE) / "extensions" / f"v{duckdb.__version__}"
    except SetupError:
        how = f"set ELT_GROUPS=mysql in {layout.ENV_FILE}, and run scripts/bootstrap.sh"
        raise SetupError(f"the package {_PACKAGE} is missing: {how}") from None
    *known, is_cleartext = to
    if not is_cleartext:
        known[0] = f"host={{{to.host.replace('}', '}}')}}};{_METHODS}"
    given = ", ".join(f"{name} {quoting.text(value)}" for name, value in zip(Database._fields, known, strict=False))
    for statement in (
        f"load {quoting.text(folder / 'mysql_scanner.duckdb_extension')}",
        "set mysql_session_time_zone = '+00:00'",
        f"create secret (type mysql, {given})",
        f"attach '' as {ATTACHED} (type mysql)",
    ):
        connection.execute(statement)


def asked(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[t.Any, ...]]:
    """Return the rows of a query that an attached MySQL answers, within the transaction if there is one."""
    # A result that is streamed comes over a connection of its own.
    return connection.execute(
        f"from mysql_query('{ATTACHED}', {quoting.text(query)}, stream_results = false)"
    ).fetchall()


def connector(settings: Settings, engine: Engine) -> Callable[[], Session]:
    """Return what begins a session with the database of the shop.

    Raises:
        ConfigError: the settings of tap-mysql do not name a database.
    """
    if engine == "postgres":
        return lambda: Postgres(settings.postgres_url(DATABASE, scheme="postgresql"))
    to = mysql(settings)
    return lambda: MySQL(to)


def mysql(settings: Settings) -> Database:
    """Return the database that the settings of tap-mysql name, in meltano.yml, `.env` or the environment.

    Raises:
        ConfigError: one is missing, or says what is understood by the tap alone.
    """
    config, _ = meltano_plugins.resolved(meltano_plugins.project(), "extractors", TAP, settings.elt_environment)
    env = process_env.build(settings)

    def value(name: str, default: str = "") -> str:
        return env.get(meltano_plugins.variable(TAP, name)) or str(config.get(name) or default)

    for name in _TLS:
        if value(name).lower() not in {"", "false", "0"}:
            variable = meltano_plugins.variable(TAP, name)
            raise ConfigError(
                f"{variable}: the shop is written by host, port, user, password and database of {TAP} alone"
            )
    for name in ("user", "database"):
        if not value(name):
            variable = meltano_plugins.variable(TAP, name)
            raise ConfigError(
                f"{layout.ENV_FILE}: {variable} is missing, which names the server of the shop to {TAP}"
            )
    port = value("port", "3306")
    if not port.isdecimal():
        raise ConfigError(f"{meltano_plugins.variable(TAP, 'port')}: {port!r} is no port")
    cleartext = value("cleartext_password").lower() in {"true", "1"}
    return Database(
        value("host", "localhost"), int(port), value("user"), value("password"), value("database"), cleartext
    )


@contextlib.contextmanager
def telling(verb: str, engine: Engine) -> Iterator[None]:
    """Translate errors of a session.

    Raises:
        StackError: the server does not answer.
        DataError: it holds no shop.
    """
    try:
        yield
    except ERRORS as error:
        name, way = "PostgreSQL", "scripts/up.sh starts it"
        if engine == "mysql":
            name, way = "the server of tap-mysql", f"TAP_MYSQL_HOST and the like in {layout.ENV_FILE} name it"
        reason = " ".join(str(error).partition(" Attempted host:")[0].split())
        if re.search(r"(relation|Table) .* (does not|doesn't) exist", reason):
            how = "" if engine == "postgres" else f" --engine {engine}"
            raise DataError(f"{verb}: the database has no shop yet: scripts/seed.sh --shop{how}") from None
        if isinstance(error, psycopg2.OperationalError | duckdb.IOException):
            raise StackError(f"{verb}: {name} does not answer ({reason}): {way}") from None
        raise DataError(f"{verb}: {name}: {reason}") from None
