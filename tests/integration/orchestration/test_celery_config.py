"""An idle worker ends at once when it is told to stop; one that holds a task, or to which one was sent, does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from workspace import ROOT

from elt.config import process_env, settings

TOLD_TO_STOP = """
import socket, sys
from celery.signals import worker_shutting_down
from celery.worker import state
from airflow.providers.celery.executors.celery_executor_utils import app
assert app.conf.worker_send_task_events and app.conf.broker_url.startswith("redis+socket:")
near, far = socket.socketpair()
if sys.argv[1] == "waiting":
    far.send(b"a message")
elif sys.argv[1] != "idle":
    class Request: id = "1"
    held = Request()
    getattr(state, sys.argv[1]).add(held)
worker_shutting_down.send(sender="celery@here", sig="TERM", how="Warm", exitcode=0)
print("stays")
"""


@pytest.mark.parametrize(
    ("worker", "said"),
    [("idle", ""), ("waiting", "stays\n"), ("reserved_requests", "stays\n"), ("active_requests", "stays\n")],
)
def test_only_an_idle_worker_ends_at_once(state, worker, said):
    env = process_env.build(settings.load()) | {"ELT_STATE": str(state)}
    done = subprocess.run(
        [sys.executable, "-c", TOLD_TO_STOP, worker], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_shared_memory_leaves_nothing_in_tmp(tmp_path, state):
    """The worker ends at once, so nothing that it would clear is to be made."""
    script = "from elt.orchestration import celery_config; "
    script += "from billiard.heap import Arena; Arena(4096); print('made', flush=True)"
    (state / "run").mkdir(parents=True)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = process_env.build(settings.load()) | {"TMPDIR": str(temporary), "ELT_STATE": str(state)}
    done = subprocess.run([sys.executable, "-c", script + "; import os; os._exit(0)"], env=env, cwd=ROOT, text=True)
    assert done.returncode == 0
    assert [*temporary.iterdir()] == [*(state / "run").iterdir()] == []
