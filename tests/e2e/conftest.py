"""The real stack, started once for all tests of this folder, apart from the developer's."""

from __future__ import annotations

import functools
import json
import os
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from workspace import apart, run, settings_of

from elt.orchestration.api import AirflowApi

from .fresh_clone import FreshClone, clone_working_tree

if t.TYPE_CHECKING:
    from elt.config import settings


def processes_of(state: Path) -> list[psutil.Process]:
    """Processes that were started with this state folder, and live."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid != os.getpid() and f"ELT_STATE={state}\0" in environ(process) + "\0"
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def environ(process: psutil.Process) -> str:
    """The environment a process was started with; a title that the process gave itself may overwrite it."""
    return Path(f"/proc/{process.pid}/environ").read_text(errors="replace")


@dataclass
class Platform:
    """A running stack and how to reach it."""

    env: dict[str, str]
    state: Path
    settings: settings.Settings

    def elt(self, *words: str, seconds: float = 200) -> str:
        """Run a verb that must succeed, and return what it printed."""
        done = run("elt", *words, env=self.env, seconds=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @functools.cached_property
    def api(self) -> AirflowApi:
        """A client of its Airflow."""
        return AirflowApi(self.settings)

    def record(self, process: str) -> dict[str, t.Any] | None:
        """What the guard of a process wrote; None while there is none."""
        try:
            return t.cast(
                "dict[str, t.Any]", json.loads((self.state / "run/processes" / f"{process}.json").read_text())
            )
        except (OSError, ValueError):
            return None

    def wait(self, what: str, check: t.Callable[[], bool], seconds: float) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, f"{what} did not come about within {seconds:.0f} s"
            time.sleep(0.3)

    def wait_healthy(self, seconds: float = 90) -> None:
        """Wait until every process is healthy."""
        self.wait("health", lambda: run("elt", "status", env=self.env).returncode == 0, seconds)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Platform]:
    """The stack on the example's few customers, under the embedded supervisor."""
    state = tmp_path_factory.mktemp("platform") / "state"
    env = apart(state) | {"ELT_SUPERVISOR": "embedded", "TASK_RETRY_SECONDS": "1"}
    for command in (("scripts/bootstrap.sh",), ("elt", "seed", "--example"), ("elt", "up")):
        done = run(*command, env=env, seconds=240)
        assert done.returncode == 0, done.stdout + done.stderr
    platform = Platform(env, state, settings_of(env))
    yield platform
    platform.api.close()
    done = run("elt", "down", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert processes_of(state) == []


@pytest.fixture(scope="session")
def fresh_clone(tmp_path_factory: pytest.TempPathFactory) -> FreshClone:
    """A clone in which nothing ran yet but the seed, since the pages run the pipeline often; the space is meant."""
    base = tmp_path_factory.mktemp("fresh")
    here = clone_working_tree(base / "a folder" / "elt-workspace", base / "home", "embedded", os.environ["PATH"])
    done = here.run("scripts/seed.sh", "--sample")
    assert done.returncode == 0, done.stdout
    return here
