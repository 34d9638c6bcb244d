"""What the files of the other ways in say, beside what is there: .devcontainer, .vscode and the workflow of CI.

None is opened here; tests/e2e does that, and reads flake.nix, too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import typing as t
from pathlib import Path

import documents
import jsonschema
import yaml
from ways_in import chroot, debian
from workspace import BIN, ROOT, apart, files, run, said

from elt import layout
from elt.config.env_file import example_settings
from elt.orchestration import runs


def parsed(name: str) -> t.Any:
    """A file of JSON with comments, as VS Code reads it."""
    text = (ROOT / name).read_text()
    return json.loads(re.sub(r'(?s)("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda found: found[1] or "", text))


def steps(jobs: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """All steps of a workflow."""
    return [step for job in jobs.values() for step in job["steps"]]


SCHEMAS = yaml.safe_load((ROOT / "tests" / "ways_in" / "editor.yml").read_text())
CONTAINER, LAUNCH, TASKS, SETTINGS = (
    ".devcontainer/devcontainer.json",
    ".vscode/launch.json",
    ".vscode/tasks.json",
    ".vscode/settings.json",
)
WORKFLOW = ".github/workflows/ci.yml"
VARIABLES = {"workspaceFolder", "file", "command:python.interpreterPath"}
"""Variables of VS Code that its files here may use."""
OPENED = ("AIRFLOW_PORT", "FLOWER_PORT", "STREAMLIT_PORT")
"""Settings of the ports that a person opens."""
BRINGS = {
    "ms-python.python": {"setting python"},
    "ms-python.debugpy": {"debugger debugpy"},
    "charliermarsh.ruff": {"formatter charliermarsh.ruff", "action ruff"},
    "innoverio.vscode-dbt-power-user": {"language jinja-sql"},
    "tamasfe.even-better-toml": {"file .toml"},
    "redhat.vscode-yaml": {"file .yml"},
    "jnoortheen.nix-ide": {"file .nix"},
}
"""What is used here of each extension. The marketplace cannot be asked: look an id up there before it is added."""
SHOWN = {
    " ".join(shlex.split(line, comments=True))
    for page in ("nix", "devcontainer")
    for block in documents.blocks((ROOT / "docs" / "cookbooks" / f"{page}.md").read_text())
    if block.language == "sh"
    for line in block.text.splitlines()
}
"""Commands of the pages of the other ways in, which run in tests/e2e."""


def command_lines() -> list[str]:
    """Each command that a file names for others to run."""
    container = parsed(CONTAINER)
    lines = [container[key] for key in container if key.endswith("Command")]
    lines += [task["command"] for task in parsed(TASKS)["tasks"] if "${" not in task["command"]]  # it is run below
    for step in steps(yaml.safe_load((ROOT / WORKFLOW).read_text())["jobs"]):
        lines += step.get("run", "").splitlines()
    return lines


def dockerfile() -> dict[str, str]:
    """The variables that the Dockerfile sets, and the words of the last of each of its other instructions."""
    found: dict[str, str] = {}
    path = ROOT / ".devcontainer" / parsed(CONTAINER)["build"]["dockerfile"]
    for word, words in chroot.instructions(path.read_text()):
        found |= dict(one.split("=", 1) for one in shlex.split(words)) if word == "ENV" else {word: words}
    return found


# All ---------------------------------------------------------------------------------------------


def test_files_say_only_what_their_readers_know():
    for name in (name for name in files() if re.fullmatch(r"\.(devcontainer|vscode)/.*\.json", name)):
        found = jsonschema.Draft202012Validator(SCHEMAS[name]).iter_errors(parsed(name))
        assert [f"{name} {error.json_path}: {error.message}" for error in found] == []


def test_commands_name_what_is_there(state):
    for line in command_lines():
        for command in line.split(" && "):
            program, *arguments = shlex.split(command.removeprefix("sudo --preserve-env=CI,PATH "))
            if program == "elt":
                done = run(BIN / "elt", *arguments, "--help", env=apart(state))
                assert done.returncode == 0, done.stderr
            elif program.startswith("scripts/"):
                assert os.access(ROOT / program, os.X_OK), command
                words = re.findall(r"[\w-]+", said(ROOT / program, "--help", cwd=ROOT).stdout) if arguments else []
                assert [one for one in arguments if one not in words and not [*ROOT.glob(f"tests/*/{one}*")]] == [], (
                    command
                )
            else:
                assert command.replace("npx --yes ", "npx ") in SHOWN, f"{command}: no page of docs shows it"


def test_a_part_of_the_tests_is_a_package_or_a_module_of_it(state):
    done = run("scripts/test.sh", "supervisor/test_guard", "--collect-only", "-q", "-n", "0", env=apart(state))
    assert done.returncode == 0, done.stdout + done.stderr
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert found == {f"tests/{part}/supervisor/test_guard.py" for part in ("unit", "integration")}
    done = run("scripts/test.sh", "nothing", env=apart(state))
    assert done.returncode == 2
    assert "no part 'nothing'; there are unit, " in done.stderr


# The devcontainer --------------------------------------------------------------------------------


def test_ports_bear_the_names_of_their_servers():
    config = parsed(CONTAINER)
    labels = {int(port): attributes["label"] for port, attributes in config["portsAttributes"].items()}
    assert sorted(labels) == sorted(config["forwardPorts"])
    defaults = {name: value for name, value, _ in example_settings()}
    ours = {int(defaults[name]): name.removesuffix("_PORT").capitalize() for name in OPENED}
    assert {port: labels.get(port) for port in ours} == ours
    page = " ".join((ROOT / "docs" / "cookbooks" / "devcontainer.md").read_text().split())
    assert [port for port, name in ours.items() if f"{name} ({port})" not in page] == []
    others = {port: name for port, name in labels.items() if port not in ours}
    assert f"{' and '.join(map(str, others))} are kept for a {' and a '.join(others.values())} of" in page


def test_paths_of_the_container_are_those_of_the_dockerfile():
    config, made = parsed(CONTAINER), dockerfile()
    assert config["remoteUser"] == made["USER"]
    home = Path("/home", made["USER"])  # below it alone a changed user id is followed
    paths = {Path(made[name]) for name in ("UV_CACHE_DIR", "UV_PROJECT_ENVIRONMENT", "ELT_STATE")}
    volumes = {Path(mount["target"]) for mount in config["mounts"]}
    assert {home / path.relative_to(home).parts[0] for path in paths} == volumes
    folders = made["RUN"].removeprefix("mkdir -p ").split()  # which give the volumes their owner
    assert {home / folder.removeprefix("~/") for folder in folders} == volumes
    environment = Path(made["UV_PROJECT_ENVIRONMENT"])
    python = Path(config["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"])
    here = Path(sys.prefix) / python.relative_to(environment)  # the same place of this environment
    assert here.exists(), python
    assert here.samefile(sys.executable), python
    assert made["PATH"].split(":")[0] == str(python.parent)


def test_extensions_are_those_that_the_files_need():
    config, settings = parsed(CONTAINER)["customizations"]["vscode"], parsed(SETTINGS)
    assert [name for name in config["extensions"] if name not in BRINGS] == []
    python = settings["[python]"]
    sections = {key.split(".")[0] for key in (*settings, *config["settings"]) if not key.startswith("[")}
    needed = {
        f"formatter {python['editor.defaultFormatter']}",
        *(f"action {action.split('.')[-1]}" for action in python["editor.codeActionsOnSave"]),
        *(f"setting {section}" for section in sections - {"files", "search"}),
        *(f"language {language}" for language in settings["files.associations"].values()),
        *(f"debugger {one['type']}" for one in parsed(LAUNCH)["configurations"]),
    }
    of_files = {f"file {Path(name).suffix}" for name in files()}
    brought: set[str] = set().union(*(BRINGS[name] for name in config["extensions"]))
    assert needed - brought == set(), "no extension brings it"
    assert brought - needed - of_files == set(), "nothing here uses it"


# VS Code -----------------------------------------------------------------------------------------


def test_variables_are_known():
    for name in (LAUNCH, TASKS, SETTINGS):
        assert set(re.findall(r"\$\{([^}]*)\}", json.dumps(parsed(name)))) <= VARIABLES, name


def test_what_is_debugged_can_be_started():
    labels = [task["label"] for task in parsed(TASKS)["tasks"]]
    for one in parsed(LAUNCH)["configurations"]:
        spec = importlib.util.find_spec(one["module"])
        assert spec, one["module"]
        assert Path(spec.origin or "").with_name("__main__.py").exists()
        assert one["module"] != "airflow" or one["args"] == ["dags", "test", runs.DAG]
        assert one.get("preLaunchTask", labels[0]) in labels


def test_the_task_before_the_debugger_writes_its_environment(tmp_path, state):
    (configuration,) = [one for one in parsed(LAUNCH)["configurations"] if "envFile" in one]
    (command,) = [
        task["command"] for task in parsed(TASKS)["tasks"] if task["label"] == configuration["preLaunchTask"]
    ]
    command = command.replace("${command:python.interpreterPath}", str(BIN / "python"))
    done = said("bash", "-c", command, cwd=tmp_path, env=apart(state))
    assert done.returncode == 0, done.stdout
    name = configuration["envFile"].removeprefix("${workspaceFolder}/")
    assert f"ELT_STATE={state}" in (tmp_path / name).read_text().splitlines()
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert is_ignored(name)


def test_settings_name_what_is_there():
    settings = parsed(SETTINGS)
    patterns = {*settings["python.testing.pytestArgs"], *settings["files.associations"]}
    patterns |= {*settings["files.watcherExclude"], *settings["search.exclude"]}
    for name in {"/".join(part for part in pattern.split("/") if "*" not in part) for pattern in patterns}:
        assert (ROOT / name).exists() or is_ignored(f"{name}/"), name


def is_ignored(name: str) -> bool:
    """Whether git ignores a path of the clone."""
    return subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT).returncode == 0


# CI ----------------------------------------------------------------------------------------------


def test_ci_opens_the_devcontainer_as_its_page_does():
    lines = [line.replace("npx --yes ", "npx ") for line in command_lines()]
    assert [command for command in SHOWN if command.startswith("npx ") and command not in lines] == []


def test_ci_keeps_what_is_there(tmp_path):
    workflow = yaml.safe_load((ROOT / WORKFLOW).read_text())
    used = [(step["uses"].split("@")[0], step["with"]) for step in steps(workflow["jobs"]) if "with" in step]
    home = {"HOME": str(tmp_path), **workflow.get("env", {})}  # uv's default unless the workflow says another
    cache = run(BIN / "uv", "cache", "dir", env=home).stdout.strip()
    caches = [words for action, words in used if action == "actions/cache"]
    assert caches
    assert {words["path"].replace("~", str(tmp_path), 1) for words in caches} == {cache}
    hashed = {name for words in caches for name in re.findall(r"hashFiles\('(.*?)'\)", words["key"])}
    assert hashed - set(files()) == set()
    assert hashed
    kept = {words["path"] for action, words in used if action == "actions/upload-artifact"}
    assert kept == {f".state/{layout.LOGS.relative_to(layout.STATE)}"}


def test_a_package_of_debian_that_is_installed_is_used(tmp_path, monkeypatch):
    """A machine that has debootstrap gets no second one, and its tests are not left out."""
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf installed\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian.unpacked("debootstrap") == Path("/")
