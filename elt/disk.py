"""The space that the workspace needs where its state lies: the one place that says how much."""

from __future__ import annotations

import shutil
import typing as t

from elt import layout
from elt.errors import SetupError

if t.TYPE_CHECKING:
    from pathlib import Path

GIGABYTE = 1_000_000_000
NEEDED = GIGABYTE
"""Bytes that must be free: logs, a few warehouses and PostgreSQL's folder need less."""


def free() -> int:
    """Bytes that are free where state is kept, or would be."""
    return shutil.disk_usage(existing(layout.STATE)).free


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def refuse_full() -> None:
    """See that there is room for a start or a run.

    Raises:
        SetupError: there is not.
    """
    left = free()
    if left < NEEDED:
        raise SetupError(
            f"{left / GIGABYTE:.1f} GB are free below {layout.STATE}, {NEEDED / GIGABYTE:.0f} GB should be: "
            "free some; docs/cookbooks/reset.md says what may go"
        )
