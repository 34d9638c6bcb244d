"""Make Airflow's API server refuse foreign host names and other local users, and limit its connections."""

from __future__ import annotations

import typing as t

from airflow.plugins_manager import AirflowPlugin

from elt.services import connection_limit, local_users
from elt.services.allowed_hosts import AllowedHosts

if t.TYPE_CHECKING:
    from starlette.types import ASGIApp


class ApiServerMiddleware(AllowedHosts):
    """Check host name and user of each request to Airflow's API server, and limit its connections."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        from uvicorn.protocols.http.auto import AutoHTTPProtocol  # noqa: PLC0415 - not in processes that serve nothing

        local_users.refuse_others(AutoHTTPProtocol)
        connection_limit.limit_connections(AutoHTTPProtocol)


class ApiServerPlugin(AirflowPlugin):  # type: ignore[misc, unused-ignore]
    """Install the middleware."""

    name = "api_server"
    fastapi_root_middlewares = [{"name": "api server", "middleware": ApiServerMiddleware}]  # noqa: RUF012 - as its base does
