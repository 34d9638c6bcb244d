"""A database is added, loaded and removed, in a copy of the clone; what is written passes the hooks."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import sys
import time
import typing as t
from pathlib import Path

import duckdb
import psycopg2
import pytest
import sqlalchemy
from workspace import DEADLINE, ROOT, apart, copy, said

from elt.pipeline import plan

if t.TYPE_CHECKING:
    import subprocess
    import types
    from collections.abc import Iterator

ELT = (sys.executable, "-c", "from elt.cli import main; main()")
SHOP = """
create table customers (customer_id integer primary key, name varchar(40), is_vip boolean, updated_at timestamp);
insert into customers values (1, 'Ada', {true}, '2024-01-01 10:00:00'), (2, 'Grace', {false}, '2024-01-02 10:00:00');
create table "order lines" (order_id integer, line integer, "group" varchar(9), amount decimal(9, 2),
    primary key (order_id, line));
insert into "order lines" values (1, 1, 'a', 12.5), (1, 2, 'b', 0.25), (2, 1, null, 3);
create view names as select name from customers;
"""


class Clone(t.NamedTuple):
    """A copy of the working tree, with a state folder of its own."""

    root: Path
    env: dict[str, str]

    def elt(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return said(*ELT, *words, cwd=self.root, env=self.env)

    def ran(self, *words: str | Path) -> str:
        done = self.elt(*words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def rows(self, query: str) -> list[tuple[t.Any, ...]]:
        with duckdb.connect(self.env["ELT_STATE"] + "/inner/warehouse_dev.duckdb", read_only=True) as connection:
            return connection.execute(query).fetchall()

    def files(self) -> dict[str, bytes]:
        paths = (path for name in ("meltano", "transform") for path in (self.root / name).rglob("*"))
        return {str(one): one.read_bytes() for one in paths if one.is_file() and one.suffix != ".pyc"}


@pytest.fixture
def here(tmp_path, state) -> Clone:
    copy(tmp_path / "clone")
    shutil.copy(ROOT / ".env", tmp_path / "clone")
    return Clone(tmp_path / "clone", apart(state) | {"UV_PROJECT_ENVIRONMENT": sys.prefix, "ELT_ENVIRONMENT": "dev"})


@pytest.fixture(scope="module")
def harness() -> types.ModuleType:
    """What starts servers for the tests of the taps."""
    path = ROOT / "meltano" / "connectors" / "elt-tap-sql" / "tests" / "tap_sql_harness.py"
    spec = importlib.util.spec_from_file_location("tap_sql_harness", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["tap_sql_harness"] = module
    spec.loader.exec_module(module)
    return module


def answered(clone: Clone, answers: dict[str, str], *words: str) -> str:
    """Run `elt` on a terminal, and answer what it asks."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(clone.root)
        os.execve(sys.executable, [*ELT, *words], clone.env)  # noqa: S606
    whole, since = "", ""
    left = dict(answers)
    limit = time.monotonic() + DEADLINE
    while select.select([terminal], [], [], max(0, limit - time.monotonic()))[0]:
        try:
            new = os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # Linux's end of a terminal
            break
        if not new:
            break
        whole, since = whole + new, since + new
        for what in [one for one in left if since.endswith(f"{one}: ")]:
            os.write(terminal, left.pop(what).encode() + b"\n")
            since = ""
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, whole
    assert not left, whole
    return whole


