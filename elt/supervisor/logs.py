"""Make text of logs safe for a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path

_COMMANDS = re.compile(r"(?!\x1b\[[0-9;]*m|\r\n)[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters and sequences, without colours and line ends."""


def plain(text: str) -> str:
    """Escape control characters, which names out of a file may hold; colours stay."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a file, at most 64 KiB of it; nothing when there is no such file."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
        lines = file.read().decode(errors="replace").splitlines(keepends=True)
        return [plain(line) for line in lines[-count:]] if count else []
    return []
