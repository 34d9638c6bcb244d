"""Faults in the middle of the pipeline: the platform is healthy again, the run ends as it must, no figure is wrong.

`scripts/test.sh faults` runs the whole matrix, three quarters of an hour; with all other tests a tenth of it
runs, another one for each commit. ELT_FAULTS_SEED repeats one: it chooses the tenth and the moments.

After each fault: the marts equal totals taken from the CSV files, readers of what was published never failed and
never saw anything else, and no process, lock or temporary file is left.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import typing as t
import zlib
from dataclasses import dataclass, field

import duckdb
import kombu
import psutil
import pytest
import redis
import yaml
from workspace import BIN, REMARKS, ROOT, run

from elt import layout
from elt.config import env_file
from elt.errors import StackError
from elt.orchestration import runs
from elt.pipeline import quality
from elt.warehouse.duckdb_file import DuckDBFile

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from elt.orchestration.api import Task

    from .conftest import Platform

PROCESSES = [
    name
    for name, process in yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"].items()
    if process["availability"]["restart"] == "always"
]
FROZEN_SECONDS = 60
DATABASES = {"postgres", "redis"}
"""Processes that are never ended because they answer late; frozen for longer, so that others would be."""
ALL_FROZEN_SECONDS = 130
"""How long everything is frozen: longer than every time-out in force but those of a week, the longest of which is the
120 s for which a probe may fail."""
RECOVERY_SECONDS = 40
"""What a dead worker may cost: from its death until its task runs again, with the default TASK_RETRY_SECONDS."""
HOURS = (1, 10, 30)
"""Ages of a task whose message the broker may hand out again, besides that at which it does."""
QUEUED_SECONDS = 30
"""How long the token in a message would be valid if Airflow had its way (task_queued_timeout)."""
PHASES = ("wait_for_extract", "extract_load", "dbt_run")
"""Tasks during which everything is frozen."""
DISK = "16m"
"""Size of the disk that gets full; the example's warehouse takes a tenth of it."""
CUSTOMERS = "select count(*), sum(monetary_value)::varchar from marts.customer_summary"
WANTED = (7, "6628.49")
"""What that query finds in the marts of the example."""
HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1], read_only=True)
print("held", flush=True)
sys.stdin.read()
"""


def seed() -> int:
    """What chooses faults and moments: ELT_FAULTS_SEED, else the commit."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return int(os.environ.get("ELT_FAULTS_SEED") or zlib.crc32(head.encode()) % 10_000)


class Reader(threading.Thread):
    """Reads what is published, again and again, as a dashboard does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.link, self.done = folder / "latest.duckdb", threading.Event()
        self.seen: set[t.Any] = set()
        self.looks = 0

    def run(self) -> None:
        """Look until told to stop; an error is one of the things seen."""
        while not self.done.wait(0.1):
            self.looks += 1
            try:
                with duckdb.connect(str(self.link.resolve()), read_only=True) as connection:
                    self.seen.add(connection.execute(CUSTOMERS).fetchone())
            except Exception as error:  # noqa: BLE001 - whatever it is, it shall be shown
                self.seen.add(repr(error))

    def __enter__(self) -> t.Self:
        """Begin to look."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.done.set()
        self.join()


