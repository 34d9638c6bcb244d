"""Only loopback listens, everything asks for a login, and no secret shows."""

from __future__ import annotations

import os
import socket
import stat

import httpx
import psutil
import psycopg2
import pytest
import yaml
from workspace import run

from elt import bootstrap, layout

SECRETS = [name.lower() for name, value, _ in bootstrap.example_settings() if not value]


def family(platform):
    """Every process of the stack."""
    guard = platform.record("postgres")["guard"]
    supervisor = psutil.Process(guard).parent()
    return [supervisor, *supervisor.children(recursive=True)]


def test_only_loopback_listens(platform):
    pids = {process.pid for process in family(platform)}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in pids]
    ports = {c.laddr.port for c in listening}
    now = platform.settings
    wanted = {now.airflow_port, now.flower_port, now.streamlit_port, now.postgres_port, now.valkey_port}
    assert wanted <= ports
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}


def test_no_secret_in_command_lines_or_logs(platform):
    secrets = [getattr(platform.settings, name).encode() for name in SECRETS]
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline()).encode()
        except psutil.Error:
            continue
        assert not [s for s in secrets if s in line], process.name()
    files = [p for p in (platform.state / "logs").rglob("*") if p.is_file()]
    assert len(files) >= 10
    for path in files:
        text = path.read_bytes()
        assert not [s for s in secrets if s in text], path


def test_other_users_cannot_read_the_state(platform):
    assert stat.S_IMODE(platform.state.stat().st_mode) == 0o700
    for name in ("run/valkey.conf", "run/airflow_passwords.json"):
        assert stat.S_IMODE((platform.state / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize("login", [None, {"username": "admin", "password": "wrong"}])
def test_airflow_asks_for_a_login(platform, login):
    url = platform.settings.url(platform.settings.airflow_port)
    if login:
        assert httpx.post(f"{url}/auth/token", json=login, trust_env=False).status_code == 401
    answer = httpx.get(
        f"{url}/api/v2/dags", headers={"Authorization": "Bearer forged"} if login else {}, trust_env=False
    )
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize("auth", [None, ("admin", "wrong")])
def test_flower_asks_for_a_login(platform, auth):
    url = platform.settings.url(platform.settings.flower_port)
    for path in ("/", "/api/tasks", "/workers"):
        assert httpx.get(url + path, auth=auth, trust_env=False).status_code == 401, path


def test_valkey_asks_for_a_password(platform):
    with socket.create_connection(("127.0.0.1", platform.settings.valkey_port), timeout=5) as connection:
        connection.sendall(b"CLIENT LIST\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")
        connection.sendall(b"AUTH wrong\r\n")
        assert connection.recv(100).startswith(b"-WRONGPASS")


@pytest.mark.parametrize("password", ["", "wrong"])
def test_postgres_asks_for_a_password(platform, password):
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(
            host="127.0.0.1",
            port=platform.settings.postgres_port,
            user="elt",
            password=password,
            dbname="airflow",
            passfile=os.devnull,
        )


def test_the_verbs_on_a_running_stack(platform):
    assert "running already" in platform.elt("up")
    assert platform.elt("status").count("yes") == len(yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"])
    assert platform.elt("logs", "flower", "-n", "3").count("\n") == 3
    before = platform.record("flower")["main"]
    platform.elt("restart", "flower")
    assert platform.record("flower")["main"] != before
    done = run("elt", "restart", "nobody", env=platform.env)
    assert done.returncode == 1
    assert "nobody" in done.stderr
