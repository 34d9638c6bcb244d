"""The lock that a supervisor holds as long as it lives: by it others know that a stack runs, never by a file's words.

Standard library only, since bootstrap asks before the environment exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path

NAME = "supervisor.lock"
"""File in the folder `run` of the state."""


def is_held(run: Path) -> bool:
    """Whether a supervisor runs (or is about to)."""
    with contextlib.suppress(FileNotFoundError), (run / NAME).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not mislead each other
        except BlockingIOError:
            return True
    return False


def take(run: Path) -> int | None:
    """The lock of this state folder, held until it is closed; None when a supervisor holds it."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(run / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
