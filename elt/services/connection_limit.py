"""Limit the connections of Airflow's API server, so that it answers while somebody opens many and sends nothing.

Anybody on this machine can open any number. Each takes a descriptor of the server, and without one left it would
answer nobody: tasks could not send heartbeats. So of more than a thousand, the connection that was active least
recently is closed. A client that sends its request at once is answered before that happens to it.
"""

from __future__ import annotations

import functools
import resource
import typing as t

if t.TYPE_CHECKING:
    import asyncio

DESCRIPTORS = 4096
"""Descriptors that the server may open: its loop accepts 2048 connections before it reads from the first."""
DESCRIPTORS_PER_CONNECTION = 4
"""Descriptors for each connection that stays open."""


def limit_connections(protocol: type[asyncio.Protocol]) -> None:
    """Make a server close the least recently active of too many connections, and raise its limit of descriptors.

    Args:
        protocol: the server's class of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if resource.RLIM_INFINITY != soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    limit = descriptors // DESCRIPTORS_PER_CONNECTION
    active: dict[asyncio.Protocol, asyncio.BaseTransport] = {}  # by the time of their last data
    made, received, lost = protocol.connection_made, protocol.data_received, protocol.connection_lost

    @functools.wraps(made)
    def connection_made(self: asyncio.Protocol, transport: asyncio.Transport) -> None:
        made(self, transport)
        active[self] = transport
        if len(active) > limit:
            idle = next(iter(active))
            t.cast("asyncio.Transport", active.pop(idle)).abort()

    @functools.wraps(received)
    def data_received(self: asyncio.Protocol, data: bytes) -> None:
        if transport := active.pop(self, None):
            active[self] = transport
        received(self, data)

    @functools.wraps(lost)
    def connection_lost(self: asyncio.Protocol, exc: Exception | None) -> None:
        active.pop(self, None)
        lost(self, exc)

    for method in (connection_made, data_received, connection_lost):
        setattr(protocol, method.__name__, method)
