"""What adding a source writes, and that removing takes back no more and no less."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from dotenv import dotenv_values
from workspace import ROOT

from elt import layout
from elt.errors import ConfigError, DataError
from elt.sources import adding, database, jobs, pieces, removing

STREAMS = {
    "public-customers": {"id": "integer", "Name": "string", "when": "date", "updated_at": "date-time"},
    "public-order lines": {"order_id": "integer", "line": "integer", "amount": "decimal", "b c": "string"},
    "public-orders": {"order_id": "integer", "loaded_at": "date-time", "other": "json", "modified_at": "date-time"},
    "public-view": {"order": "string", "updated_at": "date-time"},
}
KEYS = {"public-customers": ["id"], "public-order lines": ["order_id", "line"], "public-orders": ["order_id"]}


def schema(kind):
    if kind == "decimal":
        return {"type": ["number", "null"], "multipleOf": 0.01, "x-singer.decimal": {"precision": 9, "scale": 2}}
    if kind == "json":
        return {}
    return {"type": ["string", "null"], "format": kind} if kind.startswith("date") else {"type": [kind, "null"]}


def stream(name):
    columns = {column: schema(kind) for column, kind in STREAMS[name].items()}
    data = {"table-key-properties": KEYS.get(name, []), "valid-replication-keys": [*columns]}
    return {
        "tap_stream_id": name,
        "table_name": name.partition("-")[2],
        "schema": {"properties": columns},
        "metadata": [{"breadcrumb": [], "metadata": data}],
    }


TABLES = [database._table(stream(name)) for name in STREAMS]
GIVEN = adding.Given("postgres", host="db", user="me", database="tzz", schedule="@hourly")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of what adding writes to; the database is there and has the tables."""
    for name, path in {
        "ROOT": "",
        "ENV_FILE": ".env",
        "MELTANO_PROJECT": "meltano",
        "MELTANO_YML": "meltano/meltano.yml",
        "DBT_PROJECT": "transform",
        "WAREHOUSES": "warehouse",
        "LOCAL_RUN": "inner",
    }.items():
        monkeypatch.setattr(layout, name, tmp_path / path)
    (tmp_path / "meltano").mkdir()
    shutil.copy(ROOT / "meltano" / "meltano.yml", tmp_path / "meltano")
    shutil.copytree(ROOT / "transform", tmp_path / "transform")
    (tmp_path / ".env").write_text("A=b")
    monkeypatch.setattr(database, "discover", lambda *_: TABLES)
    return tmp_path


def everything(project):
    return {str(path.relative_to(project)): path.read_bytes() for path in project.rglob("*") if path.is_file()}


def test_what_is_added_is_read_as_meant(project):
    adding.add("tzz", GIVEN)
    whole = yaml.safe_load(layout.MELTANO_YML.read_text())
    assert whole["plugins"]["extractors"][-1] == {
        "name": "tap-postgres--tzz",
        "inherit_from": "tap-postgres",
        "namespace": "tap_postgres__tzz",
        "config": {"host": "db", "port": 5432, "user": "me", "database": "tzz"},
        "select": [f"{name}.*" for name in STREAMS],
        "metadata": {
            "public-customers": {"replication-method": "INCREMENTAL", "replication-key": "updated_at"},
            "public-order lines": {"replication-method": "FULL_TABLE"},
            "public-orders": {"replication-method": "INCREMENTAL", "replication-key": "modified_at"},
            "public-view": {"replication-method": "FULL_TABLE"},  # without a key rows would come twice
        },
    }
    into = {"default_target_schema": "raw_tzz", "load_method": "upsert"}
    assert whole["plugins"]["loaders"][-1]["config"] == into | {"hard_delete": True}  # as a table has no key
    assert database.loader("tzz", TABLES[:3])["config"] == into
    schedule = jobs.schedules()[-1]
    assert (schedule.name, schedule.interval) == ("tzz_elt_pipeline", "@hourly")
    assert schedule.tasks == (("tap-postgres--tzz", "target-duckdb--tzz"),)
    assert (schedule.elt.select, schedule.elt.tags, schedule.elt.checks) == ("tag:tzz+", ["tzz"], "tzz")
    left_out = yaml.safe_load((layout.DBT_PROJECT / "selectors.yml").read_text())
    assert {"method": "tag", "value": "tzz", "children": True} in (
        left_out["selectors"][0]["definition"]["union"][1]["exclude"]
    )
    folder = layout.DBT_PROJECT / "models" / "staging" / "tzz"
    (source,) = yaml.safe_load((folder / "_tzz__sources.yml").read_text())["sources"]
    assert (source["schema"], source["config"]["tags"], source["config"]["loaded_at_field"]) == (
        "raw_tzz",
        ["tzz"],
        "_sdc_batched_at",
    )
    lines = source["tables"][1]
    assert (lines["name"], lines["identifier"]) == ("order_lines", "order lines")
    assert lines["config"]["meta"]["primary_key"] == ["order_id", "line"]
    assert lines["columns"][2:] == [
        {"name": "amount", "data_type": "decimal(9, 2)"},
        {"name": "b c", "data_type": "varchar", "quote": True},
    ]
    assert (folder / "stg_tzz__order_lines.sql").read_text() == (
        "with\n\n"
        '    source as (select * from {{ source("tzz", "order_lines") }}),\n\n'
        "    final as (\n\n"
        "        select\n"
        "            -- ids\n"
        "            cast(order_id as bigint) as order_id,\n\n"
        "            -- strings\n"
        '            cast("b c" as varchar) as b_c,\n\n'
        "            -- numerics\n"
        "            cast(line as bigint) as line,\n"
        "            cast(amount as decimal(9, 2)) as amount,\n\n"
        "            -- timestamps\n"
        "            _sdc_batched_at as loaded_at\n\n"
        "        from source\n"
        "        where _sdc_deleted_at is null\n\n"
        "    )\n\nselect *\nfrom final\n"
    )
    (model,) = yaml.safe_load((folder / "stg_tzz__order_lines.yml").read_text())["models"]
    assert model["data_tests"] == [{"unique_combination": {"arguments": {"columns": ["order_id", "line"]}}}]
    assert [one.get("data_tests") for one in model["columns"]] == [["not_null"], ["not_null"], None, None, None]
    assert '"order"' in (folder / "stg_tzz__view.sql").read_text()
    assert "_sdc_batched_at" not in (folder / "stg_tzz__orders.sql").read_text()  # it has a loaded_at


