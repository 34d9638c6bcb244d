"""Notify the scheduler by PostgreSQL's LISTEN and NOTIFY that there is something to decide.

Airflow's scheduler looks for work in turns, and sleeps in between. PostgreSQL knows when a task ends or a run is
triggered, and notifies whoever listens. elt/orchestration/database.py installs the triggers, and
elt/orchestration/executor.py listens.
"""

from __future__ import annotations

import contextlib
import select
import time
import typing as t

import psycopg2
import psycopg2.extensions

CHANNEL = "elt_wake"
# The function looks at columns, and not the trigger: PostgreSQL would then refuse to migrate those.
# The queue is one for all databases. Where a reader of the marts has filled it, a commit that notifies would fail.
_BODY = f"""
    begin
        if pg_notification_queue_usage() > 0.5 then
            null;
        elsif tg_table_name = 'dag_run' then
            if new.state = 'queued' then notify {CHANNEL}; end if;
        elsif old.state in ('running', 'deferred') and new.state is distinct from old.state then
            notify {CHANNEL};
        end if;
        return null;
    end """
INSTALL = f"""
    create or replace function {CHANNEL}() returns trigger language plpgsql as $${_BODY}$$;
    create or replace trigger {CHANNEL} after insert or update on dag_run
        for each row execute function {CHANNEL}();
    create or replace trigger {CHANNEL} after update on task_instance
        for each row execute function {CHANNEL}();
"""
"""Idempotent SQL that installs the NOTIFY triggers."""
IS_INSTALLED = f"""
    select count(*) = 2 from pg_trigger join pg_proc on pg_proc.oid = tgfoid
    where tgname = '{CHANNEL}' and tgenabled = 'O' and prosrc = $${_BODY}$$
"""  # noqa: S608 - constants
"""Query whether the triggers are installed and enabled, as this version of the workspace defines them."""


def _readable(connection: psycopg2.extensions.connection, seconds: float) -> bool:
    poll = select.poll()  # select() knows no descriptor beyond 1,023
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Listener:
    """Listen for the notifications on a connection of its own.

    Args:
        connect: opens a connection to Airflow's database.
    """

    def __init__(self, connect: t.Callable[[], psycopg2.extensions.connection]) -> None:
        self._connect = connect
        self._connection: psycopg2.extensions.connection | None = None

    def wait(self, seconds: float) -> bool:
        """Wait for a notification, at most so many seconds; without a database just wait.

        Returns:
            Whether one came since the last call, or may have come while nobody listened.
        """
        until = time.monotonic() + seconds
        try:
            if self._connection is None:
                self._connection = self._listen()
                return True
            while True:
                ready = _readable(self._connection, max(0, until - time.monotonic()))
                self._connection.poll()
                if self._connection.notifies:
                    self._connection.notifies.clear()
                    return True
                if not ready:
                    return False
        except psycopg2.Error:
            self.close()
            time.sleep(max(0, until - time.monotonic()))
            return False

    def close(self) -> None:
        """Stop listening; the next wait connects again."""
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None

    def _listen(self) -> psycopg2.extensions.connection:
        connection = self._connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"listen {CHANNEL}")
        return connection
