"""Configure Celery: what Airflow makes of airflow.cfg, with two changes (airflow/airflow.cfg names this module).

An idle worker ends at once. Celery's own warm shutdown consists of fixed waits, three seconds in all, whether there
is something to wait for or not. A busy worker ends its tasks first, as ever.

A message that the broker delivers again is dropped, unless Airflow waits for it. The broker does so when a task runs
for longer than `visibility_timeout`, whether its worker is alive or not; Airflow finds a dead worker by the
heartbeats of its tasks, and sends each a message of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import select
import stat
import typing as t
from pathlib import Path

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.exceptions import Ignore  # type: ignore[import-untyped]
from celery.signals import worker_shutting_down  # type: ignore[import-untyped]
from celery.worker import state  # type: ignore[import-untyped]
from sqlalchemy import text

from elt import layout

# For the memory that its processes share a worker makes a folder in /tmp; it would stay, as the worker ends at once.
multiprocessing.current_process()._config["tempdir"] = str(layout.RUN)  # type: ignore[attr-defined]  # noqa: SLF001

WAITED_FOR = text(
    "select true from task_instance"
    " where id = cast(:task as uuid) and state = 'queued' and external_executor_id = :message"
)


def drop_if_outdated(celery_task: t.Any, message: str, args: t.Sequence[str], _: object) -> None:  # noqa: ANN401
    """Drop a message that was delivered again, before it is executed, unless Airflow waits for it.

    Raises:
        Ignore: its task runs, has ended, or is to be executed by another message; Celery acknowledges the message.
    """
    if not celery_task.request.delivery_info.get("redelivered"):
        return
    workload = json.loads(args[0])
    if workload["type"] != "ExecuteTask":  # a callback, which has no other way to be executed again
        return
    with contextlib.closing(celery_task.backend.ResultSession()) as session:  # of Airflow's database
        if session.scalar(WAITED_FOR, {"task": workload["ti"]["id"], "message": message}):
            return
    logging.getLogger(__name__).info(
        "[%s] redelivered by the broker, and Airflow does not wait for it: dropped", message
    )
    raise Ignore


CELERY_CONFIG = {
    **DEFAULT_CELERY_CONFIG,
    "task_annotations": {"execute_workload": {"before_start": drop_if_outdated}},
}


def leave_if_idle(**_: object) -> None:
    """End a worker that holds no task, and to which the broker has sent none; the guard ends its pool."""
    if not state.reserved_requests and not state.active_requests and not _is_waiting():
        os._exit(0)


worker_shutting_down.connect(leave_if_idle)


def _is_waiting() -> bool:
    """Return whether a socket may hold a message, which the broker has delivered already."""
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
