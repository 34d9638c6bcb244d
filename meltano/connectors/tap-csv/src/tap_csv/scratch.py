"""The temporary folder of this process, and those that processes which were killed have left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "tap-csv-"
_LOCK = "in-use"
"""A file within that is locked as long as the process lives, however it ends."""
_STALE_SECONDS = 86_400
"""A folder that is older and not in use was left by a process that was killed."""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that goes when the block ends, after removing those that are stale."""
    _remove_stale(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, Path(name, _LOCK).open("wb") as lock:
        _is_locked(lock)
        yield Path(name)


def _remove_stale(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            is_ours = path.is_dir() and not path.is_symlink() and found.st_uid == os.getuid()
            if is_ours and found.st_mtime < time.time() - _STALE_SECONDS and not _is_in_use(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_in_use(path: Path) -> bool:
    try:
        with Path(path, _LOCK).open("rb+") as lock:
            return not _is_locked(lock)
    except FileNotFoundError:
        return False  # killed before there was a lock, or of a version without one


def _is_locked(file: t.BinaryIO) -> bool:
    """Lock the file, and tell whether that could be done; the system unlocks it when it is closed."""
    if sys.platform == "win32":
        return False
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
