"""Another user of the machine takes the ports of the stack, or opens connections that say nothing: in vain.

`scripts/test.sh strangers` does so at ten moments of a cold start, of a warm one and of restarts of single processes,
the other parts at one of each. The stranger is the user nobody, so all this runs only as root.
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

SILENT = r"""
import socket, sys, time

ports, number, until = sys.argv[1].split(","), int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
again = sys.argv[4] == "again"
opened = {int(port): [] for port in ports}
full = False
while time.monotonic() < until:
    for port, held in opened.items():
        for one in held[:]:
            try:
                if one.recv(65536):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            held.remove(one)
            one.close()
        try:
            while len(held) < number and (again or not full):
                one = socket.create_connection(("127.0.0.1", port), timeout=5)
                one.setblocking(False)
                held.append(one)
        except OSError:  # nobody listens yet, or any more
            pass
    if not full and all(len(held) >= number for held in opened.values()):
        full = True
        print("opened", flush=True)
    time.sleep(0.02)
"""
"""A program that opens many silent connections to each port; with "again" another one for each that is closed."""

NAMES = ("airflow-api-server", "flower", "streamlit", "postgres")
"""Processes with a port."""
EACH = [(NAMES[moment % len(NAMES)], moment) for moment in range(MOMENTS)]
"""Moments of restarts, one process after the other."""


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


def silent(ports: t.Iterable[int], number: int, seconds: float, more: str = "again") -> subprocess.Popen[str]:
    """Start another user's program that keeps so many connections to each port."""
    return another(SILENT, ",".join(map(str, ports)), str(number), str(seconds), more)


def ports_of(now: settings.Settings) -> set[int]:
    """All ports that the stack listens on."""
    return {port for _, port in now.listeners().values()}


def begin(env: dict[str, str], start: str) -> subprocess.Popen[str]:
    """Begin a cold or a warm start, and return in the middle of it."""
    assert run("elt", "down", env=env).returncode == 0
    if start == "cold":
        for part in ("postgres", "valkey", "airflow"):
            shutil.rmtree(Path(env["ELT_STATE"]) / part, ignore_errors=True)
    up = subprocess.Popen(
        [BIN / "elt", "up", "--timeout", "120"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(random.uniform(0, 6))
    return up


def rows(env: dict[str, str]) -> dict[str, list[str]]:
    """Process id and number of restarts of each process, by its name."""
    lines = run("elt", "status", env=env).stdout.splitlines()[1:]
    return {line.split()[0]: line.split()[2:4] for line in lines if line.endswith(("yes", "no"))}


def wait_healthy(env: dict[str, str], seconds: float = 90) -> None:
    """Wait until every process is healthy."""
    deadline = time.monotonic() + seconds
    while run("elt", "status", env=env).returncode:
        assert time.monotonic() < deadline, run("elt", "status", env=env).stdout


def start_anew(env: dict[str, str], name: str, moment: int) -> None:
    """Kill a process at a moment of its life, or have it restarted."""
    time.sleep(random.uniform(0.5, 3))
    if moment % 2:
        done = run("elt", "restart", name, env=env, seconds=150)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        os.kill(record(env, name), signal.SIGKILL)


def record(env: dict[str, str], name: str) -> int:
    """The process id of a process of the stack."""
    return int(json.loads((Path(env["ELT_STATE"]) / "run" / "processes" / f"{name}.json").read_text())["main"])


def secrets(now: settings.Settings) -> list[str]:
    """What nobody else may learn."""
    return [getattr(now, name) for name, field in type(now).model_fields.items() if not field.repr]


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_start_beside_a_stranger_tells_him_nothing(stack, start, moment):
    env, now = stack
    ports = ports_of(now)
    up = begin(env, start)
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


@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_half_open_connections_during_a_start_end_no_process(stack, start, moment):
    env, now = stack
    up = begin(env, start)
    other = silent(ports_of(now), 220, 120)
    try:
        _, errors = up.communicate(timeout=240)
        assert up.returncode == 0, errors
        assert other.poll() is None
        assert run("elt", "status", env=env).returncode == 0
        assert {name: number for name, (_, number) in rows(env).items() if number != "0"} == {}
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize(("name", "moment"), EACH)
def test_half_open_connections_during_a_restart_end_no_other_process(stack, name, moment):
    env, now = stack
    assert run("elt", "up", env=env, seconds=240).returncode == 0
    before = rows(env)
    other = silent(ports_of(now), 220, 150)
    try:
        start_anew(env, name, moment)
        wait_healthy(env)
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()
    after = rows(env)
    assert before[name] != after[name]
    end_too = {name, *(one for one in after if name == "postgres" and one.startswith("airflow-"))}  # its clients
    assert {one: row for one, row in after.items() if one not in end_too and row != before[one]} == {}


def test_half_open_connections_of_a_stranger_end_no_process(stack):
    env, now = stack
    assert run("elt", "up", env=env, seconds=240).returncode == 0
    before = rows(env)
    with contextlib.ExitStack() as opened:
        until = time.monotonic() + 30  # a heartbeat of Airflow's falls into it
        while time.monotonic() < until:
            for _ in range(220):
                opened.enter_context(socket.create_connection(("127.0.0.1", now.postgres_port), timeout=5))
            time.sleep(3)
            opened.close()
            assert run("elt", "status", env=env).returncode == 0
    wait_healthy(env)
    assert rows(env) == before


def test_half_open_connections_of_a_stranger_keep_nobody_out_of_airflow(stack):
    env, now = stack
    assert run("elt", "down", env=env).returncode == 0
    up = [*("bash", "-c", 'ulimit -Sn 1024 && exec "$0" up'), BIN / "elt"]  # as a system has it by default
    assert subprocess.run(up, env=env, stdout=subprocess.DEVNULL, timeout=240).returncode == 0
    others = [silent([now.airflow_port], 900, 180, "once") for _ in range(3)]
    try:
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "opened\n"
        for _ in range(20):
            url = f"{now.url(now.airflow_port)}/api/v2/version"
            assert httpx.get(url, timeout=5, trust_env=False).status_code == 200
            time.sleep(0.2)
        wait_healthy(env)
        assert [other.poll() for other in others] == [None] * 3
    finally:
        for other in others:
            other.kill()
            other.communicate()


@pytest.mark.parametrize(("name", "moment"), EACH if MOMENTS > 1 else [(name, 0) for name in NAMES])
def test_no_stranger_gets_the_port_of_a_process_that_is_started_anew(stack, name, moment):
    """Others go on asking meanwhile, with the tokens of tasks, and people with their password."""
    env, now = stack
    assert run("elt", "up", env=env, seconds=240).returncode == 0
    before = record(env, name)
    with stranger(ports_of(now), 8) as other:
        start_anew(env, name, moment)
        heard, _ = other.communicate(timeout=60)
    assert heard == ""
    wait_healthy(env)
    assert record(env, name) != before
