"""kill -9 of each process: it comes back, the pipeline still succeeds, nothing is left over."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
import yaml
from workspace import run

from elt import e2e, layout

PROCESSES = [
    name
    for name, process in yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"].items()
    if process["availability"]["restart"] == "always"
]


@pytest.mark.parametrize("process", PROCESSES)
def test_a_killed_process_comes_back_and_the_run_succeeds(platform, process):
    platform.wait_healthy()
    api = platform.api
    api.wait_for_dag(e2e.DAG, 60)
    run_id = api.trigger(e2e.DAG)
    time.sleep(2)  # in the middle of the run
    record = platform.record(process)
    assert record
    old = psutil.Process(record["main"]).children(recursive=True)
    os.kill(record["main"], signal.SIGKILL)
    platform.wait("a new process", lambda: (platform.record(process) or record)["main"] != record["main"], 30)
    platform.wait_healthy()
    platform.wait("the run's end", lambda: api.run_state(e2e.DAG, run_id) in ("success", "failed"), 240)
    assert api.run_state(e2e.DAG, run_id) == "success"
    _, alive = psutil.wait_procs(old, timeout=5)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_supervisor_is_cleared_up_by_the_next_start(platform):
    before = {name: platform.record(name)["main"] for name in PROCESSES}
    supervisor = next(
        p
        for p in psutil.process_iter(["cmdline"])
        if p.info["cmdline"] and p.info["cmdline"][1:3] == ["-m", "elt.supervisor"] and p.pid in ancestors(before)
    )
    supervisor.kill()
    done = run("elt", "up", env=platform.env, seconds=240)
    assert done.returncode == 0, done.stdout + done.stderr
    after = {name: platform.record(name)["main"] for name in PROCESSES}
    assert not set(before.values()) & set(after.values())
    assert not [pid for pid in before.values() if psutil.pid_exists(pid)]
    e2e.run_pipeline(platform.api, 120)


def ancestors(mains: dict[str, int]) -> set[int]:
    """Every process above those of the stack."""
    return {above.pid for main in mains.values() for above in psutil.Process(main).parents()}
