"""A team's secrets: real sops and age, what reaches processes, and what never reaches a disk."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import typing as t

import pytest
from workspace import BIN, ROOT

from elt import layout
from elt.config import env_file, process_env, secret_files, settings
from elt.errors import ConfigError, SetupError

if t.TYPE_CHECKING:
    from pathlib import Path

VALUE = "pa$s w\"or'd =\\ ü\nof two lines"
needs_group = pytest.mark.skipif(not importlib.util.find_spec("pyrage"), reason="the group secrets is not installed")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that is a clone to this code, a home of its own, and no settings of other tests."""
    for name, _, _ in env_file.example_settings():
        monkeypatch.delenv(name, raising=False)
    for name, path in (("ROOT", "."), ("SECRETS", "secrets"), ("ENV_FILE", ".env"), ("STATE", ".state")):
        monkeypatch.setattr(layout, name, tmp_path / "clone" / path)
    for name in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "clone").mkdir()
    monkeypatch.setitem(settings.Settings.model_config, "env_file", layout.ENV_FILE)
    env_file.write_env()
    return tmp_path / "clone"


def holding(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@needs_group
def test_secrets_reach_processes_and_no_disk(clone, capsys, monkeypatch):
    secret_files.init("dev")
    key = clone.parent / "home/.config/sops/age/keys.txt"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    names = ["TAP_POSTGRES_PASSWORD", "AIRFLOW_VAR_TOKEN", "DBT_ENV_SECRET_KEY", "SOMETHING_ELSE"]
    for name in names:
        secret_files.put("dev", name, VALUE)
    before = secret_files.path_of("dev").read_text().splitlines()
    secret_files.put("dev", names[0], f"{VALUE}2")
    changed = [*set(before) ^ set(secret_files.path_of("dev").read_text().splitlines())]
    assert {line.partition("=")[0] for line in changed} - {"sops_lastmodified"} == {names[0], "sops_mac"}
    env = process_env.build(settings.load())
    assert [env[name] for name in names] == [f"{VALUE}2", VALUE, VALUE, VALUE]
    assert not holding(clone.parent, "of two lines")
    assert secret_files.problem(secret_files.path_of("dev")) == ""
    with layout.ENV_FILE.open("a") as file:
        file.write("AIRFLOW_VAR_TOKEN=mine\nTAP_POSTGRES_PASSWORD=mine too\n")
    monkeypatch.setenv("TAP_POSTGRES_PASSWORD", "of this shell")
    env = process_env.build(settings.load())
    assert (env["AIRFLOW_VAR_TOKEN"], env["TAP_POSTGRES_PASSWORD"]) == ("mine", "of this shell")
    secret_files.drop("dev", names[0])
    assert [*secret_files.values("dev")] == names[1:]
    secret_files.init("dev")
    assert "is there already" in capsys.readouterr().out


@needs_group
def test_an_environment_has_its_own(clone):
    for environment, value in (("dev", "for dev"), ("prod", "for prod")):
        secret_files.init(environment)
        secret_files.put(environment, "TAP_POSTGRES_PASSWORD", value)
    secret_files.put("dev", "TAP_MYSQL_PASSWORD", "only here")
    env = process_env.build(settings.load())
    assert secret_files.switched(env, "dev") == env
    switched = secret_files.switched(env, "prod")
    assert (switched["TAP_POSTGRES_PASSWORD"], switched.get("TAP_MYSQL_PASSWORD")) == ("for prod", None)
    assert switched["PATH"] == env["PATH"]
    assert secret_files.values("staging") == {}


@needs_group
def test_another_person_is_let_in_and_out(clone, tmp_path, monkeypatch):
    secret_files.init("dev")
    secret_files.put("dev", "A_SECRET", VALUE)
    (mine,) = secret_files.recipients("dev")
    home = os.environ["HOME"]
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    secret_files._decrypted.cache_clear()
    with pytest.raises(SetupError, match="none of your age keys opens it: run `elt secrets init`"):
        secret_files.values("dev")
    secret_files.init("prod")  # for those of the rules, among whom this person is not yet
    assert secret_files.recipients("prod") == [mine]
    his = secret_files._recipient()
    with pytest.raises(SetupError, match=f"send your recipient {his} to somebody"):
        secret_files.values("dev")
    monkeypatch.setenv("HOME", home)
    secret_files.rotate(secret_files.present(), add=his)
    assert secret_files.recipients("dev") == secret_files.recipients("prod") == [mine, his]
    assert his in (clone / ".sops.yaml").read_text()
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert secret_files.values("dev") == {"A_SECRET": VALUE}
    secret_files.rotate(["dev"], remove=mine)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(SetupError, match="none of your age keys"):
        secret_files.values("dev")
    with pytest.raises(ConfigError, match="nobody could read it then"):
        secret_files.rotate(["dev"], remove=his)
    with pytest.raises(ConfigError, match="'age1x' is no recipient"):
        secret_files.rotate(["dev"], add="age1x")


@needs_group
def test_what_does_not_fit_is_refused(clone):
    with pytest.raises(ConfigError, match=r"dev.enc.env is not there: `elt secrets init --environment dev`"):
        secret_files.put("dev", "A", "x")
    secret_files.init("dev")
    for name in ("A B", "1A", "", "sops_mac", "ADMIN_PASSWORD", "AIRFLOW__CORE__FERNET_KEY", "MELTANO_X"):
        with pytest.raises(ConfigError):
            secret_files.put("dev", name, "x")
    with pytest.raises(ConfigError, match="A: its value is empty"):
        secret_files.put("dev", "A", "")
    with pytest.raises(ConfigError, match="no secret is called A"):
        secret_files.drop("dev", "A")
    secret_files.put("dev", "A", "some text")
    path = secret_files.path_of("dev")
    good = path.read_text()
    for wrong in (good.replace("A=", "B=", 1), good.partition("\n")[2], good.replace("data:", "data:AAAA", 1)):
        path.write_text(wrong)
        secret_files._decrypted.cache_clear()
        with pytest.raises(ConfigError, match="was changed by something that does not know its key"):
            secret_files.values("dev")


@needs_group
def test_settings_of_a_clone_are_refused_in_the_file(clone):
    """As somebody's own sops may write them there."""
    secret_files.init("dev")
    secret_files._sops("set", str(secret_files.path_of("dev")), '["ADMIN_PASSWORD"]', '"x"')
    with pytest.raises(ConfigError, match="ADMIN_PASSWORD is of one clone"):
        process_env.build(settings.load())


def test_without_sops_it_is_said_what_to_install(clone, monkeypatch):
    layout.SECRETS.mkdir()
    secret_files.path_of("dev").write_text("sops_mac=x\n")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SetupError, match="sops is missing: add `secrets` to ELT_GROUPS"):
        secret_files.values("dev")


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("README.md", "how we do it\n", ""),
        ("dev.env", "A=b\n", "only dev.enc.env, staging.enc.env, prod.enc.env belong there"),
        ("dev.enc.env", "A=b\n", "line 1 is not encrypted"),
        ("dev.enc.env", "# A=b\n", "line 1 is not encrypted"),
        ("dev.enc.env", "A=ENC[AES256_GCM,data:x] b\nsops_mac=ENC[AES256_GCM,data:x]\n", "line 1 is not encrypted"),
        ("dev.enc.env", "A=ENC[AES256_GCM,data:x]\n", "is no file of sops"),
        ("dev.enc.env", "A=ENC[AES256_GCM,data:x]\nB_unencrypted=b\nsops_mac=ENC[AES256_GCM,data:x]\n", ""),
    ],
)
def test_the_hook_lets_nothing_readable_in(tmp_path, name, text, what):
    path = tmp_path / name
    path.write_text(text)
    done = subprocess.run([sys.executable, "-m", "elt.config.secret_files", path], cwd=ROOT, capture_output=True)
    assert (done.returncode, what in done.stderr.decode()) == (bool(what), True)


