"""Serve app.py as the stack does: refuse foreign host names, and bound what anybody may have the server hold.

Started as a program, it is `streamlit run` of itself.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from streamlit.web import cli
from streamlit.web.server.starlette import starlette_server

from elt.services.allowed_hosts import AllowedHosts

if t.TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_SESSIONS = 100
"""Pages that may be open at the same time: each costs about a megabyte."""
MAX_MESSAGE_BYTES = 1_000_000
"""Bytes of a message from a browser, which holds the state of a page's widgets; by default 200 MB."""
TOO_MANY = 1013
"""Code with which a WebSocket is closed that somebody may try again later."""


class LimitedSessions:
    """Close the connection of a page beyond MAX_SESSIONS, as an ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._open = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the connection, or pass it on."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
        elif self._open >= MAX_SESSIONS:
            await send({"type": "websocket.close", "code": TOO_MANY})
        else:
            self._open += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._open -= 1


def main() -> None:
    """Run the server with bounds that no setting of Streamlit has: h11 refuses headers without an end."""
    chosen = starlette_server._get_uvicorn_config_kwargs  # noqa: SLF001
    bounds = {"http": "h11", "ws_max_size": MAX_MESSAGE_BYTES}
    starlette_server._get_uvicorn_config_kwargs = lambda: chosen() | bounds  # noqa: SLF001
    cli.main(["run", __file__])


app = st.App(Path(__file__).with_name("app.py"), middleware=[Middleware(AllowedHosts), Middleware(LimitedSessions)])

if __name__ == "__main__":
    main()
