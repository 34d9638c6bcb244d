"""What the scheduler reads from time stamps is put off after it was held up; a message's token outlives the queue."""

from __future__ import annotations

import inspect
import time

import jwt
import pytest
from airflow.api_fastapi.auth.tokens import JWTGenerator
from airflow.executors.workloads.base import BaseWorkloadSchema
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.providers.celery.executors.celery_executor import CeleryExecutor

from elt.orchestration import executor
from elt.orchestration.executor import TURN_SECONDS

WEEK = 7 * 24 * 3600
SECRET = "s" * 64  # pragma: allowlist secret


@pytest.fixture
def clock(monkeypatch):
    """The clock of the time stamps, which a test sets."""
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("steps", "checked"),
    [
        ([1, 1, 1], [True, True, True]),
        ([1, 600, 1, 1], [True, False, False, False]),
        ([600, *[8] * 5], [False, False, False, False, True, True]),
        ([TURN_SECONDS, TURN_SECONDS + 1], [True, False]),
        ([-3600, 1], [True, True]),
    ],
    ids=["in time", "slept", "long ago", "just so", "a clock that was set back"],
)
def test_a_check_waits_for_its_timeout_after_the_scheduler_was_delayed(clock, steps, checked):
    turns = executor.Turns()
    done = []
    check = turns.postpone(lambda: done.append(clock[0]), 30)
    found = []
    for step in steps:
        clock[0] += step
        check()
        found.append(done[-1:] == [clock[0]])
    assert found == checked


def test_each_check_of_airflow_heeds_it(monkeypatch, clock):
    done = []
    for name in executor.CHECKS:
        assert callable(getattr(SchedulerJobRunner, name))  # as Airflow calls it in this version
        monkeypatch.setattr(SchedulerJobRunner, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(CeleryExecutor, "__init__", lambda *_: None)
    monkeypatch.setattr(CeleryExecutor, "start", lambda *_: None)
    executor.PromptCeleryExecutor().start()
    for name in executor.CHECKS:
        getattr(SchedulerJobRunner, name)("a scheduler")
    assert done == [*executor.CHECKS]
    clock[0] += 3600
    for name in executor.CHECKS:
        getattr(SchedulerJobRunner, name)("a scheduler")
    assert done == [*executor.CHECKS]


def test_a_message_may_lie_in_the_broker_as_long_as_a_task_may_sleep():
    generator = JWTGenerator(secret_key=SECRET, audience="here", valid_for=WEEK)
    token = BaseWorkloadSchema.generate_token("a task", executor.LongValid(generator))
    claims = jwt.decode(token, SECRET, algorithms=["HS512"], audience="here")
    assert claims["exp"] - claims["iat"] == WEEK
    assert (claims["sub"], claims["scope"]) == ("a task", "workload")


def test_the_scheduler_calls_the_heartbeat_in_each_turn():
    """Where it did not, it would turn without a pause: airflow.cfg sets its own sleep to nothing."""
    assert "executor.heartbeat()" in inspect.getsource(SchedulerJobRunner._run_scheduler_loop)
