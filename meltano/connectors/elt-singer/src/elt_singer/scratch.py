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

_LOCK = "in-use"
"""A file within that is locked as long as the process lives, however it ends."""
STALE_SECONDS = 86_400
"""A folder that is older and not in use was left by a process that was killed."""


@contextlib.contextmanager
def folder(program: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that goes when the block ends, after removing those that are stale.

    Args:
        program: what its name begins with; folders of other programs are left alone.
        parent: where; none for the system's folder for temporary files.
    """
    prefix = f"{program}-"
    _remove_stale(parent or Path(tempfile.gettempdir()), prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name, Path(name, _LOCK).open("wb") as lock:
        _is_locked(lock)
        yield Path(name)


def _remove_stale(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            is_ours = path.is_dir() and not path.is_symlink() and found.st_uid == os.getuid()
            if is_ours and found.st_mtime < time.time() - STALE_SECONDS and not _is_in_use(path):
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