@needs_group
@pytest.mark.parametrize("kind", ["hc_vault", "kms", "gcp_kms", "azure_kv", "pgp"])
def test_a_file_sends_no_token_to_a_server_that_it_names(clone, monkeypatch, kind):
    secret_files.init("dev")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        path = secret_files.path_of("dev")
        own = [line for line in path.read_text().splitlines() if "sops_age" not in line]
        keys = {"vault_address": address, "engine_path": "transit", "key_name": "k", "enc": "vault:v1:abc"}
        keys["created_at"] = "2026-01-01T00:00:00Z"
        path.write_text("\n".join([*own, *(f"sops_{kind}__list_0__map_{one}={keys[one]}" for one in keys), ""]))
        monkeypatch.setenv("VAULT_TOKEN", "mine")
        for action in (secret_files.values, secret_files.recipients, secret_files.edit):
            with pytest.raises(ConfigError, match="names keys of another kind than age"):
                action("dev")
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "names keys of another kind than age" in secret_files.problem(path)


@needs_group
@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "BASH_ENV", "PYTHONSTARTUP", "GIT_SSH_COMMAND", "PATH", "XDG_CONFIG_HOME", "AWS_CONFIG_FILE"),
        *("STREAMLIT_SERVER_ENABLE_CORS", "FLOWER_PERSISTENT"),
    ],
)
def test_a_variable_that_runs_code_is_no_secret(clone, name):
    secret_files.init("dev")
    with pytest.raises(ConfigError, match=name):
        secret_files.put("dev", name, "something")
    secret_files._sops("set", "--value-stdin", str(secret_files.path_of("dev")), f'["{name}"]', given='"something"')
    with pytest.raises(ConfigError, match=f"{name} runs other code"):
        secret_files.values("dev")


