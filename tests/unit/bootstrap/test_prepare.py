"""Bootstrap: `.env`, the remembered refusal, and each failure in one line with the way out."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import re
import socket
import stat
import subprocess
import tarfile
import threading

import psycopg2
import pytest
from workspace import BIN, ROOT, apart, run, wait_for

from elt import layout
from elt.bootstrap import prepare, process_compose, uv
from elt.config import env_file, settings
from elt.errors import ConfigError, SetupError


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Paths that bootstrap writes to, moved to a folder of the test's."""
    monkeypatch.setattr(layout, "ENV_FILE", tmp_path / ".env")
    monkeypatch.setattr(layout, "STATE", tmp_path / ".state")
    monkeypatch.setattr(layout, "TOOLS", tmp_path / "tools")
    (tmp_path / "tools").mkdir()
    return tmp_path


def test_a_state_folder_of_another_user_is_refused(state, monkeypatch):
    monkeypatch.setattr(layout, "STATE", state)
    state.mkdir()
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(SetupError, match=f"{state} belongs to user {mine}: .* set another ELT_STATE"):
        layout.prepare()
    assert not list(state.iterdir())


def test_env_is_written_once_private_and_random(clone):
    env_file.write_env()
    first = layout.ENV_FILE.read_text()
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600
    assert env_file.write_env() == "up to date"
    assert layout.ENV_FILE.read_text() == first
    layout.ENV_FILE.unlink()
    env_file.write_env()
    secrets = [name for name, value, _ in env_file.example_settings() if not value]
    for name in secrets:
        old, new = (
            line
            for text in (first, layout.ENV_FILE.read_text())
            for line in text.splitlines()
            if line.startswith(f"{name}=")
        )
        assert old != new
        assert len(old) - len(name) > 16


def test_a_password_that_data_was_made_with_is_not_made_anew(clone):
    env_file.write_env()
    (clone / ".state" / "postgres").mkdir(parents=True)
    (clone / ".state" / "postgres" / "PG_VERSION").touch()
    assert env_file.write_env() == "up to date"
    layout.ENV_FILE.unlink()
    with pytest.raises(SetupError, match=r"lacks POSTGRES_PASSWORD, .*postgres was made with one: put the old"):
        env_file.write_env()
    assert not layout.ENV_FILE.exists()


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


def test_a_setting_that_was_cut_off_says_how_to_go_on(clone, monkeypatch):
    env_file.write_env()
    monkeypatch.setitem(settings.Settings.model_config, "env_file", layout.ENV_FILE)
    layout.ENV_FILE.write_text(re.sub("(?m)^(VALKEY_PASSWORD=.{3}).*$", r"\1", layout.ENV_FILE.read_text()))
    with pytest.raises(
        ConfigError, match=r"VALKEY_PASSWORD: .*; put the whole line back, or remove it and run scripts/boot"
    ):
        settings.load()


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


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "free some below",
        ),
        ("ERROR: No matching distribution found for uv==0.13.9", "is there a network"),
    ],
)
def test_why_uv_cannot_be_installed(clone, monkeypatch, words, fix):
    monkeypatch.setattr(uv, "PRIVATE", layout.TOOLS / "uv" / "bin" / "uv")
    monkeypatch.setattr(uv, "_pip", lambda _: ["sh", "-c", f"echo '{words}' >&2; exit 1"])
    with pytest.raises(SetupError, match=f"{re.escape(words)}.*{fix}"):
        uv.install("0.13.9")


def test_env_gains_new_settings_and_keeps_the_old(clone):
    layout.ENV_FILE.write_text("AIRFLOW_PORT=9999\nMINE=1")
    layout.ENV_FILE.chmod(0o644)
    assert re.fullmatch(r"added \d+ settings", env_file.write_env())
    text = layout.ENV_FILE.read_text()
    assert text.startswith("AIRFLOW_PORT=9999\nMINE=1\n")
    assert text.count("AIRFLOW_PORT=") == 1
    assert "VALKEY_PORT=16379" in text
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600


def test_env_that_others_can_read_is_closed(clone):
    env_file.write_env()
    layout.ENV_FILE.chmod(0o644)
    assert env_file.write_env() == "mode set to 0600"
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600


@pytest.fixture
def release(clone, monkeypatch):
    """A server on loopback that stands for the place of process-compose's releases, which cannot be reached here."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        body = b"#!/bin/sh\necho fake\n"
        member = tarfile.TarInfo("process-compose")
        member.size = len(body)
        tar.addfile(member, io.BytesIO(body))
    body = archive.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(prepare.shutil, "which", lambda _: None)
    yield f"http://127.0.0.1:{server.server_port}/x", hashlib.sha256(body).hexdigest()
    server.shutdown()
    thread.join()
    server.server_close()


def attempt(url, sha256, monkeypatch):
    original = uv.tomllib.loads

    def pinned(text):
        project = original(text)
        pin = project["tool"]["elt"]["process-compose"]
        pin["url"], pin["sha256"] = url, dict.fromkeys(pin["sha256"], sha256)
        return project

    with monkeypatch.context() as patch:
        patch.setattr(uv.tomllib, "loads", pinned)
        return process_compose.ProcessCompose()


def test_process_compose_is_downloaded_checked_and_found_again(release, monkeypatch):
    url, sha256 = release
    assert "downloaded and checked" in attempt(url, sha256, monkeypatch).result()
    program = layout.TOOLS / "bin" / "process-compose"
    assert subprocess.run([program], capture_output=True, text=True).stdout == "fake\n"
    assert attempt("http://127.0.0.1:1/", sha256, monkeypatch).result().endswith("of this clone")


def test_a_wrong_checksum_is_refused(release, monkeypatch):
    assert "does not have the pinned checksum" in attempt(release[0], "0" * 64, monkeypatch).result()
    assert not (layout.TOOLS / "bin" / "process-compose").exists()


def test_a_refusal_is_remembered_for_a_day(clone, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "which", lambda _: None)
    assert "cannot be reached" in attempt("http://127.0.0.1:1/", "0", monkeypatch).result()
    again = attempt("http://127.0.0.1:1/", "0", monkeypatch)
    assert again.thread is None
    assert "remembered" in again.result()
    long_ago = layout.TOOLS / "process-compose.refused"
    os.utime(long_ago, (0, 0))
    assert attempt("http://127.0.0.1:1/", "0", monkeypatch).thread is not None


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
