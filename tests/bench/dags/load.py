"""What tests/bench/load.py runs: a DAG of tasks beside each other, and one that is run again and again."""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag

WIDTH = 10


@dag(dag_id="bench_wide", schedule=None, max_active_runs=100, dagrun_timeout=timedelta(hours=1))
def bench_wide() -> None:
    """Ten tasks that do nothing, none of which waits for another."""
    for number in range(WIDTH):
        BashOperator(task_id=f"task_{number}", bash_command="true")


@dag(dag_id="bench_small", schedule=None)
def bench_small() -> None:
    """Two tasks that do nothing."""
    first, then = (BashOperator(task_id=name, bash_command="true") for name in ("first", "then"))
    first >> then


bench_wide()
bench_small()
