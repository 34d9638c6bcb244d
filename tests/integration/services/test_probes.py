"""A probe's yes holds for a while, and only for the start that it was said of."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from workspace import DEADLINE, ROOT

from elt.services import probes
from elt.supervisor import guard, health


@pytest.fixture
def process(state, monkeypatch):
    """A process of the stack, this one, whose check answers as `said` tells and counts how often it was asked."""
    monkeypatch.setenv("ELT_STATE", str(state))
    path = guard.register_path("redis")
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    me = os.getpid()
    record = (
        f'{{"guard": {me}, "guard_start": "{guard.start_of(me)}", "main": {me}, "main_start": "", "started_at": 1}}'
    )
    said, asked = [True], []

    def check(since):
        asked.append(since)
        return said[0]

    def start(ago):
        with open(path, "w") as file:  # noqa: PTH123
            file.write(record)
        os.utime(path, (time.time() - ago,) * 2)

    monkeypatch.setitem(probes.SERVERS, "redis", check)
    start(60)
    return said, asked, start, path.replace(".json", ".healthy")


def test_a_yes_holds_for_a_while(process):
    said, asked, _, answer = process
    assert probes.healthy("redis")
    said[0] = False
    assert probes.healthy("redis")
    assert asked == [1]
    os.utime(answer, (time.time() - health.TRUST_SECONDS - 1,) * 2)
    assert not probes.healthy("redis")
    assert asked == [1, 1]
    said[0] = True
    assert probes.healthy("redis")
    said[0] = False
    assert probes.healthy("redis")  # the file that was there is young again


def test_a_no_does_not_hold(process):
    said, asked, _, _ = process
    said[0] = False
    assert not probes.healthy("redis")
    assert not probes.healthy("redis")
    said[0] = True
    assert probes.healthy("redis")
    assert len(asked) == 3


def test_a_yes_is_of_one_start(process):
    said, _, start, _ = process
    assert probes.healthy("redis")
    said[0] = False
    start(-0.1)
    assert not probes.healthy("redis")


def test_a_yes_that_took_long_is_of_the_start_before(process, monkeypatch):
    said, _, start, _ = process
    check = probes.SERVERS["redis"]

    def slow(since):
        start(0)
        return check(since)

    monkeypatch.setitem(probes.SERVERS, "redis", slow)
    assert probes.healthy("redis")
    monkeypatch.setitem(probes.SERVERS, "redis", check)
    said[0] = False
    assert not probes.healthy("redis")


def test_a_clock_that_was_set_back_does_not_keep_a_yes(process):
    said, _, _, answer = process
    assert probes.healthy("redis")
    said[0] = False
    os.utime(answer, (time.time() + 3600,) * 2)
    assert not probes.healthy("redis")


STRANGER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""
"""Another program that listens."""


@pytest.mark.parametrize("who", ["nobody", "itself", "a child", "a stranger", "a stranger elsewhere"])
def test_a_process_is_healthy_only_if_its_port_is_its_own(process, monkeypatch, who):
    child = subprocess.Popen(
        [sys.executable, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child, socket.create_server(("127.0.0.1", 0)) as own:
        port = int(child.stdout.readline()) if who in ("a child", "a stranger") else own.getsockname()[1]
        if who == "nobody":
            own.close()
        if who == "a stranger elsewhere":
            elsewhere = socket.create_server(("127.0.0.2", port))
        if who == "a stranger":
            monkeypatch.setattr(guard, "process_tree", lambda _: set())
        monkeypatch.setenv("BIND_ADDRESS", "127.0.0.1")
        monkeypatch.setenv("VALKEY_TCP", "on")
        monkeypatch.setenv("VALKEY_PORT", str(port))
        assert probes.healthy("redis") is (who in ("itself", "a child", "a stranger elsewhere"))
        if who == "a stranger elsewhere":
            elsewhere.close()
        child.stdin.close()


def test_a_probe_imports_little():
    heavy = "{'typing', 'pathlib', 're', 'json', 'socket', 'http.client', 'psycopg2'}"
    code = f"import sys, elt.services.probes; print(sorted({heavy} & set(sys.modules)))"
    command = [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE).stdout == "[]\n"
