"""Refuse connections of other users of this machine, who may have obtained a token.

Cookies ignore ports: any page can redirect a browser to `http://airflow.localhost` and a port at which another user
listens, and the browser then sends him Airflow's token. From another machine he cannot use it while Airflow listens
on loopback, and from this one he is refused: Linux tells which user owns the socket of a connection. Whoever closes
it before he is looked at is nobody, and his request is not executed either.
"""

from __future__ import annotations

import functools
import os
import pwd
import socket
import struct
import sys
import typing as t
import weakref

if t.TYPE_CHECKING:
    import asyncio

REFUSAL = b"Airflow answers no other user of this machine than those of ALLOWED_USERS in .env\n"
_ANSWER = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(REFUSAL), REFUSAL)
)
_BY_FAMILY, _SOCK_DIAG = 20, 4
"""Type of the message that asks for sockets, and the protocol of netlink that knows it."""
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI 4s16s16s 3I")
_OWNER, _OWNER_OFFSET = struct.Struct("=II"), 64
"""User and inode of the socket in the answer, a `struct inet_diag_msg`, and where they stand."""
_PORTS_OFFSET = 4

Address = tuple[str, int]


class Connection(t.Protocol):
    """Describe what is needed of a server's socket, which an event loop may not hand out whole."""

    def getpeername(self) -> Address:
        """Return the client's address."""

    def getsockname(self) -> Address:
        """Return the server's."""


def refuse_others(protocol: type[asyncio.Protocol]) -> None:
    """Make a server answer 403 to other users, before it reads what they send.

    Args:
        protocol: the server's class of connections, which have a `transport`.
    """
    allowed: weakref.WeakSet[asyncio.Protocol] = weakref.WeakSet()
    received = protocol.data_received

    @functools.wraps(received)
    def data_received(self: t.Any, data: bytes) -> None:  # noqa: ANN401 - with a transport
        if self in allowed or is_allowed(self.transport.get_extra_info("socket")):
            allowed.add(self)
            received(self, data)
        elif not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()

    protocol.data_received = data_received  # type: ignore[method-assign]


def is_allowed(connection: Connection) -> bool:
    """Return whether a connection comes from another machine, or from this user or one of ALLOWED_USERS.

    Args:
        connection: the server's end, of IPv4 as all that the servers listen on.
    """
    if sys.platform != "linux":
        return True
    try:
        client, server = connection.getpeername(), connection.getsockname()
        if not _is_here(client[0]):
            return True
        owner = _owner(client, server)
        owner = _owner_by_table(client, server) if owner is None else owner
        connection.getpeername()  # else he may have closed his end, and somebody allowed got the same port
    except OSError:
        return False
    return owner in _allowed()


@functools.cache
def _allowed() -> set[int]:
    return {os.getuid(), *(pwd.getpwnam(name).pw_uid for name in os.environ["ALLOWED_USERS"].split())}


def _is_here(address: str) -> bool:
    """Return whether an address is one of this machine's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _owner(client: Address, server: Address) -> int | None:
    """Return the user who owns the client's socket of a connection; None when it is closed.

    Linux reports root as the owner of a closed socket, which has no inode any more, and when there is none at all a
    socket that listens on the client's port.
    """
    ports = struct.pack("!HH", client[1], server[1])
    asked = _ASKED.pack(
        *(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF, ports),
        *(socket.inet_aton(client[0]), socket.inet_aton(server[0]), 0, 0xFFFFFFFF, 0xFFFFFFFF),
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
            kernel.send(_HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, 1, 0, 0) + asked)
            answer = kernel.recv(8192)
    except OSError:
        return None
    if _HEADER.unpack_from(answer)[1] != _BY_FAMILY or not answer.startswith(ports, _HEADER.size + _PORTS_OFFSET):
        return None
    user, inode = _OWNER.unpack_from(answer, _HEADER.size + _OWNER_OFFSET)
    return int(user) if inode else None


def _owner_by_table(client: Address, server: Address) -> int | None:
    """Return the same from the table of all sockets, where the kernel answers no query for one (containers)."""
    numbers = [struct.unpack("=I", socket.inet_aton(host))[0] for host, _ in (client, server)]
    ends = [f"{number:08X}:{port:04X}" for number, (_, port) in zip(numbers, (client, server), strict=True)]
    with open("/proc/net/tcp") as rows:  # noqa: PTH123
        for row in map(str.split, rows):
            if row[1:3] == ends and row[9] != "0":
                return int(row[7])
    return None
