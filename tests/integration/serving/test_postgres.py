"""The marts in a real PostgreSQL: swapped in one step beside readers, and open to the role `bi` alone."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
import time

import duckdb
import psycopg2
import pytest
from workspace import BIN, DEADLINE, ROOT, apart, run, settings_of, wait_for

from elt import layout
from elt.config import process_env, settings
from elt.errors import DataError, StackError
from elt.orchestration import notify
from elt.services import databases, relay
from elt.serving import duckdb_copy, postgres
from elt.warehouse.duckdb_file import DuckDBFile

ENV = "dev"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The server's log."""
    return tmp_path_factory.mktemp("log") / "postgres.log"


@pytest.fixture(scope="module")
def now(tmp_path_factory, log):
    """Settings that lead to a PostgreSQL of this module's, with databases and roles."""
    state = tmp_path_factory.mktemp("postgres") / "state"
    env = apart(state)
    (state / "run" / "processes").mkdir(parents=True)
    done = run("scripts/bootstrap.sh", env=env)
    assert done.returncode == 0, done.stderr
    now = settings_of(env)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "DUCKDB_EXTENSIONS", state / "duckdb_extensions")
        command, env = [BIN / "elt", "serve", "postgres"], env | process_env.build(now) | env
        with log.open("wb") as written:
            server = subprocess.Popen(command, env=env, cwd=ROOT, stdout=written, stderr=written)
        try:
            databases.create_databases(now)
            yield now
        finally:
            server.terminate()
            server.wait(DEADLINE)


def published(folder, version, rows=5000):
    """A published file in which every row of both marts carries the same number."""
    warehouse = folder / "warehouse_dev.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        for mart, number in (("small", 3), ("large", rows)):
            connection.execute(
                f"create or replace table marts.{mart} as select {version} as version,"
                f" i::hugeint + {2**62}::hugeint as i, (i / 100)::decimal(12, 2) as money,"
                f" date '2017-01-01' + i::int as day from range({number}) as r(i)"
            )
    return duckdb_copy.publish(DuckDBFile(warehouse), folder / "published")


def connect(now, user, password, database="marts"):
    return psycopg2.connect(
        host=now.connect_address if user == settings.BI else str(now.sockets),
        port=now.postgres_port,
        user=user,
        password=password,
        dbname=database,
        connect_timeout=60,
    )


