"""A failed run is alerted by Slack and by e-mail, wherever Airflow notices it, and not without a connection."""

from __future__ import annotations

import json
import re
import shlex
import typing as t
from dataclasses import dataclass

import pytest
import receivers
from workspace import ROOT, run

from elt.orchestration import alerts, runs

if t.TYPE_CHECKING:
    from .conftest import Platform

PAGE = ROOT / "docs/cookbooks/alerts.md"
TASK = "extract_load"
WEBHOOK = "T0AAAA/B0BBBB/hidden-word"

ASK = """
import sys
from sqlalchemy import select
from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TIRunContext
from airflow.callbacks.callback_requests import TaskCallbackRequest
from airflow.callbacks.database_callback_sink import DatabaseCallbackSink
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

with create_session() as session:
    this = TaskInstance.run_id == sys.argv[1], TaskInstance.task_id == sys.argv[2]
    ti = session.scalars(select(TaskInstance).where(*this)).one()
    request = TaskCallbackRequest(
        filepath=ti.dag_model.relative_fileloc,
        bundle_name=ti.dag_model.bundle_name,
        bundle_version=None,
        ti=ti,
        task_callback_type=TaskInstanceState.FAILED,
        context_from_server=TIRunContext(
            dag_run=DagRun.model_validate(ti.dag_run, from_attributes=True),
            max_tries=ti.max_tries,
            variables=[],
            connections=[],
            xcom_keys_to_clear=[],
        ),
    )
    DatabaseCallbackSink().send(request, session=session)
"""
"""What the scheduler does when it hears no more of a task; to wait for that with a killed worker takes 40 s."""


@dataclass
class Told:
    """A run that failed while both connections were there, and what was sent."""

    run: str
    slack: receivers.Slack
    mail: receivers.Mail

    def counts(self) -> tuple[int, int]:
        """Number of messages of each channel."""
        return len(self.slack.texts), len(self.mail.texts)


def forget(platform: Platform) -> None:
    """Remove both connections."""
    for name in alerts.CHANNELS:
        assert platform.api._http.delete(f"/api/v2/connections/{name}").status_code in {204, 404}


def ask(platform: Platform, run_id: str) -> None:
    """Let the DAG processor run the failure's callback, as if nobody had been told."""
    for mark in (platform.state / "alerted").iterdir():
        mark.unlink()
    platform.elt("exec", "python", "-c", ASK, run_id, TASK)


@pytest.fixture(scope="module")
def told(platform):
    """One connection made by the cookbook's command and one as by the UI, then a run that lacks an extract."""
    products = platform.state / "extract" / "products.csv"
    good = products.read_bytes()
    with receivers.slack() as slack, receivers.smtp() as mail:
        command = re.search(r"(?m)^\.venv/bin/elt (exec airflow connections add slack_alerts .*)$", PAGE.read_text())
        assert command
        address = f"http://127.0.0.1:{slack.port}/services/{WEBHOOK}"
        platform.elt(*shlex.split(command[1].replace("https://hooks.slack.com/services/...", address)))
        extra = {"disable_ssl": True, "disable_tls": True, "to": "team@example.com", "from_email": "elt@example.com"}
        fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": mail.port, "extra": json.dumps(extra)}
        platform.api._json("POST", "/api/v2/connections", json={"connection_id": alerts.SMTP} | fields)
        try:
            products.unlink()  # it may come: the task is tried again
            platform.api.wait_for_dag(runs.DAG, 60)
            run_id = platform.api.trigger(runs.DAG)
            platform.wait("the run's end", lambda: platform.api.run_state(runs.DAG, run_id) == "failed", 180)
            result = Told(run_id, slack, mail)
            platform.wait("two messages by each channel", lambda: min(result.counts()) >= 2, 30)
            yield result
        finally:
            products.write_bytes(good)
            forget(platform)


def test_a_failed_run_is_told_once_by_each_channel(platform, told):
    assert told.counts() == (2, 2)
    titles = [f"Task {TASK} of {runs.DAG} failed (dev)", f"Run of {runs.DAG} failed (dev)"]
    assert [text.splitlines()[0] for text in told.slack.texts] == [f"*{title}*" for title in titles]
    assert [message["Subject"] for message in told.mail.messages] == titles
    assert told.slack.paths == [f"/services/{WEBHOOK}"] * 2
    assert told.mail.recipients == [["team@example.com"]] * 2
    page = f"{platform.settings.airflow_url()}/dags/{runs.DAG}/runs/manual__"
    for task, whole in (told.slack.texts, told.mail.texts):
        assert told.run in task
        assert "3 of 3" in task
        assert "products.csv" in task
        assert f"/tasks/{TASK}?try_number=3" in task
        assert told.run in whole
        assert "failed tasks" in whole
        assert TASK in whole
        assert "dbt_run" not in whole
        assert page in task
        assert page in whole


def test_no_log_holds_the_webhook(platform, told):
    for path in (platform.state / "logs").rglob("*"):
        assert not path.is_file() or WEBHOOK.encode() not in path.read_bytes(), path


def test_the_dag_processor_tells_when_the_worker_was_killed(platform, told):
    before = told.counts()
    ask(platform, told.run)
    platform.wait("a message by each channel", lambda: told.counts() == (before[0] + 1, before[1] + 1), 60)
    assert "error: none known: the task's process or its worker was killed" in told.slack.texts[-1]
    assert f"Task {TASK} of {runs.DAG} failed (dev)" in told.slack.texts[-1]


def test_without_connections_nothing_is_sent(platform, told):
    forget(platform)
    before = told.counts()
    log = platform.state / "logs/dag_processor/latest/dags-folder" / f"{runs.DAG}.py.log"
    ask(platform, told.run)
    silent = "no alert sent: there is no connection slack_alerts or smtp_alerts"
    platform.wait("the callback", lambda: silent in log.read_text(), 60)
    assert told.counts() == before


def test_a_connection_that_was_exported_later_is_other_settings(platform):
    done = run("elt", "up", env=platform.env | {"AIRFLOW_CONN_SLACK_ALERTS": "slackwebhook://"})
    assert done.returncode == 1
    assert "other settings than now (AIRFLOW_CONN_SLACK_ALERTS)" in done.stderr
    assert "slackwebhook" not in done.stderr + (platform.state / "run/stack.json").read_text()
