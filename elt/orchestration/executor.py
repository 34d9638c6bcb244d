"""Wake Airflow's scheduler as soon as there is something to do, by a Celery executor that listens to PostgreSQL.

The scheduler calls `heartbeat` once in each of its turns. When a turn has found nothing to do, this one waits there
for a notification (elt/orchestration/notify.py), where Airflow itself sleeps for a time that is too long for a
chain of short tasks and too short for an idle machine. airflow/airflow.cfg names it, and sets Airflow's own sleep to
nothing.

Being in each turn, it also knows when there was none: the machine slept, or the database answered nobody. What the
scheduler then infers from time stamps, that a task is dead or a message lost, is postponed until the time-out of that
check has passed once more.
"""

from __future__ import annotations

import functools
import time
import typing as t

from airflow.providers.celery.executors.celery_executor import CeleryExecutor
from airflow.providers.common.compat.sdk import conf

from elt.config import settings
from elt.orchestration.notify import Listener
from elt.services import databases

if t.TYPE_CHECKING:
    from airflow.api_fastapi.auth.tokens import JWTGenerator

P = t.ParamSpec("P")
T = t.TypeVar("T")

IDLE_SECONDS = 0.5
"""Longest wait in seconds: schedules, retries and time-outs send no notification."""
RESULT_SECONDS = 0.1
"""Seconds between two looks for results of Celery: its slot is free then, which sends no notification either."""
TURN_SECONDS = 10.0
"""Seconds beyond which a turn of the scheduler counts as delayed, and so may be what it waits for."""
CHECKS = {
    "_find_and_purge_task_instances_without_heartbeats": "task_instance_heartbeat_timeout",
    "_handle_tasks_stuck_in_queued": "task_queued_timeout",
    "adopt_or_reset_orphaned_tasks": "scheduler_health_check_threshold",
    "check_trigger_timeouts": "trigger_timeout_check_interval",
}
"""Checks of Airflow's SchedulerJobRunner -> the setting of section `scheduler` with the seconds each is postponed."""


class Turns:
    """Record when the scheduler was delayed, by the clock of the time stamps."""

    def __init__(self) -> None:
        self._seen = time.time()
        self._delayed = float("-inf")

    def look(self) -> float:
        """Return the seconds since the scheduler was last delayed."""
        now = time.time()
        if now - self._seen > TURN_SECONDS:
            self._delayed = now
        self._seen = now
        return now - self._delayed

    def postpone(self, check: t.Callable[P, T], seconds: float) -> t.Callable[P, T | None]:
        """Wrap a check so that it does nothing until its time-out has passed since the scheduler was delayed."""

        @functools.wraps(check)
        def checks_in_time(*args: P.args, **named: P.kwargs) -> T | None:
            return check(*args, **named) if self.look() > seconds else None

        return checks_in_time


class LongValid:
    """Sign the token of a message for as long as a task's own, since the broker may hold the message as long.

    Airflow signs it for `task_queued_timeout`, and a task whose message is read later fails.
    """

    def __init__(self, generator: JWTGenerator) -> None:
        self._generator = generator

    def generate(self, extras: dict[str, t.Any] | None = None, **_: object) -> str:
        """Return a signed token, valid for `jwt_expiration_time` of section `execution_api`."""
        return self._generator.generate(extras)


class PromptCeleryExecutor(CeleryExecutor):
    """Execute tasks by Celery, and wait for notifications of the database in between."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        load = functools.cache(settings.load)  # once: a change to .env takes effect with the next start
        self._turns = Turns()
        self._listener = Listener(lambda: databases.connect(load(), "airflow"))

    @functools.cached_property
    def jwt_generator(self) -> LongValid:  # type: ignore[override]
        """Return what signs the token in a message."""
        return LongValid(super().jwt_generator)

    def start(self) -> None:
        """Postpone the scheduler's checks after a delay; only the scheduler starts its executors."""
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner  # noqa: PLC0415 - other processes do without

        super().start()
        self._turns = Turns()  # the start took its time
        for name, timeout in CHECKS.items():
            check = self._turns.postpone(getattr(SchedulerJobRunner, name), conf.getfloat("scheduler", timeout))
            setattr(SchedulerJobRunner, name, check)

    def heartbeat(self) -> None:
        """Send queued tasks and fetch results; then wait for a notification if there is nothing more to do."""
        self._turns.look()
        super().heartbeat()
        until = time.monotonic() + IDLE_SECONDS
        while not self.event_buffer and (left := until - time.monotonic()) > 0:
            if self._listener.wait(min(left, RESULT_SECONDS) if self.workloads else left):
                return
            self.sync()
