"""The first command in a fresh clone: scripts/e2e.sh passes, can be interrupted, and leaves nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .fresh_clone import ON_TERMINAL, below, clone_working_tree, given_to

NOBODY = 65534


def test_as_this_user_and_interrupted(fresh_clone):
    """Fresh, or after the commands of README and docs, which begin with the same."""
    fresh_clone.begin_anew()
    said = fresh_clone.prove(ON_TERMINAL)
    assert "supervisor: embedded" in said
    assert "known to Flower" in said
    rng = random.Random(20261124)
    for seconds in (1.5, rng.uniform(3, 9), rng.uniform(14, 22)):
        process = subprocess.Popen(
            [fresh_clone.root / "scripts/e2e.sh"],
            cwd=fresh_clone.root,
            env=fresh_clone.env,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) not in {0, 1}
        assert below(fresh_clone.root) == []


def test_on_a_terminal(tmp_path):
    """Uv draws on a terminal what it says nowhere else; a failure is explained there as well."""
    here = clone_working_tree(tmp_path / "workspace", tmp_path / "home", "embedded", os.environ["PATH"])
    done = here.run(*ON_TERMINAL, here.root / "scripts/bootstrap.sh")
    assert done.returncode == 0, done.stdout
    assert "Installed " in done.stdout
    assert "+ apache-airflow" not in done.stdout
    project = here.root / "pyproject.toml"
    project.write_text(project.read_text().replace('"ruff",', '"ruff", "left-pad",'))
    done = here.run(*ON_TERMINAL, here.root / "scripts/up.sh")
    assert done.returncode == 1
    assert "/uv lock` and commit the result" in done.stdout.splitlines()[-1]


def test_under_process_compose(tmp_path):
    if not shutil.which("process-compose"):
        pytest.skip("process-compose is not on PATH")
    here = clone_working_tree(tmp_path / "workspace", tmp_path / "home", "process-compose", os.environ["PATH"])
    assert "supervisor: process-compose" in here.prove()


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_as_an_ordinary_user():
    """Below /var/tmp, since pytest's folders are closed to others; the system's Python, nothing preloaded."""
    base = Path("/var/tmp") / f"elt-ordinary-{os.getpid()}"
    try:
        base.mkdir(mode=0o755)
        here = clone_working_tree(base / "workspace", base / "home", "embedded", "/usr/local/bin:/usr/bin:/bin")
        here.env |= {"UV_CACHE_DIR": str(base / "cache"), "ELT_PRELOAD": "0"}
        given_to(NOBODY, base)
        nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
        said = here.prove(nobody, "--sample")
        assert "supervisor: embedded" in said
        assert "known to Flower" in said
    finally:
        shutil.rmtree(base, ignore_errors=True)
