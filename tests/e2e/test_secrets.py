"""A secret that is planted shows nowhere: in no log, command line, database, answer of the API or archive."""

from __future__ import annotations

import contextlib
import re
import resource
import tarfile
import typing as t
from pathlib import Path

import psutil
import pytest
from workspace import PORTS

from elt.config.settings import Settings
from elt.orchestration.api import AirflowApi

from .fresh_clone import below, shell

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .fresh_clone import FreshClone

NAMES = ["TAP_LEAKY_PASSWORD", "AIRFLOW_CONN_WEB", "AIRFLOW_VAR_TOKEN", "DBT_ENV_SECRET_KEY", "SOMETHING_ELSE"]
PLANTED = {name: f"pl4nted-{place}" for place, name in enumerate(NAMES)}
PLANTED["AIRFLOW_CONN_WEB"] = "http://ann:{AIRFLOW_CONN_WEB}@example.invalid/".format(**PLANTED)
MARK = b"pl4nted-"
PLUGINS = """
plugins:
  extractors:
    - name: tap-leaky
      namespace: tap_leaky
      executable: ./leaky.py
      settings: [{name: password, sensitive: true}]
      capabilities: []
jobs: [{name: leaky, tasks: [tap-leaky target-duckdb]}]
schedules:
  - {name: leaky, interval: "@manual", job: leaky, annotations: {elt: {select: stg_leaky, checks: leaky, retries: 0}}}
"""
TAP = """\
#!/usr/bin/env python3
import json, os, pathlib, sys
if "--config" in sys.argv:
    print(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text(), file=sys.stderr)
print(dict(os.environ), file=sys.stderr)
schema = {"properties": {"a": {"type": "string"}}}
print(json.dumps({"type": "SCHEMA", "stream": "leaky", "schema": schema, "key_properties": []}))
raise SystemExit("tap-leaky: cannot log in with " + os.environ["TAP_LEAKY_PASSWORD"])
"""
DAG = """\
import os
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Connection, Variable, dag, task

print("parsed with", dict(os.environ))

@task
def shows():
    print(dict(os.environ), Connection.get("web").get_uri(), Variable.get("token"))
    raise ValueError("refused: " + os.environ["SOMETHING_ELSE"])

@dag(schedule=None)
def tells():
    BashOperator(task_id="prints", bash_command="env; false", retries=0)
    shows.override(retries=0)()

tells()
"""


@pytest.fixture
def leaky(fresh_clone) -> Iterator[FreshClone]:
    """The fresh clone with secrets, and with a tap and a DAG that show all they know."""
    here = fresh_clone.root
    fresh_clone.begin_anew()
    (here / "meltano/leaky.py").write_text(TAP)
    (here / "meltano/leaky.py").chmod(0o755)
    (here / "meltano/leaky.meltano.yml").write_text(PLUGINS)
    whole = here / "meltano/meltano.yml"
    whole.write_text("include_paths: [leaky.meltano.yml]\n" + whole.read_text())
    (here / "transform/models/staging/stg_leaky.sql").write_text("select 1 as key")
    (here / "airflow/dags/tells.py").write_text(DAG)
    done = fresh_clone.run("scripts/bootstrap.sh", "--quiet")
    assert done.returncode == 0, done.stdout
    env = here / ".env"
    before = env.read_text()
    env.write_text(before + "ELT_GROUPS=secrets\n")
    yield fresh_clone
    fresh_clone.run("scripts/down.sh", seconds=120)
    env.write_text(before)
    fresh_clone.git("clean", "-fdq")


def holding(folder: Path) -> list[str]:
    """Files of a folder in which the mark stands, but for the one that plants it."""
    own = {Path(__file__).name, "leaky.py"}
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [
        str(path)
        for path in files
        if path.name not in own and ".venv" not in path.parts and MARK in path.read_bytes()
    ]


def test_a_secret_shows_nowhere(leaky, tmp_path):
    here = leaky.root

    def elt(*words: str, fails: bool = False) -> str:
        done = leaky.run(".venv/bin/elt", *words)
        assert (done.returncode != 0) == fails, done.stdout
        return f"elt {' '.join(words)}:\n{done.stdout}"

    said = [leaky.run("scripts/bootstrap.sh", "--quiet").stdout, elt("secrets", "init")]
    for name, value in PLANTED.items():
        done = leaky.run(*shell(f"printf %s '{value}' | .venv/bin/elt secrets set {name}"))
        assert done.returncode == 0, done.stdout
        said.append(done.stdout)
    done = leaky.run("scripts/up.sh")
    assert done.returncode == 0, done.stdout
    said += [done.stdout, elt("secrets", "list"), elt("connections"), elt("plan"), elt("doctor"), elt("status")]
    said += [elt("pipeline", one, fails=True) for one in ("leaky", "tells")]
    said.append(elt("run", "--source", "leaky", fails=True))
    said += [
        elt("logs", name, "-n", "2000")
        for name in ("extract_load", "prints", "shows", "celery-worker", "airflow-dag-processor")
    ]
    assert "cannot log in with ***" in said[-8]
    assert "SOMETHING_ELSE" in said[-4], "the task did show its environment"

    given = {name.lower(): leaky.env[name] for name in PORTS}
    api = AirflowApi(Settings(_env_file=here / ".env", **given))
    document = api._json("GET", "/openapi.json")
    fields = {"dag_id": "tells", "dag_run_id": api.last_run("tells")[0], "task_id": "shows", "map_index": "-1"}
    asked = 0
    for path, methods in document["paths"].items():
        place = re.sub(r"\{(\w+)\}", lambda found: fields.get(found[1], found[0]), path)
        if "get" in methods and "{" not in place and "download" not in place:
            asked += 1
            said.append(f"{place}: {api._answer('GET', place).text}")
    assert asked >= 40
    api.close()

    for process in below(here):
        with contextlib.suppress(psutil.Error):
            said.append(" ".join(process.cmdline()))
            assert process.rlimit(resource.RLIMIT_CORE)[0] == 0, "a dump of its memory would hold all secrets"
    shown = [
        text.partition(":")[0] + ": " + line for text in said for line in text.splitlines() if MARK.decode() in line
    ]
    assert shown == []
    assert holding(here) == []  # logs, the databases, dbt's and Meltano's folders, the repository

    done = leaky.run("scripts/down.sh")
    assert done.returncode == 0, done.stdout
    done = leaky.run("scripts/backup.sh", tmp_path / "backup.tar.gz")
    assert done.returncode == 0, done.stdout
    with tarfile.open(tmp_path / "backup.tar.gz") as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    assert any((tmp_path / "unpacked").rglob("*"))
    assert holding(tmp_path / "unpacked") == []
    assert not [path for path in here.rglob("core*") if path.name.partition(".")[2].isdigit()]
