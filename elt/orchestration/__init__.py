"""Integrate Airflow: its database, executor, API, alerts and operators."""
