"""Which user owns a connection, while real clients keep it open and after they closed it."""

from __future__ import annotations

import dataclasses
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
Asks = t.Callable[[int, str], socket.socket]
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
    """Return a function that makes a request as a user and returns the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened: list[t.Any] = []

        def ask(user: int, end: str) -> socket.socket:
            words = [sys.executable, "-c", CLIENT, str(server.getsockname()[1]), str(user), end]
            client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            connection, _ = server.accept()
            opened.extend((client, connection))
            assert client.stdout is not None
            assert client.stdout.readline().strip() == end
            return connection

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
    connection = asks(user, end)
    is_open = end in {"open", "half"}
    wait_for(lambda: local_users.is_allowed(connection) is (is_open and user == os.getuid()))


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_users_of_the_setting_are_let_in(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_USERS", f"root {pwd.getpwuid(NOBODY).pw_name}")
    assert local_users.is_allowed(asks(NOBODY, "open"))


@dataclasses.dataclass
class End:
    """A server's end of a connection that says something else than a real one."""

    client: local_users.Address
    server: local_users.Address

    def getpeername(self) -> local_users.Address:
        """The client's address."""
        return self.client

    def getsockname(self) -> local_users.Address:
        """The server's."""
        return self.server


def test_requests_of_other_machines_are_let_in() -> None:
    assert local_users.is_allowed(End(("192.0.2.77", 50_000), ("192.0.2.1", 8080)))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no user is refused")
def test_who_listens_on_the_port_of_a_closed_connection_does_not_own_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as client:
        assert not local_users.is_allowed(End(client.getsockname(), server.getsockname()))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no user is refused")
def test_who_has_the_port_of_a_closed_connection_does_not_own_it(asks: Asks) -> None:
    closed = asks(os.getuid(), "reset")
    wait_for(lambda: not is_connected(closed))
    opened = asks(os.getuid(), "open")
    assert local_users.is_allowed(opened)

    class Reused(End):
        """It was closed after its addresses were read, and another one has them now."""

        looks = 0

        def getpeername(self) -> local_users.Address:
            self.looks += 1
            return closed.getpeername() if self.looks > 1 else self.client

    assert not local_users.is_allowed(Reused(opened.getpeername(), opened.getsockname()))


def is_connected(connection: socket.socket) -> bool:
    """Whether the other end is known."""
    try:
        return bool(connection.getpeername())
    except OSError:
        return False