def test_a_file_of_sqlite_is_added_loaded_and_removed(here, tmp_path):
    if not importlib.util.find_spec("duckdb_extension_sqlite_scanner"):
        pytest.skip("the group sqlite is not installed")
    path = tmp_path / "tzz.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(SHOP.format(true=1, false=0))
    before = here.files()
    out = here.ran("source", "add", "tzz", "--kind", "sqlite", "--path", path)
    assert "next: .venv/bin/elt run --source tzz --full-refresh\n" in out
    assert "nothing is changed" in here.ran("source", "add", "tzz", "--kind", "sqlite", "--path", path)
    for hook in (
        ("meltano-schema", "meltano/meltano.yml"),
        ("python", "-m", "elt.sources.jobs"),
        ("sqlfmt", "--check", "transform/models/staging/tzz"),
        ("check-yaml", *map(str, (here.root / "transform" / "models" / "staging" / "tzz").glob("*.yml"))),
        ("detect-secrets-hook", "--no-verify", "meltano/sources/tzz.txt"),
    ):
        done = said("scripts/hook.sh", *hook, cwd=here.root, env=here.env)
        assert done.returncode == 0, done.stdout
    mart = here.root / "transform" / "models" / "marts" / "tzz_totals.sql"
    mart.parent.mkdir(exist_ok=True)
    mart.write_text("select cast(sum(amount) as double) as total from {{ ref('stg_tzz__order_lines') }}\n")
    mart.with_suffix(".yml").write_text("models: [{name: tzz_totals, columns: [{name: total, data_type: double}]}]\n")
    assert "raw_tzz.customers: 2 rows" in here.ran("run", "--source", "tzz")
    assert here.rows(
        "select customer_id, name, is_vip, updated_at::varchar from staging.stg_tzz__customers order by 1"
    ) == [
        (1, "Ada", True, "2024-01-01 10:00:00"),
        (2, "Grace", False, "2024-01-02 10:00:00"),
    ]
    assert here.rows('select "group" from staging.stg_tzz__order_lines order by order_id, line') == [
        ("a",),
        ("b",),
        (None,),
    ]
    assert here.rows("from marts.tzz_totals") == [(15.75,)]
    with sqlite3.connect(path) as connection:
        connection.execute(
            "update customers set name = 'Ada L.', updated_at = '2024-02-01 10:00:00' where customer_id = 1"
        )
        connection.execute('delete from "order lines" where line = 2')
    here.ran("run", "--source", "tzz")
    assert here.rows("select name from staging.stg_tzz__customers order by customer_id") == [("Ada L.",), ("Grace",)]
    assert here.rows("from marts.tzz_totals") == [(15.5,)]
    assert here.rows("select count(*) from raw_tzz.names") == [(2,)]  # without a key, and not twice after two loads
    planned(here)
    out = here.ran("source", "remove", "tzz")
    assert f"stg_tzz__order_lines.sql stays: it is used by {mart}" in out
    mart.unlink()
    mart.with_suffix(".yml").unlink()
    out = here.ran("source", "remove", "tzz")
    assert here.files() == before
    (drop,) = [line.strip() for line in out.splitlines() if "drop schema" in line]
    done = said(
        "bash",
        "-c",
        drop.replace(".venv/bin/elt", f"{Path(sys.prefix) / 'bin' / 'elt'}"),
        cwd=here.root,
        env=here.env,
    )
    assert done.returncode == 0, done.stdout
    assert here.rows("select count(*) from duckdb_tables() where schema_name = 'raw_tzz'") == [(0,)]
    out = here.ran("source", "add", "tzz", "--kind", "sqlite", "--path", path)  # Meltano's bookmarks are there still
    (following,) = [line.split() for line in out.splitlines() if line.startswith("next: ")]
    assert "raw_tzz.customers: 2 rows" in here.ran(*following[2:])


def test_names_of_somebody_else_do_not_run_as_templates(here, tmp_path):
    """Neither in the SQL nor in the YAML of dbt, whose templates run statements and read the environment."""
    mark = tmp_path / "mark"
    name = "a{{ run_query(\"copy (select 1) to '" + str(mark) + "'\") }}"
    path = tmp_path / "evil.db"
    with contextlib.closing(sqlite3.connect(path)) as made:
        quoted = name.replace('"', '""')
        made.execute(f'create table t (id integer primary key, "{quoted}" text, "b{{% x" text, "c{{#" text)')
        made.execute("insert into t values (1, 'a', 'b', 'c')")
        made.commit()
    here.ran("source", "add", "evil", "--kind", "sqlite", "--path", path)
    here.ran("run", "--source", "evil")
    assert not mark.exists()
    csv = tmp_path / "h.csv"
    csv.write_text('id,"a{{ env_var(""NONE"") }}","b{% x","c{#"\n1,2,3,4\n')
    here.ran("source", "add", "headed", "--kind", "csv", "--path", csv)
    here.ran("exec", "dbt", "parse", "--no-partial-parse")
    held = json.loads((Path(here.env["ELT_STATE"]) / "dbt/target/manifest.json").read_text())["sources"]
    (columns,) = [one["columns"] for one in held.values() if one["name"] == "headed"]
    assert [*columns] == ["id", 'a{{ env_var("none") }}', "b{% x", "c{#"]
    assert columns["c{#"]["description"] == "c{# (integer)."


def planned(here: Clone) -> None:
    """What `elt plan` says after two runs is what dbt and the warehouse say."""
    here.ran("plan", "--local")  # dbt parses what changed
    began = time.perf_counter()
    out = here.ran("plan", "dev", "tzz", "--local")
    assert time.perf_counter() - began < 3
    words = ("--project-dir", "transform", "--profiles-dir", "transform", "--select", "tag:tzz+")
    listed = here.ran("exec", "dbt", "--quiet", "ls", *words, "--output", "json", "--output-keys", "resource_type")
    kinds = [json.loads(line)["resource_type"] for line in listed.splitlines()]
    assert f"  dbt    {kinds.count('model')} models, {kinds.count('test')} tests: tag:tzz+\n" in out
    assert "         main-customers updated_at 2024-02-01T10:00:00\n" in out
    ((total, new),) = here.rows(
        "select (select count(*) from raw_tzz.customers) + (select count(*) from raw_tzz.names)"
        ' + (select count(*) from raw_tzz."order lines"), 6'
    )
    assert re.search(rf"  rows   {total} in 3 tables of raw_tzz, {new} of them by that run\n", out), out
    assert "  1 extract_load: `meltano run tap-sqlite--tzz target-duckdb--tzz`\n" in out


