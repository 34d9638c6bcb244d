"""Two platforms to be measured in turns: this workspace in a clone of its own, and `airflow standalone`.

Both run the same Airflow, on ports of their own, in a folder that is thrown away. `airflow standalone` is what the
package itself offers for development: four components, SQLite, no worker; it has its defaults, and no example DAGs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import typing as t
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from unittest import mock

import httpx
import psutil
from e2e.fresh_clone import FreshClone, below, clone_working_tree
from workspace import PORTS, free_ports

from elt.config.settings import ADMIN, Settings
from elt.orchestration.api import AirflowApi

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

START_SECONDS = 180
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
DAGS = Path(__file__).parent / "dags"


class Platform(t.Protocol):
    """What is measured of both."""

    def start(self, *, empty: bool) -> float:
        """Start it, on an empty state or on what it left; returns seconds until it is healthy."""

    def stop(self) -> float:
        """Stop it; returns seconds until no process is left."""

    def memory(self) -> dict[str, int]:
        """Proportional set size in bytes of each process, by number and command."""

    def api(self) -> AirflowApi:
        """A client of its Airflow."""


@dataclass
class Ours:
    """This workspace."""

    clone: FreshClone

    def elt(self, *words: str) -> str:
        """Run a verb, which must succeed."""
        done = self.clone.run(".venv/bin/elt", *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self, *, empty: bool) -> float:
        """Start it; the time is that of `scripts/up.sh`, from the shell's prompt to the next."""
        if empty:
            shutil.rmtree(self.clone.root / ".state", ignore_errors=True)
            done = self.clone.run("scripts/bootstrap.sh")
            assert done.returncode == 0, done.stdout
        began = time.monotonic()
        done = self.clone.run("scripts/up.sh")
        assert done.returncode == 0, done.stdout
        return time.monotonic() - began

    def stop(self) -> float:
        """Stop it; the time is that of `elt down`."""
        began = time.monotonic()
        self.elt("down")
        return time.monotonic() - began

    def memory(self) -> dict[str, int]:
        """Proportional set size of each process."""
        return memory(below(self.clone.root))

    def settings(self) -> Settings:
        """Settings of the clone."""
        given = {name.lower(): self.clone.env[name] for name in PORTS}
        with mock.patch.dict(os.environ, {"ELT_STATE": str(self.clone.root / ".state")}):  # its sockets
            return Settings(_env_file=self.clone.root / ".env", **given)  # type: ignore[call-arg, arg-type]

    def api(self) -> AirflowApi:
        """A client of its Airflow."""
        return AirflowApi(self.settings())


class Standalone:
    """`airflow standalone`, from the environment of the clone."""

    def __init__(self, ours: Ours, home: Path) -> None:
        self.home, self.port = home, free_ports(1)[0]
        self.settings = ours.settings().model_copy(update={"airflow_port": self.port, "admin_password": "bench"})
        url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "HOME": str(home),
            "PATH": f"{ours.clone.root}/.venv/bin:{SYSTEM_PATH}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, empty: bool) -> float:
        """Start it; healthy is what it says of itself, of heartbeats of this start."""
        if empty:
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.mkdir()
            (self.home / "passwords.json").write_text(json.dumps({ADMIN: "bench"}))
        began, since = time.monotonic(), time.time()
        with (self.home / "standalone.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["airflow", "standalone"], env=self.env, cwd=self.home, stdout=log, stderr=log, start_new_session=True
            )
        while not self._is_healthy(since):
            assert self.process.poll() is None, f"airflow standalone ended: {self.home}/standalone.log"
            assert time.monotonic() < began + START_SECONDS, "airflow standalone is not healthy"
            time.sleep(0.05)
        return time.monotonic() - began

    def _is_healthy(self, since: float) -> bool:
        url = f"http://127.0.0.1:{self.port}/api/v2/monitor/health"
        try:
            said = httpx.get(url, timeout=5, trust_env=False).json()
            beats = [said[name][f"latest_{name}_heartbeat"] for name in ("scheduler", "triggerer", "dag_processor")]
        except (httpx.HTTPError, ValueError, KeyError):
            return False
        return said["metadatabase"]["status"] == "healthy" and all(
            beat and datetime.fromisoformat(beat).timestamp() >= since for beat in beats
        )

    def stop(self) -> float:
        """Interrupt it, as a developer does."""
        assert self.process
        began, family = time.monotonic(), self._family()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=30)
        seconds = time.monotonic() - began
        for left in alive:
            left.kill()
        return seconds

    def _family(self) -> list[psutil.Process]:
        assert self.process
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def memory(self) -> dict[str, int]:
        """Proportional set size of each process."""
        return memory(self._family())

    def api(self) -> AirflowApi:
        """A client of its Airflow."""
        return AirflowApi(self.settings)


def memory(processes: Iterable[psutil.Process]) -> dict[str, int]:
    """Proportional set size in bytes of each process that still lives."""
    found = {}
    for process in processes:
        with contextlib.suppress(OSError, psutil.Error):
            rows = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            size = next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
            found[f"{process.pid} {' '.join(process.cmdline())[:200]}"] = size * 1024
    return found


@contextlib.contextmanager
def both(folder: Path) -> Iterator[tuple[Ours, Standalone]]:
    """Both platforms, bootstrapped and stopped; whatever still runs at the end is stopped."""
    # A shell starts what runs behind it with SIGINT ignored, which Airflow would inherit and never end by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    clone = clone_working_tree(folder / "workspace", folder / "home", "embedded", SYSTEM_PATH)
    for dag in DAGS.glob("*.py"):
        shutil.copy(dag, clone.root / "airflow" / "dags")
    ours = Ours(clone)
    done = clone.run("scripts/bootstrap.sh", "--quiet")
    assert done.returncode == 0, done.stdout
    peer = Standalone(ours, folder / "standalone")
    try:
        yield ours, peer
    finally:
        clone.run(".venv/bin/elt", "down")
        if peer.process and peer.process.poll() is None:
            peer.stop()


def seconds_of_run(api: AirflowApi, dag: str, seconds: float = 600) -> dict[str, float]:
    """Run a DAG to its end; when each task ended, in seconds from the request on.

    Raises:
        AssertionError: a task did not succeed, or not in time.
    """
    api.wait_for_dag(dag, 90)
    begun = time.time()
    run = api.trigger(dag)
    while api.run_state(dag, run) not in ("success", "failed"):
        assert time.time() < begun + seconds, f"{dag} {run} did not end"
        time.sleep(0.25)
    tasks = api.tasks(dag, run)
    assert {task.state for task in tasks} == {"success"}, f"{dag} {run} failed"
    return {task.name: (task.ended or 0) - begun for task in tasks}
