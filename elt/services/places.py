"""Let Airflow's API server answer while somebody opens connections and says nothing.

Anybody on this machine can open as many as he likes. Each takes a descriptor of the server, and with the last one it
would answer nobody: tasks could not say that they live. So of more than a thousand, the connection that was heard of
least recently is closed. Whoever asks at once is answered: a new one has longer than that takes.
"""

from __future__ import annotations

import functools
import resource
import typing as t

if t.TYPE_CHECKING:
    import asyncio

DESCRIPTORS = 4096
"""What the server may open: its loop takes 2048 connections from the queue before it looks at the first."""
SHARE = 4
"""One of so many is for a connection that stays."""


def bound(protocol: type[asyncio.Protocol]) -> None:
    """Make a server close what was heard of least recently, and let this process open enough.

    Args:
        protocol: its class of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if resource.RLIM_INFINITY != soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    places = most // SHARE
    heard: dict[asyncio.Protocol, asyncio.BaseTransport] = {}  # in the order of their last words
    made, received, lost = protocol.connection_made, protocol.data_received, protocol.connection_lost

    @functools.wraps(made)
    def connection_made(self: asyncio.Protocol, transport: asyncio.Transport) -> None:
        made(self, transport)
        heard[self] = transport
        if len(heard) > places:
            longest = next(iter(heard))
            t.cast("asyncio.Transport", heard.pop(longest)).abort()

    @functools.wraps(received)
    def data_received(self: asyncio.Protocol, data: bytes) -> None:
        if transport := heard.pop(self, None):
            heard[self] = transport
        received(self, data)

    @functools.wraps(lost)
    def connection_lost(self: asyncio.Protocol, exc: Exception | None) -> None:
        heard.pop(self, None)
        lost(self, exc)

    for method in (connection_made, data_received, connection_lost):
        setattr(protocol, method.__name__, method)
