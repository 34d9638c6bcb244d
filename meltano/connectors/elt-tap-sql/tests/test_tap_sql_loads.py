"""Discovery, full loads of one moment, and incremental ones that lose nothing."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import duckdb
import psycopg2
import pytest
from tap_sql_harness import DIALECTS, Source, batched, command

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_sql_harness import Ran


def connect(pg: Source, **other: t.Any) -> t.Any:
    """Another connection to the database."""
    given = pg.settings | other
    return psycopg2.connect(**{"dbname" if name == "database" else name: value for name, value in given.items()})


def load(
    source: Source,
    warehouse: Path,
    catalog: t.Any,
    folder: Path,
    state: t.Any = None,
    *,
    hard_delete: bool = True,
    **settings: t.Any,
) -> t.Any:
    """Load by pipe, as files if a folder is given: the state that the target says last."""
    files = {"config": source.settings | source.extra | {"retries": 0} | settings, "catalog": catalog}
    files |= {"state": state} if state else {}
    words = []
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        words += [f"--{name}", path]
    goal = folder / "target.json"
    given = {
        "path": str(warehouse),
        "default_target_schema": "raw",
        "primary_key_required": False,
        "hard_delete": hard_delete,
        "batch_folder": str(folder),
    }
    goal.write_text(json.dumps(given))
    sent = subprocess.run(command(source.kind, *words), capture_output=True, check=True)
    target = [str(Path(sys.executable).with_name("target-duckdb")), "--config", str(goal)]
    ran = subprocess.run(target, input=sent.stdout, capture_output=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1]) if ran.stdout else None


def rows(warehouse: Path, query: str) -> list[tuple[t.Any, ...]]:
    with duckdb.connect(str(warehouse)) as connection:
        return connection.execute(query).fetchall()


def test_discovery_finds_each_kind_of_table_once(pg: Source) -> None:
    pg.execute(
        "create table parted (id int, at date, primary key (id, at)) partition by range (at);"
        "create table parted_1 partition of parted for values from ('2024-01-01') to ('2025-01-01');"
        "create view seen as select * from parted; create materialized view kept as select 1 as n;"
        'create table "Odd.Name-""1" ("a.b" int primary key, dropped int, "Ü" text); '
        'alter table "Odd.Name-""1" drop column dropped; create table empty ()'
    )
    found = {one["table_name"]: one for one in pg.discover()["streams"]}
    assert set(found) == {"parted", "seen", "kept", 'Odd.Name-"1'}
    assert found["parted"]["key_properties"] == ["id", "at"]
    assert found["seen"]["metadata"][0]["metadata"]["view-key-properties"] == []
    assert list(found['Odd.Name-"1']["schema"]["properties"]) == ["a.b", "Ü"]
    assert found["kept"]["metadata"][0]["metadata"]["is-view"] is True
    assert pg.discover(filter_schemas=["nowhere"]) == {"streams": []}
    pg.execute('insert into "Odd.Name-""1" values (1, \'x\')')
    catalog = pg.only('Odd.Name-"1', "seen")
    catalog["streams"][-1]["metadata"][0]["metadata"]["view-key-properties"] = ["id"]
    ran = pg.run(catalog)
    assert ran.records == [{"a.b": 1, "Ü": "x"}]
    assert ran.of_type("SCHEMA", "public-seen")[0]["key_properties"] == ["id"]


def test_tables_that_the_scanner_would_take_for_another_are_read_whole(pg: Source) -> None:
    pg.execute('create table t (id int); create table "T" (id int, n int); insert into t values (1)')
    pg.execute('insert into "T" select 2, i from generate_series(1, 3) i; create table above (id int)')
    pg.execute(
        "create table below (m int) inherits (above); insert into below select i, i from generate_series(1, 5000) i"
    )
    ran = pg.run()
    assert ran.error is None
    count = {name: len(ran.of_type("RECORD", f"public-{name}")) for name in ("t", "T", "above", "below")}
    assert count == {"t": 1, "T": 3, "above": 5000, "below": 5000}
    assert "n" not in ran.of_type("RECORD", "public-t")[0]["record"]


def test_tables_that_may_not_be_read_are_left_out(pg: Source) -> None:
    pg.execute("create table open (id int, secret int); create table closed (id int); drop role if exists guest")
    pg.execute("create role guest login password 'guest'")  # pragma: allowlist secret
    pg.execute("grant usage on schema public to guest; grant select (id) on open to guest")
    found = pg.discover(user="guest", password="guest")  # noqa: S106  # pragma: allowlist secret
    assert [(one["table_name"], list(one["schema"]["properties"])) for one in found["streams"]] == [("open", ["id"])]


def test_five_thousand_tables_are_discovered_in_time(pg: Source) -> None:
    for begin in range(0, 5000, 500):  # a transaction holds a lock for each table
        pg.execute(
            f"do $$ begin for i in {begin}..{begin + 499} loop execute format('create table t%s "
            "(id int primary key, a text, b numeric(10,2), c timestamptz, d jsonb)', i); end loop; end $$"
        )
    started = time.process_time()
    before = time.monotonic()
    assert len(pg.discover()["streams"]) == 5000
    assert time.process_time() - started < 10
    assert time.monotonic() - before < 30
    for begin in range(0, 5000, 500):
        pg.execute("; ".join(f"drop table t{number}" for number in range(begin, begin + 500)))


@pytest.fixture
def busy(pg: Source) -> Iterator[Source]:
    """Two tables between which transactions move amounts all the time."""
    pg.execute("create table a (id int primary key, n int); create table b (id int primary key, n int)")
    pg.execute("insert into a select i, 100 from generate_series(1, 20000) i; insert into b select * from a")
    stop = threading.Event()

    def write() -> None:
        connection = connect(pg)
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("update a set n = n + 1 where id = (random() * 19998)::int + 1")
                both = "select n from a union all select n from b"
                cursor.execute(f"update b set n = n + (select 4000000 - sum(n) from ({both}) s) where id = 1")
                connection.commit()
        connection.close()

    pg.execute("update b set n = 0; update b set n = 400000 * 10 - 2000000 where id = 1")
    writers = [threading.Thread(target=write)]
    for one in writers:
        one.start()
    yield pg
    stop.set()
    for one in writers:
        one.join()


def test_all_streams_are_of_one_moment(busy: Source, tmp_path: Path) -> None:
    for _ in range(5):
        ran = busy.run(**batched(tmp_path))
        assert ran.error is None
        assert ran.rows("sum(n)") == [(4_000_000,)]


def test_mariadb_streams_are_of_one_moment_however_they_are_read(my: Source) -> None:
    my.execute("create table shop.a (id int primary key, n int)")
    my.execute("create table shop.b (id int primary key, n int, t time(3) null)")
    my.execute("insert into shop.a values (1, 0)")
    my.execute("insert into shop.b values (1, 0, null)")
    stop = threading.Event()
    wrong: list[Ran] = []

    def read() -> None:
        for _ in range(10):
            ran = my.run()
            one, other = (record["n"] for record in ran.records)
            wrong.extend([ran] if one != other else [])
        stop.set()

    reader = threading.Thread(target=read)
    reader.start()
    while not stop.is_set():
        my.execute("update shop.a join shop.b using (id) set a.n = a.n + 1, b.n = b.n + 1")
    reader.join()
    assert not wrong


def test_a_server_that_gives_no_snapshot_is_refused_with_the_statement_to_run(my: Source) -> None:
    my.execute("create table shop.t (id int primary key)")
    my.execute("set global transaction isolation level read committed")
    try:
        ran = my.run()
        assert "run `set global transaction isolation level repeatable read` on the server" in str(ran.error)
        assert ran.messages == []
    finally:
        my.execute("set global transaction isolation level repeatable read")


@pytest.mark.parametrize("files", [True, False])
def test_a_full_load_retires_what_is_gone_at_its_end(pg: Source, tmp_path: Path, files: bool) -> None:
    pg.execute("create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')")
    warehouse, settings = tmp_path / "w.duckdb", batched(tmp_path) if files else {}
    load(pg, warehouse, pg.only("t"), tmp_path, **settings)
    pg.execute("delete from t where id = 1; alter table t add column added int default 5")
    load(pg, warehouse, pg.only("t"), tmp_path, **settings)
    assert rows(warehouse, "select id, v, added from raw.t") == [(2, "b", 5)]
    assert pg.run(pg.only("t")).messages[-2]["type"] == "ACTIVATE_VERSION"


@pytest.mark.parametrize("hard_delete", [False, True])
@pytest.mark.parametrize("kind", ["pg", "my", "lite"])
def test_reconcile_retires_what_a_replication_key_does_not_show(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, hard_delete: bool
) -> None:
    source: Source = request.getfixturevalue(kind)
    table, folder = "shop.things" if kind == "my" else "things", tmp_path / "files"
    folder.mkdir()
    source.execute(f"create table {table} (id int, part varchar(9), u int not null, primary key (id, part))")
    source.execute(f"insert into {table} values (1, 'a', 1), (1, 'b', 2), (2, 'a', 3), (3, 'a', 4)")
    catalog, warehouse, state = source.only("things", key="u"), tmp_path / "w.duckdb", None

    def live(**settings: t.Any) -> list[tuple[t.Any, ...]]:
        nonlocal state
        files = batched(folder) | {"overlap_rows": 0}
        state = load(source, warehouse, catalog, tmp_path, state, hard_delete=hard_delete, **files, **settings)
        assert not [*folder.iterdir()]
        marked = "" if hard_delete or not settings or not state else " where _sdc_deleted_at is null"
        return rows(warehouse, f"select id, part, u from raw.things{marked} order by all")

    everything = [(1, "a", 1), (1, "b", 2), (2, "a", 3), (3, "a", 4)]
    assert live() == everything
    source.execute(f"delete from {table} where part = 'b' or id = 2")
    source.execute(f"insert into {table} values (4, 'a', 5)")
    assert live() == [*everything, (4, "a", 5)], "a replication key alone does not show it"
    assert live(reconcile="keys") == [(1, "a", 1), (3, "a", 4), (4, "a", 5)]
    source.execute(f"insert into {table} values (2, 'a', 3)")  # out of a backup: its replication key is old
    again = [] if hard_delete else [(2, "a", 3)]
    assert live(reconcile="keys") == [(1, "a", 1), *again, (3, "a", 4), (4, "a", 5)]
    source.execute(f"delete from {table}")
    assert live(reconcile="keys") == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reconcile": "rows", "batch_config": None}, "reconcile: keys, or leave it out"),
        ({"reconcile": "keys"}, "reconcile: set batch_config too"),
    ],
)
def test_reconcile_needs_its_settings(lite: Source, settings: dict[str, t.Any], said: str) -> None:
    assert said in str(lite.run(**settings).error)


def test_a_stream_without_a_key_is_not_reconciled(
    lite: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lite.execute("create table things (u int not null); insert into things values (1)")
    catalog, settings = lite.only("things", key="u"), batched(tmp_path) | {"reconcile": "keys"}
    state = lite.run(catalog, **settings).state
    assert not lite.run(catalog, state, **settings).of_type("KEYS")
    assert "things: has no key, and so is not reconciled" in caplog.text


def test_a_row_that_commits_late_is_not_lost(pg: Source, tmp_path: Path) -> None:
    pg.execute("create table t (id int primary key, v text, at timestamptz not null default now())")
    pg.execute("create index on t (at); insert into t values (1, 'old'), (2, 'old')")
    warehouse, catalog = tmp_path / "w.duckdb", pg.only("t", key="at")
    late = connect(pg)
    late.cursor().execute("update t set v = 'late', at = now() where id = 1")  # begins, and does not commit
    time.sleep(0.05)
    pg.execute("update t set v = 'soon', at = now() where id = 2")
    state = load(pg, warehouse, catalog, tmp_path)
    late.commit()
    late.close()
    state = load(pg, warehouse, catalog, tmp_path, state)
    wanted = pg.execute("select id, v from t order by id")
    assert rows(warehouse, "select id, v from raw.t order by id") == wanted == [(1, "late"), (2, "soon")]
    pg.execute("insert into t values (3, 'equal', (select at from t where id = 2))")
    load(pg, warehouse, catalog, tmp_path, state)
    assert rows(warehouse, "select v from raw.t where id = 3") == [("equal",)]


def test_without_the_privilege_bookmarks_stay_back(pg: Source, caplog: pytest.LogCaptureFixture) -> None:
    pg.execute("drop role if exists blind; create role blind login password 'blind'")  # pragma: allowlist secret
    pg.execute(
        "create table t (id int primary key, at timestamp not null);"
        "insert into t values (1, now()), (2, '2020-01-01')"
    )
    pg.execute("grant usage on schema public to blind; grant select on t to blind")
    pg.extra = {"user": "blind", "password": "blind"}  # pragma: allowlist secret
    ran = pg.run(pg.only("t", key="at"), overlap_seconds=60)
    assert "bookmarks stay 60 s (overlap_seconds) back" in caplog.text
    reached = ran.state["bookmarks"]["public-t"]["replication_key_value"]
    ((back,),) = pg.execute(f"select extract(epoch from now() at time zone 'UTC' - '{reached}'::timestamp)::int")
    assert 60 <= back < 120
    assert len(pg.run(pg.only("t", key="at"), ran.state).records) == 1


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date"])
@pytest.mark.parametrize("far", ["infinity", "20224-01-01"])
def test_a_key_beyond_all_clocks_hides_no_other(
    pg: Source, caplog: pytest.LogCaptureFixture, kind: str, far: str
) -> None:
    pg.execute(f"create table t (id int primary key, at {kind}); insert into t values (1, '2024-01-01')")
    catalog = pg.only("t", key="at")
    state = pg.run(catalog).state
    pg.execute(f"insert into t values (2, '{far}'), (3, now())")
    ran = pg.run(catalog, state)
    assert {2, 3} <= {one["id"] for one in ran.records}
    pg.execute("insert into t values (4, now())")
    assert 4 in {one["id"] for one in pg.run(catalog, ran.state).records}
    ran.state["bookmarks"]["public-t"]["replication_key_value"] = "20224-01-01"  # as earlier versions said it
    assert len(pg.run(catalog, ran.state).records) == 4
    assert "the bookmark is past the year 9999" in caplog.text


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date"])
def test_keys_before_christ_hide_no_later_ones(pg: Source, kind: str) -> None:
    pg.execute(f"create table t (id int primary key, at {kind}); insert into t values (1, '0044-03-15 BC')")
    catalog = pg.only("t", key="at")
    state = pg.run(catalog).state
    pg.execute("insert into t values (2, '0007-01-01 BC')")
    assert {one["id"] for one in pg.run(catalog, state).records} == {1, 2}


def test_integers_at_the_end_of_their_type_are_read_on(pg: Source) -> None:
    pg.execute("create table t (id smallint primary key, o oid); insert into t values (-32768, 5)")
    catalog = pg.only("t", key="id")
    assert len(pg.run(catalog, pg.run(catalog).state).records) == 1
    assert "no order that a bookmark could follow" in str(pg.run(pg.only("t", key="o")).error)


def test_sqlite_times_are_in_order_however_they_are_written(lite: Source) -> None:
    lite.execute(
        "create table t (id integer primary key, at datetime); insert into t values (1, '2024-01-02T08:00:00')"
    )
    catalog = lite.only("t", key="at")
    state = lite.run(catalog).state
    lite.execute("insert into t values (2, '2024-01-02 23:00:00'), (3, '2024-01-02T07:00:00-05:00')")
    lite.execute("insert into t values (4, '2024-01-02 07:59:59.9')")
    assert {one["id"] for one in lite.run(catalog, state).records} == {1, 2, 3}
    state["bookmarks"]["main-t"]["replication_key_value"] = "2024-01-02 22:00:00"  # as earlier versions said it
    assert {one["id"] for one in lite.run(catalog, state).records} == {2}


def test_sqlite_times_of_which_one_is_odd_are_in_order(lite: Source) -> None:
    lite.execute("create table t (id integer primary key, at datetime)")
    lite.execute("insert into t values (1, '2024-01-02T08:00:00'), (2, '')")
    catalog = lite.only("t", key="at")
    ran = lite.run(catalog)
    assert ran.properties["at"] == {"type": ["string", "null"]}
    lite.execute("insert into t values (3, '2024-01-02 23:00:00')")
    assert {one["id"] for one in lite.run(catalog, ran.state).records} == {1, 3}


@pytest.mark.parametrize(
    ("kind", "values"), [("", (5, 6)), ("integer", (5, "'a'")), ("datetime", (5, "'2024-01-02'"))]
)
def test_sqlite_numbers_among_texts_are_no_replication_key(
    lite: Source, kind: str, values: tuple[t.Any, t.Any]
) -> None:
    lite.execute(f"create table t (id integer primary key, v {kind})")
    lite.execute("insert into t values (1, {}), (2, {})".format(*values))
    assert "no order that a bookmark could follow" in str(lite.run(lite.only("t", key="v")).error)
    assert len(lite.run().records) == 2


@pytest.mark.parametrize("between", [" ", "T"])
def test_sqlite_bookmarks_stay_back(lite: Source, between: str) -> None:
    now = f"strftime('%Y-%m-%d{between}%H:%M:%S', 'now'"
    lite.execute(
        "create table t (id integer primary key, at datetime);"
        f"insert into t values (1, {now}, '-1 hours')), (2, {now}))"
    )
    catalog = lite.only("t", key="at")
    state = lite.run(catalog).state
    lite.execute(f"insert into t values (3, {now}, '-10 minutes'))")  # which is committed late
    assert {one["id"] for one in lite.run(catalog, state).records} == {2, 3}


def test_a_key_of_a_sequence_reads_rows_again(pg: Source) -> None:
    pg.execute("create table t (id int primary key); insert into t select generate_series(1, 100)")
    catalog = pg.only("t", key="id")
    state = pg.run(catalog).state
    bookmark = state["bookmarks"]["public-t"]
    assert isinstance(bookmark.pop("version"), int)
    assert bookmark == {"replication_key": "id", "replication_key_value": "100"}
    again = pg.run(catalog, state, overlap_rows=10)
    assert sorted(one["id"] for one in again.records) == list(range(90, 101))
    assert again.state == state


@pytest.mark.parametrize(
    ("engine", "kind"), [("pg", "timestamptz"), ("pg", "date"), ("my", "datetime"), ("lite", "datetime")]
)
def test_an_environment_may_begin_with_the_newest_days(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, kind: str
) -> None:
    source: Source = request.getfixturevalue(engine)
    schema, today = "shop." if engine == "my" else "", dt.datetime.now(dt.UTC)
    source.execute(f"create table {schema}t (id integer primary key, at {kind} not null)")

    def put(number: int, days: int) -> None:
        at = (today - dt.timedelta(days=days)).strftime("%Y-%m-%d" if kind == "date" else "%Y-%m-%d %H:%M:%S")
        source.execute(f"insert into {schema}t values ({number}, '{at}')")

    for number, days in enumerate((400, 32, 28, 2), 1):
        put(number, days)
    catalog, warehouse = source.only("t", key="at"), tmp_path / "w.duckdb"
    live = "select id from raw.t where _sdc_deleted_at is null order by id"
    state = load(source, warehouse, catalog, tmp_path, newest_days=30, **batched(tmp_path))
    assert rows(warehouse, live) == [(3,), (4,)]
    put(5, 1)
    state = load(source, warehouse, catalog, tmp_path, state, newest_days=1, **batched(tmp_path))
    assert rows(warehouse, live) == [(3,), (4,), (5,)], "a bookmark goes before it"
    load(source, warehouse, catalog, tmp_path, **batched(tmp_path))
    assert rows(warehouse, live) == [(1,), (2,), (3,), (4,), (5,)]
    load(source, warehouse, catalog, tmp_path, newest_days=30, **batched(tmp_path))
    assert rows(warehouse, live) == [(3,), (4,), (5,)], "a load of all is of what is asked for"


def test_a_load_from_the_beginning_retires_what_is_gone(pg: Source, tmp_path: Path) -> None:
    pg.execute("create table t (id int primary key, at timestamptz not null)")
    pg.execute("insert into t select i, timestamptz '2024-01-01' + i * interval '1 s' from generate_series(1, 5) i")
    live = "select id from raw.t where _sdc_deleted_at is null order by id"
    for place, options in enumerate(({}, batched(tmp_path))):
        pg.execute("insert into t values (2, now()) on conflict do nothing")
        catalog, warehouse = pg.only("t", key="at"), tmp_path / f"{place}.duckdb"
        state = load(pg, warehouse, catalog, tmp_path, **options)
        pg.execute("delete from t where id = 2; update t set at = now() where id = 3")
        load(pg, warehouse, catalog, tmp_path, state, **options)
        assert rows(warehouse, live) == [(1,), (2,), (3,), (4,), (5,)]  # a key shows no deletion
        load(pg, warehouse, catalog, tmp_path, **options)
        assert rows(warehouse, live) == [(1,), (3,), (4,), (5,)]


def test_rows_without_a_key_are_named(pg: Source, caplog: pytest.LogCaptureFixture) -> None:
    pg.execute("create table t (id int primary key, at timestamptz); insert into t values (1, now()), (2, null)")
    catalog = pg.only("t", key="at")
    first = pg.run(catalog)
    assert len(first.records) == 2
    assert "public.t: 1 rows have no 'at', the replication key; they are sent this time" in caplog.text
    pg.execute("delete from t where id = 1")
    later = pg.run(catalog, first.state)
    assert later.records == []
    assert later.state == first.state
    assert "they are not sent" in caplog.text


def test_a_replication_key_that_is_gone_is_an_error(pg: Source) -> None:
    pg.execute("create table t (id int primary key, at timestamptz); insert into t values (1, now())")
    catalog = pg.only("t", key="at")
    state = pg.run(catalog).state
    pg.execute("alter table t drop column at")
    assert "table public.t, column 'at': is gone since the discovery" in str(pg.run(catalog, state).error)
    pg.execute("drop table t")
    assert "table public.t: is gone, or may not be read" in str(pg.run(catalog, state).error)


@pytest.mark.parametrize("kind", ["my", "lite"])
def test_incremental_elsewhere(request: pytest.FixtureRequest, kind: str) -> None:
    source: Source = request.getfixturevalue(kind)
    schema = "shop." if kind == "my" else ""
    source.execute(f"create table {schema}t (id integer primary key, at datetime not null)")
    for row in ("1, '2024-01-01 00:00:00'", "2, '2024-01-02 00:00:00'"):
        source.execute(f"insert into {schema}t values ({row})")
    catalog = source.only("t", key="at")
    first = source.run(catalog)
    assert first.error is None
    source.execute(f"insert into {schema}t values (3, '2024-01-02 00:00:00')")
    again = source.run(catalog, first.state)
    assert again.error is None
    assert sorted(one["id"] for one in again.records) == [2, 3]
    ids = source.run(source.only("t", key="id"), first.state, overlap_rows=0)
    assert len(ids.records) == 3  # the bookmark is of another key
    assert [one["id"] for one in source.run(source.only("t", key="id"), ids.state, overlap_rows=0).records] == [3]


def test_a_column_added_since_the_discovery_is_left_out_and_named(
    pg: Source, caplog: pytest.LogCaptureFixture
) -> None:
    pg.execute("create table t (id int primary key); insert into t values (1)")
    catalog = pg.only("t")
    pg.execute("alter table t add column secret text default 'x'")
    assert pg.run(catalog).records == [{"id": 1}]
    assert "the catalog does not name 'secret'; discover anew to send it" in caplog.text


@pytest.mark.parametrize("kind", sorted(DIALECTS))
def test_the_command_describes_itself(kind: str) -> None:
    ran = subprocess.run(command(kind, "--about", "--format", "json"), capture_output=True, check=True)
    about = json.loads(ran.stdout)
    assert about["name"] == DIALECTS[kind].executable
    assert {"batch_config", "overlap_seconds"} <= about["settings"]["properties"].keys()


def test_files_are_whole_while_others_are_written(pg: Source, tmp_path: Path) -> None:
    pg.execute(
        "create table t as select i, md5(i::text) || md5((i + 1)::text) as v from generate_series(1, 600000) i"
    )
    output = io.BytesIO()
    with pg.tap(output, **batched(tmp_path)) as tap:
        tap.sync()
    manifests = [
        one["manifest"] for line in output.getvalue().splitlines() if (one := json.loads(line))["type"] == "BATCH"
    ]
    assert len(manifests) > 1
    files = [one.removeprefix("file://") for manifest in manifests for one in manifest]
    with duckdb.connect() as connection:
        found = connection.execute(
            f"select count(*), count(distinct i), sum(i) from read_parquet({files})"
        ).fetchone()
    assert found == (600_000, 600_000, 600_000 * 600_001 // 2)


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


def test_a_part_does_not_make_a_table(lite: Source, tmp_path: Path) -> None:
    """Where the table is gone and the state is not, only the last rows would be there, without a word."""
    lite.execute("create table things (id int primary key, u int not null); insert into things values (1, 1), (2, 2)")
    catalog, warehouse, files = lite.only("things", key="u"), tmp_path / "w.duckdb", batched(tmp_path)
    state = load(lite, warehouse, catalog, tmp_path, **files)
    rows(warehouse, "drop table raw.things")
    with pytest.raises(subprocess.CalledProcessError) as error:
        load(lite, warehouse, catalog, tmp_path, state, overlap_rows=0, **files)
    assert b'"things" is not there, and only what is new since an earlier load comes' in error.value.stderr
    load(lite, warehouse, catalog, tmp_path, **files)
    assert rows(warehouse, "select id from raw.things order by id") == [(1,), (2,)]
