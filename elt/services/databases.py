"""Connect to the databases of the stack's PostgreSQL, and create them and their roles."""

from __future__ import annotations

import time
import typing as t
from contextlib import closing

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from elt import layout
from elt.config.process_env import DATABASES
from elt.config.settings import BI, OWNER, Settings
from elt.errors import StackError
from elt.supervisor import guard

CLOSE_FUNCTIONS = """
    do $$
    declare one regprocedure;
    begin
        for one in
            select p.oid from pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner)))
            where pronamespace = 'pg_catalog'::regnamespace and grantee = 0
            and (proname ~ '^pg_(try_)?advisory_' or proname in ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put',
                'lo_truncate', 'lo_truncate64', 'lo_unlink', 'lowrite', 'pg_logical_emit_message'))
        loop
            execute format('revoke execute on function %s from public', one);
        end loop;
    end $$
"""
"""Idempotent SQL that revokes, from all but the owner, the functions of a database that write to it or take advisory
locks, which could fill the lock table of all databases, so that Airflow's statements fail."""
READER_SETTINGS = {
    "default_transaction_read_only": "on",
    "temp_file_limit": "2GB",  # for each session
    "log_min_messages": "fatal",  # messages and statements of the role are logged whole otherwise, at any length
    "log_min_error_statement": "fatal",
}
"""Settings of the role `bi`; all but the first it cannot change itself."""
POSTGRES_SECONDS = 60
CONNECT_SECONDS = 5


def connect(
    settings: Settings, database: str, *, role: str = OWNER, options: str = ""
) -> psycopg2.extensions.connection:
    """Open a connection to a database of the stack.

    Args:
        settings: the checked settings.
        database: its name.
        role: the owner, or the role of BI tools.
        options: settings of the server for this connection, such as `-c lock_timeout=1s`.

    Raises:
        psycopg2.OperationalError: the server does not answer within CONNECT_SECONDS, or refuses.
    """
    url = settings.postgres_url(database, scheme="postgresql", role=role)
    return psycopg2.connect(url, connect_timeout=CONNECT_SECONDS, options=options)


def query(
    settings: Settings, database: str, statement: str, values: tuple[object, ...] = (), role: str = OWNER
) -> list[tuple[t.Any, ...]]:
    """Run a statement on a new connection, and return its rows."""
    with closing(connect(settings, database, role=role)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def wait_for_postgres(settings: Settings) -> psycopg2.extensions.connection:
    """Wait until PostgreSQL answers, and return a connection.

    Raises:
        StackError: it refuses the password, or does not answer within a minute.
    """
    waited = guard.Stopwatch()
    while True:
        try:
            return connect(settings, "postgres")
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(
                    f"PostgreSQL refuses POSTGRES_PASSWORD of {layout.ENV_FILE}: its data folder was made with "
                    f"another; put the old one back, or remove {layout.POSTGRES_DATA} (this loses runs and users)"
                ) from None
            if waited.seconds(CONNECT_SECONDS) > POSTGRES_SECONDS:
                raise StackError(f"PostgreSQL does not answer: {error}") from None
        time.sleep(0.05)


def create_databases(settings: Settings) -> None:
    """Create the databases that are missing."""
    connection = wait_for_postgres(settings)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select datname from pg_database")
        present = {name for (name,) in cursor.fetchall()}
        for name in (name for name in DATABASES if name not in present):
            cursor.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            print(f"created database {name}", flush=True)
        create_reader(settings, cursor)
    connection.close()


def create_reader(settings: Settings, cursor: psycopg2.extensions.cursor) -> None:
    """Create the role that reads the marts, and reset at each start what it may have changed of itself.

    Other roles cannot connect to any database, and nobody but the owner writes to one, not even temporary tables, nor
    exhausts what all databases share: the lock table and the disk, by temporary files or by the server's log.
    """
    reader, marts = sql.Identifier(BI), sql.Identifier("marts")
    cursor.execute("select 1 from pg_roles where rolname = %s", (BI,))
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("create role {} login connection limit 20").format(reader))
        cursor.execute(sql.SQL("grant connect on database {} to {}").format(marts, reader))
    cursor.execute("select datname from pg_database")  # at each start: a database may have been added
    for (name,) in cursor.fetchall():
        revoke = sql.SQL("revoke connect, temporary on database {} from public")
        cursor.execute(revoke.format(sql.Identifier(name)))
    verifier = psycopg2.extensions.encrypt_password(settings.bi_password, BI, cursor.connection, "scram-sha-256")
    cursor.execute(sql.SQL("alter role {} password %s").format(reader), (verifier,))
    cursor.execute(
        "select datname from pg_db_role_setting join pg_roles on pg_roles.oid = setrole"
        " left join pg_database on pg_database.oid = setdatabase where rolname = %s",
        (BI,),
    )
    for (name,) in cursor.fetchall():
        where = sql.SQL("in database {} ").format(sql.Identifier(name)) if name else sql.SQL("")
        cursor.execute(sql.SQL("alter role {} {}reset all").format(reader, where))
    for name, value in READER_SETTINGS.items():
        setting = sql.SQL("alter role {} set {} = %s").format(reader, sql.Identifier(name))
        cursor.execute(setting, (value,))
    search_path = sql.SQL("alter role {} in database {} set search_path = {}")
    cursor.execute(search_path.format(reader, marts, sql.Identifier(settings.elt_environment)))
    with closing(connect(settings, "marts")) as connection, connection, connection.cursor() as in_marts:
        in_marts.execute(CLOSE_FUNCTIONS)
