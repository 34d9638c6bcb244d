"""What the stack of a clone remembers of its settings."""

from __future__ import annotations

import json

import pytest
from workspace import apart

from elt import layout
from elt.errors import SetupError
from elt.supervisor import stack as stacks


def test_the_settings_that_differ_are_named_and_no_value_is(state):
    env = apart(state) | {"AIRFLOW_VAR_C": "hidden-1", "AIRFLOW_CONN_A": "hidden-2", "FLOWER_PORT": "5555"}
    stack = stacks.Stack(layout.PROCESS_FILE, state, layout.ROOT)
    stack.run.mkdir(parents=True)
    stack.facts.write_text(json.dumps({"settings": stacks._digests(env)}))
    stack._refuse_other_settings(env)
    now = env | {"AIRFLOW_VAR_C": "hidden-3", "AIRFLOW_CONN_B": "hidden-4", "ELT_SUPERVISOR": "embedded"}
    with pytest.raises(
        SetupError, match=r"settings than now \(AIRFLOW_CONN_B, AIRFLOW_VAR_C\): scripts/down.sh"
    ) as error:
        stack._refuse_other_settings(now)
    assert "hidden" not in str(error.value) + stack.facts.read_text()
    digests = json.loads(stack.facts.read_text())["settings"]
    assert len(set(digests.values())) == len(digests), "equal values are not to be seen"


def test_a_stack_of_an_older_version_is_joined(state):
    stack = stacks.Stack(layout.PROCESS_FILE, state, layout.ROOT)
    stack.run.mkdir(parents=True)
    for facts in ("{}", '{"settings": "a digest of all"}', "[]", "{"):
        stack.facts.write_text(facts)
        stack._refuse_other_settings(apart(state))
