"""Every verb has help; what is wrong is said in one line without a traceback."""

from __future__ import annotations

import pytest
from workspace import apart, packages, run

from elt.cli import app

VERBS = sorted(
    command.name or command.callback.__name__.rstrip("_") for command in app.registered_commands if command.callback
)


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb, state):
    done = run("elt", verb, "--help", env=apart(state))
    assert done.returncode == 0
    assert "Usage: elt" in done.stdout
    assert not state.exists()


def test_version(state):
    done = run("elt", "--version", env=apart(state))
    assert done.returncode == 0
    assert done.stdout == f"{packages()['elt-workspace']}\n"


@pytest.mark.parametrize(
    ("command", "code", "word"),
    [
        (["fly"], 2, "No such command"),
        (["up", "--timeout", "soon"], 2, "--timeout"),
        (["exec", "no-such-program"], 1, "no-such-program"),
        (["seed", "--full", "--example"], 2, "--full and --example exclude each other"),
        (["e2e", "--full", "--sample"], 2, "--full and --sample exclude each other"),
        (["seed", "--scale", "0"], 2, "--scale"),
        (["serve", "oracle"], 1, "there are postgres and redis"),
        (["quality", "--environment", "moon"], 2, "moon"),
        (["sql", "select 1"], 1, "published"),
        (["pipeline"], 1, "not running"),
        (["pipeline", "--resume"], 1, "not running"),
        (["pipeline", "--resume", "--full-refresh"], 2, "no other option fits"),
        (["status"], 1, "not running"),
        (["logs", "nobody"], 1, "nobody"),
        (["restart", "flower"], 1, "not running"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_error_paths(command, code, word, state):
    done = run("elt", *command, env=apart(state))
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_down_with_nothing_running_is_no_error(state):
    done = run("elt", "down", env=apart(state))
    assert done.returncode == 0, done.stderr


def test_a_damaged_setting_is_named(state):
    done = run("elt", "up", env=apart(state) | {"AIRFLOW_PORT": "eighty"})
    assert done.returncode == 1
    assert "AIRFLOW_PORT" in done.stderr
    assert "Traceback" not in done.stderr
