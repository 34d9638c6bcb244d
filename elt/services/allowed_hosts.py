"""Refuse requests whose Host is not of the stack, against DNS rebinding.

A foreign page may have its own name resolve to this machine; a browser then lets it read the answers. An address
cannot be redirected, so each is allowed; names are those of ALLOWED_HOSTS in .env.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import typing as t

if t.TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

REFUSAL = "This name is none of ALLOWED_HOSTS in .env\n"


def is_allowed(host: str) -> bool:
    """Return whether a Host header is an address, one of ALLOWED_HOSTS, or empty, which no browser sends.

    Args:
        host: as it was sent, with or without a port.
    """
    name = host.lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        names = os.environ.get("ALLOWED_HOSTS", "").lower().split()  # a leading `*.` stands for any subdomain
        return not host or any(fnmatch.fnmatchcase(name, one) for one in names)
    return True


class AllowedHosts:
    """Answer 400 under any other name, as an ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
        if scope["type"] == "http" and not all(map(is_allowed, hosts)):
            from starlette.responses import PlainTextResponse  # noqa: PLC0415 - not in processes that serve nothing

            await PlainTextResponse(REFUSAL, 400)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
