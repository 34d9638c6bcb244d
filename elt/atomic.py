"""Files that are written under another name first, so that nobody ever reads half of one."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from elt.supervisor import guard

if t.TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"\.(\d+)\..*\.draft", re.DOTALL)


@contextlib.contextmanager
def draft(target: Path, mode: int = 0o666) -> t.Iterator[Path]:
    """An empty file to write to, which takes the target's name at the end, and is gone if that is not reached.

    Args:
        target: the name.
        mode: permissions, less the umask.

    Raises:
        OSError: it cannot be made or renamed.
    """
    _sweep(target.parent)
    path = target.with_name(f".{os.getpid()}.{target.name[-200:]}.draft")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    try:
        yield path
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Whether it is one, by its name."""
    return _NAME.fullmatch(path.name) is not None


def _sweep(folder: Path) -> None:
    """Remove the drafts of processes that were killed."""
    for path in folder.glob(".*.draft"):
        writer = _NAME.fullmatch(path.name)
        if writer and not guard.start_of(int(writer[1])):
            path.unlink(missing_ok=True)
