"""Publish the marts in PostgreSQL, for BI servers: database `marts`, a schema for each environment.

The marts of a published file are written to a new schema. Then, in one transaction, their rows replace those that
readers see: a query keeps to one snapshot, so it sees all marts of one publication or all of another, and neither
waits for the other. Where a mart was added, removed or has other columns, the new schema takes the name of the one
that readers use, since tables cannot change under a snapshot; the old schema is dropped as soon as nobody reads it,
with the views that somebody built on it by hand.

The role `bi` reads there and nowhere else.
"""

# ruff: noqa: S608 - names and values of the queries are quoted by elt/quoting.py

from __future__ import annotations

import contextlib
import json
import re
import time
import typing as t

import duckdb
import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from elt import layout, quoting
from elt.config.settings import BI, OWNER
from elt.errors import DataError, EltError, StackError
from elt.pipeline import meltano_log
from elt.services import databases

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.config.settings import Settings

DATABASE = "marts"
SCHEMA = "marts"
"""Schema of the marts in the published file."""
LOCK_DATABASE = "postgres"
"""Database of the advisory lock by which publications wait for each other: whoever may connect can take its locks,
and the role `bi` may not connect to this one."""
PUBLICATION_TIMEOUT = "10min"
"""Time that a publication waits for another one of the same environment."""
LOCK_TIMEOUT = "30s"
"""Time that a statement waits for a lock of another session."""
DROP_TIMEOUT = "2s"
"""Time that dropping old tables waits for a reader; the next publication tries again."""
LISTS = re.compile(r"(.*?)((?:\[\])*)")
"""Pattern of a type, and of how deep it is a list."""
FIRST_TIME = "4714-11-24 (BC) 00:00:00"
"""The earliest time that PostgreSQL has."""
MAX_COLUMNS = 1_600
"""Columns that a table of PostgreSQL may have, whatever their types."""
ROW_TOO_BIG_HINT = (
    " (PostgreSQL keeps a row on one page of 8 kB, and there 18 bytes of each long text: divide the mart into several"
    " of fewer columns)"
)
FINAL = re.compile(r"[Pp]ermission denied|FATAL: +(password |database .* not exist)|row is too big")
"""Pattern of errors, besides those of statements, that a retry would meet again."""
TRANSIENT = (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError)
"""Errors of connections, locks and resources; others are caused by statement, data or permissions."""
PSQL = "elt exec bash -c 'PGPASSWORD=$POSTGRES_PASSWORD psql -h $POSTGRES_HOST -p $POSTGRES_PORT -U $POSTGRES_USER"
"""Beginning of a command, with quotes that it leaves open, by which the owner runs SQL."""
BLOCKERS = """
    select distinct pid, usename, coalesce(nullif(application_name, ''), 'unnamed program') as program,
        to_char(xact_start at time zone 'utc', 'HH24:MI:SS') as since
    from pg_locks
    join pg_class on pg_class.oid = relation
    join pg_namespace on pg_namespace.oid = relnamespace
    join pg_stat_activity using (pid)
    where granted and pid <> pg_backend_pid() and nspname ~ %s
    order by pid
"""
"""Query of the sessions that lock tables of the environment."""


