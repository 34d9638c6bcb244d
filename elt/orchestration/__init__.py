"""All that touches Airflow: its database, executor, API, alerts and operators."""
