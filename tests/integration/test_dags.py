"""Every DAG imports, has an owner and retries, and writes to DuckDB only in the writers' pool."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from workspace import ROOT, apart

from elt.config import process_env, settings
from elt.orchestration import POOL
from elt.sources import meltano_yml

READ = """
import json, sys
from unittest import mock
import pendulum
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
bag = DagBag(sys.argv[1])
def first(dag):
    "When a scheduler that never saw it, and sees it 53 minutes after midnight, runs it for the first time."
    if not hasattr(dag.timetable, "expression"):
        return ""  # it runs only when asked for
    with mock.patch("airflow.timetables.trigger.utcnow", lambda: pendulum.datetime(2026, 11, 25, 0, 53)):
        return str(decode_timetable(encode_timetable(dag.timetable))._calc_first_run())
print("RESULT" + json.dumps({
    "errors": bag.import_errors,
    "dags": {d.dag_id: {
        "catchup": d.catchup,
        "doc": d.doc_md or "", "first": first(d), "max": d.max_active_runs,
        "params": {k: d.params.get_param(k).schema for k in d.params},
        "tasks": [{"id": t.task_id, "owner": t.owner, "retries": t.retries, "pool": t.pool,
                   "after": sorted(t.upstream_task_ids), "deferrable": getattr(t, "deferrable", None),
                   "outlets": sorted(o.uri for o in t.outlets)} for t in d.topological_sort()],
    } for d in bag.dags.values()},
}))
"""


CALL = """
import sys
from airflow.dag_processing.dagbag import DagBag
task = DagBag(sys.argv[1]).dags["meltano_elt_pipeline"].get_task(sys.argv[2])
try:
    task.python_callable("staging")
except Exception as error:
    print("RESULT", type(error).__name__, error)
"""


def read(state, before="", after=""):
    """What Airflow reads out of airflow/dags, without a database, between some code."""
    env = apart(state) | process_env.build(settings.load())
    env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "sqlite://"
    command = [sys.executable, "-c", before + READ + after, str(ROOT / "airflow" / "dags")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    assert line, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    more = next((line for line in done.stdout.splitlines() if line.startswith("MORE")), "MORE{}")
    return json.loads(line.removeprefix("RESULT")) | {"more": json.loads(more.removeprefix("MORE"))}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """What Airflow reads out of airflow/dags."""
    return read(tmp_path_factory.mktemp("state"))


def test_without_a_csv_file_there_is_nothing_to_wait_for(tmp_path):
    schedule = "{name: meltano_elt_pipeline, interval: '@daily', job: a, annotations: {elt: {wait_for: tap-csv}}}"
    job = "{name: a, tasks: [tap-a target-b]}"
    (tmp_path / "meltano.yml").write_text(f"{{plugins: {{}}, jobs: [{job}], schedules: [{schedule}]}}")
    other = (
        f"import pathlib; from elt import layout; layout.MELTANO_YML = pathlib.Path({str(tmp_path)!r}, 'meltano.yml')"
    )
    found = read(tmp_path / "state", other)
    assert found["errors"] == {}
    steps = [task["id"] for task in found["dags"]["meltano_elt_pipeline"]["tasks"]]
    assert steps == ["extract_load", "dbt_run", "dbt_test", "data_quality", "publish"]


EVERY_WORD = """
plugins: {extractors: [{name: tap-csv, config: {files: [{entity: a, path: a.csv, keys: []}]}}]}
jobs:
  - {name: one, tasks: [tap-csv target-b]}
  - {name: two, tasks: [tap-c target-b, [tap-d target-b, "dbt-duckdb:build"]]}