@contextlib.contextmanager
def as_bi(now):
    with contextlib.closing(connect(now, settings.BI, now.bi_password)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def test_readers_see_types_rows_and_when(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with as_bi(now) as cursor:
        cursor.execute("select count(*), sum(money), max(day), max(i) from large")
        count, money, day, largest = cursor.fetchone()
        assert (count, money, day.isoformat(), largest) == (5000, 124975, "2030-09-09", 2**62 + 4999)
        cursor.execute("select now() - published_at < interval '1 minute', environment, row_counts from published")
        assert cursor.fetchone() == (True, "dev", {"small": 3, "large": 5000})


def test_bi_reads_the_marts_and_nothing_else(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with as_bi(now) as cursor:
        for statement in (
            "create table x (i int)",
            "delete from dev.small",
            "create schema mine",
            "drop table small",
        ):
            with pytest.raises(psycopg2.Error):
                cursor.execute(statement)
        cursor.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("delete from dev.small")
        for statement in (
            "create temporary table x (i int)",
            "select lo_create(0)",
            "select lo_from_bytea(0, 'x')",
            "select pg_logical_emit_message(false, 'x', 'x')",
            "set temp_file_limit = -1",
            "select pg_read_file('/etc/passwd')",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
    for name in ("airflow", "meltano", "postgres"):
        with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
            connect(now, settings.BI, now.bi_password, name)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(now, settings.BI, "wrong")


def test_what_bi_changed_of_itself_is_gone_after_a_start(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with as_bi(now) as cursor:
        cursor.execute("set default_transaction_read_only = off")
        cursor.execute("alter role bi set statement_timeout = 1")
        cursor.execute("alter role bi in database marts set search_path = nowhere")
        cursor.execute("alter role bi password 'mine'")
    databases.create_databases(now)
    with as_bi(now) as cursor:
        cursor.execute(
            "select current_setting('statement_timeout'), current_setting('default_transaction_read_only'),"
            " current_setting('search_path'), (select max(version) from small)"
        )
        assert cursor.fetchone() == ("0", "on", "dev", 1)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(now, settings.BI, "mine")


def test_bi_holds_up_no_publication(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with as_bi(now) as cursor:
        cursor.execute("set default_transaction_read_only = off")
        for table in ("dev.small", "dev_building.small"):
            with pytest.raises(psycopg2.Error):
                cursor.execute(f"begin; lock table {table} in share mode")
            cursor.execute("rollback")
        begin = time.monotonic()
        postgres.publish(published(tmp_path, 2), ENV, now)
        assert time.monotonic() - begin < DEADLINE


def test_whoever_fills_the_places_of_bi_keeps_nobody_else_out(now):
    """PostgreSQL counts a connection before any password, so all that come by TCP have places of their own."""
    hello = b"user\0bi\0database\0marts\0\0"
    with contextlib.ExitStack() as opened:
        half = [
            opened.enter_context(socket.create_connection((settings.LOOPBACK, now.postgres_port), timeout=DEADLINE))
            for _ in range(150)
        ]
        for one in half:
            with contextlib.suppress(OSError):
                one.sendall(struct.pack(">II", len(hello) + 8, 196608) + hello)
        with contextlib.closing(databases.connect(now, "postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where backend_type = 'client backend'")
            assert cursor.fetchone()[0] <= relay.MAX_CONNECTIONS + 1
    wait_for(lambda: can_connect(now))  # they have gone


def can_connect(now):
    try:
        connect(now, settings.BI, now.bi_password).close()
    except psycopg2.OperationalError:
        return False
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack(">II", 8, 196608),
        struct.pack(">II", 9, 196608) + b"\0",
        struct.pack(">II", 4_000_000_000, 196608),
        struct.pack(">II", 16, relay.CANCEL_REQUEST) + bytes(8),
        b"",
    ],
)
def test_what_is_not_bi_at_the_port_is_told_nothing_and_hung_up_on(now, sent):
    with socket.create_connection((settings.LOOPBACK, now.postgres_port), timeout=DEADLINE) as stranger:
        stranger.sendall(struct.pack(">II", 8, relay.ENCRYPTION[0]) if sent else b"")
        assert stranger.recv(1 if sent else 10) == (b"N" if sent else b"")
        stranger.sendall(sent)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := stranger.recv(1000):
                answer += part
    assert answer == b"" or answer.startswith(b"E")
    assert b"elt" not in answer
    assert can_connect(now)


def test_replication_and_other_roles_are_refused_by_tcp(now):
    for more in ({"user": "elt", "password": now.postgres_password}, {"replication": "database"}):
        given = {"user": "bi", "password": now.bi_password, "dbname": "marts"} | more
        with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg2.connect(host=settings.LOOPBACK, port=now.postgres_port, **given)


LOCKS = ("pg_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_lock_shared", "pg_try_advisory_xact_lock")


@pytest.mark.parametrize("function", LOCKS)
def test_bi_cannot_fill_the_table_of_locks_that_all_databases_share(now, function):
    with as_bi(now) as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(f"select count({function}(one)) from generate_series(1, 1000000) one")
    with contextlib.closing(databases.connect(now, "airflow")) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_class")


def test_bi_fills_no_disk_with_temporary_files(now, monkeypatch):
    monkeypatch.setitem(databases.READER_SETTINGS, "temp_file_limit", "8MB")
    databases.create_databases(now)
    with as_bi(now) as cursor, pytest.raises(psycopg2.Error, match="temporary file size exceeds"):
        cursor.execute("select count(*) from (select one from generate_series(1, 2000000) one order by -one) many")


@pytest.mark.parametrize(
    "statement",
    [
        "select 1 / 0 --" + "x" * 100_000,
        "select '" + "x" * 100_000 + "'::int",
        *(f"do $$ begin raise {level} '%', repeat('x', 100000); end $$" for level in ("warning", "log", "exception")),
        "set log_min_messages = warning",
        "alter role bi set log_min_messages = warning",
    ],
)
def test_bi_fills_no_disk_with_logs(now, log, statement):
    before = log.stat().st_size
    with as_bi(now) as cursor, contextlib.suppress(psycopg2.Error):
        cursor.execute(statement)
    with as_bi(now) as cursor, contextlib.suppress(psycopg2.Error):
        cursor.execute("do $$ begin raise warning '%', repeat('x', 100000); end $$")
    assert log.stat().st_size < before + 10_000


FILL = """
    do $$ begin
        for one in 1..100 loop perform pg_notify('x', repeat('x', 7900) || %s || '.' || one); end loop;
    end $$
"""
"""Fills a hundred pages of the queue of notifications."""


def test_no_commit_of_airflow_fails_when_bi_has_filled_the_queue_of_notifications(now):
    def in_airflow(*statements):
        with contextlib.closing(databases.connect(now, "airflow")) as connection, connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)

    in_airflow("create table dag_run (state text)", "create table task_instance (state text)", notify.INSTALL)
    try:
        with as_bi(now) as sleeper, as_bi(now) as cursor:
            for statement in ("listen x", "begin", "select 1"):
                sleeper.execute(statement)
            with contextlib.suppress(psycopg2.errors.ProgramLimitExceeded):
                for number in range(20):
                    cursor.execute(FILL, (number,))
            cursor.execute("select pg_notification_queue_usage()")
            assert cursor.fetchone()[0] > 0.8
            in_airflow("insert into dag_run values ('queued')")
    finally:
        in_airflow("drop table dag_run, task_instance")


def test_nobody_reads_what_is_being_built(now, tmp_path, monkeypatch):
    said = []

    def look(*_):
        with as_bi(now) as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege) as error:
            cursor.execute("select * from dev_building.small")
        said.append(str(error.value))
        raise DataError("here it ends")

    postgres.publish(published(tmp_path, 1), ENV, now)
    monkeypatch.setattr(postgres, "_replace_rows", look)
    copy = published(tmp_path, 2)
    with pytest.raises(DataError, match="here it ends"):
        postgres.publish(copy, ENV, now)
    assert len(said) == 1


def test_who_blocks_a_publication_is_named_with_the_way_to_end_it(now, tmp_path, monkeypatch):
    postgres.publish(published(tmp_path, 1), ENV, now)
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT", "300ms")
    with contextlib.closing(connect(now, settings.OWNER, now.postgres_password)) as owner, owner.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        (pid,) = cursor.fetchone()
        cursor.execute("lock table dev.small in share mode")
        with pytest.raises(StackError, match=rf"pid {pid}, since .* UTC; .*pg_terminate_backend\({pid}\)"):
            postgres.publish(published(tmp_path, 2), ENV, now)
        with as_bi(now) as reader:
            reader.execute("select max(version) from small")
            assert reader.fetchone() == (1,)
    postgres.publish(published(tmp_path, 3), ENV, now)


def test_publications_of_an_environment_take_turns(now, tmp_path, monkeypatch):
    monkeypatch.setattr(postgres, "PUBLICATION_TIMEOUT", "300ms")
    copy = published(tmp_path, 1)
    owner = connect(now, settings.OWNER, now.postgres_password, postgres.LOCK_DATABASE)
    with contextlib.closing(owner), owner.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(hashtext(%s))", (f"publish {ENV}",))
        with pytest.raises(StackError, match="another publication of dev has not ended"):
            postgres.publish(copy, ENV, now)
    postgres.publish(copy, ENV, now)


def test_20_publications_beside_8_readers(now, tmp_path):
    postgres.publish(published(tmp_path, 0), ENV, now)
    stop, reads, versions, torn = threading.Event(), [], set(), []

    def read():
        with as_bi(now) as cursor:
            while not stop.is_set():
                cursor.execute(
                    "select min(version), max(version), count(*), min((row_counts->>'large')::int) + 3"
                    " from (select version from small union all select version from large) as all_rows, published"
                )
                low, high, rows, counted = cursor.fetchone()
                reads.append(1)
                versions.add(low)
                if low != high or rows != counted:
                    torn.append((low, high, rows, counted))

    failures = []
    previous, threading.excepthook = threading.excepthook, failures.append
    readers = [threading.Thread(target=read) for _ in range(8)]
    try:
        for reader in readers:
            reader.start()
        for version in range(1, 21):
            postgres.publish(published(tmp_path, version, 5000 + version), ENV, now)
    finally:
        stop.set()
        for reader in readers:
            reader.join(DEADLINE)
        threading.excepthook = previous
    assert failures == []
    assert torn == []
    assert len(versions) > 10
    assert len(reads) > 20


def test_a_reader_that_does_not_end_blocks_nobody(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with contextlib.closing(connect(now, settings.BI, now.bi_password)) as slow, slow.cursor() as cursor:
        cursor.execute("select version from dev.small")  # and the transaction stays open
        begin = time.monotonic()
        postgres.publish(published(tmp_path, 2), ENV, now)
        assert time.monotonic() - begin < DEADLINE
        with as_bi(now) as other:
            other.execute("select max(version) from small")
            assert other.fetchone() == (2,)
    postgres.publish(published(tmp_path, 3), ENV, now)
    with as_bi(now) as cursor:
        cursor.execute("select nspname from pg_namespace where nspname like 'dev%'")
        assert cursor.fetchall() == [("dev",)]


def test_what_postgres_cannot_hold_leaves_the_readers_theirs(now, tmp_path, monkeypatch):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with duckdb.connect(str(tmp_path / "warehouse_dev.duckdb")) as connection:
        connection.execute("create table marts.odd as select 'a' || chr(0) as text")
    copy = duckdb_copy.publish(DuckDBFile(tmp_path / "warehouse_dev.duckdb"), tmp_path / "published")
    with pytest.raises(DataError, match=r"did not get into PostgreSQL's database marts: odd: "):
        postgres.publish(copy, ENV, now)
    with as_bi(now) as cursor:
        cursor.execute("select max(version) from small")
        assert cursor.fetchone() == (1,)
    away = now.model_copy(update={"postgres_port": 1})
    with pytest.raises(StackError, match=r"\.s\.PGSQL\.1\b") as error:
        postgres.publish(copy, ENV, away)
    assert now.postgres_password not in str(error.value)
    stranger = now.model_copy(update={"postgres_password": "wrong"})
    with pytest.raises(DataError, match="password authentication failed"):
        postgres.publish(copy, ENV, stranger)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg2.errors.InsufficientPrivilege("permission denied for schema dev"), DataError),
        (psycopg2.errors.NumericValueOutOfRange("integer out of range"), DataError),
        (psycopg2.errors.DeadlockDetected("deadlock detected"), StackError),
        (psycopg2.errors.AdminShutdown("terminating connection"), StackError),
        (psycopg2.errors.DiskFull("could not extend file"), StackError),
        (psycopg2.InterfaceError("connection already closed"), StackError),
        (psycopg2.OperationalError('FATAL:  database "marts" does not exist'), DataError),
        (psycopg2.OperationalError("FATAL:  the database system is shutting down"), StackError),
        (duckdb.IOException('IO Error: Could not set lock on file "x"'), StackError),
        (duckdb.IOException('IO Error: Cannot open file "x": Permission denied'), DataError),
        (duckdb.IOException('IO Error: ...: FATAL:  password authentication failed for user "elt"'), DataError),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate"), StackError),
        (duckdb.Error("odd: Invalid Input Error: a NULL-byte"), DataError),
        (duckdb.Error("wide: Failed to copy data: server closed the connection unexpectedly"), StackError),
    ],
)
def test_what_a_second_try_would_meet_again_is_told_apart(error, kind):
    assert type(postgres.failure("publish", error)) is kind


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[9007199254740993::hugeint, null]", "{9007199254740993,NULL}"),
        ("[[9007199254740993::hugeint]]", "{{9007199254740993}}"),
        ("[[1, null], [2, 3]]", "{{1,NULL},{2,3}}"),
        ("[]::int[][]", "{}"),
        ("'2024-01-01 10:00:00.123456'::timestamp_ns", "2024-01-01 10:00:00.123456"),
        ("'infinity'::timestamp_ns", "infinity"),
        ("'4714-11-24 (BC)'::timestamp", "4714-11-24 00:00:00 BC"),
        ("['-infinity'::timestamp, null]", "{-infinity,NULL}"),
        ("'2024-01-01 10:00:00.123456789'::timestamp_ns", None),
        ("['2024-01-01 10:00:00.123456789'::timestamp_ns]", None),
        ("[[1], []]", None),
        ("[null, null]::int[][]", None),
        ("[[[]]]::int[][][]", None),
        ("'290309-12-22 (BC)'::timestamp", None),
        ("['290309-12-22 (BC)'::timestamp]", None),
        ("'290309-12-22 (BC) 00:00:00+00'::timestamptz", None),
    ],
)
def test_a_value_gets_through_as_it_is_or_is_named(now, tmp_path, value, expected):
    warehouse = tmp_path / "warehouse_dev.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f'create schema marts; create table marts.odd as select {value} as "the value"')
    copy = duckdb_copy.publish(DuckDBFile(warehouse), tmp_path / "published")
    if expected is None:
        with pytest.raises(DataError, match=r'odd: .*column "the value": PostgreSQL has no place for '):
            postgres.publish(copy, ENV, now)
        return
    postgres.publish(copy, ENV, now)
    with connect(now, "elt", now.postgres_password).cursor() as cursor:
        cursor.execute(f'select "the value"::text from {ENV}.odd')
        assert cursor.fetchall() == [(expected,)]


