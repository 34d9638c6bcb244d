"""Refuse requests of other users of this machine, who may have obtained a token.

Cookies ignore ports: any page can redirect a browser to `http://airflow.localhost` and a port at which another user
listens, and the browser then sends him Airflow's token. From another machine he cannot use it while Airflow listens
on loopback, and from this one he is refused: Linux tells which user owns the socket of a connection.
"""

from __future__ import annotations

import functools
import os
import pwd
import socket
import struct
import sys
import typing as t

if t.TYPE_CHECKING:
    from starlette.types import Scope

REFUSAL = "Airflow answers no other user of this machine than those of ALLOWED_USERS in .env\n"
_BY_FAMILY, _SOCK_DIAG = 20, 4
"""Type of the message that asks for sockets, and the protocol of netlink that knows it."""
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI 4s16s16s 3I")
_OWNER, _OWNER_OFFSET = struct.Struct("=II"), 64
"""User and inode of the socket in the answer, a `struct inet_diag_msg`, and where they stand."""

Address = tuple[str, int]


def is_allowed(scope: Scope) -> bool:
    """Return whether a request comes from another machine, or from this user or one of ALLOWED_USERS.

    Args:
        scope: that of the request; its addresses are of IPv4, as are those that the servers listen on.
    """
    client, server = scope.get("client"), scope.get("server")
    if sys.platform != "linux" or not client or not server or not _is_here(client[0]):
        return True
    owner = _owner(client, server)
    return (_owner_by_table(client, server) if owner is None else owner) in _allowed()


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

    Linux reports root as the owner of a closed socket, which has no inode any more.
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
    if _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
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