@pytest.fixture
def server(harness, tmp_path) -> Iterator[dict[str, t.Any]]:
    """PostgreSQL with the tables; the settings that lead to it."""
    (tmp_path / "postgres").mkdir()
    with harness.postgres(tmp_path / "postgres") as (given, connection):
        with connection.cursor() as cursor:
            cursor.execute(SHOP.format(true="true", false="false"))
        yield given


def test_postgresql_is_added_by_a_person_at_a_terminal(here, server):
    answers = {
        "kind": "postgres",
        "host": server["host"],
        "port [5432]": str(server["port"]),
        "user": server["user"],
        "database": server["database"],
        "schedule [@daily]": "@hourly",
        f"password of {server['user']} at 127.0.0.1 (empty for none)": server["password"],
    }
    out = answered(here, answers, "source", "add", "tzz", "--tables", "customers,order lines")
    assert "TAP_POSTGRES__TZZ_PASSWORD=********" in out
    assert server["password"] not in out
    assert (here.root / ".env").stat().st_mode & 0o777 == 0o600
    assert "raw_tzz.order lines: 3 rows" in here.ran("run", "--source", "tzz")
    assert here.rows("select customer_id, name, is_vip from staging.stg_tzz__customers order by 1") == [
        (1, "Ada", True),
        (2, "Grace", False),
    ]
    out = here.ran("plan", "--local", "tzz")
    assert (
        f"host 127.0.0.1, port {server['port']}, user elt, database postgres, TAP_POSTGRES__TZZ_PASSWORD ***\n" in out
    )
    assert server["password"] not in out
    secret = server["password"].encode()
    assert [name for name, text in here.files().items() if secret in text] == []
    done = here.elt("source", "add", "other", "--kind", "postgres", "--host", "127.0.0.1", "--user", "elt")
    assert done.stdout == "elt: source: --database is missing\n"


def test_a_file_is_added_with_a_schedule_and_removed(here):
    (here.root / "meltano" / "extract" / "stores.csv").write_text("store_id;rent\n" + "7;2,50\n" * 3)
    before = here.files()
    words = ("source", "add", "stores", "--kind", "csv", "--path", "meltano/extract/stores.csv")
    out = here.ran(*words, "--schedule", "30 5 * * 1-5")
    assert "key candidates" in out
    assert "+          - entity: stores\n" in out
    assert "nothing is changed" in here.ran(*words)
    done = said("scripts/hook.sh", "python", "-m", "elt.sources.jobs", cwd=here.root, env=here.env)
    assert done.returncode == 0, done.stdout
    done = here.elt("source", "add", "other", *words[3:])
    assert done.returncode == 0, done.stdout
    assert "wait_for: stores" in (here.root / "meltano" / "meltano.yml").read_text()
    done = here.elt("source", "add", "stores", *words[3:])
    assert "nothing is changed" in done.stdout
    here.ran("source", "remove", "other")
    assert "drop table if exists raw.stores" not in here.ran("source", "remove", "stores")  # there is no warehouse
    assert here.files() == before


def test_a_plan_reads_the_state_of_the_stack(server):
    reach = {"dbname" if name == "database" else name: value for name, value in server.items()}
    with contextlib.closing(psycopg2.connect(**reach)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("create table runs (job_name text, state text, started_at timestamp)")
        cursor.execute("create table state (state_id text, completed_state text, partial_state text)")
        cursor.execute(
            "insert into runs values ('dev:a-to-b', 'FAIL', '2026-01-02 03:04:05.6'), ('x', 'SUCCESS', now())"
        )
        mark = '{"singer_state": {"bookmarks": {"t": {"replication_key": "id", "replication_key_value": 7}}}}'
        cursor.execute("insert into state values ('dev:a-to-b', %s)", [mark])
    address = sqlalchemy.URL.create(
        "postgresql+psycopg2", server["user"], server["password"], server["host"], server["port"], server["database"]
    ).render_as_string(hide_password=False)
    last = plan._last("dev:a-to-b", {"MELTANO_DATABASE_URI": address})
    assert (last.said, last.bookmarks) == ("the last run began 2026-01-02 03:04:05 UTC: fail", ("t id 7",))
    assert plan._last("prod:a-to-b", {"MELTANO_DATABASE_URI": address}).said == "none: the first run loads everything"
