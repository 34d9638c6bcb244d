"""elt/supervisor/spec.py: what process-compose.yaml may hold."""

from __future__ import annotations

import typing as t

import pytest
import yaml

from elt import layout
from elt.errors import ConfigError
from elt.supervisor import spec

if t.TYPE_CHECKING:
    from pathlib import Path

ENV = {"PORT": "15999", "ELT_STATE": "/a b/state"}


def project(process: dict[str, t.Any] | None = None, **more: object) -> dict[str, t.Any]:
    one = {"command": "true", "log_location": "one.log"} | (process or {})
    two = {"command": "true", "log_location": "two.log"}
    return {"is_strict": True, "ordered_shutdown": True, "processes": {"one": one, "two": two}} | more


def load(tmp_path: Path, content: object) -> dict[str, spec.Process]:
    file = tmp_path / "toy.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return spec.load(file, ENV)


def test_fills_in_defaults(tmp_path: Path) -> None:
    one = load(tmp_path, project({"readiness_probe": {"http_get": {"port": "${PORT}"}}}))["one"]
    assert one["availability"] == {"restart": "no", "backoff_seconds": 1, "max_restarts": 0}
    assert one["shutdown"] == {"signal": 15, "timeout_seconds": 10, "parent_only": False}
    assert one["readiness_probe"] == {
        "initial_delay_seconds": 0,
        "period_seconds": 10,
        "timeout_seconds": 1,
        "failure_threshold": 3,
        "http_get": {"host": "127.0.0.1", "path": "/", "port": 15999},
    }


def test_dependencies_come_first(tmp_path: Path) -> None:
    needs = {"depends_on": {"two": {"condition": "process_started"}}}
    assert list(load(tmp_path, project(needs))) == ["two", "one"]


def test_what_is_disabled_is_left_out_and_needed_by_nothing_that_runs(tmp_path: Path) -> None:
    assert list(load(tmp_path, project({"disabled": True}))) == ["two"]
    needs = {"depends_on": {"two": {"condition": "process_started"}}}
    content = project(needs)
    content["processes"]["two"]["disabled"] = True
    with pytest.raises(ConfigError, match=r"processes\.one\.depends_on\.two: two is disabled"):
        load(tmp_path, content)


def test_expands_names_only(tmp_path: Path) -> None:
    one = load(tmp_path, project({"command": "echo $$HOME ${PORT} $$$$", "log_location": "${ELT_STATE}/l"}))
    assert one["one"]["command"] == "echo $HOME 15999 $$"
    assert one["one"]["log_location"] == "/a b/state/l"


def test_a_comment_may_hold_a_dollar(tmp_path: Path) -> None:
    assert load(tmp_path, "# costs $5, ${NOTHING}\n" + yaml.safe_dump(project()))