@dataclass
class Trial:
    """A run of the pipeline to which something happens."""

    platform: Platform
    rng: random.Random
    run: str = ""
    struck: float = 0
    """When it was hit, by the monotonic clock."""
    old: list[psutil.Process] = field(default_factory=list)
    """Processes that must be gone afterwards."""
    spared: bool = False
    """Whether no task may have been tried twice."""

    def begin(self, *, later: float | None = None) -> None:
        """Start the run, and wait for a moment in it."""
        self.platform.api.wait_for_dag(runs.DAG, 60)
        self.run = self.platform.api.trigger(runs.DAG)
        time.sleep(self.rng.uniform(0, 5) if later is None else later)

    def task(self, name: str) -> Task | None:
        """A task of the run; None as long as Airflow does not answer, or there is none."""
        with contextlib.suppress(StackError):
            return next((one for one in self.platform.api.tasks(runs.DAG, self.run) if one.name == name), None)
        return None

    def wait_for_start(self, task: str, tries: int = 1, seconds: float = 60) -> None:
        """Wait until a task of the run has started."""

        def has_started() -> bool:
            now = self.task(task)
            return bool(now and now.tries >= tries and now.started)

        self.platform.wait(f"the start of {task}", has_started, seconds)

    def main(self, process: str) -> psutil.Process:
        """A process of the stack."""
        record = self.platform.record(process)
        assert record
        return psutil.Process(record["main"])

    def family(self, process: str) -> list[psutil.Process]:
        """A process of the stack, and what descends from it."""
        main = self.main(process)
        return [main, *main.children(recursive=True)]

    def supervisor(self) -> psutil.Process:
        """The embedded supervisor."""
        return next(one for one in self.main("postgres").parents() if "elt.supervisor" in one.cmdline())

    def kill(self, *processes: psutil.Process) -> None:
        """Kill -9, at once."""
        self.struck = time.monotonic()
        self.old += processes
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # a probe that has ended meanwhile
                process.kill()

    def is_replaced(self, process: str, old: int) -> bool:
        """Whether the supervisor has started it again."""
        record = self.platform.record(process)
        return bool(record) and record["main"] != old

    def valkey(self) -> redis.Redis:
        """A client of the broker."""
        now = self.platform.settings
        return redis.Redis(unix_socket_path=str(now.valkey_socket), password=now.valkey_password)

    def state(self, run: str) -> str:
        """State of a run; nothing as long as Airflow does not answer."""
        with contextlib.suppress(StackError):
            return self.platform.api.run_state(runs.DAG, run)
        return ""

    def wait_for_end(self, run: str = "") -> str:
        """Wait until a run ended, and say how."""
        self.platform.wait("the end of the run", lambda: self.state(run or self.run) in ("success", "failed"), 240)
        return self.state(run or self.run)


def killed(process: str) -> Callable[[Trial], None]:
    """Kill -9 of one process."""

    def strike(trial: Trial) -> None:
        trial.begin()
        family = trial.family(process)
        trial.kill(family[0])
        trial.old += family
        trial.platform.wait("a new process", lambda: trial.is_replaced(process, family[0].pid), 30)

    return strike


def frozen(process: str) -> Callable[[Trial], None]:
    """SIGSTOP of a process and all below it, for a minute."""

    def strike(trial: Trial) -> None:
        trial.begin()
        family = trial.family(process)
        for one in family:
            one.suspend()
        time.sleep(FROZEN_SECONDS)
        if process in DATABASES:
            time.sleep(15)
            status = run("elt", "status", env=trial.platform.env)
            assert re.search(rf"^{process} +unhealthy ", status.stdout, re.MULTILINE), status.stdout
            assert f"elt restart {process}" in status.stdout
        trial.struck = time.monotonic()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()
        assert process not in DATABASES or not trial.is_replaced(process, family[0].pid)

    return strike


def everything_frozen(task: str) -> Callable[[Trial], None]:
    """SIGSTOP of all there is while a task runs, as when a laptop is closed; a person follows the run."""

    def strike(trial: Trial) -> None:
        before = {name: trial.main(name).pid for name in PROCESSES}
        last = trial.platform.api.last_run(runs.DAG)[0]
        command = [BIN / "elt", "pipeline"]
        env = trial.platform.env
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as client:
            trial.platform.wait("the run", lambda: trial.platform.api.last_run(runs.DAG)[0] != last, 60)
            trial.run = trial.platform.api.last_run(runs.DAG)[0]
            trial.wait_for_start(task)
            keeper = trial.supervisor().parent()
            assert keeper
            everything = [keeper, *keeper.children(recursive=True)]
            for one in everything:
                with contextlib.suppress(psutil.NoSuchProcess):  # a probe that has ended meanwhile
                    one.suspend()
            time.sleep(ALL_FROZEN_SECONDS)
            trial.struck = time.monotonic()
            for one in everything:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.resume()
            said = client.communicate(timeout=240)[0]
        assert client.returncode == 0, said
        assert "waiting for Airflow's API, which does not answer (timed out)" in said
        assert {name: trial.main(name).pid for name in PROCESSES} == before
        trial.spared = True

    return strike


def supervisor_killed(trial: Trial) -> None:
    """Kill -9 of the supervisor; its guards stop everything, and the next `elt up` starts it."""
    trial.begin()
    trial.old = [one for name in PROCESSES for one in trial.family(name)]
    trial.kill(trial.supervisor())
    trial.platform.elt("up")


def everything_killed(trial: Trial) -> None:
    """Kill -9 of all there is, as when the machine loses power."""
    trial.begin()
    top = trial.supervisor()
    keeper = top.parent()
    assert keeper
    trial.kill(keeper, top, *top.children(recursive=True))
    trial.platform.elt("up")


