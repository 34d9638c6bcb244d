"""The environment: whole after an installation that was cut off, the same whatever is set for other projects."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from workspace import BIN, ROOT, apart, run

from elt import layout
from elt.bootstrap import uv
from elt.errors import SetupError
from elt.supervisor import lockfile

BOOTSTRAP = ("scripts/bootstrap.sh", "--packages")  # which leaves this clone's git hook alone
OF_OTHER_PROJECTS = {
    "UV_NO_EDITABLE": "1",
    "UV_NO_DEV": "1",
    "UV_NO_DEFAULT_GROUPS": "1",
    "UV_MANAGED_PYTHON": "1",
    "UV_PROJECT": "/elsewhere",
    "UV_PRERELEASE": "allow",
    "UV_NO_SOURCES": "1",
    "UV_RESOLUTION": "lowest",
    "PYTHONHOME": "/elsewhere",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "/elsewhere",
}


def files(environment):
    """All files but compiled ones."""
    return sorted(path for path in environment.rglob("*") if path.is_file() and path.suffix != ".pyc")


@pytest.fixture
def stub(tmp_path):
    """Makes a program in the place of uv, whose `lock --check` comes to what it is told."""

    def make(script):
        program = tmp_path / "uv"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return str(program)

    return make


@pytest.mark.parametrize(
    ("output", "check", "word"),
    [
        ("error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided", "exit 1", "uv lock"),
        ("error: The lockfile at `uv.lock` needs to be updated", "exit 0", "set UV_NO_CONFIG=1, as a uv.toml of"),
        ("error: failed to write: No space left on device (os error 28)", "exit 0", "disk is full"),
        ("error: Failed to fetch\n cause: dns error: failed to lookup address", "exit 0", "cannot be reached"),
        ("error: cannot connect", '[ "${XDG_CONFIG_HOME%.config}" != "$XDG_CONFIG_HOME" ]', "as a uv.toml of yours"),
        ("something else", "exit 0", "uv sync"),
    ],
)
def test_a_failed_sync_is_explained(output, check, word, stub, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in [name for name in os.environ if name.startswith("UV_") and "INDEX" in name]:
        monkeypatch.delenv(name)
    assert word in uv.explain(output, stub(check))


def test_an_index_of_the_users_own_is_named(monkeypatch, stub):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
    assert "unset UV_DEFAULT_INDEX" in uv.explain("The lockfile needs to be updated", stub("exit 0"))


def test_the_users_say_from_where_and_not_what(monkeypatch):
    theirs = {"UV_CACHE_DIR": "/cache", "UV_HTTP_TIMEOUT": "9", "UV_OFFLINE": "1", "UV_NO_CONFIG": "1"}
    for name, value in (OF_OTHER_PROJECTS | theirs).items():
        monkeypatch.setenv(name, value)
    given = uv.variables()
    assert theirs.items() <= given.items()
    assert not {name for name in OF_OTHER_PROJECTS if name.startswith("UV_")} & set(given)


def test_what_was_cut_off_is_installed_again(state):
    """As a kill leaves it: files that are not there, that are short, and that uv has not put on its list yet."""
    environment = state / "environment"
    env = apart(state) | {"UV_PROJECT_ENVIRONMENT": str(environment), "COLUMNS": "300"}
    done = run(*BOOTSTRAP, env=env | OF_OTHER_PROJECTS)
    assert done.returncode == 0, done.stderr
    whole = files(environment)
    assert environment / "bin" / "pytest" in whole
    (site,) = environment.glob("lib/python*/site-packages")
    assert not (site / "elt").exists()  # it is used where it lies

    shutil.rmtree(site / "duckdb")
    (site / "networkx" / "__init__.py").unlink()  # not written to: it is a file of uv's cache
    (site / "networkx" / "__init__.py").write_text("")
    (info,) = site.glob("pytokens-*.dist-info")
    lines = (info / "RECORD").read_text().splitlines(keepends=True)
    (info / "RECORD").unlink()
    (info / "RECORD").write_text("".join(line for line in lines if "INSTALLER" not in line))
    said = run(environment / "bin" / "elt", "doctor", env=env).stdout
    packages = said[said.index("packages") :]
    assert "FAIL  files are missing of duckdb, networkx, pytokens" in packages
    assert f"rm -f {environment / uv.INSTALLED_STAMP.name}, then scripts/bootstrap.sh" in packages
    shutil.rmtree(site / "rich")
    said = run(environment / "bin" / "elt", "doctor", env=env)
    assert said.returncode == 1
    assert said.stderr.startswith("elt: the environment lacks rich, ")
    assert len(said.stderr.splitlines()) == 1

    (environment / uv.INSTALLED_STAMP.name).unlink()
    done = run(*BOOTSTRAP, env=env)
    assert "4 packages are installed again" in done.stdout
    assert files(environment) == whole
    assert not uv.damaged(environment)
    assert run(environment / "bin" / "python", "-c", "import duckdb", env=env).returncode == 0


def test_two_at_once_wait_for_each_other(state):
    environment = state / "environment"
    env = apart(state) | {"UV_PROJECT_ENVIRONMENT": str(environment)}
    both = [subprocess.Popen(BOOTSTRAP, env=env, cwd=BIN.parent.parent, stdout=subprocess.PIPE) for _ in range(2)]
    said = b"".join(one.communicate()[0] for one in both)
    assert [one.returncode for one in both] == [0, 0]
    assert b"waiting for another bootstrap" in said
    assert not uv.damaged(environment)


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A clone whose lock holds a uv that lies in a folder, for a user who lets pip install to his home only."""
    wheel = tmp_path / "uv-9.9.9-py3-none-any.whl"
    meta = {"METADATA": "Metadata-Version: 2.1\nName: uv\nVersion: 9.9.9\n", "RECORD": ""}
    meta["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        program = zipfile.ZipInfo("uv-9.9.9.data/scripts/uv")
        program.external_attr = 0o100755 << 16
        archive.writestr(program, "#!/bin/sh\necho uv 9.9.9\n")
        for name, text in meta.items():
            archive.writestr(f"uv-9.9.9.dist-info/{name}", text)
    hashed = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = tmp_path / "uv.lock"
    lock.write_text(f'[[package]]\nname = "uv"\nwheels = [{{ hash = "sha256:{hashed}" }}]\n')
    monkeypatch.setattr(uv.layout, "ROOT", tmp_path)
    monkeypatch.setattr(uv.layout, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(uv, "OWN_UV", tmp_path / "tools" / "uv" / "bin" / "uv")
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    theirs = {
        "PIP_CONFIG_FILE": "pip.conf",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": ".",
    }
    for name, value in theirs.items():
        monkeypatch.setenv(name, value if value == "1" else str(tmp_path / value))
    uv.OWN_UV.parent.mkdir(parents=True)
    uv.OWN_UV.write_text("half of one")
    (tmp_path / "tools" / "uv.new").mkdir()
    return lock


@pytest.mark.parametrize("has_pip", [True, False])
def test_a_private_uv_is_installed_with_pip_or_without(has_pip, release, monkeypatch):
    if not has_pip:
        monkeypatch.setattr(uv.importlib.util, "find_spec", lambda _: None)
    uv.install("9.9.9")
    assert subprocess.check_output(uv.OWN_UV) == b"uv 9.9.9\n"
    assert [path.name for path in uv.layout.TOOLS.iterdir()] == ["uv"]


def test_a_uv_that_is_not_the_one_of_the_lock_is_refused(release):
    release.write_text(re.sub(r"sha256:\w+", f"sha256:{64 * '0'}", release.read_text()))
    with pytest.raises(SetupError, match=r"uv 9\.9\.9 cannot be installed \(.+\)"):
        uv.install("9.9.9")
    assert not (uv.layout.TOOLS / "uv.new").exists()


def test_the_environment_of_a_running_stack_is_not_made_for_another_python(state):
    """The other Python is one that is gone: uv then makes the environment anew, as for a container's."""
    environment = state / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to("/elsewhere/bin/python3")
    config = environment / "pyvenv.cfg"
    config.write_text("home = /elsewhere/bin\nversion_info = 3.11.0\n")
    lock = lockfile.take(state / "run")
    assert lock is not None
    try:
        done = run("scripts/bootstrap.sh", env=apart(state) | {"UV_PROJECT_ENVIRONMENT": str(environment)})
    finally:
        os.close(lock)
    assert done.returncode == 1
    assert f"a stack runs from {environment}, which was made for another Python" in done.stderr
    assert "scripts/down.sh" in done.stderr
    assert config.exists()


def test_uv_leaves_no_lock_file_in_tmp(state, tmp_path):
    (tmp_path / "tmp").mkdir()
    done = run(*BOOTSTRAP, env=apart(state) | {"TMPDIR": str(tmp_path / "tmp")})
    assert done.returncode == 0, done.stderr
    assert [*(tmp_path / "tmp").iterdir()] == []


HOLDER = """
import fcntl, os, sys, time
fcntl.flock(int(sys.argv[2]) if sys.argv[2:] else os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""
"""A program that holds a lock on a file."""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A folder in the place of the environment."""
    monkeypatch.setattr(uv, "VENV", tmp_path / "environment")
    uv.VENV.mkdir()
    (uv.VENV / ".lock").touch()
    (uv.VENV / ".lock").chmod(0o666)  # as uv makes it
    return uv.VENV


@contextlib.contextmanager
def holder(*words, **options):
    """A process that holds a lock."""
    python = os.path.realpath(shutil.which("python3", path="/usr/bin:/bin") or sys.executable)
    command = [python, "-c", HOLDER, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", **options) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_environment_and_uvs_lock_are_closed_to_others(environment):
    with uv._locked():
        assert environment.stat().st_mode & 0o777 == 0o711
        assert (environment / ".lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_another_user_cannot_hold_the_environment(environment):
    for folder in (environment, *environment.parents):
        folder.chmod(folder.stat().st_mode | 0o001)
    with uv._locked():
        pass
    for path in (environment, environment / ".lock"):
        look = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", path)
        done = subprocess.run(look, cwd="/", capture_output=True, text=True)
        assert "Permission denied" in done.stderr
    descriptor = os.open(environment, os.O_RDONLY)  # one that was opened before: it is refused, and named
    try:
        with holder(environment, descriptor, user=65534, group=65534, pass_fds=(descriptor,)) as process:
            words = rf"held by process {process.pid} of user 65534 \(.*python3.*\): let that end"
            with pytest.raises(SetupError, match=words), uv._locked():
                pass
    finally:
        os.close(descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks is Linux's")
def test_a_wait_says_for_whom_and_has_an_end(environment, monkeypatch, capsys):
    monkeypatch.setattr(uv, "WAIT_SECONDS", 0.3)
    with holder(environment) as process:
        with pytest.raises(SetupError, match=f"still held after .* by process {process.pid} of user"), uv._locked():
            pass
        assert f"waiting for another bootstrap of {environment}: process {process.pid}" in capsys.readouterr().out
    with uv._locked():
        pass


@pytest.mark.parametrize(
    ("version", "fits"), [("0.10.9", False), ("0.11.0", True), ("0.13.99", True), ("0.14.0", False), ("1.0.0", False)]
)
def test_a_uv_that_would_fetch_its_builder_without_a_hash_is_not_used(stub, monkeypatch, tmp_path, version, fits):
    """Uv builds the workspace's own packages itself if it is of the range of `uv_build`, else it downloads that."""
    monkeypatch.setattr(uv.shutil, "which", lambda _: stub(f"echo uv {version}"))
    monkeypatch.setattr(uv, "OWN_UV", tmp_path / "none")
    assert [one.fits for one in uv.known()] == [fits]
    members = (ROOT, *(path.parent for path in ROOT.glob("meltano/connectors/*/pyproject.toml")))
    systems = [tomllib.loads((one / "pyproject.toml").read_text())["build-system"]["requires"] for one in members]
    assert systems == [systems[0]] * len(members)


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
    monkeypatch.setattr(uv, "OWN_UV", layout.TOOLS / "uv" / "bin" / "uv")
    monkeypatch.setattr(uv, "_pip", lambda _: ["sh", "-c", f"echo '{words}' >&2; exit 1"])
    with pytest.raises(SetupError, match=f"{re.escape(words)}.*{fix}"):
        uv.install("0.13.9")
