"""The published marts in PostgreSQL, for BI servers: database `marts`, a schema for each environment.

The marts of a published file are written to a schema aside. Then, in one transaction, the schema of the environment
is renamed away and the new one takes its name: a query sees all marts of one publication or all of another, and no
reader waits for the writer, since renaming a schema locks no table. (PostgreSQL looks up the tables of a query one
after the other: one that is planned in the very instant of the swap can see some of each.) The tables that were
renamed away are dropped as soon as nobody reads them.

The role `bi` reads there and nowhere else. A view that somebody built on the marts by hand goes with the tables that
it stands on: make it a model in transform/models/marts instead.
"""

from __future__ import annotations

import contextlib
import json
import time
import typing as t

import duckdb
import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from elt import layout, quoting
from elt.errors import DataError
from elt.settings import BI, OWNER

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.settings import Settings

DATABASE = "marts"
SCHEMA = "marts"
"""Where the published file holds them."""
PATIENCE = "2s"
"""How long dropping old tables waits for a reader; the next publication tries again."""


def publish(published: Path, environment: str, settings: Settings) -> None:
    """Let the marts of a published file replace those of the environment.

    Args:
        published: a file of elt/publish.py.
        environment: name of the schema that readers know.
        settings: how to reach PostgreSQL.

    Raises:
        DataError: PostgreSQL does not answer, or a mart cannot be stored there; readers see what they saw before.
    """
    started = time.perf_counter()
    building = f"{environment}_building"
    try:
        with contextlib.closing(_connect(settings)) as connection, connection.cursor() as cursor:
            # one publication of an environment at a time; the lock goes with the connection
            cursor.execute("select pg_advisory_lock(hashtext(%s))", (f"publish {environment}",))
            _run(cursor, "drop schema if exists {building} cascade", building=building)
            _run(cursor, "create schema {building}", building=building)
            tables = _copy(published, building, settings)
            _describe(cursor, published, building)
            _open_to_readers(cursor, building)
            _swap(cursor, building, environment)
            _drop_old(cursor, environment)
    except (psycopg2.Error, duckdb.Error) as error:
        reason = " ".join(str(error).split()).replace(settings.postgres_password, "***")
        raise DataError(f"publish: the marts did not get into PostgreSQL's database {DATABASE}: {reason}") from None
    print(
        f"publish: PostgreSQL {DATABASE}.{environment} ({', '.join(tables)}), {time.perf_counter() - started:.1f} s",
        flush=True,
    )


def _connect(settings: Settings) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(settings.postgres_url(DATABASE, scheme="postgresql"), connect_timeout=5)
    connection.autocommit = True
    return connection


def _run(cursor: psycopg2.extensions.cursor, statement: str, **names: str) -> None:
    cursor.execute(sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}))


def _copy(published: Path, schema: str, settings: Settings) -> list[str]:
    """Write every mart to a schema, by DuckDB's own PostgreSQL extension; returns their names."""
    with duckdb.connect(config={"extension_directory": str(layout.DUCKDB_EXTENSIONS)}) as connection:
        connection.execute("load postgres_scanner")
        connection.execute(
            f"create secret (type postgres, host '{settings.bind_address}', port {settings.postgres_port},"
            f" database '{DATABASE}', user '{OWNER}', password '{settings.postgres_password}')"
        )
        connection.execute("attach '' as pg (type postgres)")
        connection.execute(f"attach {quoting.text(published)} as copy (read_only)")
        query = "select table_name from duckdb_tables() where database_name = 'copy' and schema_name = ? order by all"
        names = [name for (name,) in connection.execute(query, [SCHEMA]).fetchall()]
        for name in names:
            try:
                connection.execute(
                    f"create table pg.{quoting.name(schema)}.{quoting.name(name)} as {_exactly(connection, name)}"
                )
            except duckdb.Error as error:
                raise duckdb.Error(f"{name}: {error}") from None
    return names


def _exactly(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """The query that reads a mart; what `sum` of integers gives would become a double, and lose its last digits."""
    query = (
        "select column_name from duckdb_columns() where database_name = 'copy' and schema_name = ?"
        " and table_name = ? and data_type in ('HUGEINT', 'UHUGEINT')"
    )
    wide = connection.execute(query, [SCHEMA, name]).fetchall()
    casts = ", ".join(f"{quoting.name(column)}::decimal(38, 0) as {quoting.name(column)}" for (column,) in wide)
    return f"select * {f'replace ({casts})' if casts else ''} from copy.{SCHEMA}.{quoting.name(name)}"  # noqa: S608


def _describe(cursor: psycopg2.extensions.cursor, published: Path, schema: str) -> None:
    """Say in the table `published` when the marts were published, as the file itself does."""
    with duckdb.connect(str(published), read_only=True) as connection:
        row = connection.execute("select published_at, environment, row_counts from main.published").fetchone()
    assert row is not None
    _run(
        cursor,
        "create table {schema}.published (published_at timestamptz, environment text, row_counts jsonb)",
        schema=schema,
    )
    insert = sql.SQL("insert into {}.published values (%s at time zone 'utc', %s, %s)").format(sql.Identifier(schema))
    cursor.execute(insert, (row[0], row[1], json.dumps(row[2])))


def _open_to_readers(cursor: psycopg2.extensions.cursor, schema: str) -> None:
    _run(cursor, "grant usage on schema {schema} to {bi}", schema=schema, bi=BI)
    _run(cursor, "grant select on all tables in schema {schema} to {bi}", schema=schema, bi=BI)
    cursor.execute("select table_name from information_schema.tables where table_schema = %s", (schema,))
    for (name,) in cursor.fetchall():
        _run(cursor, "analyze {schema}.{name}", schema=schema, name=name)


def _swap(cursor: psycopg2.extensions.cursor, building: str, environment: str) -> None:
    """Let the new schema take the name that readers know, in one transaction."""
    cursor.execute("select 1 from pg_namespace where nspname = %s", (environment,))
    there = cursor.fetchone() is not None
    cursor.execute("begin")
    if there:
        _run(
            cursor, "alter schema {old} rename to {away}", old=environment, away=f"{environment}_old_{time.time_ns()}"
        )
    _run(cursor, "alter schema {building} rename to {name}", building=building, name=environment)
    cursor.execute("commit")


def _drop_old(cursor: psycopg2.extensions.cursor, environment: str) -> None:
    """Drop what was renamed away, unless somebody still reads it."""
    cursor.execute("select set_config('lock_timeout', %s, false)", (PATIENCE,))
    cursor.execute("select nspname from pg_namespace where nspname ~ %s", (f"^{environment}_old_[0-9]+$",))
    for (name,) in cursor.fetchall():
        with contextlib.suppress(psycopg2.errors.LockNotAvailable):
            _run(cursor, "drop schema {name} cascade", name=name)
