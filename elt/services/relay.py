"""Let BI tools reach PostgreSQL by TCP: few at a time, as the role `bi` and in the database `marts` alone.

PostgreSQL counts a connection from the moment at which it is opened, long before a password: whoever reaches its port
could take all places, and Airflow would get none. Here they are counted apart, and PostgreSQL itself has no port.

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

PLACES = 20
"""Connections at the same time; as many as the role may have."""
STARTUP_SECONDS = 5
"""How long one may take to say who it is."""
LONGEST = 10_000
"""Bytes of the message that says so, as PostgreSQL has it."""
ENCRYPTION = (80877103, 80877104)
"""Codes of the messages that ask for TLS and GSSAPI."""
CANCEL = 80877102
ALLOWED = {"user": b"bi", "database": b"marts"}


def main() -> None:
    """Serve until the process of that id, PostgreSQL, is gone: `relay.py DESCRIPTOR SOCKET PID`."""
    server, path, pid = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    if os.fork():  # no child of PostgreSQL, which would take its end for a crash of its own
        os._exit(0)
    threading.Thread(target=serve, args=(server, path), daemon=True).start()
    while is_there(pid):
        time.sleep(1)


def is_there(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as nobody
        pass
    return True


def serve(server: socket.socket, path: str) -> None:
    """Take connections for ever, each in a thread; those beyond PLACES are closed at once.

    Args:
        server: listens.
        path: PostgreSQL's socket.
    """
    places = threading.BoundedSemaphore(PLACES)

    def take(client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError, ValueError):
                connect(client, path)
        finally:
            places.release()

    while True:
        try:
            client = server.accept()[0]
        except OSError:
            time.sleep(0.1)
            continue
        if places.acquire(blocking=False):
            threading.Thread(target=take, args=(client,), daemon=True).start()
        else:
            client.close()


def connect(client: socket.socket, path: str) -> None:
    """Let a client through to PostgreSQL if it may.

    Raises:
        OSError: one of both has gone.
        ValueError: this is not PostgreSQL's protocol.
    """
    code, message = first_message(client)
    if code != CANCEL and (refusal := problem(message)):
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
    """The code and the whole of the message that says who comes; encryption is declined before it."""
    until = time.monotonic() + STARTUP_SECONDS
    while True:
        head = exactly(client, 8, until)
        length, code = struct.unpack(">II", head)
        if not 8 <= length <= LONGEST:
            raise ValueError(length)
        message = head + exactly(client, length - 8, until)
        if code not in ENCRYPTION:
            client.settimeout(None)
            return code, message
        client.sendall(b"N")


def exactly(client: socket.socket, size: int, until: float) -> bytes:
    """So many bytes, before that time."""
    got = b""
    while len(got) < size:
        client.settimeout(max(0.001, until - time.monotonic()))
        part = client.recv(size - len(got))
        if not part:
            raise ConnectionResetError
        got += part
    return got


def problem(message: bytes) -> str:
    """Why PostgreSQL is not asked, in the words that it would have for it; empty if it is."""
    words = message[8:].split(b"\0")
    given = dict(zip(words[::2], words[1::2], strict=False))
    user = given.get(b"user", b"")
    if {"user": user, "database": given.get(b"database") or user} == ALLOWED and b"replication" not in given:
        return ""
    return "no pg_hba.conf entry: by TCP the role bi reaches the database marts, and nothing else"


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, to the end of one of both."""
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