def worker_killed_with_a_reserved_task(trial: Trial) -> None:
    """Kill -9 of the worker when it has taken a task from the broker and not begun with it."""
    family = trial.family("celery-worker")
    for child in family[1:]:
        child.suspend()  # the pool
    trial.begin(later=0)
    valkey = trial.valkey()
    trial.platform.wait("a reserved task", lambda: bool(valkey.zcard("unacked_index")), 30)
    trial.kill(family[0])
    trial.old += family
    trial.platform.wait("a new process", lambda: trial.is_replaced("celery-worker", family[0].pid), 30)


def worker_killed_with_a_running_task(trial: Trial) -> None:
    """Kill -9 of the worker in the middle of a task, which runs again within RECOVERY_SECONDS."""
    family = trial.family("celery-worker")
    trial.begin(later=0)
    trial.wait_for_start("extract_load")
    trial.kill(family[0])
    trial.old += family
    faster = int(defaults()["TASK_RETRY_SECONDS"]) - trial.platform.settings.task_retry_seconds
    trial.wait_for_start("extract_load", tries=2, seconds=RECOVERY_SECONDS - faster)


def message_handed_out_again(trial: Trial) -> None:
    """The broker hands out the message of a task that runs, as it does after hours; its worker drops it."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(layout.ROOT / "airflow" / "airflow.cfg")
    timeout = config.getint("celery_broker_transport_options", "visibility_timeout")
    now, log = trial.platform.settings, trial.platform.state / "logs" / "celery-worker.log"
    dropped = log.read_text().count("redelivered")
    with held_open(trial.platform.state / "warehouse" / "warehouse_dev.duckdb"):
        trial.begin(later=0)
        trial.wait_for_start("extract_load")
        time.sleep(QUEUED_SECONDS + 1)
        trial.struck = time.monotonic()
        valkey = trial.valkey()
        for seconds in (*(3600 * hours for hours in HOURS), timeout + 1):
            for tag in valkey.zrange("unacked_index", 0, -1):
                valkey.zadd("unacked_index", {tag: time.time() - seconds})
            with kombu.Connection(now.valkey_url(), transport_options={"visibility_timeout": timeout}) as connection:
                connection.default_channel.qos.restore_visible(num=None, interval=1)  # each worker does every 100 s
            time.sleep(1)
        trial.platform.wait("the message", lambda: log.read_text().count("redelivered") > dropped, 20)
    trial.spared = True


def defaults() -> dict[str, str]:
    """The settings of .env.example."""
    return {name: value for name, value, _ in env_file.example_settings()}


def postgres_crashed(trial: Trial) -> None:
    """An immediate shutdown: the server comes back in recovery."""
    trial.begin()
    main = trial.main("postgres")
    trial.struck = time.monotonic()
    main.send_signal(signal.SIGQUIT)
    trial.platform.wait("a new process", lambda: trial.is_replaced("postgres", main.pid), 30)


def broker_emptied(trial: Trial) -> None:
    """Valkey loses everything it holds."""
    trial.begin()
    trial.struck = time.monotonic()
    trial.valkey().flushall()


def two_at_once(trial: Trial) -> None:
    """A second run is asked for while the first one runs: it waits its turn."""
    trial.begin()
    trial.struck = time.monotonic()
    second = trial.platform.api.trigger(runs.DAG)
    assert trial.wait_for_end() == "success"
    assert trial.wait_for_end(second) == "success"


def triggered_twice(trial: Trial) -> None:
    """The same run is asked for a second time: refused, and the first one goes on."""
    trial.begin()
    trial.struck = time.monotonic()
    words = ("elt", "exec", "airflow", "dags", "trigger", "--run-id", trial.run, runs.DAG)
    done = run(*words, env=trial.platform.env)
    assert done.returncode != 0
    assert "already exists" in done.stdout + done.stderr


@contextlib.contextmanager
def held_open(path: Path) -> Iterator[None]:
    """Another program reads the warehouse itself, which it should not."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield
        assert holder.stdin
        holder.stdin.close()


def warehouse_held_for_a_while(trial: Trial) -> None:
    """A reader has the warehouse open, and lets go: the load waits."""
    with held_open(trial.platform.state / "warehouse" / "warehouse_dev.duckdb"):
        trial.begin(later=8)
        trial.struck = time.monotonic()


