"""Bootstrap tells each failure in one line with the way out, and a second run has nothing to do."""

from __future__ import annotations

import re
import socket
import subprocess

import psycopg2
import pytest
from workspace import BIN, ROOT, apart, run, wait_for

from elt import layout
from elt.bootstrap import prepare
from elt.config import env_file, settings
from elt.errors import SetupError


def test_a_lost_password_is_told_alike_and_given_anew(clone, monkeypatch, state):
    """Doctor, the settings and bootstrap name one step; it works on real data, and keeps it."""
    env = apart(state) | {"POSTGRES_PASSWORD": "0" * 32, "POSTGRES_USER": "elt"}
    initdb = "from elt import layout; from elt.config import programs; from elt.services import postgres; "
    initdb += "layout.prepare(); postgres.initdb(programs.postgres_bin(), layout.POSTGRES_DATA)"
    done = run("python", "-c", initdb, env=env)
    assert done.returncode == 0, done.stderr
    for name, path in (("STATE", state), ("POSTGRES_DATA", state / "postgres")):
        monkeypatch.setattr(layout, name, path)
    monkeypatch.setenv("ELT_STATE", str(state))
    monkeypatch.setitem(settings.Settings.model_config, "env_file", layout.ENV_FILE)
    layout.ENV_FILE.write_text(
        "".join(f"{name}={value or 'x' * 43 + '='}\n" for name, value, _ in env_file.example_settings())
    )
    text = re.sub("(?m)^POSTGRES_PASSWORD=.*\n", "", layout.ENV_FILE.read_text())
    layout.ENV_FILE.write_text(text)
    for look in (env_file.write_env, settings.load):
        with pytest.raises(SetupError, match=r"lacks POSTGRES_PASSWORD, and .*`scripts/bootstrap.sh --new-password`"):
            look()
    assert "in .env" in prepare.new_password()
    secret = settings.load().postgres_password
    assert secret not in {"0" * 32, ""}
    port = env["POSTGRES_PORT"]
    serve = env | {"POSTGRES_PASSWORD": secret, "POSTGRES_TCP": "on", "POSTGRES_ADDRESS": "127.0.0.1"}
    serve |= {"POSTGRES_HOST": str(layout.sockets(state))}
    with subprocess.Popen(
        [BIN / "elt", "serve", "postgres"], cwd=ROOT, env=serve, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(lambda: connected(port, secret))
            assert not connected(port, "0" * 32)
            with pytest.raises(SetupError, match="remove the line first"):
                prepare.new_password()
            layout.ENV_FILE.write_text(text)
            with pytest.raises(SetupError, match=r"does not take a new password: .*lock file"):
                prepare.new_password()
        finally:
            server.terminate()


def connected(port, secret):
    """Whether PostgreSQL lets the owner in."""
    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="elt", password=secret, dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def test_a_port_that_is_taken_is_told_before_the_installation(state, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        env = apart(state) | {"FLOWER_PORT": str(port), "UV_PROJECT_ENVIRONMENT": str(tmp_path / "none")}
        for script in ("up.sh", "e2e.sh"):
            done = run(f"scripts/{script}", env=env)
            assert done.returncode == 1
            assert re.fullmatch(
                rf"bootstrap: ports: taken: {port} \(FLOWER_PORT\); end what holds them, or let"
                rf" `scripts/bootstrap.sh --free-ports` write FLOWER_PORT=\d+ to .env\n",
                done.stderr,
            )
        assert not (tmp_path / "none").exists()


def test_old_python_is_refused_in_one_line(tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.1;; esac\nexit 1\n')
        (tmp_path / name).chmod(0o755)
    done = run("scripts/bootstrap.sh", env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert "Python 3.9.1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_full_disk_and_read_only_state_are_refused_in_one_line(state):
    env = apart(state) | {"UV_PROJECT_ENVIRONMENT": str(state / "none")}
    code = "import shutil, types; from elt.bootstrap import prepare; "
    code += "shutil.disk_usage = lambda _: types.SimpleNamespace(free=1)"
    done = run("python", "-c", f"{code}; prepare.leave(prepare.main())", env=env)
    assert done.returncode == 1
    assert "GB are needed" in done.stderr
    state.parent.joinpath("file").touch()
    done = run("scripts/bootstrap.sh", env=env | {"ELT_STATE": str(state.parent / "file" / "state")})
    assert done.returncode == 1
    assert done.stderr.startswith("bootstrap: state:")


def test_second_run_has_nothing_to_do(state):
    env = apart(state)
    assert run("scripts/bootstrap.sh", env=env).returncode == 0
    done = run("scripts/bootstrap.sh", "--quiet", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ROOT.joinpath(".env").stat().st_mode & 0o077 == 0


def test_an_image_gets_packages_and_no_secret(state):
    done = run("scripts/bootstrap.sh", "--packages", env=apart(state))
    assert done.returncode == 0, done.stderr
    steps = {line[2:20].strip() for line in done.stdout.splitlines()}
    assert "environment" in steps
    assert not {".env", "git hooks"} & steps


def test_another_repository_gets_no_hook(state, tmp_path):
    """Hooks of git and some shells set GIT_DIR."""
    subprocess.run(["git", "init", "--quiet", tmp_path / "other"], check=True)
    other = tmp_path / "other" / ".git"
    done = run("scripts/bootstrap.sh", env=apart(state) | {"GIT_DIR": str(other)})
    assert done.returncode == 0, done.stderr
    assert "left out" not in next(line for line in done.stdout.splitlines() if "git hooks" in line)
    assert not (other / "hooks" / "pre-commit").exists()


def test_free_ports_are_told_quietly_too_and_env_before_them(state):
    shown = run("scripts/bootstrap.sh", "--free-ports", env=apart(state)).stdout.splitlines()
    steps = [line.split()[0] for line in shown]
    assert steps.index("ports") == steps.index(".env") + 1
    assert steps.count(".env") == 1
    done = run("scripts/bootstrap.sh", "--quiet", "--free-ports", env=apart(state))
    assert any(line.split()[0] == "ports" for line in done.stdout.splitlines()), done.stdout + done.stderr