@pytest.mark.parametrize(
    ("columns", "value", "says"),
    [
        (500, "'text ' || i", None),
        (1601, "i", "mart wide has 1,601 columns and PostgreSQL takes 1,600: divide it into several marts"),
        (
            600,
            "repeat('long text ', 9) || i",
            "wide: .*row is too big.*divide the mart into several of fewer columns",
        ),
    ],
)
def test_a_wide_mart_gets_through_or_is_named(now, tmp_path, columns, value, says):
    with duckdb.connect(str(tmp_path / "warehouse_dev.duckdb")) as connection:
        connection.execute("create schema marts")
        values = ", ".join(f"{value} as c{number}" for number in range(columns))
        connection.execute(f"create table marts.wide as select {values} from range(3) as r(i)")
    copy = duckdb_copy.publish(DuckDBFile(tmp_path / "warehouse_dev.duckdb"), tmp_path / "published")
    if says:
        with pytest.raises(DataError, match=says):
            postgres.publish(copy, "wide", now)
    else:
        postgres.publish(copy, "wide", now)
        with contextlib.closing(connect(now, settings.BI, now.bi_password)) as connection:
            cursor = connection.cursor()
            cursor.execute("select c0, c499 from wide.wide order by 1")
            assert cursor.fetchall() == [("text 0", "text 0"), ("text 1", "text 1"), ("text 2", "text 2")]