schedules:
  - name: first
    interval: 30 5 * * *
    job: one
    annotations: {elt: {wait_for: a, timezone: Europe/Berlin, retries: 7}}
  - name: other
    interval: "@manual"
    start_date: 2026-01-31
    job: one
    annotations: {elt: {publish: false, queue: heavy, environments: [prod], partition: month, catchup: true}}
  - name: last
    interval: "@manual"
    job: two
    env: {A: b}
    annotations: {elt: {after: [first, other], deadline: 90m, owner: ann, select: tag:x, description: Words.}}
  - {name: abroad, interval: "@daily", job: one, annotations: {elt: {environments: [prod]}}}
"""


def test_a_schedule_says_when_and_how_its_dag_runs(tmp_path):
    (tmp_path / "meltano.yml").write_text(EVERY_WORD)
    more = """
from datetime import UTC, datetime
from airflow.serialization.serialized_objects import DagSerialization
kept = lambda name: DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[name]))
print("MORE" + json.dumps({
    "timeout": {d.dag_id: d.dagrun_timeout and d.dagrun_timeout.total_seconds() for d in bag.dags.values()},
    "assets": {d.dag_id: str(getattr(d.timetable, "asset_condition", "")) for d in bag.dags.values()},
    "env": [t.env for t in bag.dags["last"].tasks if t.task_id == "tap_c"],
    "queue": sorted({t.queue for t in bag.dags["other"].tasks}),
    "weight": {n: [t.weight_rule.get_weight(type("Instance", (), {"task": t})) for t in kept(n).tasks]
               for n in ("first", "last")},
    "past": [bag.dags["other"].catchup, str(bag.dags["other"].start_date)],
    "part": bag.dags["other"].task_dict["extract_load"].partition(datetime(2026, 3, 1, tzinfo=UTC)),
}))
"""
    other = (
        f"import pathlib; from elt import layout; layout.MELTANO_YML = pathlib.Path({str(tmp_path)!r}, 'meltano.yml')"
    )
    found = read(tmp_path / "state", other, more)
    assert found["errors"] == {}
    dags = found["dags"]
    steps = {name: [task["id"] for task in dag["tasks"]] for name, dag in dags.items()}
    assert steps["first"] == ["wait_for_extract", "extract_load", "dbt_run", "dbt_test", "data_quality", "publish"]
    assert steps["other"] == ["extract_load", "dbt_run", "dbt_test", "data_quality"]
    assert steps["last"] == ["tap_c", "tap_d", "dbt_build", "data_quality", "publish"]
    assert {task["retries"] for task in dags["first"]["tasks"]} == {7}
    assert {task["owner"] for task in dags["last"]["tasks"]} == {"ann"}
    assert dags["last"]["doc"].startswith("Words.\n")
    assert dags["first"]["first"].startswith("2026-11-25 04:30:00"), "half past five in Berlin"
    assert (dags["other"]["first"], dags["abroad"]["first"]) == ("", ""), "by the clock in prod alone"
    done = {"first": "publish", "other": "data_quality"}
    for name, task in done.items():
        outlets = {one["id"]: one["outlets"] for one in dags[name]["tasks"]}
        assert f"elt://schedules/{name}" in outlets[task]
        assert f"elt://schedules/{name}" in found["more"]["assets"]["last"]
    assert {name: one for name, one in found["more"]["timeout"].items() if one} == {"last": 5400.0}
    assert found["more"]["env"] == [{"A": "b", "ELT_SELECT": "tag:x"}]
    assert found["more"]["queue"] == ["heavy"]
    # One writer at a time: who has begun goes first, then who goes on with another's work; equals by their date.
    assert found["more"]["weight"] == {"first": [1, 2, 3, 4, 5, 6], "last": [2, 4, 6, 8, 10]}
    assert found["more"]["past"] == [True, "2026-01-31 00:00:00+00:00"]
    assert found["more"]["part"]["ELT_PARTITION"] == "2026-02"


def test_a_hundred_schedules_are_parsed_in_half_a_second(tmp_path):
    """Of processor time, beyond the imports, which the DAG processor has made before."""
    jobs = "jobs: [{name: one, tasks: [tap-a target-b]}]"
    listed = "".join(f"  - {{name: s{n}, interval: '@daily', job: one}}\n" for n in range(100))
    (tmp_path / "meltano.yml").write_text(f"plugins: {{}}\n{jobs}\nschedules:\n{listed}")
    other = f"""