def publish(published: Path, environment: str, settings: Settings) -> None:
    """Replace the marts of the environment by those of a published file.

    Args:
        published: a file of elt/serving/duckdb_copy.py.
        environment: name of the schema that readers use.
        settings: how to reach PostgreSQL.

    Raises:
        StackError: PostgreSQL does not answer, or somebody holds the tables; readers see what they saw before.
        DataError: PostgreSQL lets nobody in by this password, or a mart cannot be stored there; likewise.
    """
    started = time.perf_counter()
    building = f"{environment}_building"
    try:
        with _locked(environment, settings), _cursor(settings, DATABASE, LOCK_TIMEOUT) as cursor:
            _run(cursor, "drop schema if exists {building} cascade", building=building)
            _run(cursor, "create schema {building}", building=building)
            tables = _copy(published, building, settings)
            _describe(cursor, published, building)
            _analyze(cursor, building)
            columns = _columns(cursor, building)
            if columns == _columns(cursor, environment):
                _replace_rows(cursor, columns, building, environment)
            else:
                _swap(cursor, building, environment)
            _drop_old(cursor, environment)
    except psycopg2.errors.LockNotAvailable:
        raise StackError(f"publish: {_blocked(environment, settings)}") from None
    except (psycopg2.Error, duckdb.Error) as error:
        what = f"publish: the marts did not get into PostgreSQL's database {DATABASE}"
        converted = failure(what, error)
        raise type(converted)(str(converted).replace(settings.postgres_password, "***")) from None
    print(
        f"publish: PostgreSQL {DATABASE}.{environment} ({', '.join(tables)}), {time.perf_counter() - started:.1f} s",
        flush=True,
    )


def failure(what: str, error: Exception) -> EltError:
    """Convert an error of DuckDB or PostgreSQL to a DataError, or to a StackError if a retry may succeed.

    Args:
        what: what failed, for the message.
        error: of DuckDB or PostgreSQL.
    """
    reason = " ".join(str(error).split())
    is_transient = isinstance(error, TRANSIENT)
    if isinstance(error, duckdb.Error):
        is_transient = not meltano_log.is_final(reason)
    return (StackError if is_transient and not FINAL.search(reason) else DataError)(f"{what}: {reason}")


@contextlib.contextmanager
def _cursor(settings: Settings, database: str, lock_timeout: str) -> t.Iterator[psycopg2.extensions.cursor]:
    """Open a cursor on a new connection, in autocommit mode, with a limit of waiting for locks."""
    connection = databases.connect(settings, database, options=f"-c lock_timeout={lock_timeout}")
    with contextlib.closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@contextlib.contextmanager
def _locked(environment: str, settings: Settings) -> t.Iterator[None]:
    """Lock an environment against other publications; the lock ends with the connection.

    Raises:
        StackError: another one does not end in time.
    """
    with _cursor(settings, LOCK_DATABASE, PUBLICATION_TIMEOUT) as cursor:
        try:
            cursor.execute("select pg_advisory_lock(hashtext(%s))", (f"publish {environment}",))
        except psycopg2.errors.LockNotAvailable:
            raise StackError(
                f"publish: another publication of {environment} has not ended for {PUBLICATION_TIMEOUT}"
            ) from None
        yield


def _blocked(environment: str, settings: Settings) -> str:
    """Describe which sessions lock the tables of an environment, and how to end them."""
    with _cursor(settings, DATABASE, LOCK_TIMEOUT) as cursor:
        cursor.execute(BLOCKERS, (f"^{environment}(_building|_old_[0-9]+)?$",))
        sessions = cursor.fetchall()
    waited = (
        f"schema {environment} of PostgreSQL's database {DATABASE} was held by another session for {LOCK_TIMEOUT}"
    )
    if not sessions:
        return f"{waited}, which has ended: publish again"
    who = ", ".join(f"{program} as {role}, pid {pid}, since {since} UTC" for pid, role, program, since in sessions)
    ends = "; ".join(f"select pg_terminate_backend({pid})" for pid, *_ in sessions)
    command = f'{PSQL} {DATABASE} -c "{ends}"\''
    return f"{waited}: {who}; end it there, or by `{command}`; readers see what they saw"


def _run(cursor: psycopg2.extensions.cursor, statement: str, **names: str) -> None:
    cursor.execute(sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}))


