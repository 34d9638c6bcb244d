"""The last yes of a probe, kept as a file beside the record of its process.

Imports next to nothing: every probe pays for it.
"""

from __future__ import annotations

import contextlib
import os
import time

TRUST_SECONDS = 5
"""How long a yes holds for the process of the same start."""


def answer_path(record: str) -> str:
    """File of the last yes; `record` is that of the process (guard.register_path)."""
    return record.removesuffix(".json") + ".healthy"


def is_fresh(record: str) -> bool:
    """Whether the last yes is young, and of the start that the record tells of."""
    said = said_at(record)
    return said is not None and 0 <= time.time() - said < TRUST_SECONDS


def is_stale(record: str) -> bool:
    """Whether there was a yes in this start, and none since."""
    said = said_at(record)
    return said is not None and said < time.time() - TRUST_SECONDS


def said_at(record: str) -> float | None:
    """When the last yes of this start was asked for, in seconds since the epoch; None without one."""
    try:
        said, started = os.stat(answer_path(record)).st_mtime, os.stat(record).st_mtime  # noqa: PTH116
    except OSError:
        return None
    return said if said > started else None


def keep(record: str, asked: float) -> None:
    """Keep a yes.

    Args:
        record: file of the process's record.
        asked: when it was asked for, in seconds since the epoch: the process may have been started anew since.
    """
    with contextlib.suppress(OSError):
        with open(answer_path(record), "w"):  # noqa: PTH123 - pathlib costs more than all the rest
            pass
        os.utime(answer_path(record), (asked, asked))
