"""The newcomer's command on a fresh clone: scripts/e2e.sh passes, again, interrupted, and leaves nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from workspace import BIN, PORTS, ROOT, free_ports, run

NOBODY = 65534


def clone(target: Path) -> Path:
    """A clone of the committed state, as a newcomer gets it."""
    done = run("git", "clone", "-q", "--no-hardlinks", ROOT, target, env=os.environ)
    assert done.returncode == 0, done.stderr
    return target


def environment(home: Path, supervisor: str, path: str) -> dict[str, str]:
    """A clean environment: nothing of the developer's but PATH, the cache of packages and the ports."""
    home.mkdir()
    cache = subprocess.run([BIN / "uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return {"HOME": str(home), "PATH": path, "UV_CACHE_DIR": cache, "ELT_SUPERVISOR": supervisor, **ports}


def below(folder: Path) -> list[psutil.Process]:
    """Processes that run out of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
            if process.status() != psutil.STATUS_ZOMBIE and any(word.startswith(str(folder)) for word in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def prove(clone: Path, env: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    """Run scripts/e2e.sh in a clone; it must pass, leave no process and no change."""
    command = [*prefix, str(clone / "scripts/e2e.sh")]
    done = subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert below(clone) == []
    status = subprocess.run(
        ["git", "-c", "safe.directory=*", "status", "--porcelain"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout == ""
    return done.stdout


def test_as_this_user_twice_and_interrupted(tmp_path):
    here = clone(tmp_path / "a folder" / "workspace")  # the space is meant
    env = environment(tmp_path / "home", "embedded", os.environ["PATH"])
    first = prove(here, env)
    assert "supervisor: embedded" in first
    assert "known to Flower" in first
    assert "supervisor: embedded" in prove(here, env)
    rng = random.Random(20261124)
    for seconds in (1.5, rng.uniform(3, 9), rng.uniform(14, 22)):
        process = subprocess.Popen(
            [here / "scripts/e2e.sh"],
            cwd=here,
            env=env,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) not in (0, 1)
        assert below(here) == []


def test_under_process_compose(tmp_path):
    found = shutil.which("process-compose")
    if not found:
        pytest.skip("process-compose is not on PATH")
    here = clone(tmp_path / "workspace")
    env = environment(tmp_path / "home", "process-compose", os.environ["PATH"])
    assert "supervisor: process-compose" in prove(here, env)


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_as_an_ordinary_user():
    """Below /var/tmp, since pytest's folders are closed to others; with the system's Python and PATH."""
    base = Path("/var/tmp") / f"elt-ordinary-{os.getpid()}"
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
    try:
        base.mkdir(mode=0o755)
        here = clone(base / "workspace")
        env = environment(base / "home", "embedded", "/usr/local/bin:/usr/bin:/bin")
        env["UV_CACHE_DIR"] = str(base / "cache")
        for folder, _, files in os.walk(base):
            for name in (".", *files):
                os.chown(Path(folder, name), NOBODY, NOBODY, follow_symlinks=False)
        prove(here, env, prefix)
    finally:
        shutil.rmtree(base, ignore_errors=True)
