"""Reap orphaned processes of a killed supervisor: exactly those that its guards registered, and their process trees.

To be called only while no supervisor of this state folder runs.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

import psutil

from elt.supervisor import guard

if t.TYPE_CHECKING:
    from pathlib import Path

GUARDS_TIMEOUT_SECONDS = 30.0
"""Seconds that guards of a killed supervisor get to end their processes in order."""


def records(state: Path) -> dict[str, guard.Record]:
    """Read the registered processes by name, whether or not they still run."""
    found = {}
    for path in sorted((state / "run" / "processes").glob("*.json")):
        if record := guard.read_record(str(path)):
            found[path.stem] = record
    return found


def reap(state: Path, timeout: float = GUARDS_TIMEOUT_SECONDS) -> dict[str, int]:
    """Wait for guards that still run, then kill orphaned processes and clear the register.

    Args:
        state: the state folder.
        timeout: seconds for the guards.

    Returns:
        How many processes had to be killed, by the name of the process they belonged to.
    """
    registered = records(state)
    waited = guard.Stopwatch()
    while waited.seconds() < timeout and any(record.is_live() for record in registered.values()):
        time.sleep(0.05)
    killed = {name: count for name, record in registered.items() if (count := _end(name, record, state))}
    for path in (state / "run" / "processes").glob("*"):
        path.unlink(missing_ok=True)
    return killed


def _end(name: str, record: guard.Record, state: Path) -> int:
    """Kill the processes of a record until none is left, and return how many were killed."""
    waited = guard.Stopwatch()
    killed: set[int] = set()
    while (found := _find(name, record, state)) and waited.seconds() < guard.KILL_TIMEOUT_SECONDS:
        guard.end(found)
        killed |= found
        time.sleep(0.01)
    return len(killed)


def _find(name: str, record: guard.Record, state: Path) -> set[int]:
    """Find the guard and its command if they run, their descendants, and processes that left their tree."""
    table = guard.processes()
    mark = {"ELT_STATE": str(state), "PC_PROC_NAME": name}
    roots = {
        pid
        for pid, start in ((record.guard, record.guard_start), (record.main, record.main_start))
        if pid in table and guard.start_of(pid) == start
    }
    is_group_ours = (
        record.guard in roots or record.guard not in table
    )  # else the id was reused by another process group
    for pid, row in table.items():
        if (env := _process_env(pid)) or row.group != record.guard:
            is_ours = bool(env) and mark.items() <= env.items()
        else:
            is_ours = is_group_ours  # it shows its state in `ps` and has overwritten its environment for that
        if is_ours:
            roots.add(pid)
    return (roots | guard.process_tree(roots, table)) - _ourselves(table)


def _process_env(pid: int) -> dict[str, str]:
    """Return the environment variables a process was started with; {} when overwritten or not readable."""
    with contextlib.suppress(psutil.Error, OSError):
        found = psutil.Process(pid).environ()
        return found if "PATH" in found else {}
    return {}


def _ourselves(table: dict[int, guard.Row]) -> set[int]:
    found, pid = set(), os.getpid()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].parent
    return found
