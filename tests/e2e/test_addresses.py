"""BIND_ADDRESS lets other hosts in: the stack starts, its pipeline runs, and who comes from elsewhere must log in."""

from __future__ import annotations

import json
import sys
import typing as t

import networks
import pytest
from workspace import ROOT, apart, said, settings_of

OURS = "correct-horse"
"""Password of the user admin, since the default one is refused beyond loopback."""
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://192.0.2.200:3128")
"""One that nobody answers at: what goes to the stack's own servers must not pass it."""
GUEST = """
import json, os, socket, sys
import httpx, psycopg2

address, password, bi, ports = sys.argv[1], *map(json.loads, sys.argv[2:])

def status(name, method, path, **more):
    url = f"http://{address}:{ports[name]}{path}"
    return httpx.request(method, url, timeout=60, trust_env=False, **more).status_code

def postgres(**login):
    given = dict(dbname="marts", user="bi", passfile=os.devnull, connect_timeout=60) | login
    try:
        connection = psycopg2.connect(host=address, port=ports["POSTGRES_PORT"], **given)
    except psycopg2.OperationalError as error:
        return str(error)
    with connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from published")
        return cursor.fetchone()[0]

def valkey():
    with socket.create_connection((address, ports["VALKEY_PORT"]), timeout=60) as connection:
        connection.sendall(b"PING\\r\\n")
        return connection.recv(100).decode()

def listens(name):
    try:
        socket.create_connection((address, ports[name]), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True

login = {"username": "admin", "password": password}
print(json.dumps({
    "airflow": status("AIRFLOW_PORT", "GET", "/api/v2/dags"),
    "airflow, default password": status("AIRFLOW_PORT", "POST", "/auth/token", json=login | {"password": "admin"}),
    "airflow, login": status("AIRFLOW_PORT", "POST", "/auth/token", json=login),
    "flower": status("FLOWER_PORT", "GET", "/workers"),
    "flower, default password": status("FLOWER_PORT", "GET", "/workers", auth=("admin", "admin")),
    "flower, login": status("FLOWER_PORT", "GET", "/workers", auth=("admin", password)),
    "postgres": postgres(),
    "postgres, wrong password": postgres(password="wrong"),
    "postgres, login": postgres(password=bi),
    "postgres, replication": postgres(password=bi, replication="true"),
    "valkey": valkey(),
    "streamlit": listens("STREAMLIT_PORT"),
}))
"""
"""A program on another host that tries each server with and without a login."""


@pytest.fixture(scope="module")
def hosts() -> t.Iterator[tuple[networks.Host, networks.Host]]:
    try:
        with networks.two_hosts() as two:
            yield two
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a stack that did not run yet."""
    given = apart(tmp_path_factory.mktemp("addresses") / "state")
    given |= {"ELT_SUPERVISOR": "embedded", "ADMIN_PASSWORD": OURS, "POSTGRES_TCP": "on", "VALKEY_TCP": "on"}
    for command in (("scripts/bootstrap.sh", "--quiet"), ("elt", "seed", "--example")):
        done = said(*command, cwd=ROOT, env=given, seconds=240)
        assert done.returncode == 0, done.stdout
    return given | PROXY


@pytest.mark.parametrize("bind", ["192.0.2.1", "0.0.0.0"])
def test_another_host_comes_in_by_its_logins(hosts, env, bind):
    here, guest = hosts

    def elt(*words: str) -> str:
        command = (*here.prefix, "elt", *words)
        done = said(*command, cwd=ROOT, env=env | {"BIND_ADDRESS": bind}, seconds=300)
        assert done.returncode == 0, done.stdout
        return done.stdout

    elt("up")
    try:
        elt("pipeline")
        assert "checks passed" in elt("doctor")
        now = settings_of(env)
        ports = {name: port for name, (_, port) in now.listeners().items()}
        command = (sys.executable, "-c", GUEST, here.address, *map(json.dumps, (OURS, now.bi_password, ports)))
        done = said(*guest.prefix, *command, cwd=ROOT, env=env)
        assert done.returncode == 0, done.stdout
        seen = json.loads(done.stdout.splitlines()[-1])
    finally:
        elt("down")
    assert {name: what for name, what in seen.items() if not name.startswith("postgres")} == {
        "airflow": 401,
        "airflow, default password": 401,
        "airflow, login": 201,
        "flower": 401,
        "flower, default password": 401,
        "flower, login": 200,
        "valkey": "-NOAUTH Authentication required.\r\n",
        "streamlit": False,
    }
    assert seen["postgres, login"] == 1
    assert "no password supplied" in seen["postgres"]
    assert "password authentication failed" in seen["postgres, wrong password"]
    assert "no pg_hba.conf entry for replication" in seen["postgres, replication"]
