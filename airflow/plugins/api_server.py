"""Make Airflow's API server refuse foreign names, pages and local users, and limit its connections."""

from __future__ import annotations

import typing as t

from airflow.plugins_manager import AirflowPlugin

from elt.services import connection_limit, local_users
from elt.services.allowed_hosts import AllowedHosts

if t.TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

READS = {"GET", "HEAD", "OPTIONS"}
"""Methods that change nothing."""
FOREIGN = {b"same-site", b"cross-site"}
"""What a browser says in Sec-Fetch-Site of another port's page, and of another site's; both may send the cookie."""
REFUSAL = "Airflow takes no changes from pages of other sites and ports\n"


class ApiServerMiddleware(AllowedHosts):
    """Check user, page and host name of each request to Airflow's API server, and limit its connections."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        from uvicorn.protocols.http.auto import AutoHTTPProtocol  # noqa: PLC0415 - not in processes that serve nothing

        local_users.refuse_others(AutoHTTPProtocol)
        connection_limit.limit_connections(AutoHTTPProtocol)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what a foreign page would change with 403, and let none show Airflow in a frame."""

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-frame-options", b"SAMEORIGIN")]
            await send(message)

        is_write = scope["type"] == "http" and scope["method"] not in READS
        if is_write and is_foreign(dict(scope["headers"])):
            from starlette.responses import PlainTextResponse  # noqa: PLC0415 - not in processes that serve nothing

            await PlainTextResponse(REFUSAL, 403)(scope, receive, send)
            return
        await super().__call__(scope, receive, send_unframed)


def is_foreign(headers: dict[bytes, bytes]) -> bool:
    """Return whether a request is sent by a page that is not Airflow's own."""
    if b"sec-fetch-site" in headers:
        return headers[b"sec-fetch-site"] in FOREIGN
    # Browsers send none to another machine by plain http. Behind a proxy with TLS, which may change Host, they do.
    return headers.get(b"origin", b"").rpartition(b"//")[2] not in {b"", headers.get(b"host")}


class ApiServerPlugin(AirflowPlugin):  # type: ignore[misc, unused-ignore]
    """Install the middleware."""

    name = "api_server"
    fastapi_root_middlewares = [{"name": "api server", "middleware": ApiServerMiddleware}]  # noqa: RUF012 - as its base does
