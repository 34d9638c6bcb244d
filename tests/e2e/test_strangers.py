"""Another user of the machine takes the ports of the stack while it starts, and learns nothing.

With `ELT_FAULTS=all` at ten moments of a cold and of a warm start, otherwise at one of each. The stranger is the user
nobody, so all this runs only as root.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import httpx
import pytest
from workspace import BIN, apart, run, settings_of

if t.TYPE_CHECKING:
    from elt.config import settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")

MOMENTS = 10 if os.environ.get("ELT_FAULTS") == "all" else 1
STRANGER = r"""
import selectors, socket, struct, sys, time

ports, until = [int(port) for port in sys.argv[1].split(",")], time.monotonic() + float(sys.argv[2])
watched = selectors.DefaultSelector()
wanted = set(ports)

def take():
    for port in sorted(wanted):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
            server.listen()
        except OSError:
            server.close()
            continue
        wanted.discard(port)
        server.setblocking(False)
        watched.register(server, selectors.EVENT_READ, "server")
        print("took", port, flush=True)

while time.monotonic() < until:
    take()
    for key, _ in watched.select(0.01):
        try:
            if key.data == "server":
                connection = key.fileobj.accept()[0]
                connection.setblocking(False)
                watched.register(connection, selectors.EVENT_READ, "connection")
                continue
            said = key.fileobj.recv(65536)
            print("heard", said, flush=True)
            if said[4:8] == struct.pack(">I", 196608):  # PostgreSQL's protocol 3.0: ask for the password itself
                key.fileobj.send(b"R" + struct.pack(">II", 8, 3))
            elif said.startswith((b"GET", b"POST", b"PATCH", b"PUT")):
                key.fileobj.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            elif said:
                key.fileobj.send(b"+OK\r\n")
            else:
                watched.unregister(key.fileobj)
                key.fileobj.close()
        except OSError:
            watched.unregister(key.fileobj)
            key.fileobj.close()
"""
"""A program that takes each port as soon as it is free, answers as its server would, and says what it heard."""

SILENT = """
import socket, sys, time
opened = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(900)]
for one in opened:
    one.sendall(b"GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n")
print("opened", flush=True)
time.sleep(60)
"""
"""A program that begins 900 requests and ends none."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[dict[str, str], settings.Settings]]:
    """The environment of a stack that is down, and its settings."""
    state = tmp_path_factory.mktemp("strangers") / "state"
    env = apart(state) | {"ELT_SUPERVISOR": "embedded"}
    done = run("scripts/bootstrap.sh", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    yield env, settings_of(env)
    done = run("elt", "down", env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def another(program: str, *words: str) -> subprocess.Popen[str]:
    """Start a program as another user."""
    python = os.path.realpath(shutil.which("python3", path="/usr/bin:/bin") or sys.executable)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", program, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")


def stranger(ports: t.Iterable[int], seconds: float) -> subprocess.Popen[str]:
    """Start another user's program that takes ports."""
    return another(STRANGER, ",".join(map(str, ports)), str(seconds))


def secrets(now: settings.Settings) -> list[str]:
    """What nobody else may learn."""
    return [getattr(now, name) for name, field in type(now).model_fields.items() if not field.repr]


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_start_beside_a_stranger_tells_him_nothing(stack, start, moment):
    env, now = stack
    assert run("elt", "down", env=env).returncode == 0
    if start == "cold":
        for part in ("postgres", "valkey", "airflow"):
            shutil.rmtree(Path(env["ELT_STATE"]) / part, ignore_errors=True)
    ports = {port for _, port in now.listeners().values()}
    up = subprocess.Popen(
        [BIN / "elt", "up", "--timeout", "120"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(random.uniform(0, 6))
    other = stranger([*ports, now.valkey_port], 12)
    while up.poll() is None and other.poll() is None:
        time.sleep(0.05)
    came_first = other.poll() is None
    heard, _ = other.communicate(timeout=60)
    _, errors = up.communicate(timeout=240)
    assert "Traceback" not in heard
    assert not [secret for secret in secrets(now) if secret in heard]
    assert "Bearer" not in heard
    taken = {int(line.split()[1]) for line in heard.splitlines() if line.startswith("took")}
    if up.returncode:  # the start says which port it lacks
        assert taken & ports
        assert errors
    else:  # not before the stranger has left the ports
        assert not came_first or not taken & ports
        assert run("elt", "status", env=env).returncode == 0
    assert run("elt", "down", env=env).returncode == 0


def test_half_open_connections_of_a_stranger_end_no_process(stack):
    env, now = stack
    assert run("elt", "up", env=env, seconds=240).returncode == 0
    before = run("elt", "status", env=env).stdout
    with contextlib.ExitStack() as opened:
        until = time.monotonic() + 30  # a heartbeat of Airflow's falls into it
        while time.monotonic() < until:
            for _ in range(220):
                opened.enter_context(socket.create_connection(("127.0.0.1", now.postgres_port), timeout=5))
            time.sleep(3)
            opened.close()
            assert run("elt", "status", env=env).returncode == 0
    deadline = time.monotonic() + 60
    while run("elt", "status", env=env).returncode:
        assert time.monotonic() < deadline
    after = run("elt", "status", env=env).stdout
    assert [line.split()[:4] for line in after.splitlines()] == [line.split()[:4] for line in before.splitlines()]


def test_half_open_connections_of_a_stranger_keep_nobody_out_of_airflow(stack):
    env, now = stack
    assert run("elt", "down", env=env).returncode == 0
    up = [*("bash", "-c", 'ulimit -Sn 1024 && exec "$0" up'), BIN / "elt"]  # as a system has it by default
    assert subprocess.run(up, env=env, stdout=subprocess.DEVNULL, timeout=240).returncode == 0
    others = [another(SILENT, str(now.airflow_port)) for _ in range(3)]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "opened\n"
        for _ in range(20):
            url = f"{now.url(now.airflow_port)}/api/v2/version"
            assert httpx.get(url, timeout=5, trust_env=False).status_code == 200
            time.sleep(0.2)
        assert run("elt", "status", env=env).returncode == 0
    finally:
        for other in others:
            other.kill()
            other.communicate()


@pytest.mark.parametrize("name", ["airflow-api-server", "flower", "streamlit", "postgres"])
def test_no_stranger_gets_the_port_of_a_process_that_is_started_anew(stack, name):
    """Others go on asking meanwhile, with the tokens of tasks, and people with their password."""
    env, now = stack
    assert run("elt", "up", env=env, seconds=240).returncode == 0
    record = Path(env["ELT_STATE"]) / "run" / "processes" / f"{name}.json"
    before = json.loads(record.read_text())["main"]
    ports = {port for _, port in now.listeners().values()}
    with stranger(ports, 8) as other:
        time.sleep(0.5)
        os.kill(before, signal.SIGKILL)
        heard, _ = other.communicate(timeout=60)
    assert heard == ""
    deadline = time.monotonic() + 90
    while run("elt", "status", env=env).returncode:
        assert time.monotonic() < deadline
    assert json.loads(record.read_text())["main"] != before