def _copy(published: Path, schema: str, settings: Settings) -> list[str]:
    """Write every mart to a schema, by DuckDB's own PostgreSQL extension, and return their names."""
    with duckdb.connect(config={"extension_directory": str(layout.DUCKDB_EXTENSIONS)}) as connection:
        connection.execute("load postgres_scanner")
        connection.execute(
            f"create secret (type postgres, host '{settings.sockets}', port {settings.postgres_port},"
            f" database '{DATABASE}', user '{OWNER}', password '{settings.postgres_password}')"
        )
        connection.execute("attach '' as pg (type postgres)")
        connection.execute(f"attach {quoting.text(published)} as copy (read_only)")
        mine = f"database_name = 'copy' and schema_name = '{SCHEMA}'"
        query = f"select table_name from duckdb_tables() where {mine} order by all"
        names = [name for (name,) in connection.execute(query).fetchall()]
        _refuse_too_wide(connection, mine)
        for name in names:
            try:
                connection.execute(
                    f"create table pg.{quoting.name(schema)}.{quoting.name(name)} as {_exactly(connection, name)}"
                )
            except duckdb.Error as error:
                raise duckdb.Error(
                    f"{name}: {error}{ROW_TOO_BIG_HINT if 'row is too big' in str(error) else ''}"
                ) from None
    return names


def _refuse_too_wide(connection: duckdb.DuckDBPyConnection, mine: str) -> None:
    """Refuse a mart with more columns than PostgreSQL allows, before rows are sent.

    Args:
        connection: where the published file is attached.
        mine: the condition on its columns.

    Raises:
        DataError: a mart is too wide; readers see what they saw before.
    """
    query = f"select table_name, count(*) from duckdb_columns() where {mine} group by all order by all"
    for name, columns in connection.execute(query).fetchall():
        if columns > MAX_COLUMNS:
            raise DataError(
                f"publish: mart {name} has {columns:,} columns and PostgreSQL takes {MAX_COLUMNS:,}: divide it into"
                " several marts, or let rows hold what columns do"
            )


