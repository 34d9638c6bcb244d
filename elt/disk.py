"""Check that the disk of the state folder has the space that the workspace needs."""

from __future__ import annotations

import shutil
import typing as t

from elt import layout
from elt.errors import SetupError

if t.TYPE_CHECKING:
    from pathlib import Path

GIGABYTE = 1_000_000_000
REQUIRED_BYTES = GIGABYTE
"""Bytes that must be free: logs, a few warehouses and PostgreSQL's folder need less."""


def free() -> int:
    """Return the bytes that are free on the disk of the state folder."""
    return shutil.disk_usage(existing(layout.STATE)).free


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(one for one in (path, *path.parents) if one.exists())


def refuse_full() -> None:
    """Refuse to go on when the disk has too little space for a start or a run.

    Raises:
        SetupError: it has.
    """
    left = free()
    if left < REQUIRED_BYTES:
        raise SetupError(
            f"{left / GIGABYTE:.1f} GB are free below {layout.STATE}, {REQUIRED_BYTES / GIGABYTE:.0f} GB should be: "
            "free some; docs/cookbooks/reset.md says what may go"
        )
