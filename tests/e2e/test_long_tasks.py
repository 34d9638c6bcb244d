"""A message that the broker hands out again is executed only if Airflow waits for it, by Airflow's own tables.

test_faults.py has the broker hand out that of a task that runs.
"""

from __future__ import annotations

import json

from elt.orchestration import runs

DROPS = """
import json
from types import SimpleNamespace
from airflow.providers.celery.executors.celery_executor_utils import app
from celery.app.trace import task_has_custom
from celery.exceptions import Ignore
from sqlalchemy import text

task = app.tasks["execute_workload"]
assert task_has_custom(task, "before_start")  # as the worker looks
session = task.backend.ResultSession()
row = str(session.scalar(text("select id from task_instance limit 1")))
stays_open = SimpleNamespace(scalar=session.scalar, close=lambda: None)  # all of it is rolled back
task.backend.ResultSession = lambda: stays_open

def drops(state, awaited="message", kind="ExecuteTask", redelivered=True):
    session.execute(text("update task_instance set state = :state, external_executor_id = :awaited"),
                    {"state": state, "awaited": awaited})
    task.push_request(delivery_info={"redelivered": redelivered})
    try:
        task.before_start("message", [json.dumps({"type": kind, "ti": {"id": row}})], {})
    except Ignore:
        return True
    return False

print(json.dumps([
    [drops(state) for state in ("running", "success", "failed", "up_for_retry", "deferred", "scheduled", None)],
    drops("queued", awaited="another"), drops("queued", awaited=None),
    drops("queued"), drops("running", redelivered=False), drops("running", kind="ExecuteCallback"),
]))
session.rollback()
"""


def test_only_a_message_that_airflow_waits_for_is_executed_again(platform):
    platform.wait_healthy()
    runs.run_pipeline(platform.api, 120)
    said = platform.elt("exec", "python", "-c", DROPS).splitlines()[-1]
    assert json.loads(said) == [[True] * 7, True, True, False, False, False]
    assert platform.api.last_run(runs.DAG)[1] == "success"
