"""Which user owns a connection, while real clients keep it open and after they closed it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import typing as t

import pytest
from workspace import wait_for

from elt.services import local_users

NOBODY = 65534
Asks = t.Callable[[int, str], dict[str, t.Any]]
CLIENT = """
import os, socket, struct, sys
port, user, end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if user != os.getuid():
    os.setuid(user)
client = socket.socket()
client.connect(("127.0.0.1", port))
client.sendall(b"GET /")
if end == "half":
    client.shutdown(socket.SHUT_WR)
if end == "reset":
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
if end in ("closed", "reset"):
    client.close()
print(end, flush=True)
sys.stdin.read()
"""
"""A program that connects as a user, sends something, and leaves its connection open, half closed or closed."""

USERS = [os.getuid(), *([NOBODY] if os.geteuid() == 0 else [])]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    monkeypatch.setenv("ALLOWED_USERS", "root")
    local_users._allowed.cache_clear()
    yield
    local_users._allowed.cache_clear()


@pytest.fixture
def asks() -> t.Iterator[Asks]:
    """Return a function that makes a request as a user and returns its scope."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened: list[t.Any] = []

        def ask(user: int, end: str) -> dict[str, t.Any]:
            words = [sys.executable, "-c", CLIENT, str(server.getsockname()[1]), str(user), end]
            client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            connection, peer = server.accept()
            opened.extend((client, connection))
            assert client.stdout is not None
            assert client.stdout.readline().strip() == end
            return {"type": "http", "client": peer, "server": connection.getsockname()}

        yield ask
        for one in opened:
            if isinstance(one, subprocess.Popen):
                one.communicate("")
            else:
                one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no user is refused")
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("end", ["open", "half", "closed", "reset"])
@pytest.mark.parametrize("way", ["netlink", "table"])
def test_a_request_belongs_to_the_owner_of_an_open_socket(
    asks: Asks, monkeypatch: pytest.MonkeyPatch, user: int, end: str, way: str
) -> None:
    if way == "table":
        monkeypatch.setattr(local_users, "_owner", lambda *_: None)
    scope = asks(user, end)
    is_open = end in {"open", "half"}
    wait_for(lambda: local_users.is_allowed(scope) is (is_open and user == os.getuid()))


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_users_of_the_setting_are_let_in(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_USERS", f"root {pwd.getpwuid(NOBODY).pw_name}")
    assert local_users.is_allowed(asks(NOBODY, "open"))


def test_requests_of_other_machines_are_let_in() -> None:
    server = ("192.0.2.1", 8080)
    assert local_users.is_allowed({"type": "http", "client": ("192.0.2.77", 50_000), "server": server})