def test_keys_beginning_with_x_are_free_at_the_top(tmp_path: Path) -> None:
    assert load(tmp_path, project(**{"x-anything": {"a": [1]}}))


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ({"is_daemon": True}, "processes.one.is_daemon: a key that the embedded supervisor does not support"),
        ({"x-note": 1}, "processes.one.x-note: a key that"),
        ({"command": 3}, "processes.one.command: 3 is of the wrong type"),
        ({"command": ""}, "processes.one.command is missing"),
        ({"log_location": ""}, "processes.one.log_location is missing"),
        ({"environment": {"A": "b"}}, "processes.one.environment: a list of NAME=VALUE"),
        ({"environment": ["A"]}, "processes.one.environment: a list of NAME=VALUE"),
        ({"availability": []}, "processes.one.availability: keys are expected here"),
        ({"availability": {"restart": "exit_on_failure"}}, "availability.restart: 'exit_on_failure' is not"),
        ({"availability": {"backoff_seconds": 0}}, "backoff_seconds: a whole number from 1 is expected"),
        ({"availability": {"backoff_seconds": True}}, "backoff_seconds: a whole number from 1 is expected"),
        ({"shutdown": {"command": "kill"}}, "processes.one.shutdown.command: a key that"),
        ({"log_configuration": {"no_metadata": False}}, "no_metadata: False is not supported, only true"),
        ({"depends_on": {"three": {"condition": "process_started"}}}, "depends_on.three: no such process"),
        ({"depends_on": {"two": {}}}, "processes.one.depends_on.two.condition is missing"),
        ({"depends_on": {"two": {"condition": "process_healthy"}}}, "but two has no readiness_probe"),
        ({"depends_on": {"one": {"condition": "process_started"}}}, "goes in a circle: one -> one"),
        ({"readiness_probe": {}}, "processes.one.readiness_probe: either exec or http_get"),
        ({"readiness_probe": {"exec": {}}}, "processes.one.readiness_probe.exec.command is missing"),
        ({"readiness_probe": {"http_get": {"port": "x"}}}, "http_get.port: a port is expected, not 'x'"),
        ({"readiness_probe": {"http_get": {"port": 1, "scheme": "https"}}}, "'https' is not supported"),
        ({"readiness_probe": {"exec": {"command": "true"}, "success_threshold": 2}}, "success_threshold: a key"),
        ({"command": "elt-guard true"}, "shutdown.parent_only: must be true behind elt-guard"),
        (
            {"command": "elt-guard true", "shutdown": {"parent_only": True, "timeout_seconds": 8}},
            "shutdown.timeout_seconds: must be longer than the 8 s of elt-guard",
        ),
        (
            {"command": "elt-guard -s INT -t 20 true", "shutdown": {"parent_only": True}},
            "shutdown.timeout_seconds: must be longer than the 20 s of elt-guard",
        ),
    ],
)
def test_refuses_by_full_name(tmp_path: Path, process: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, project(process))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "toy.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (project(is_tui_disabled=True), "is_tui_disabled: a key that the embedded supervisor"),
        (project(ordered_shutdown=False), "ordered_shutdown: False is not supported, only true"),
        ({"processes": {}}, "processes is missing"),
        ({"processes": project()["processes"], "is_strict": True}, "ordered_shutdown is missing"),
        ([], "the file: keys are expected here"),
        ("processes: [", "while parsing"),
        ("processes:\n  one:\n    command: echo $HOME", "line 3: a lone $"),
        ("processes:\n  one:\n    command: echo ${A:-b}", "line 3: a lone $"),
        ("processes:\n  one:\n    command: echo ${NOWHERE}", "${NOWHERE} has no value"),
        (
            (
                "is_strict: true\nordered_shutdown: true\nprocesses:\n"
                "  one: {command: a, log_location: b, availability: {restart: no}}"
            ),
            'restart: False is not supported, only no or on_failure or always (in quotes: "no")',
        ),
    ],
)
def test_refuses_the_whole(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: No such file"):
        spec.load(tmp_path / "nothing.yaml", ENV)


def test_what_must_not_be_waited_for_is_refused(tmp_path: Path) -> None:
    content = project({"depends_on": {"two": {"condition": "process_completed_successfully"}}})
    content["processes"]["two"]["availability"] = {"restart": "always"}
    with pytest.raises(ConfigError, match="two never completes"):
        load(tmp_path, content)


def test_the_stack_itself_fits() -> None:
    names = ("CONNECT_ADDRESS", "AIRFLOW_PORT", "FLOWER_PORT", "STREAMLIT_PORT", "ELT_STATE", "ELT_ROOT", "PATH")
    env = dict.fromkeys(names, "8080")
    processes = spec.load(layout.PROCESS_FILE, env | {"ELT_WITHOUT_STREAMLIT": "false"})
    without = spec.load(layout.PROCESS_FILE, env | {"ELT_WITHOUT_STREAMLIT": "true"})
    assert processes.keys() - without.keys() == {"streamlit"}
    behind_guard = [name for name, one in processes.items() if one["availability"]["restart"] == "always"]
    assert all(processes[name]["command"].startswith("elt-guard ") for name in behind_guard)
