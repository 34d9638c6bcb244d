"""What the stack of a clone remembers of its settings."""

from __future__ import annotations

import json

import pytest
from workspace import apart

from elt import layout
from elt.config import settings
from elt.config.process_env import build
from elt.errors import SetupError
from elt.maintenance import doctor
from elt.services import stack as verbs
from elt.supervisor import control, facts


def test_the_settings_that_differ_are_named_and_no_value_is(state):
    env = apart(state) | {"AIRFLOW_VAR_C": "hidden-1", "AIRFLOW_CONN_A": "hidden-2", "FLOWER_PORT": "5555"}
    stack = control.Stack(layout.PROCESS_FILE, state, layout.ROOT)
    stack.run.mkdir(parents=True)
    stack.facts.path.write_text(json.dumps({"settings": facts._digests(verbs._settings_of(env))}))
    stack.facts.refuse_other_settings(verbs._settings_of(env))
    now = env | {"AIRFLOW_VAR_C": "hidden-3", "AIRFLOW_CONN_B": "hidden-4", "ELT_SUPERVISOR": "embedded"}
    now["ELT_GROUPS"] = "remote"
    with pytest.raises(
        SetupError, match=r"settings than now \(AIRFLOW_CONN_B, AIRFLOW_VAR_C\): scripts/down.sh"
    ) as error:
        stack.facts.refuse_other_settings(verbs._settings_of(now))
    assert "hidden" not in str(error.value) + stack.facts.path.read_text()
    digests = json.loads(stack.facts.path.read_text())["settings"]
    assert len(set(digests.values())) == len(digests), "equal values are not to be seen"


def test_a_changed_secret_of_a_source_is_named(state, monkeypatch):
    stack = control.Stack(layout.PROCESS_FILE, state, layout.ROOT)
    stack.run.mkdir(parents=True)
    monkeypatch.setenv("TAP_CSV_TOKEN", "hidden-1")
    stack.facts.path.write_text(json.dumps({"settings": facts._digests(verbs._settings_of(build(settings.load())))}))
    monkeypatch.setenv("TAP_CSV_TOKEN", "hidden-2")
    with pytest.raises(SetupError, match=r"other settings than now \(TAP_CSV_TOKEN\)"):
        stack.facts.refuse_other_settings(verbs._settings_of(build(settings.load())))


def test_a_stack_of_an_older_version_is_joined(state):
    stack = control.Stack(layout.PROCESS_FILE, state, layout.ROOT)
    stack.run.mkdir(parents=True)
    for text in ("{}", '{"settings": "a digest of all"}', "[]", "{"):
        stack.facts.path.write_text(text)
        stack.facts.refuse_other_settings(verbs._settings_of(apart(state)))


@pytest.mark.parametrize("value", ["7", "many"])
def test_no_address_is_shown_of_a_stack_with_other_settings(state, monkeypatch, capsys, value):
    stack = control.Stack(layout.PROCESS_FILE, state, layout.ROOT)
    stack.run.mkdir(parents=True)
    row = {"name": "flower", "pid": 4711, "restarts": 0}
    monkeypatch.setattr(stack, "rows", lambda: [(row, "ready")])
    monkeypatch.setattr(verbs, "ours", lambda: stack)
    monkeypatch.setattr(verbs, "is_running", lambda: True)
    stack.facts.path.write_text(json.dumps({"settings": facts._digests(verbs._settings_of(build(settings.load())))}))
    assert verbs.status()
    assert "http://" in capsys.readouterr().out
    doctor.dot_env()
    monkeypatch.setenv("WORKER_CONCURRENCY", value)
    assert verbs.status()
    shown = capsys.readouterr().out
    assert "flower" in shown
    assert "WORKER_CONCURRENCY" in shown
    assert "http://" not in shown
    with pytest.raises(doctor.CheckFailedError, match="WORKER_CONCURRENCY"):
        doctor.dot_env()
