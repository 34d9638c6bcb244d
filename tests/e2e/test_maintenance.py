"""The nightly DAG forgets what is old in every place, and leaves what is young."""

from __future__ import annotations

import contextlib
import os

from elt.orchestration import runs
from elt.services import databases

DAG = "maintenance"
RESULT = "insert into celery_taskmeta (id, task_id, status, date_done) values (-1, 'old', 'SUCCESS', '2020-01-01')"
RUN = """
    insert into runs (job_name, run_id, state, started_at, ended_at)
    values ('old', gen_random_uuid(), 'SUCCESS', '2020-01-01', '2020-01-01')
"""


def tell(platform, database, statement):
    """Run a statement; returns its rows, if it has any."""
    connecting = contextlib.closing(databases.connect(platform.settings, database))
    with connecting as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def old(platform):
    """How many old rows there are, of Celery and of Meltano."""
    return [
        *tell(platform, "airflow", "select count(*) from celery_taskmeta where task_id = 'old'"),
        *tell(platform, "meltano", "select count(*) from runs where job_name = 'old'"),
    ]


def test_what_is_old_is_forgotten(platform):
    platform.wait_healthy()
    young = runs.run_pipeline(platform.api, 120)
    logs = platform.state / "logs" / "tasks"
    log = logs / "dag_id=old" / "attempt=1.log"
    log.parent.mkdir(parents=True)
    log.touch()
    os.utime(log, (0, 0))
    tell(platform, "airflow", RESULT)
    tell(platform, "meltano", RUN)
    assert old(platform) == [(1,), (1,)]
    platform.api.wait_for_dag(DAG, 60)
    run = platform.api.trigger(DAG)
    platform.wait("its end", lambda: platform.api.run_state(DAG, run) in ("success", "failed"), 120)
    assert platform.api.run_state(DAG, run) == "success"
    assert old(platform) == [(0,), (0,)]
    assert not log.parent.exists()
    assert platform.api.run_state(runs.DAG, young) == "success"
    assert [*logs.glob(f"*/run_id={young}")]