import pathlib, time
from elt import layout
layout.MELTANO_YML = pathlib.Path({str(tmp_path)!r}, 'meltano.yml')
from elt.orchestration import dag_factory
seconds = []
for _ in range(4):  # the first also compiles, and others may be at work on the machine
    begin = time.process_time()
    made = dag_factory.dags()
    seconds.append(time.process_time() - begin)
"""
    found = read(tmp_path / "state", other, "print('MORE' + json.dumps(min(seconds)))")
    assert len(found["dags"]) == 100 + 1, "those, and maintenance"
    assert found["more"] < 0.5


def test_no_import_errors(bag):
    assert bag["errors"] == {}
    assert "meltano_elt_pipeline" in bag["dags"]


def test_every_task_has_an_owner_and_retries(bag):
    for name, dag in bag["dags"].items():
        assert dag["doc"], name
        assert dag["catchup"] is False
        for task in dag["tasks"]:
            assert task["owner"] not in ("", "airflow"), (name, task["id"])
            assert task["retries"] >= 1, (name, task["id"])


def test_the_pipeline_is_the_five_steps_and_publish(bag):
    dag = bag["dags"]["meltano_elt_pipeline"]
    names = ["wait_for_extract", "extract_load", "dbt_run", "dbt_test", "data_quality", "publish"]
    assert [task["id"] for task in dag["tasks"]] == names
    assert [task["after"] for task in dag["tasks"]] == [[], *[[name] for name in names[:-1]]]
    assert dag["tasks"][0]["deferrable"] is True
    assert {task["pool"] for task in dag["tasks"][1:]} == {POOL}
    assert dag["first"] == "" or dag["first"] > "2026-11-25 00:53:00", "it would run as soon as it is seen"
    assert dag["params"]["environment"]["enum"] == ["dev", "staging", "prod"]
    assert dag["params"]["full_refresh"]["type"] == "boolean"


def test_each_pipeline_checks_before_it_publishes_and_writes_alone(bag):
    pipelines = {name: dag for name, dag in bag["dags"].items() if name.endswith("_elt_pipeline")}
    assert pipelines
    for name, dag in pipelines.items():
        tasks = {task["id"]: task for task in dag["tasks"]}
        assert {task["pool"] for task in dag["tasks"] if task["id"] != "wait_for_extract"} == {POOL}, name
        assert tasks["publish"]["after"] == ["data_quality"], name
        assert dag["max"] == 1, name
        assert dag["first"] == "" or dag["first"] > "2026-11-25 00:53:00", name


def test_assets_name_the_raw_tables_and_the_marts(bag):
    outlets = {task["id"]: task["outlets"] for task in bag["dags"]["meltano_elt_pipeline"]["tasks"]}
    tables = sorted(one.table for one in meltano_yml.listed())
    assert [uri.rsplit("/", 1)[1] for uri in outlets["extract_load"]] == tables
    models = {path.stem for path in (ROOT / "transform" / "models" / "marts").glob("*.sql")}
    assert {uri.rsplit("/", 1)[1] for uri in outlets["publish"]} == models


@pytest.mark.parametrize(
    ("task", "reason"), [("publish", "warehouse_staging.duckdb is missing"), ("data_quality", "")]
)
def test_what_a_second_try_would_meet_again_ends_a_task_at_once(tmp_path, task, reason):
    env = process_env.build(settings.load()) | {"ELT_STATE": str(tmp_path)}
    env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "sqlite://"
    command = [sys.executable, "-c", CALL, str(ROOT / "airflow" / "dags"), task]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert line.startswith("RESULT AirflowFailException ")
    assert reason in line
