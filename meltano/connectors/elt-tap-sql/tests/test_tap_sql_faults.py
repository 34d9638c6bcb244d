"""Wrong passwords, silent hosts, and servers that die in the middle: one line, exit 1, nothing lost."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import socket
import struct
import subprocess
import threading
import time
import typing as t

import pytest
from tap_sql import tap as tap_module
from tap_sql.engine import _extension
from tap_sql.errors import SourceError
from tap_sql_harness import PASSWORD, Source, batched, command

if t.TYPE_CHECKING:
    from pathlib import Path

BAD_URL = "postgresql://u:secret@host:port/x"  # pragma: allowlist secret


def run(source: Source, folder: Path, **settings: t.Any) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    config = folder / "config.json"
    config.write_text(json.dumps(source.settings | {"retries": 0} | settings))
    return subprocess.run(command(source.kind, "--config", config), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["pg", "my"])
def test_a_wrong_password_is_one_line_and_not_tried_again(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    source = request.getfixturevalue(kind)
    secret = "s3cr'et \\\"x"  # noqa: S105  # pragma: allowlist secret
    for settings in (
        {"password": secret},
        {"sqlalchemy_url": f"x://elt:s3cr%27et@127.0.0.1:{source.settings['port']}/shop"},  # pragma: allowlist secret
    ):
        ran = run(source, tmp_path, retries=3, **settings)
        assert ran.returncode == 1
        assert ran.stdout == ""
        assert len(ran.stderr.splitlines()) == 1
        assert "password authentication failed" in ran.stderr or "Access denied" in ran.stderr
        assert "s3cr" not in ran.stderr


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_a_silent_host_is_told_in_time(kind: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = {"host": "127.0.0.1", "port": silent.getsockname()[1], "user": "u", "password": PASSWORD}
        started = time.monotonic()
        ran = run(Source(kind, given, print), tmp_path, connect_timeout=2)
        assert ran.returncode == 1
        assert time.monotonic() - started < 15
        assert len(ran.stderr.splitlines()) == 1
        assert PASSWORD not in ran.stderr


def greeting(method: bytes) -> bytes:
    """What a server of MySQL says first, without TLS."""
    capabilities = 0xFEFFF7DF
    low, high = struct.pack("<I", capabilities)[:2], struct.pack("<I", capabilities)[2:]
    middle = b"\x2d\x02\x00" + high + bytes([21]) + bytes(10)
    return b"\x0a8.0.30\0" + bytes(4) + b"abcdefgh\0" + low + middle + b"ijklmnopqrst\0" + method + b"\0"


ROGUES: dict[str, tuple[str, list[tuple[int, bytes]]]] = {
    "postgres": ("postgres", [(-1, b""), (-1, b"N"), (-1, b"R" + struct.pack("!II", 8, 3))]),
    **{
        method: (
            "mysql",
            [
                (0, greeting(b"mysql_native_password")),
                (2, b"\xfe" + method.encode() + b"\0" + b"\x04" * 20 + b"\0"),
                (4, b"\x01\x04"),  # caching_sha2_password: the whole password is needed
            ],
        )
        for method in ("mysql_clear_password", "dialog", "caching_sha2_password")
    },
}
"""What servers say that ask for the password itself: packets of MySQL by their numbers, and bytes of PostgreSQL."""


@pytest.mark.parametrize(
    ("rogue", "may_have_it"),
    [*((one, False) for one in ROGUES), ("postgres", True), ("mysql_clear_password", True)],
)
def test_a_server_that_asks_for_the_password_itself_does_not_get_it(
    rogue: str,
    may_have_it: bool,
    tmp_path: Path,
) -> None:
    kind, says = ROGUES[rogue]
    heard: list[bytes] = []

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(1)
            for number, body in says:
                head = b"" if number < 0 else struct.pack("<I", len(body))[:3] + bytes([number])
                client.sendall(head + body)
                heard.append(client.recv(4096))

    def listen(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                serve(server.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = threading.Thread(target=listen, args=(server,), daemon=True)
        listening.start()
        given = {"host": "127.0.0.1", "port": server.getsockname()[1], "user": "u", "password": PASSWORD}
        more = {"cleartext_password": True} if may_have_it else {}
        ran = run(Source(kind, given, print), tmp_path, connect_timeout=3, **more)
        server.shutdown(socket.SHUT_RDWR)
    listening.join()
    assert any(PASSWORD.encode() in one for one in heard) == may_have_it
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert PASSWORD not in ran.stderr
    if not may_have_it:
        assert "asks for the password itself" in ran.stderr
        assert "cleartext_password: true" in ran.stderr
        assert "127.0.0.1;" not in ran.stderr


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_a_host_that_is_not_there_is_tried_again(kind: str, tmp_path: Path) -> None:
    given = {"host": "127.0.0.1", "port": 1, "user": "u"}
    ran = run(Source(kind, given, print), tmp_path, retries=1)
    assert ran.returncode == 1
    first, last = ran.stderr.splitlines()
    assert "again in 1 s, 1 tries are left" in first
    assert last.endswith("127.0.0.1:1 cannot be connected to: Connection refused")


def test_a_database_that_is_not_there_is_not_tried_again(pg: Source, tmp_path: Path) -> None:
    ran = run(pg, tmp_path, database="nowhere", retries=3)
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert 'database "nowhere" does not exist' in ran.stderr


@pytest.mark.parametrize("files", [True, False])
def test_a_connection_that_dies_in_the_middle_is_tried_again(
    pg: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, files: bool
) -> None:
    monkeypatch.setattr(tap_module, "_FIRST_WAIT", 0.1)
    caplog.set_level(logging.INFO)
    pg.execute("create table t as select i, repeat('x', 500) as v from generate_series(1, 300000) i")
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            found = pg.execute(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where application_name = 'tap-postgres' and query ilike 'copy%' and state = 'active'"
            )
            killed.extend([1] * found[0][0])

    killer = threading.Thread(target=kill)
    killer.start()
    ran = pg.run(retries=2, **(batched(tmp_path) if files else {}))
    killer.join()
    assert ran.error is None
    assert "tries are left" in caplog.text
    (activated,) = ran.of_type("ACTIVATE_VERSION")
    if files:
        query = f"count(distinct i) filter (_sdc_table_version = {activated['version']})"
        assert ran.rows(query) == [(300_000,)]
    else:
        last = {one["record"]["i"] for one in ran.of_type("RECORD") if one["version"] == activated["version"]}
        assert len(last) == 300_000


def test_nothing_stays_where_the_tries_end(pg: Source, tmp_path: Path) -> None:
    pg.execute("create table t as select i, repeat('x', 500) as v from generate_series(1, 300000) i")
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.01):
            pg.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tap-postgres'"
            )

    killer = threading.Thread(target=kill)
    killer.start()
    ran = run(pg, tmp_path, **batched(tmp_path))
    stop.set()
    killer.join()
    assert ran.returncode == 1
    ours = [line for line in ran.stderr.splitlines() if line.startswith("tap-postgres: ")]
    assert len(ours) == 1  # libpq repeats what the server says
    assert '"STATE"' not in ran.stdout
    assert not [one for one in tmp_path.iterdir() if one.is_dir()]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"user": ""}, "user: set it"),
        ({"sqlalchemy_url": BAD_URL}, "sqlalchemy_url is no URL"),
        ({"ssh_tunnel": {"enable": True}}, "ssh_tunnel: open the tunnel"),
        ({"overlap_seconds": -1}, "overlap_seconds must not be negative"),
        ({"ssl_enable": True, "ssl_certificate_authority": "/nowhere"}, "ssl_certificate_authority: no such file"),
    ],
)
def test_settings_that_do_not_fit(pg: Source, settings: dict[str, t.Any], said: str) -> None:
    error = str(pg.run(**settings).error)
    assert said in error
    assert "secret" not in error


@pytest.mark.parametrize("kind", ["mysql", "sqlite"])
def test_a_scanner_that_is_not_installed_names_its_group(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=rf"scanner of version .* is missing: set ELT_GROUPS={kind} in \.env"):
        _extension(kind)
