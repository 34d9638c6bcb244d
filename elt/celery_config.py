"""Celery's configuration: what Airflow makes of airflow.cfg, and a worker that ends at once when it is idle.

airflow/airflow.cfg names CELERY_CONFIG. Celery's own warm shutdown is made of fixed waits, three seconds in all,
whether there is something to wait for or not. A worker that is busy ends its tasks first, as ever.
"""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG as CELERY_CONFIG
from celery.signals import worker_shutting_down  # type: ignore[import-untyped]
from celery.worker import state  # type: ignore[import-untyped]

__all__ = ["CELERY_CONFIG"]


def leave_if_idle(**_: object) -> None:
    """End a worker that holds no task, and to which the broker has sent none; its pool ends with its guard."""
    if not state.reserved_requests and not state.active_requests and not _is_waiting():
        os._exit(0)


worker_shutting_down.connect(leave_if_idle)


def _is_waiting() -> bool:
    """Whether a message may lie in a socket: the broker has forgotten it, so it must be taken."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return True
    poll = select.poll()
    for entry in folder.iterdir():
        number = int(entry.name)
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                poll.register(number, select.POLLIN)
        except OSError:  # the one with which the folder was read
            continue
    return bool(poll.poll(0))
