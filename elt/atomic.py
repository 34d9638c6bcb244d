"""Write files atomically: under another name first, so that nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"\.(\d+)\..*\.unfinished", re.DOTALL)


@contextlib.contextmanager
def atomic_write(target: Path, mode: int = 0o666) -> t.Iterator[Path]:
    """Yield an empty file that replaces the target at the end of the block, and is removed after an error.

    Args:
        target: the name.
        mode: permissions, less the umask.

    Raises:
        OSError: it cannot be made or renamed.
    """
    _remove_abandoned(target.parent)
    path = target.with_name(f".{os.getpid()}.{target.name[-200:]}.unfinished")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Return whether a file is one that is being written, by its name."""
    return _NAME.fullmatch(path.name) is not None


def _remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed."""
    for path in folder.glob(".*.unfinished"):
        writer = _NAME.fullmatch(path.name)
        if writer and not _runs(int(writer[1])):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
