"""Read and validate process-compose.yaml by a table of its keys, and by checks that a table cannot express.

The table covers what our file uses and no more, so that the embedded supervisor means by each key what
process-compose means by it. Both are started only with a file that is valid here.
"""

from __future__ import annotations

import graphlib
import re
import shlex
import typing as t
from pathlib import Path

import yaml

from elt.errors import ConfigError
from elt.supervisor.guard import GRACE_SECONDS

Process = dict[str, t.Any]
"""Process of the file, with every default filled in."""

WHOLE = range(10**6)
COUNT = range(1, 10**6)
ANY = "*"
"""Key of the table that stands for any name."""

LOG = {  # the embedded supervisor lets a process write its log itself: nothing is added, all is there at once
    "rotation": {"max_size_mb": COUNT, "max_backups": COUNT},
    "no_metadata": [True],
    "disable_json": [True],
    "add_timestamp": [False],
    "flush_each_line": [True],
    "no_color": [True],
    "fields_order": [["message"]],  # without it process-compose puts a level before each line
}
PROBE = {
    "exec": {"command": str},
    "http_get": {"host": str, "port": (int, str), "path": str, "scheme": ["http"]},
    "initial_delay_seconds": WHOLE,
    "period_seconds": COUNT,
    "timeout_seconds": COUNT,
    "failure_threshold": COUNT,
}
PROCESS = {
    "command": str,
    "description": str,
    "disabled": bool,
    "namespace": str,
    "working_dir": str,
    "environment": [],
    "log_location": str,
    "log_configuration": LOG,
    "depends_on": {ANY: {"condition": ["process_started", "process_healthy", "process_completed_successfully"]}},
    "readiness_probe": PROBE,
    "availability": {
        "restart": ["no", "on_failure", "always"],
        "backoff_seconds": COUNT,
        "max_restarts": WHOLE,
    },
    "shutdown": {"signal": COUNT, "timeout_seconds": COUNT, "parent_only": bool},
}
PROJECT = {
    "version": (str, float),
    "is_strict": [True],
    "ordered_shutdown": [True],
    "log_level": str,
    "log_location": str,
    "processes": {ANY: PROCESS},
}
DEFAULTS: dict[str, dict[str, t.Any]] = {  # those of process-compose
    "availability": {"restart": "no", "backoff_seconds": 1, "max_restarts": 0},
    "shutdown": {"signal": 15, "timeout_seconds": 10, "parent_only": False},
    "readiness_probe": {
        "initial_delay_seconds": 0,
        "period_seconds": 10,
        "timeout_seconds": 1,
        "failure_threshold": 3,
    },
}


def load(file: Path, env: t.Mapping[str, str]) -> dict[str, Process]:
    """Read and check a process-compose.yaml.

    Args:
        file: the file.
        env: where each `${NAME}` of the file is looked up.

    Returns:
        The processes by name, each after those it depends on, without those that are disabled.

    Raises:
        ConfigError: something in it is not supported or does not fit; the message names file and key.
    """
    try:
        project = yaml.safe_load(_expand(file.read_text(encoding="utf-8"), env))
        _check(project, PROJECT, "")
        for key in ("processes", "is_strict", "ordered_shutdown"):
            _require(project, key, key)
        processes = {name: _complete(process) for name, process in project["processes"].items()}
        for name, process in processes.items():
            _check_process(f"processes.{name}", process, processes)
        return {name: processes[name] for name in _order(processes) if not processes[name].get("disabled")}
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def is_once(name: str, processes: t.Mapping[str, Process]) -> bool:
    """Return whether a process is meant to end: it is not restarted, or others wait for its success."""
    return processes[name]["availability"]["restart"] == "no" or any(
        other["depends_on"].get(name, {}).get("condition") == "process_completed_successfully"
        for other in processes.values()
    )


