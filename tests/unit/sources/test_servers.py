"""What names the server of MySQL: the settings of tap-mysql, and nothing else."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import struct
import threading

import duckdb
import pytest

from elt.config import settings
from elt.errors import ConfigError, DataError, SetupError
from elt.sources import servers, simulate

SETTINGS = {
    "TAP_MYSQL_HOST": "db.example",
    "TAP_MYSQL_USER": "elt",
    "TAP_MYSQL_PASSWORD": "p",
    "TAP_MYSQL_DATABASE": "shop",
}


@pytest.fixture(autouse=True)
def given(monkeypatch):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


def test_a_server_is_named_by_the_settings_of_the_tap(monkeypatch):
    assert servers.mysql(settings.load()) == servers.Database("db.example", 3306, "elt", "p", "shop")
    monkeypatch.setenv("TAP_MYSQL_PORT", "3307")
    assert servers.mysql(settings.load()).port == 3307


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAP_MYSQL_DATABASE", "", r"\.env: TAP_MYSQL_DATABASE is missing"),
        ("TAP_MYSQL_PORT", "x", "TAP_MYSQL_PORT: 'x' is no port"),
        ("TAP_MYSQL_SSL", "true", "TAP_MYSQL_SSL: .* alone"),
        ("TAP_MYSQL_SQLALCHEMY_URL", "mysql://x", "TAP_MYSQL_SQLALCHEMY_URL: .* alone"),
    ],
)
def test_what_is_missing_or_not_understood_is_named(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        servers.mysql(settings.load())


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(servers, "_PACKAGE", "no_such_package")
    with pytest.raises(SetupError, match=r"set ELT_GROUPS=mysql in .*\.env, and run scripts/bootstrap\.sh"):
        servers.attach(None, None)


@pytest.mark.skipif(
    not importlib.util.find_spec("duckdb_extension_mysql_scanner"), reason="the group mysql is not installed"
)
@pytest.mark.parametrize("may_have_it", [False, True])
def test_the_shop_gives_no_password_to_a_server_that_asks_for_it(monkeypatch, may_have_it):
    """Whoever takes the port of a server or a tunnel that is down may ask."""
    middle = b"\xdf\xf7\x2d\x02\x00\xff\xfe" + bytes([21]) + bytes(10)
    greeting = b"\x0a8.0.30\0" + bytes(4) + b"abcdefgh\0" + middle + b"ijklmnopqrst\0mysql_native_password\0"
    heard = []

    def serve(server):
        client = server.accept()[0]
        with client, contextlib.suppress(OSError):
            client.settimeout(2)
            for number, body in ((0, greeting), (2, b"\xfemysql_clear_password\0")):
                client.sendall(struct.pack("<I", len(body))[:3] + bytes([number]) + body)
                heard.append(client.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = threading.Thread(target=serve, args=(server,), daemon=True)
        listening.start()
        monkeypatch.setenv("TAP_MYSQL_HOST", "127.0.0.1")
        monkeypatch.setenv("TAP_MYSQL_PORT", str(server.getsockname()[1]))
        monkeypatch.setenv("TAP_MYSQL_PASSWORD", "s3cr}et;")
        monkeypatch.setenv("TAP_MYSQL_CLEARTEXT_PASSWORD", str(may_have_it))
        with duckdb.connect() as connection, contextlib.suppress(duckdb.Error):
            servers.attach(connection, servers.mysql(settings.load()))
        listening.join()
    assert any(b"s3cr}et;" in one for one in heard) == may_have_it


def test_days_pass_in_no_shop_of_somebody_else(monkeypatch):
    class Theirs:
        def __init__(self, to):
            assert to.database == "shop"

        def ask(self, query):
            assert "table_comment <>" in query
            return [("orders",)]

        def close(self):
            pass

    monkeypatch.setattr(servers, "MySQL", Theirs)
    with pytest.raises(
        DataError, match=r"simulate: the database shop at db\.example has a table orders that no seed wrote"
    ):
        simulate.simulate(settings.load(), 1, 0, "mysql")