def test_each_line_of_a_value_is_masked():
    assert secret_files.masked("first line and the second", ["the first\nfirst line\nthe second\n"]) == "*** and ***"


def test_a_value_is_masked():
    assert secret_files.masked("x hunter2 y ab", ["hunter2", "ab"]) == "x *** y ab"


@needs_group
def test_the_verbs(tmp_path):
    """By the command, in a clone of its own, as a person and a script type them."""
    clone = tmp_path / "clone"
    shutil.copytree(
        ROOT,
        clone,
        ignore=shutil.ignore_patterns(".git", ".venv", ".state", ".env", "secrets", ".sops.yaml", "*cache*"),
    )
    env = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(clone),
        "ELT_STATE": str(tmp_path / "s"),
    }

    def elt(*words: str, given: str = "") -> str:
        command = [sys.executable, "-c", "from elt.cli import main; main()", *words]
        done = subprocess.run(command, cwd=clone, env=env, input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    subprocess.run(
        [sys.executable, "-c", "from elt.config import env_file; env_file.write_env()"],
        cwd=clone,
        env=env,
        check=True,
    )
    elt("secrets", "init")
    elt("secrets", "set", "TAP_POSTGRES_PASSWORD", given="hunter2\n")
    assert elt("secrets", "list").splitlines()[-1] == "TAP_POSTGRES_PASSWORD=***"
    assert elt("exec", "printenv", "TAP_POSTGRES_PASSWORD") == "hunter2\n"
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/hunter2/hunter3/ "$1"\n')
    editor.chmod(0o700)
    env["EDITOR"] = str(editor)
    elt("secrets", "edit")
    elt("secrets", "rotate")
    assert elt("exec", "printenv", "TAP_POSTGRES_PASSWORD") == "hunter3\n"
    elt("secrets", "unset", "TAP_POSTGRES_PASSWORD")
    sops = [BIN / "sops", "decrypt", "--output-type", "json", clone / "secrets" / "dev.enc.env"]
    assert json.loads(subprocess.run(sops, env=env, capture_output=True, check=True).stdout) == {}
