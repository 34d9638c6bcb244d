"""The DAGs that Airflow makes of the schedules in meltano.yml: a DAG for each, by its name."""

from elt.orchestration.dag_factory import dags

globals().update(dags())