def test_removing_gives_the_very_bytes_back(project, capsys):
    before = everything(project)
    adding.add("tzz", GIVEN)
    changed = {name for name, text in everything(project).items() if before.get(name, text) != text}
    assert changed == {"meltano/meltano.yml", "transform/selectors.yml"}
    for name in changed:  # nothing but added lines: every comment is where it was
        added = (project / name).read_text().splitlines()
        assert [line for line in before[name].decode().splitlines() if line not in added] == []
    adding.add("tyy", GIVEN._replace(kind="mysql"))
    removing.remove("tzz")
    removing.remove("tyy")
    assert everything(project) == before
    assert capsys.readouterr().out.endswith("source tyy is removed\n")


def test_a_dry_run_writes_nothing(project, capsys):
    before = everything(project)
    adding.add("tzz", GIVEN, dry_run=True)
    out = capsys.readouterr().out
    assert "+    - name: tap-postgres--tzz\n" in out
    assert "+++ b/transform/models/staging/tzz/stg_tzz__orders.sql\n" in out
    assert "\033" not in out
    assert everything(project) == before
    adding.add("tzz", GIVEN)
    before = everything(project)
    removing.remove("tzz", dry_run=True)
    assert everything(project) == before


def test_adding_twice_changes_nothing(project, capsys):
    adding.add("tzz", GIVEN)
    before = everything(project)
    capsys.readouterr()
    adding.add("tzz", GIVEN._replace(host="other"))
    out = capsys.readouterr().out
    assert re.fullmatch(r"source tzz is there already \(.*/meltano/sources/tzz.txt\): nothing is changed\n.*\n", out)
    assert "to add it otherwise: `elt source remove tzz`, then add it again" in out
    assert everything(project) == before
    (layout.DBT_PROJECT / "models" / "staging" / "tzz" / "stg_tzz__view.sql").unlink()
    adding.add("tzz", GIVEN)
    assert "it lacks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- name: tap-sqlite\n", "- name: tap-postgres--tzz\n", r"line \d+, column 7: tap-postgres--tzz is there"),
        ("  - name: shop\n    tasks", "  - name: tzz\n    tasks", "tzz is there, by hand: choose another name"),
        ("- name: shop_elt_pipeline", "- name: tzz_elt_pipeline", "tzz_elt_pipeline is there, by hand"),
    ],
)
def test_what_is_there_by_hand_is_not_touched(project, old, new, message):
    text = layout.MELTANO_YML.read_text()
    assert text.count(old) == 1
    layout.MELTANO_YML.write_text(text.replace(old, new))
    before = everything(project)
    with pytest.raises(ConfigError, match=message):
        adding.add("tzz", GIVEN)
    assert everything(project) == before


@pytest.mark.usefixtures("project")
def test_models_that_are_there_by_hand_are_not_touched():
    (layout.DBT_PROJECT / "models" / "staging" / "tzz").mkdir(parents=True)
    (layout.DBT_PROJECT / "models" / "staging" / "tzz" / "mine.sql").touch()
    with pytest.raises(ConfigError, match=r"staging/tzz is there, by hand: choose another name than tzz"):
        adding.add("tzz", GIVEN)


