"""Let Airflow's API server answer under no foreign name."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from elt.allowed_hosts import AllowedHosts


class AllowedHostsPlugin(AirflowPlugin):  # type: ignore[misc, unused-ignore]
    """Puts the middleware before all that Airflow's API server answers."""

    name = "allowed_hosts"
    fastapi_root_middlewares = [{"name": "allowed hosts", "middleware": AllowedHosts}]  # noqa: RUF012 - as its base does
