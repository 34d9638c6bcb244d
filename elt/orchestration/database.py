"""Bring the databases to what this version of the workspace expects: they exist, and Airflow's is migrated.

Runs at every start; with nothing to do it costs one connection.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
from contextlib import closing

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from elt import layout
from elt.atomic import draft
from elt.config import settings
from elt.config.process_env import DATABASES
from elt.config.settings import ADMIN, BI, Settings
from elt.errors import StackError
from elt.orchestration import notify
from elt.supervisor import guard

POOL = "duckdb_writer"
"""Airflow pool of the tasks that write to a DuckDB warehouse: one at a time."""
POOL_DESCRIPTION = "Tasks that write to a DuckDB warehouse: one at a time."
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
"""Takes from everybody but the owner the functions of a database that write to it, or take advisory locks: these fill
the table of locks, which is one for all databases, so that Airflow's statements fail. Idempotent."""
READER_FILES = "2GB"
"""What a query of `bi` may put into temporary files; it cannot change that itself."""
POSTGRES_SECONDS = 60
CONNECT_SECONDS = 5
STAMP = layout.AIRFLOW_HOME / "migrated"
"""Holds the version of Airflow that last migrated the database."""


def migrate() -> None:
    """Create what is missing, then migrate Airflow's database if another version did so last."""
    now = settings.load()
    write_passwords(now)
    version = importlib.metadata.version("apache-airflow")
    if not STAMP.exists() and not guard.uses_fork_server():  # the server is being made meanwhile
        import_airflow()
    create_databases(now)
    if STAMP.exists() and STAMP.read_text() == version and is_complete(now):
        print(f"Airflow's database is at {version}")
        return
    print(f"migrating Airflow's database to {version}", flush=True)
    if guard.uses_fork_server():
        migrate_by_fork()
    else:
        migrate_airflow()
    hang_bell(now)
    STAMP.write_text(version)


def write_passwords(now: Settings) -> None:
    """Write the file from which Airflow's SimpleAuthManager takes passwords, for this user only."""
    layout.AIRFLOW_HOME.mkdir(mode=0o700, exist_ok=True)
    with draft(layout.RUN / "airflow_passwords.json", 0o600) as path:
        path.write_text(json.dumps({ADMIN: now.admin_password}) + "\n")


def connect(now: Settings, database: str) -> psycopg2.extensions.connection:
    """Open a connection to a database of the stack."""
    return psycopg2.connect(now.postgres_url(database, scheme="postgresql"), connect_timeout=CONNECT_SECONDS)


def wait_for_postgres(now: Settings) -> psycopg2.extensions.connection:
    """Connect as soon as the server of this start answers.

    Raises:
        StackError: it refuses the password, or does not answer within a minute.
    """
    waited = guard.Stopwatch()
    while True:
        try:
            return connect(now, "postgres")
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(
                    f"PostgreSQL refuses POSTGRES_PASSWORD of {layout.ENV_FILE}: its data folder was made with "
                    f"another; put the old one back, or remove {layout.POSTGRES_DATA} (this loses runs and users)"
                ) from None
            if waited.seconds(CONNECT_SECONDS) > POSTGRES_SECONDS:
                raise StackError(f"PostgreSQL does not answer: {error}") from None
        time.sleep(0.05)


def create_databases(now: Settings) -> None:
    """Create the databases that are missing."""
    connection = wait_for_postgres(now)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("select datname from pg_database")
        present = {name for (name,) in cursor.fetchall()}
        for name in (name for name in DATABASES if name not in present):
            cursor.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            print(f"created database {name}", flush=True)
        create_reader(now, cursor)
    connection.close()


def create_reader(now: Settings, cursor: psycopg2.extensions.cursor) -> None:
    """Create the role that reads the marts, and take from it at each start what it may have changed of itself.

    All others are kept out of every database, and nobody but the owner writes to one, not even temporary tables, nor
    fills what all databases share: the table of locks, the disk.
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
    verifier = psycopg2.extensions.encrypt_password(now.bi_password, BI, cursor.connection, "scram-sha-256")
    cursor.execute(sql.SQL("alter role {} password %s").format(reader), (verifier,))
    cursor.execute(
        "select datname from pg_db_role_setting join pg_roles on pg_roles.oid = setrole"
        " left join pg_database on pg_database.oid = setdatabase where rolname = %s",
        (BI,),
    )
    for (name,) in cursor.fetchall():
        where = sql.SQL("in database {} ").format(sql.Identifier(name)) if name else sql.SQL("")
        cursor.execute(sql.SQL("alter role {} {}reset all").format(reader, where))
    cursor.execute(sql.SQL("alter role {} set default_transaction_read_only = on").format(reader))
    cursor.execute(sql.SQL("alter role {} set temp_file_limit = %s").format(reader), (READER_FILES,))
    search_path = sql.SQL("alter role {} in database {} set search_path = {}")
    cursor.execute(search_path.format(reader, marts, sql.Identifier(now.elt_environment)))
    with closing(connect(now, "marts")) as connection, connection, connection.cursor() as in_marts:
        in_marts.execute(CLOSE_FUNCTIONS)


def is_complete(now: Settings) -> bool:
    """Whether Airflow's database is migrated, knows the writers' pool, and has the scheduler's bell."""
    with closing(connect(now, "airflow")) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("select 1 from slot_pool where pool = %s", (POOL,))
        except psycopg2.errors.UndefinedTable:
            return False
        has_pool = cursor.fetchone() is not None
        cursor.execute(notify.HANGS)
        return has_pool and cursor.fetchone() == (True,)


def hang_bell(now: Settings) -> None:
    """Let Airflow's database tell the scheduler when there is something to do."""
    with closing(connect(now, "airflow")) as connection, connection, connection.cursor() as cursor:
        cursor.execute(notify.INSTALL)


def import_airflow() -> None:
    """Import what the migration needs: a second of work that most starts do without."""
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    import airflow.dag_processing.dagbag  # noqa: PLC0415
    import airflow.utils.db  # noqa: PLC0415
    import sqlalchemy.orm  # noqa: PLC0415

    airflow.models.import_all_models()  # type: ignore[no-untyped-call]
    sqlalchemy.orm.configure_mappers()


def migrate_by_fork() -> None:
    """Run Airflow's own migration and create the pool in processes forked from the one that imports Airflow anyway.

    Raises:
        StackError: one failed; its words stand above.
    """
    for words in (("db", "migrate"), ("pools", "set", POOL, "1", POOL_DESCRIPTION)):
        command = ["elt-guard", "--fork", "airflow-preload", "airflow", *words]
        done = subprocess.run(command, env=os.environ | {"PC_PROC_NAME": ""})
        if done.returncode:
            raise StackError(f"airflow {' '.join(words[:2])} ended with exit code {done.returncode}")


def migrate_airflow() -> None:
    """Run Airflow's own migration and create the pool, in this process: two programs would import it twice."""
    import_airflow()
    from airflow.models.pool import Pool  # noqa: PLC0415
    from airflow.utils.db import upgradedb  # noqa: PLC0415

    upgradedb()
    Pool.create_or_update_pool(POOL, slots=1, description=POOL_DESCRIPTION, include_deferred=False)