def _expand(text: str, env: t.Mapping[str, str]) -> str:
    """Replace `${NAME}` and `$$`, except in comments on lines of their own."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match["name"] is None:
            line = match.string.count("\n", 0, match.start()) + 1
            raise ConfigError(f"line {line}: a lone $: write ${{NAME}} for a setting, $$ for a $ that stays")
        if match["name"] not in env:
            raise ConfigError(f"${{{match['name']}}} has no value: neither .env nor the environment sets it")
        return env[match["name"]]

    one = re.compile(r"\$\$|\$(?:\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")
    blank = re.sub(r"(?m)^\s*#.*$", lambda comment: "\n" * comment[0].count("\n"), text)
    return one.sub(value, blank)


def _check(value: object, rule: t.Any, where: str) -> None:  # noqa: ANN401 - dict, list, range, type or types
    """Compare a part of the file with its part of the table."""
    if isinstance(rule, dict):
        if not isinstance(value, dict):
            raise ConfigError(f"{where or 'the file'}: keys are expected here, not {value!r}")
        for key, part in value.items():
            name = f"{where}.{key}" if where else str(key)
            if not where and str(key).startswith("x-"):
                continue
            if key not in rule and ANY not in rule:
                known = ", ".join(sorted(rule))
                raise ConfigError(f"{name}: a key that the embedded supervisor does not support; it has {known}")
            _check(part, rule.get(key, rule.get(ANY)), name)
    elif isinstance(rule, list):
        _check_choice(value, rule, where)
    elif isinstance(rule, range):
        if type(value) is not int or value not in rule:
            raise ConfigError(f"{where}: a whole number from {rule[0]} is expected, not {value!r}")
    elif not isinstance(value, rule) or (isinstance(value, bool) and rule is not bool):
        raise ConfigError(f"{where}: {value!r} is of the wrong type")


def _check_choice(value: object, choices: list[t.Any], where: str) -> None:
    if not choices:  # a list of NAME=VALUE
        if not isinstance(value, list) or not all(isinstance(one, str) and "=" in one for one in value):
            raise ConfigError(f"{where}: a list of NAME=VALUE is expected")
    elif not any(type(value) is type(one) and value == one for one in choices):
        allowed = " or ".join(str(one).lower() if isinstance(one, bool) else str(one) for one in choices)
        hint = ' (in quotes: "no")' if value is False and "no" in choices else ""
        raise ConfigError(f"{where}: {value!r} is not supported, only {allowed}{hint}")


def _require(part: dict[str, t.Any], key: str, where: str) -> None:
    if not part.get(key):
        raise ConfigError(f"{where} is missing")


def _complete(process: Process) -> Process:
    filled: Process = {"depends_on": {}, "environment": [], "log_configuration": {}} | process
    for part, defaults in DEFAULTS.items():
        if part in process or part != "readiness_probe":
            filled[part] = defaults | process.get(part, {})
    return filled


def _check_process(where: str, process: Process, processes: dict[str, Process]) -> None:
    _require(process, "command", f"{where}.command")
    _require(process, "log_location", f"{where}.log_location")
    for other, need in process["depends_on"].items():
        at = f"{where}.depends_on.{other}"
        if other not in processes:
            raise ConfigError(f"{at}: no such process")
        if processes[other].get("disabled") and not process.get("disabled"):
            raise ConfigError(f"{at}: {other} is disabled")
        _require(need, "condition", f"{at}.condition")
        if need["condition"] == "process_healthy" and "readiness_probe" not in processes[other]:
            raise ConfigError(f"{at}.condition: process_healthy, but {other} has no readiness_probe")
        if need["condition"] == "process_completed_successfully" and (
            "readiness_probe" in processes[other] or processes[other]["availability"]["restart"] == "always"
        ):
            raise ConfigError(f"{at}.condition: {other} never completes (readiness_probe or restart: always)")
    if "readiness_probe" in process:
        _check_probe(f"{where}.readiness_probe", process["readiness_probe"])
    _check_guard(where, process)


def _check_probe(where: str, probe: dict[str, t.Any]) -> None:
    if ("exec" in probe) == ("http_get" in probe):
        raise ConfigError(f"{where}: either exec or http_get is needed")
    if "exec" in probe:
        _require(probe["exec"], "command", f"{where}.exec.command")
        return
    port = str(probe["http_get"].get("port", ""))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{where}.http_get.port: a port is expected, not {port!r}")
    probe["http_get"] = {"host": "127.0.0.1", "path": "/"} | probe["http_get"] | {"port": int(port)}


def _check_guard(where: str, process: Process) -> None:
    """Check that the guard, which passes signals on, is the only one that gets them, and has time for its work."""
    words = shlex.split(process["command"], comments=False)
    if Path(words[0]).name != "elt-guard":
        return
    grace_seconds = float(words[words.index("-t") + 1]) if "-t" in words[:5] else GRACE_SECONDS
    if not process["shutdown"]["parent_only"]:
        raise ConfigError(f"{where}.shutdown.parent_only: must be true behind elt-guard, which passes signals on")
    if process["shutdown"]["timeout_seconds"] <= grace_seconds:
        raise ConfigError(
            f"{where}.shutdown.timeout_seconds: must be longer than the {grace_seconds:g} s of elt-guard "
            "(its option -t)"
        )


def _order(processes: dict[str, Process]) -> list[str]:
    try:
        graph = {name: list(process["depends_on"]) for name, process in processes.items()}
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise ConfigError(f"depends_on goes in a circle: {' -> '.join(error.args[1])}") from None
