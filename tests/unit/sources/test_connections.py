"""Which variables pipelines need, where they come from, and what stops a run."""

from __future__ import annotations

import pytest

from elt import layout
from elt.config import env_file, settings
from elt.errors import ConfigError
from elt.sources import connections

PROJECT = """
plugins:
  extractors:
    - name: tap-shop
      settings: [{name: password, sensitive: true}, {name: key, sensitive: true}]
      config: {host: $SHOP_HOST, files: [{path: "${SHOP_FOLDER}/a $MELTANO_X $$not"}]}
    - name: tap-shop--north
      inherit_from: tap-shop
      config: {key: $NORTH_KEY}
    - {name: tap-hub--own, inherit_from: tap-of-the-hub, config: {a: $HUB_A}}
  loaders: [{name: target-x}]
jobs: [{name: one, tasks: [tap-shop--north target-x]}]
schedules: [{name: one_pipeline, interval: "@daily", job: one, env: {SHOP_FOLDER: of-the-schedule}}]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose tap names variables, a model and a DAG that do so, and no settings of other tests."""
    for name, _, _ in env_file.example_settings():
        monkeypatch.delenv(name, raising=False)
    for name, path in (
        ("ROOT", "."),
        ("SECRETS", "secrets"),
        ("ENV_FILE", ".env"),
        ("STATE", ".state"),
        ("DBT_PROJECT", "transform"),
        ("DAGS", "dags"),
        ("MELTANO_YML", "meltano.yml"),
    ):
        monkeypatch.setattr(layout, name, tmp_path / path)
    monkeypatch.setitem(settings.Settings.model_config, "env_file", layout.ENV_FILE)
    env_file.write_env()
    layout.MELTANO_YML.write_text(PROJECT)
    layout.DBT_PROJECT.mkdir()
    (layout.DBT_PROJECT / "a.sql").write_text("select {{ env_var('NEEDED') }}, {{ env_var('GIVEN', 'x') }}")
    layout.DAGS.mkdir()
    (layout.DAGS / "a.py").write_text("Hook(http_conn_id='web'); Variable.get('token', 'x'); Variable.get('must')")
    return tmp_path


def test_every_variable_and_who_names_it(project):
    needs = connections.needs("dev")
    found = {(one.name, one.user.removesuffix(".sql").removesuffix(".py"), one.is_required) for one in needs}
    assert found == {
        ("SHOP_HOST", "tap-shop--north: host", True),
        ("SHOP_FOLDER", "tap-shop--north: files", True),
        ("NORTH_KEY", "tap-shop--north: key", True),
        ("TAP_SHOP__NORTH_PASSWORD", "tap-shop--north: password", False),
        ("NEEDED", "transform/a", True),
        ("GIVEN", "transform/a", False),
        ("AIRFLOW_CONN_WEB", "dags/a", True),
        ("AIRFLOW_VAR_TOKEN", "dags/a", False),
        ("AIRFLOW_VAR_MUST", "dags/a", True),
    }


def test_a_table_says_where_each_comes_from_and_shows_no_secret(project, monkeypatch, capsys):
    monkeypatch.setenv("SHOP_HOST", "db.example.com")
    with layout.ENV_FILE.open("a") as file:
        file.write("TAP_SHOP__NORTH_PASSWORD=hunter2\nAIRFLOW_CONN_WEB=http://ann:hunter2@example.com\n")
    assert not connections.show(settings.load())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    table = {row[0]: row[2:] for row in rows if len(row) == 4}
    assert table["SHOP_HOST"] == ["environment", "db.example.com"]
    assert table["TAP_SHOP__NORTH_PASSWORD"] == [".env", "***"]
    assert table["AIRFLOW_CONN_WEB"] == [".env", "***"]
    assert table["NORTH_KEY"] == ["missing", ""]
    assert table["SHOP_FOLDER"] == ["schedule", "***"]
    assert table["AIRFLOW_VAR_MUST"] == ["Airflow's own, or missing", ""]
    assert "GIVEN" not in table


def test_a_missing_one_stops_a_run_by_name(project):
    env = {"SHOP_HOST": "x", "SHOP_FOLDER": "x", "NORTH_KEY": "x"}
    words = ["meltano", "--environment", "dev", "run", "--force", "tap-shop--north", "target-x"]
    connections.refuse_missing(words, env, "dev")
    connections.refuse_missing(words, env | {"NORTH_KEY": "", "TAP_SHOP__NORTH_KEY": "x"}, "dev")
    connections.refuse_missing(["tap-hub--own"], {"HUB_A": "x"}, "dev")
    with pytest.raises(ConfigError, match=r"tap-shop--north: host names \$SHOP_HOST, which is not set"):
        connections.refuse_missing(words, env | {"SHOP_HOST": ""}, "dev")
