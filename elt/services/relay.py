"""Relay BI tools to PostgreSQL by TCP: few at a time, as the role `bi` and to the database `marts` alone.

PostgreSQL counts a connection as soon as it is opened, long before a password: whoever reaches its port could use up
max_connections, and Airflow would get none. Here they are limited apart, and PostgreSQL itself has no port.

Standard library only, as it runs as long as the server does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time

MAX_CONNECTIONS = 20
"""Connections at the same time, as many as the role may have."""
STARTUP_SECONDS = 5
"""Seconds that a client may take to send its startup message."""
MAX_STARTUP_BYTES = 10_000
"""Bytes that a startup message may have, as in PostgreSQL."""
ENCRYPTION = (80877103, 80877104)
"""Codes of the requests for TLS and GSSAPI encryption."""
CANCEL_REQUEST = 80877102
ALLOWED = {"user": b"bi", "database": b"marts"}


def main() -> None:
    """Serve until PostgreSQL, the process of that id, has ended: `relay.py DESCRIPTOR SOCKET PID`."""
    server, path, pid = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    if os.fork():  # no child of PostgreSQL, which would take its end for a crash of a server process
        os._exit(0)
    threading.Thread(target=serve, args=(server, path), daemon=True).start()
    while is_there(pid):
        time.sleep(1)


def is_there(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as nobody
        pass
    return True


def serve(server: socket.socket, path: str) -> None:
    """Accept connections for ever, each in a thread; those beyond MAX_CONNECTIONS are closed at once.

    Args:
        server: listens.
        path: PostgreSQL's socket.
    """
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def handle(client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError, ValueError):
                connect(client, path)
        finally:
            slots.release()

    while True:
        try:
            client = server.accept()[0]
        except OSError:
            time.sleep(0.1)
            continue
        if slots.acquire(blocking=False):
            threading.Thread(target=handle, args=(client,), daemon=True).start()
        else:
            client.close()


def connect(client: socket.socket, path: str) -> None:
    """Connect a client to PostgreSQL if role and database are allowed.

    Raises:
        OSError: one of both disconnected.
        ValueError: the client does not send PostgreSQL's protocol.
    """
    code, message = first_message(client)
    if code != CANCEL_REQUEST and (refusal := refusal_of(message)):
        words = f"SFATAL\0VFATAL\0C28000\0M{refusal}\0\0".encode()
        client.sendall(b"E" + struct.pack(">I", len(words) + 4) + words)
        return
    with socket.socket(socket.AF_UNIX) as behind:
        behind.connect(path)
        behind.sendall(message)
        back = threading.Thread(target=copy, args=(behind, client), daemon=True)
        back.start()
        copy(client, behind)
        back.join()


def first_message(client: socket.socket) -> tuple[int, bytes]:
    """Receive the startup message, after declining encryption, and return its code and all its bytes."""
    until = time.monotonic() + STARTUP_SECONDS
    while True:
        head = receive(client, 8, until)
        length, code = struct.unpack(">II", head)
        if not 8 <= length <= MAX_STARTUP_BYTES:
            raise ValueError(length)
        message = head + receive(client, length - 8, until)
        if code not in ENCRYPTION:
            client.settimeout(None)
            return code, message
        client.sendall(b"N")


def receive(client: socket.socket, size: int, until: float) -> bytes:
    """Receive exactly so many bytes, before `until`."""
    got = b""
    while len(got) < size:
        client.settimeout(max(0.001, until - time.monotonic()))
        part = client.recv(size - len(got))
        if not part:
            raise ConnectionResetError
        got += part
    return got


def refusal_of(message: bytes) -> str:
    """Return why a startup message is refused, in PostgreSQL's words; empty if it is allowed."""
    words = message[8:].split(b"\0")
    given = dict(zip(words[::2], words[1::2], strict=False))
    user = given.get(b"user", b"")
    if {"user": user, "database": given.get(b"database") or user} == ALLOWED and b"replication" not in given:
        return ""
    return "no pg_hba.conf entry: by TCP the role bi reaches the database marts, and nothing else"


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy all data from one connection to the other, until one ends."""
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
