"""`elt doctor` finds each planted fault and names how to fix it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import typing as t

import pytest
from workspace import BIN, ROOT, apart, copy, said

if t.TYPE_CHECKING:
    from pathlib import Path

VERB = (str(BIN / "python"), "-c", "from elt.cli import main; main()", "doctor")
"""The verb as the folder in which it runs has it."""
MOUNT = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what git knows, to plant faults in; its environment is this clone's, which it says."""
    root = tmp_path / "clone"
    copy(root)
    shutil.copy2(ROOT / ".env", root / ".env")
    return root


@pytest.fixture
def env(state: Path) -> dict[str, str]:
    """Ports and a state folder apart."""
    state.mkdir()
    return apart(state) | {"COLUMNS": "200"}


def doctor(root: Path, env: dict[str, str], prefix: t.Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and output of the verb."""
    done = said(*prefix, *VERB, cwd=root, env=env, seconds=60)
    return done.returncode, done.stdout


def failed(output: str) -> dict[str, str]:
    """Finding and fix of each check that failed."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        name, is_failure, rest = line.partition(" FAIL ")
        if is_failure:
            found[name.strip()] = rest.strip()
        elif line.strip().startswith("->") and found:
            found[list(found)[-1]] += f" {line.strip()}"
    return found


def program(folder: Path, name: str, script: str) -> None:
    """Put a program of that name there."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def in_mount(folder: Path, options: str) -> tuple[str, ...]:
    """A prefix that mounts an empty file system there, for one program alone."""
    prefix = (*MOUNT, "sh", "-euc", f'mount -t tmpfs -o {options} tmpfs "{folder}"; exec "$@"', "-")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("mounts are not allowed here")
    return prefix


def test_all_is_well(env):
    code, output = doctor(ROOT, env)
    assert code == 0, output
    assert failed(output) == {}
    assert "duckdb 1.5.5" in output


def test_a_port_is_taken(env):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, output = doctor(ROOT, env | {"FLOWER_PORT": str(port)})
    assert code == 1
    assert list(failed(output)) == ["ports"]
    assert f"port {port} is taken by" in failed(output)["ports"]
    assert "set FLOWER_PORT in .env" in failed(output)["ports"]


def test_a_uv_that_is_too_old(clone, env, tmp_path):
    program(tmp_path / "bin", "uv", "echo uv 0.4.0")
    code, output = doctor(clone, env | {"PATH": f"{tmp_path / 'bin'}:{env['PATH']}"})
    assert code == 1
    assert "0.4.0" in failed(output)["uv"]
    assert "-> update it" in failed(output)["uv"]


def test_a_stale_lock(clone, env):
    project = clone / "pyproject.toml"
    project.write_text(project.read_text().replace('"psutil",', '"psutil>=7000",'))
    code, output = doctor(clone, env)
    assert code == 1
    assert "uv.lock does not fit" in failed(output)["lock"]
    assert "/uv lock`, and commit the result" in failed(output)["lock"]


@pytest.mark.parametrize("place", ["variable", "file"])
def test_an_index_of_the_users_own_is_no_stale_lock(place, env, tmp_path):
    """To lock again would write its addresses into uv.lock."""
    theirs = {"UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple"}
    if place == "file":
        (tmp_path / "uv").mkdir()
        (tmp_path / "uv" / "uv.toml").write_text('index-url = "http://127.0.0.1:1/simple"\n')
        theirs = {"XDG_CONFIG_HOME": str(tmp_path)}
    code, output = doctor(ROOT, env | theirs)
    assert code == 1
    assert list(failed(output)) == ["packages"]
    fix = "unset UV_DEFAULT_INDEX" if place == "variable" else "set UV_NO_CONFIG=1"
    assert f"-> uv.lock holds the addresses of its packages: {fix}" in failed(output)["packages"]


def test_the_lock_is_read_by_this_python(clone, env):
    (clone / ".python-version").write_text("3.99\n")
    assert "lock" not in failed(doctor(clone, env)[1])


def test_no_env_file(clone, env):
    (clone / ".env").unlink()
    code, output = doctor(clone, env)
    assert code == 1
    assert ".env is missing -> scripts/bootstrap.sh" in failed(output)[".env"]


def test_no_env_file_beside_data(clone, env, state):
    (clone / ".env").unlink()
    (state / "postgres").mkdir()
    (state / "postgres" / "PG_VERSION").touch()
    assert "put the old file or line back" in failed(doctor(clone, env)[1])[".env"]


def test_an_env_file_that_others_may_read(clone, env):
    (clone / ".env").chmod(0o644)
    code, output = doctor(clone, env)
    assert code == 1
    assert "mode 0644" in failed(output)[".env"]
    assert "-> scripts/bootstrap.sh" in failed(output)[".env"]


def test_a_state_folder_that_cannot_be_written_to(clone, env, state):
    code, output = doctor(clone, env, in_mount(state, "ro"))
    assert code == 1
    assert f"{state} cannot be written to" in failed(output)["folders"]
    assert "set ELT_STATE" in failed(output)["folders"]


def test_a_small_disk(clone, env, state):
    code, output = doctor(clone, env, in_mount(state, "size=50m"))
    assert code == 1
    assert "GB are free" in failed(output)["disk"]
    assert "free some" in failed(output)["disk"]


@pytest.mark.parametrize("verb", [("up",), ("run",), ("e2e",)])
def test_a_small_disk_is_told_before_anything_begins(verb, env, state):
    done = said(*in_mount(state, "size=50m"), *VERB[:-1], *verb, cwd=ROOT, env=env, seconds=60)
    assert done.returncode == 1
    assert f"0.1 GB are free below {state}, 1 GB should be: free some" in done.stdout
    assert "supervisor:" not in done.stdout


def test_an_old_python(clone, env, tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        program(tmp_path / "bin", name, '[ "$1" = --version ] && echo Python 3.9.2; exit 1')
    code, output = doctor(clone, env | {"PATH": f"{tmp_path / 'bin'}:{env['PATH']}"})
    assert code == 1
    assert "Python 3.9.2" in failed(output)["Python"]
    assert "-> install Python 3.11" in failed(output)["Python"]


def test_the_default_password_on_a_wide_address(clone, env):
    code, output = doctor(clone, env | {"BIND_ADDRESS": "0.0.0.0", "ADMIN_PASSWORD": "admin"})
    assert code == 1
    assert "ADMIN_PASSWORD" in failed(output)[".env"]


def test_the_clock_is_behind(clone, env, state):
    (state / "run").mkdir()
    os.utime(state / "run", (4e9, 4e9))
    code, output = doctor(clone, env)
    assert code == 1
    assert "behind the last start" in failed(output)["clock"]


def test_another_servers_programs(env, tmp_path):
    program(tmp_path / "bin", "postgres", "echo postgres '(PostgreSQL) 17.4'")
    code, output = doctor(ROOT, env | {"ELT_POSTGRES_BIN": str(tmp_path / "bin")})
    assert code == 0, output
    assert "PostgreSQL 17.4 (ELT_POSTGRES_BIN; that of the lock is 18.6)" in output


def test_a_setting_that_does_not_fit_is_told_once(env):
    code, output = doctor(ROOT, env | {"AIRFLOW_PORT": "eighty"})
    assert code == 1
    assert list(failed(output)) == [".env"]
    assert output.count("AIRFLOW_PORT") == 1
    assert output.count("not checked: see .env") == 2


def test_no_state_yet_is_no_fault(env, state):
    state.rmdir()
    code, output = doctor(ROOT, env)
    assert code == 0, output
    assert "is not there yet" in output


def test_a_file_of_settings_in_another_encoding(clone, env):
    with (clone / ".env").open("ab") as file:
        file.write("# Müller\n".encode("latin-1"))
    code, output = doctor(clone, env)
    assert code == 1
    assert "is not UTF-8" in failed(output)[".env"]
    assert "Traceback" not in output


def test_what_is_broken_beyond_expectation_does_not_end_the_table(clone, env):
    (clone / "pyproject.toml").write_text("[")
    code, output = doctor(clone, env)
    assert code == 1
    assert "TOMLDecodeError" in output
    assert "clock" in output


def test_programs_that_do_not_run(env, tmp_path):
    for name in ("process-compose", "valkey-server"):
        program(tmp_path / "bin", name, "exit 3")
    broken = {
        "PATH": f"{tmp_path / 'bin'}:{env['PATH']}",
        "ELT_VALKEY_SERVER": str(tmp_path / "bin" / "valkey-server"),
        "ELT_SUPERVISOR": "auto",
    }
    code, output = doctor(ROOT, env | broken)
    assert code == 1
    assert {"servers", "supervisor"} <= set(failed(output))


def test_too_few_open_files(env):
    code, output = doctor(ROOT, env, ("bash", "-c", 'ulimit -n 256; exec "$@"', "-"))
    assert code == 1
    assert "ulimit -n 1024" in failed(output)["file limit"]