def test_what_was_changed_by_hand_stays_with_what_it_needs(project, capsys):
    adding.add("tzz", GIVEN)
    layout.MELTANO_YML.write_text(layout.MELTANO_YML.read_text().replace("'@hourly'", '"@weekly" # rarely'))
    folder = layout.DBT_PROJECT / "models" / "staging" / "tzz"
    with (folder / "stg_tzz__view.yml").open("a") as file:
        file.write("# more\n")
    own = layout.DBT_PROJECT / "models" / "marts" / "mine.sql"
    own.parent.mkdir(exist_ok=True)
    own.write_text("select * from {{ ref('stg_tzz__orders') }}")
    capsys.readouterr()
    removing.remove("tzz")
    out = capsys.readouterr().out
    assert "schedules: tzz_elt_pipeline stays: it was changed by hand" in out
    assert "plugins: extractors: tap-postgres--tzz stays: it is needed by tzz\n" in out
    assert f"stg_tzz__orders.sql stays: it is used by {own}\n" in out
    assert {path.name for path in folder.iterdir()} == {
        *("_tzz__sources.yml", "stg_tzz__orders.sql", "stg_tzz__view.sql", "stg_tzz__view.yml")
    }
    assert jobs.schedules()[-1].interval == "@weekly"
    own.unlink()
    shutil.copy(ROOT / "meltano" / "meltano.yml", layout.MELTANO_YML)
    (folder / "stg_tzz__view.yml").unlink()
    removing.remove("tzz")
    assert not folder.exists()
    assert not pieces.record("tzz").exists()


def test_what_entries_by_hand_name_stays(project, capsys):
    """Else no schedule at all could be read: one names a job that is gone."""
    adding.add("tzz", GIVEN)
    nightly = "  - {name: tzz_reconcile, interval: '@daily', job: tzz}\n"
    later = "  - {name: later, interval: '@daily', job: shop, annotations: {elt: {after: [tzz_elt_pipeline]}}}\n"
    for by_hand, stay in ((nightly, "jobs: tzz"), (later, "schedules: tzz_elt_pipeline")):
        added = layout.MELTANO_YML.read_text()
        layout.MELTANO_YML.write_text(added + by_hand)
        capsys.readouterr()
        removing.remove("tzz")
        said = capsys.readouterr().out
        assert re.search(rf"{stay} stays: it is used by schedule \w+ of .*/meltano.yml\n", said)
        assert "plugins: loaders: target-duckdb--tzz stays: it is needed by tzz\n" in said
        assert jobs.schedules()
        layout.MELTANO_YML.write_text(layout.MELTANO_YML.read_text().replace(by_hand, ""))
        removing.remove("tzz")
        assert not pieces.record("tzz").exists()
        adding.add("tzz", GIVEN)
    with layout.MELTANO_YML.open("a") as file:
        file.write("  - {name: other, interval: '@daily', extractor: tap-postgres--tzz, loader: target-duckdb}\n")
    capsys.readouterr()
    removing.remove("tzz")
    assert "tap-postgres--tzz stays: it is used by schedule other" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (adding.Given("sqlite", "{db}", host="db"), "--host does not fit --kind sqlite"),
        (GIVEN._replace(path="x"), "--path does not fit --kind postgres"),
        (adding.Given("csv", "{db}"), "is a database of SQLite: add it by --kind sqlite"),
        (adding.Given("sqlite", "{text}"), "is no database of SQLite"),
    ],
)
def test_options_and_files_that_do_not_fit_are_named(tmp_path, given, message):
    paths = {"db": tmp_path / "a.db", "text": tmp_path / "a.txt"}
    paths["db"].write_bytes(b"SQLite format 3\0")
    paths["text"].write_text("a,b")
    with pytest.raises(ConfigError, match=message):
        adding.add("tzz", given._replace(path=given.path.format(**paths)))


