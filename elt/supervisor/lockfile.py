"""Lock a state folder against a second supervisor, and a supervisor against a backup or restore.

A supervisor holds one lock as long as it lives. A backup or a restore holds the other. Whoever has taken one checks
whether the other is held, so that of two that start at once at least one gives way.

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
"""Lock file in the folder `run` of the state: a supervisor runs, or is about to."""
FILES = "files.lock"
"""Lock file there: the files of the state are being copied or replaced."""


def is_held(run: Path, name: str = NAME) -> bool:
    """Return whether somebody holds a lock."""
    with contextlib.suppress(FileNotFoundError), (run / name).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not mislead each other
        except BlockingIOError:
            return True
    return False


def take(run: Path, name: str = NAME) -> int | None:
    """Take a lock of this state folder and return its descriptor; None when somebody else holds it."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(run / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