def _exactly(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """Return the query that reads a mart, and fails at a value that the extension would send as another."""
    query = (
        "select column_name, data_type from duckdb_columns() where database_name = 'copy'"
        f" and schema_name = '{SCHEMA}' and table_name = {quoting.text(name)}"
    )
    columns = [(quoting.name(column), kind) for column, kind in connection.execute(query).fetchall()]
    made = [f"{value} as {column}" for column, kind in columns if (value := _value(column, kind)) != column]
    replaced = f"replace ({', '.join(made)})" if made else ""
    return f"select * {replaced} from copy.{SCHEMA}.{quoting.name(name)}"


def _value(column: str, kind: str) -> str:
    """Return the expression of a column that PostgreSQL holds as it is.

    Sums of integers would lose digits as doubles, so they become decimals. Of a list within a list that is empty or
    null nothing would be left, of nanoseconds the last three digits, and early times would be late ones.
    """
    if not (found := LISTS.fullmatch(kind)):
        return column
    of, lists = found[1], found[2]
    value = f"{column}::decimal(38, 0){lists}" if of in {"HUGEINT", "UHUGEINT"} else column
    wrong, flat = [], column
    for _ in lists[2::2]:
        wrong.append((f"len(list_filter({flat}, x -> coalesce(len(x), 0) = 0)) > 0", "an empty list within a list"))
        flat = f"flatten({flat})"
    if of == "TIMESTAMP_NS":
        value = f"{column}::timestamp{lists}"
        wrong.append((f"{value}::timestamp_ns{lists} is distinct from {column}", "nanoseconds"))
    elif of.startswith("TIMESTAMP"):
        early = f"{{0}} < '{FIRST_TIME}'::{of} and isfinite({{0}})"
        found_early = f"len(list_filter({flat}, x -> {early.format('x')})) > 0" if lists else early.format(column)
        wrong.append((found_early, "a time before 4713 BC"))
    raised = " ".join(
        f"when {condition} then error({quoting.text(f'column {column}: PostgreSQL has no place for {what}')})"
        for condition, what in wrong
    )
    return f"case {raised} else {value} end" if raised else value


def _describe(cursor: psycopg2.extensions.cursor, published: Path, schema: str) -> None:
    """Write the table `published` of the file to PostgreSQL."""
    with duckdb.connect(str(published), read_only=True) as connection:
        columns = "published_at, environment, row_counts, git_commit"
        row = connection.execute(f"select {columns} from main.published").fetchone()
    assert row is not None
    _run(
        cursor,
        "create table {schema}.published"
        " (published_at timestamptz, environment text, row_counts jsonb, git_commit text)",
        schema=schema,
    )
    insert = sql.SQL("insert into {}.published values (%s at time zone 'utc', %s, %s, %s)")
    cursor.execute(insert.format(sql.Identifier(schema)), (row[0], row[1], json.dumps(row[2]), row[3]))


def _analyze(cursor: psycopg2.extensions.cursor, schema: str) -> None:
    """Collect statistics for the planner before readers see the tables."""
    cursor.execute("select table_name from information_schema.tables where table_schema = %s", (schema,))
    for (name,) in cursor.fetchall():
        _run(cursor, "analyze {schema}.{name}", schema=schema, name=name)


def _columns(cursor: psycopg2.extensions.cursor, schema: str) -> dict[str, list[tuple[str, str]]]:
    """Return name and type of each column, in their order, by table."""
    cursor.execute(
        "select relname, attname, format_type(atttypid, atttypmod) from pg_attribute"
        " join pg_class on pg_class.oid = attrelid join pg_namespace on pg_namespace.oid = relnamespace"
        " where nspname = %s and relkind = 'r' and attnum > 0 and not attisdropped order by relname, attnum",
        (schema,),
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in cursor.fetchall():
        found.setdefault(table, []).append((column, kind))
    return found


def _replace_rows(
    cursor: psycopg2.extensions.cursor, tables: t.Iterable[str], building: str, environment: str
) -> None:
    """Replace the rows that readers see by the new ones, in one transaction."""
    cursor.execute("begin")
    for name in tables:  # not `truncate`, which takes the rows from under a snapshot
        _run(cursor, "delete from {schema}.{name}", schema=environment, name=name)
        statement = "insert into {schema}.{name} select * from {building}.{name}"
        _run(cursor, statement, schema=environment, building=building, name=name)
    cursor.execute("commit")
    _run(cursor, "drop schema {building} cascade", building=building)
    for name in tables:
        _run(cursor, "vacuum analyze {schema}.{name}", schema=environment, name=name)


def _swap(cursor: psycopg2.extensions.cursor, building: str, environment: str) -> None:
    """Rename the new schema to the name that readers use, and grant access to it, in one transaction.

    Not before: a reader's open transaction on the new schema would block the next publication.
    """
    cursor.execute("select 1 from pg_namespace where nspname = %s", (environment,))
    there = cursor.fetchone() is not None
    cursor.execute("begin")
    if there:
        _run(
            cursor, "alter schema {old} rename to {away}", old=environment, away=f"{environment}_old_{time.time_ns()}"
        )
    _run(cursor, "alter schema {building} rename to {name}", building=building, name=environment)
    _run(cursor, "grant usage on schema {name} to {bi}", name=environment, bi=BI)
    _run(cursor, "grant select on all tables in schema {name} to {bi}", name=environment, bi=BI)
    cursor.execute("commit")


def _drop_old(cursor: psycopg2.extensions.cursor, environment: str) -> None:
    """Drop schemas that were renamed, unless somebody still reads them."""
    cursor.execute("select set_config('lock_timeout', %s, false)", (DROP_TIMEOUT,))
    cursor.execute("select nspname from pg_namespace where nspname ~ %s", (f"^{environment}_old_[0-9]+$",))
    for (name,) in cursor.fetchall():
        with contextlib.suppress(psycopg2.errors.LockNotAvailable):
            _run(cursor, "drop schema {name} cascade", name=name)
