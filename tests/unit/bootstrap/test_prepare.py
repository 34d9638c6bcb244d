"""Bootstrap refuses the state folder of another user, and finds free ports."""

from __future__ import annotations

import os
import re
import socket

import pytest

from elt import layout
from elt.bootstrap import prepare
from elt.config import env_file
from elt.errors import SetupError


def test_a_state_folder_of_another_user_is_refused(state, monkeypatch):
    monkeypatch.setattr(layout, "STATE", state)
    state.mkdir()
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(SetupError, match=f"{state} belongs to user {mine}: .* set another ELT_STATE"):
        layout.prepare()
    assert not list(state.iterdir())


def test_free_ports_take_the_places_of_taken_ones(clone, monkeypatch):
    for name in ("AIRFLOW_PORT", "FLOWER_PORT", "STREAMLIT_PORT", "POSTGRES_PORT", "VALKEY_PORT"):
        monkeypatch.delenv(name, raising=False)
    env_file.write_env()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        taken = [server.getsockname()[1] for server in (one, two)]
        text = layout.ENV_FILE.read_text()
        silent = text.replace("VALKEY_PORT=16379", f"VALKEY_PORT={taken[1]}")
        layout.ENV_FILE.write_text(silent)
        assert "VALKEY_PORT" not in prepare._taken_ports()  # nothing of ours would listen there
        text = text.replace("VALKEY_TCP=off", "VALKEY_TCP=on")
        for old, new in zip(("AIRFLOW_PORT=8080", "VALKEY_PORT=16379"), taken, strict=True):
            text = text.replace(old, f"{old.partition('=')[0]}={new}")
        layout.ENV_FILE.write_text(text)
        said = prepare.free_ports()
        assert f"AIRFLOW_PORT {taken[0]} -> " in said
        assert prepare._taken_ports().keys().isdisjoint({"AIRFLOW_PORT", "VALKEY_PORT"})
        ports = re.findall(r"(?m)^\w+_PORT=(\d+)", layout.ENV_FILE.read_text())
        assert len(set(ports)) == len(ports) == 5
        monkeypatch.setenv("AIRFLOW_PORT", str(taken[0]))
        with pytest.raises(SetupError, match="the environment variable AIRFLOW_PORT says it"):
            prepare.free_ports()
