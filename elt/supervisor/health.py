"""Cache the last success of a readiness probe, as a file beside the record of its process.

Imports next to nothing: every probe pays for it.
"""

from __future__ import annotations

import contextlib
import os
import time

TRUST_SECONDS = 5
"""Seconds for which a success holds, for a process that was not restarted since."""


def success_path(record: str) -> str:
    """Return the file of the last success; `record` is that of the process (guard.register_path)."""
    return record.removesuffix(".json") + ".healthy"


def is_fresh(record: str) -> bool:
    """Return whether the last success is recent, and of the process that the record describes."""
    succeeded = succeeded_at(record)
    return succeeded is not None and 0 <= time.time() - succeeded < TRUST_SECONDS


def is_stale(record: str) -> bool:
    """Return whether the process was healthy before, and no probe succeeded of late."""
    succeeded = succeeded_at(record)
    return succeeded is not None and succeeded < time.time() - TRUST_SECONDS


def succeeded_at(record: str) -> float | None:
    """Return when the last successful probe of this process began, in seconds since the epoch; None without one."""
    try:
        succeeded, started = os.stat(success_path(record)).st_mtime, os.stat(record).st_mtime  # noqa: PTH116
    except OSError:
        return None
    return succeeded if succeeded > started else None


def keep(record: str, began: float) -> None:
    """Record a success.

    Args:
        record: file of the process's record.
        began: when the probe began, in seconds since the epoch: the process may have been restarted since.
    """
    with contextlib.suppress(OSError):
        with open(success_path(record), "w"):  # noqa: PTH123 - pathlib costs more than all the rest
            pass
        os.utime(success_path(record), (began, began))
