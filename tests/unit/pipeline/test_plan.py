"""What `elt plan` says of plugins and of dbt's selections."""

from __future__ import annotations

import pytest

from elt import layout
from elt.config import meltano_plugins
from elt.errors import ConfigError
from elt.pipeline import plan
from elt.sources import jobs

PROJECT = """
environments:
  - name: dev
  - name: prod
    config: {plugins: {extractors: [{name: tap-a--b, config: {host: big}}]}}
plugins:
  extractors:
    - name: tap-a
      settings: [{name: token_of_mine, sensitive: true}, {name: host}]
      config: {host: small, port: 1, token_of_mine: hunter2}
    - {name: tap-a--b, inherit_from: tap-a, config: {port: 2, user: $NAME, at: "https://me:hunter2@x/$A_TOKEN"}}
"""


def node(*tags):
    return {"tags": [*tags]}


MANIFEST = {
    "nodes": {
        "model.w.own": node(),
        "model.w.stg": node("x"),
        "model.w.mart": node(),
        "model.w.exposed": node("y"),
        "test.w.stg_unique": node(),
        "test.w.mart_unique": node(),
        "test.w.own_unique": node(),
    },
    "sources": {"source.w.x.t": node("x")},
    "unit_tests": {"unit_test.w.own": node()},
    "child_map": {
        "source.w.x.t": ["model.w.stg"],
        "model.w.stg": ["test.w.stg_unique", "model.w.mart"],
        "model.w.mart": ["test.w.mart_unique"],
        "model.w.own": ["test.w.own_unique", "unit_test.w.own"],
    },
    "selectors": {
        "files": {
            "default": True,
            "definition": {
                "union": [
                    {"method": "fqn", "value": "*"},
                    {"exclude": [{"method": "tag", "value": "x", "children": True}, {"method": "tag", "value": "y"}]},
                ]
            },
        }
    },
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MELTANO_YML", tmp_path / "meltano.yml")
    layout.MELTANO_YML.write_text(PROJECT)


@pytest.mark.usefixtures("project")
def test_settings_are_those_of_the_plugin_its_parent_and_the_environment():
    found = meltano_plugins.project()
    config, secret = meltano_plugins.resolved(found, "extractors", "tap-a--b", "dev")
    assert (config["host"], config["port"], secret) == ("small", 2, {"token_of_mine"})
    assert meltano_plugins.resolved(found, "extractors", "tap-a--b", "prod")[0]["host"] == "big"
    with pytest.raises(ConfigError, match="plugins: extractors: none is called 'tap-c'"):
        meltano_plugins.resolved(found, "extractors", "tap-c", "dev")


@pytest.mark.usefixtures("project")
def test_no_secret_is_shown():
    env = {"NAME": "Ada", "A_TOKEN": "hunter2", "TAP_A__B_PASSWORD": "hunter2", "OTHER": "x"}
    shown = plan._connection("extractors", "tap-a--b", "dev", env)
    assert shown == (
        "tap-a--b: host small, port 2, token_of_mine ***, user Ada, at https://me:***@x/***, TAP_A__B_PASSWORD ***"
    )


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("tag:x", "1 model, 1 test: tag:x"),
        ("tag:x+", "2 models, 2 tests: tag:x+"),
        ("tag:x+ tag:y", "3 models, 2 tests: tag:x+ tag:y"),
        ("tag:none", "nothing: tag:none"),
        (None, "1 model, 1 test, 1 unit test: all that no other pipeline has"),
    ],
)
def test_what_dbt_would_build_is_counted_by_the_manifest(select, said):
    schedule = jobs.Schedule("s", None, (("tap-a", "target-b"),), jobs.Annotations(select=select))
    assert plan._counted(MANIFEST, schedule, {}) == said


def test_environment_and_name_may_be_left_out():
    assert plan.chosen([]) == (None, None)
    assert plan.chosen(["prod"]) == ("prod", None)
    assert plan.chosen(["shop"]) == (None, "shop")
    assert plan.chosen(["prod", "shop"]) == ("prod", "shop")
    with pytest.raises(ConfigError, match="no environment is called 'shop'; there are dev, staging, prod"):
        plan.chosen(["shop", "prod"])
