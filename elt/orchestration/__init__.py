"""Integrate Airflow: its database, executor, API, alerts and operators."""

POOL = "duckdb_writer"
"""Airflow's pool of the tasks that write to a DuckDB warehouse: one at a time."""