FAULTS: dict[str, Callable[[Trial], None]] = {
    **{f"kill {name}, {number}": killed(name) for name in PROCESSES for number in (1, 2, 3)},
    **{f"freeze {name}": frozen(name) for name in PROCESSES},
    "kill the supervisor": supervisor_killed,
    "kill everything": everything_killed,
    "kill celery-worker with a reserved task": worker_killed_with_a_reserved_task,
    "kill celery-worker with a running task": worker_killed_with_a_running_task,
    "hand a message out again": message_handed_out_again,
    **{f"freeze everything during {task}": everything_frozen(task) for task in PHASES},
    "crash postgres": postgres_crashed,
    "empty the broker": broker_emptied,
    "two runs at once": two_at_once,
    "one run twice": triggered_twice,
    "hold the warehouse open": warehouse_held_for_a_while,
}
FULL_DISKS = {"extract_load": "warehouse", "dbt_run": "warehouse", "publish": "published"}
"""The task during which a disk gets full, and the folder that lies on it."""


def chosen(names: list[str], part: int = 10) -> list[str]:
    """All with ELT_FAULTS=all, else the tenth that the seed says: one or two of the twelve that take a minute."""
    return names if os.environ.get("ELT_FAULTS") == "all" else names[seed() % part :: part]


@pytest.fixture(scope="module")
def loaded(platform: Platform) -> Platform:
    """The platform after a good run, on which everything exists that a run leaves."""
    platform.wait_healthy()
    runs.run_pipeline(platform.api, 120)
    return platform


def things(state: Path) -> set[str]:
    """Names of the files that runs leave, servers and logs aside; what differs from run to run is masked."""
    own = ("logs", "postgres", "valkey", "meltano", "xdg", "dbt", "alerted")
    found = (path.relative_to(state) for path in state.rglob("*") if not path.is_dir())
    return {re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", str(path)) for path in found if path.parts[0] not in own}


def check(trial: Trial, reader: Reader, before: set[str]) -> None:
    """What must hold after every fault."""
    state = trial.platform.state
    assert all(
        figure.agrees
        for figure in quality.check(state / "extract", DuckDBFile(layout.warehouse("dev", state / "warehouse")))
    )
    assert reader.looks > 10
    assert reader.seen == {WANTED}
    _, alive = psutil.wait_procs(trial.old, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert things(state) - before == set()


@pytest.mark.parametrize("fault", chosen([*FAULTS]))
def test_the_platform_survives(loaded, fault):
    loaded.wait_healthy()
    before = things(loaded.state)
    trial = Trial(loaded, random.Random(f"{seed()} {fault}"))
    with Reader(loaded.state / "published" / "dev") as reader:
        FAULTS[fault](trial)
        loaded.wait_healthy(150)
        healthy = time.monotonic()
        assert trial.wait_for_end() == "success"
        ended = time.monotonic()
    if trial.spared:
        assert {one.name: one.tries for one in loaded.api.tasks(runs.DAG, trial.run) if one.tries != 1} == {}
    REMARKS.append(
        f"fault {fault}: healthy after {healthy - trial.struck:.1f} s, run over after {ended - trial.struck:.1f} s"
    )
    check(trial, reader, before)


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system in memory in the place of a folder."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no mounts: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return path


@pytest.mark.parametrize("task", chosen([*FULL_DISKS], 3))
def test_a_full_disk_fails_the_run_with_the_reason(loaded, task):
    """What was published stays; once there is room, the same run goes on to its end."""
    loaded.wait_healthy()
    api, folder = loaded.api, loaded.state / FULL_DISKS[task]
    with mounted(folder, "-o", f"size={DISK}"):
        runs.run_pipeline(api, 120)
        before = things(loaded.state)
        trial = Trial(loaded, random.Random(0))
        with Reader(loaded.state / "published" / "dev") as reader:
            trial.begin(later=0)
            if task != "publish":
                loaded.wait(
                    task, lambda: task in {one.name for one in api.tasks(runs.DAG, trial.run) if one.started}, 60
                )
            filler = fill(folder)
            assert trial.wait_for_end() == "failed"
            failed = [one.name for one in api.tasks(runs.DAG, trial.run) if one.state == "failed"]
            why = runs._why_failed(api, trial.run)
            filler.unlink()
            loaded.elt("pipeline", "--resume")
        assert failed == [task]
        assert "No space left on device" in why
        check(trial, reader, before)
    runs.run_pipeline(api, 120)  # what readers find is again what PostgreSQL holds


def test_a_state_folder_that_cannot_be_written_is_refused(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    with mounted(folder, "-o", "ro"):
        done = run(BIN / "elt", "up", env=os.environ | {"ELT_STATE": str(folder)})
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert str(folder) in done.stderr
    assert "Traceback" not in done.stderr