def test_a_publication_that_fails_halfway_leaves_the_file_and_its_copies(now, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "WAREHOUSES", tmp_path)
    monkeypatch.setattr(layout, "PUBLISHED", tmp_path)
    monkeypatch.setattr(layout, "warehouse", lambda environment: tmp_path / f"warehouse_{environment}.duckdb")
    monkeypatch.setattr(layout, "published", lambda _: tmp_path / "published")
    published(tmp_path, 1)
    duckdb_copy.to_all_readers(ENV, now)
    copies = sorted((tmp_path / "published").glob("marts-*.duckdb"))
    link = (tmp_path / "published" / duckdb_copy.LINK).resolve()
    with duckdb.connect(str(tmp_path / "warehouse_dev.duckdb")) as connection:
        connection.execute(f"create table marts.huge as select {2**127 - 1}::hugeint as i")
    for _ in range(3):  # as often as the task tries
        with pytest.raises(DataError, match="did not get into PostgreSQL"):
            duckdb_copy.to_all_readers(ENV, now)
    assert (tmp_path / "published" / duckdb_copy.LINK).resolve() == link
    assert sorted((tmp_path / "published").glob("marts-*.duckdb")) == copies


def test_odd_names_get_through_and_one_name_is_taken(now, tmp_path):
    published(tmp_path, 1)
    with duckdb.connect(str(tmp_path / "warehouse_dev.duckdb")) as connection:
        connection.execute('create table marts."we""ird" as select 1::hugeint as "a""b", 2 as "select"')
    postgres.publish(
        duckdb_copy.publish(DuckDBFile(tmp_path / "warehouse_dev.duckdb"), tmp_path / "published"), ENV, now
    )
    with as_bi(now) as cursor:
        cursor.execute('select "a""b", "select" from "we""ird"')
        assert cursor.fetchone() == (1, 2)
    with duckdb.connect(str(tmp_path / "warehouse_dev.duckdb")) as connection:
        connection.execute("create table marts.published as select 1 as i")
    with pytest.raises(DataError, match="called published"):
        duckdb_copy.publish(DuckDBFile(tmp_path / "warehouse_dev.duckdb"), tmp_path / "published")


def test_what_was_built_on_the_marts_stays_while_their_columns_do(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    with contextlib.closing(connect(now, settings.OWNER, now.postgres_password)) as owner, owner.cursor() as cursor:
        cursor.execute("create view dev.mine as select max(version) from dev.large")
        owner.commit()
        postgres.publish(published(tmp_path, 2), ENV, now)
        cursor.execute("select * from dev.mine")
        assert cursor.fetchone() == (2,)


def test_another_column_is_published_and_an_old_mart_goes(now, tmp_path):
    postgres.publish(published(tmp_path, 1), ENV, now)
    published(tmp_path, 2)
    with duckdb.connect(str(tmp_path / "warehouse_dev.duckdb")) as connection:
        connection.execute("alter table marts.large add column more integer default 7; drop table marts.small")
    postgres.publish(
        duckdb_copy.publish(DuckDBFile(tmp_path / "warehouse_dev.duckdb"), tmp_path / "published"), ENV, now
    )
    with as_bi(now) as cursor:
        cursor.execute("select min(more), max(version) from large")
        assert cursor.fetchone() == (7, 2)
        cursor.execute("select tablename from pg_tables where schemaname = 'dev' order by 1")
        assert cursor.fetchall() == [("large",), ("published",)]
