"""A task of Meltano says why it failed, and is not tried again where that would be in vain."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time

import pytest
from workspace import ROOT

from elt.config import process_env, settings

REFUSED = "2026-11-24T12:00:00Z [info     ] tap-csv tap-csv: /x/a.csv, line 3: ragged row\nExtractor failed"
LOCKED = "2026-11-24T12:00:00Z [info     ] target-duckdb /x/w.duckdb is locked by python (process 1)\nLoader failed"


@pytest.fixture(scope="module")
def operators(tmp_path_factory):
    """The module, with what tasks find in their environment; Airflow reads it when it is imported."""
    env = process_env.build(settings.load()) | {
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield importlib.import_module("elt.orchestration.operators")


@pytest.mark.parametrize(
    ("output", "error", "reason"),
    [
        (REFUSED, "AirflowFailException", "tap-csv: /x/a.csv, line 3: ragged row (`elt inspect /x/a.csv` explains)"),
        (LOCKED, "AirflowException", "/x/w.duckdb is locked by python (process 1)"),
        ("", "AirflowException", "meltano failed"),
    ],
)
def test_a_failure_is_final_or_not(operators, tmp_path, output, error, reason):
    task = operators.MeltanoOperator(task_id="load", bash_command='echo "$OUTPUT"; exit 1', env={"OUTPUT": output})
    task.cwd = str(tmp_path)
    with pytest.raises(operators.AirflowException) as caught:
        task.execute({})
    assert type(caught.value).__name__ == error
    assert str(caught.value) == reason


def test_success_and_the_end_of_a_task(operators, tmp_path):
    operators.MeltanoOperator(task_id="load", bash_command="echo well", cwd=str(tmp_path)).execute({})
    code = (
        "from elt.orchestration.operators import MeltanoOperator as M; import threading, time;"
        "task = M(task_id='load', bash_command='sleep 60');"
        "threading.Timer(1, task.on_kill).start(); task.execute({})"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert "AirflowException: meltano failed" in done.stderr
    assert time.monotonic() - began < 30


def test_a_task_has_the_secrets_of_its_run_and_shows_none(operators, tmp_path, monkeypatch):
    of = {os.environ["ELT_ENVIRONMENT"]: {"A_SECRET": "hunter2"}, "prod": {"A_SECRET": "wrong"}}
    monkeypatch.setattr(operators.secret_files, "values", lambda environment: of.get(environment, {}))
    masked: list[str] = []
    monkeypatch.setattr(operators, "mask_secret", masked.append)
    monkeypatch.setenv("A_SECRET", "hunter2")
    task = operators.MeltanoOperator(
        task_id="load", bash_command=f'printf "%s" "$A_SECRET" > {tmp_path}/it', append_env=True, cwd=str(tmp_path)
    )
    task.execute({"params": {"environment": "prod"}})
    assert ((tmp_path / "it").read_text(), masked) == ("wrong", ["wrong"])
    task.execute({"params": {"environment": "staging"}})
    assert (tmp_path / "it").read_text() == ""