def test_a_password_goes_into_env_alone(project, monkeypatch, capsys):
    secret = 'it\'s \\ a "$HOME" #1'  # noqa: S105  # pragma: allowlist secret
    monkeypatch.delenv("TAP_POSTGRES__TZZ_PASSWORD", raising=False)
    before = everything(project)
    adding.add("tzz", GIVEN, ask=lambda what, default="", *, hidden=False: secret if hidden else default)
    assert dotenv_values(layout.ENV_FILE, interpolate=False) == {"A": "b", "TAP_POSTGRES__TZZ_PASSWORD": secret}
    assert layout.ENV_FILE.stat().st_mode & 0o777 == 0o600
    holding = [name for name, text in everything(project).items() if b'"$HOME"' in text]
    assert holding == [".env"]
    assert "$HOME" not in capsys.readouterr().out
    removing.remove("tzz")
    assert everything(project) == before | {".env": b"A=b\n"}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("Tzz", GIVEN, "'Tzz' is no name"),
        ("../x", GIVEN, "is no name"),
        ("tzz", adding.Given(), "--kind is missing, one of csv, excel, postgres, mysql, sqlite"),
        ("tzz", adding.Given("oracle"), "--kind: 'oracle' is none of csv"),
        ("tzz", adding.Given("mysql"), "--host is missing"),
        ("tzz", adding.Given("mysql", host="h", user="u"), "--database is missing"),
        ("tzz", adding.Given("sqlite"), "--path is missing"),
        ("tzz", adding.Given("sqlite", "no/such"), "--path: .*/no/such is no file"),
        ("tzz", GIVEN._replace(host="$HOST"), "--host: '\\$HOST' has characters"),
        ("tzz", GIVEN._replace(schedule="daily"), "--schedule: 'daily' is none of @daily"),
        ("tzz", GIVEN._replace(schedule="@often"), "--schedule: '@often' is none"),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_is_missing_or_wrong_is_named(name, given, message):
    with pytest.raises(ConfigError, match=message):
        adding.add(name, given)


@pytest.mark.usefixtures("project")
def test_a_connection_that_fails_names_where_the_password_belongs(monkeypatch):
    def discover(*_):
        raise DataError("source: no way in")

    monkeypatch.setattr(database, "discover", discover)
    monkeypatch.delenv("TAP_POSTGRES__TZZ_PASSWORD", raising=False)
    with pytest.raises(
        DataError, match=r"no way in; its password belongs into .*\.env as TAP_POSTGRES__TZZ_PASSWORD"
    ):
        adding.add("tzz", GIVEN)


def test_only_what_was_added_is_removed(project):
    adding.add("tzz", GIVEN)
    for name in ("shop", "../../x"):
        with pytest.raises(ConfigError, match=f"wrote none that is called '{name}'; there are tzz"):
            removing.remove(name)


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["public-a", "public-b*"], [], r"the name of 'public-b\*' means a pattern or a variable to Meltano"),
        (["public-$HOME"], [], r"the name of 'public-\$HOME' means a pattern or a variable"),
        (["public-a", "sales-A"], [], "public-a and sales-A would be one table, a: say by --tables which to take"),
        (["public-a"], ["b"], "--tables: no table is called 'b'; there are a"),
        ([], [], "has no tables that the user may read"),
    ],
)
def test_tables_that_cannot_be_taken_are_named(monkeypatch, names, wanted, message):
    found = {"streams": [stream("public-view") | {"tap_stream_id": n, "table_name": n.split("-")[1]} for n in names]}
    done = database.subprocess.CompletedProcess([], 0, json.dumps(found), "")
    monkeypatch.setattr(database.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ConfigError, match=message):
        database.discover("postgres", {}, wanted)


@pytest.mark.parametrize("name", ['x\\" # 1, 2 as y,', "x\\", "a }} {{ b"])
def test_a_name_that_sqlfmt_reads_otherwise_is_refused(name):
    """Behind a backslash it sees no end of a name, and takes parts of names for comments, which it moves."""
    table = database.Table("public-t", "t", (database.Column(name, "x", "varchar"),), (), "")
    with pytest.raises(
        ConfigError, match="public-t has a column whose name sqlfmt and DuckDB read in different ways"
    ):
        database.staging("evil", table)


def test_a_tap_ends_with_the_verb_that_is_told_to_end():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = Path(sys.executable).with_name("elt")
        words = ("--kind", "postgres", "--host", "127.0.0.1", "--user", "u", "--database", "d", "--dry-run")
        port = str(silent.getsockname()[1])
        verb = psutil.Popen([program, "source", "add", "crm_x", *words, "--port", port])
        silent.settimeout(30)
        silent.accept()[0].close()  # it knocks first
        with silent.accept()[0]:
            (tap,) = verb.children()
            verb.send_signal(signal.SIGTERM)
            assert verb.wait(10) == 130
        assert not psutil.wait_procs([tap], timeout=3)[1]


def test_long_names_and_templates_are_no_reason_to_refuse():
    """Of long arguments of `source` sqlfmt makes lines that end with a comma."""
    names = ["c" * 64, "C d" * 20, "a{{ run_query(\"copy (select 1) to 'x'\") }}", "b{% x", "c{#"]
    columns = tuple(database.Column(name, f"c{number}", "varchar") for number, name in enumerate(names))
    sql, _ = database.staging("n" * 40, database.Table("public-t", "t" * 64, columns, (), ""))
    assert "c{#" in sql
