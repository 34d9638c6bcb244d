"""Airflow's Celery executor, which lets the scheduler go on at the moment when there is something to do.

The scheduler calls `heartbeat` once in each of its turns. When a turn has found nothing to do, this one waits there
for the bell of elt/wake.py, where Airflow itself sleeps for a time that is too long for a chain of short tasks and
too short for an idle machine. airflow/airflow.cfg names it, and sets Airflow's own sleep to nothing.
"""

from __future__ import annotations

import functools
import time

from airflow.providers.celery.executors.celery_executor import CeleryExecutor

from elt import migrate, settings
from elt.wake import Bell

IDLE_SECONDS = 0.5
"""The longest wait: schedules, retries and time-outs ring no bell."""
RESULT_SECONDS = 0.1
"""Time between two looks for the end of what runs on Celery: its slot is free then, and no bell rings either."""


class PromptCeleryExecutor(CeleryExecutor):
    """A CeleryExecutor that waits for events of the database."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        load = functools.cache(settings.load)  # once: a change to .env takes effect with the next start
        self._bell = Bell(lambda: migrate.connect(load(), "airflow"))

    def heartbeat(self) -> None:
        """Send what is queued and learn what has ended; then wait, if there is nothing more to do."""
        super().heartbeat()
        until = time.monotonic() + IDLE_SECONDS
        while not self.event_buffer and (left := until - time.monotonic()) > 0:
            if self._bell.wait(min(left, RESULT_SECONDS) if self.workloads else left):
                return
            self.sync()
