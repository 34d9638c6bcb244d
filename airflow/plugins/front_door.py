"""Let Airflow's API server answer under no foreign name, and while somebody opens connections and says nothing."""

from __future__ import annotations

import typing as t

from airflow.plugins_manager import AirflowPlugin

from elt.services import places
from elt.services.allowed_hosts import AllowedHosts

if t.TYPE_CHECKING:
    from starlette.types import ASGIApp


class FrontDoor(AllowedHosts):
    """The middleware before all that Airflow's API server answers."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        from uvicorn.protocols.http.auto import AutoHTTPProtocol  # noqa: PLC0415 - not in processes that serve nothing

        places.bound(AutoHTTPProtocol)


class FrontDoorPlugin(AirflowPlugin):  # type: ignore[misc, unused-ignore]
    """Puts it there."""

    name = "front_door"
    fastapi_root_middlewares = [{"name": "front door", "middleware": FrontDoor}]  # noqa: RUF012 - as its base does
