"""Tasks in a row that do nothing, for tests/bench/schedule.py: what is left of their time is the platform's."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import chain, dag

LENGTH = 40


@dag(dag_id="bench_chain", schedule=None)
def bench_chain() -> None:
    """Forty tasks in a row."""
    chain(*(BashOperator(task_id=f"task_{number}", bash_command="true") for number in range(LENGTH)))


bench_chain()
