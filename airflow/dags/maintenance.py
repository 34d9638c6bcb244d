"""Delete old runs, results and logs every night (elt/maintenance/trim.py)."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import CronTriggerTimetable, Param, dag

from elt.orchestration import alerts


@dag(
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC", run_immediately=timedelta()),
    catchup=False,
    max_active_runs=1,
    tags=["maintenance"],
    default_args={"owner": "data", "on_failure_callback": alerts.task_failed},
    params={"keep_days": Param(30, type="integer", minimum=1, description="Age in days that is kept.")},
)
def maintenance() -> None:
    """Keep the workspace from growing: runs older than 30 days are deleted.

    | step | what it does | when it fails |
    |---|---|---|
    | `trim` | `elt trim`: Airflow's tables, Celery's results, Meltano's runs, logs of tasks | its log says why |
    """
    BashOperator(task_id="trim", bash_command="elt trim --days {{ params.keep_days }}", cwd=os.environ["ELT_ROOT"])


maintenance()
