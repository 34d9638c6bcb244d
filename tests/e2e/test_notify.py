"""Airflow's database tells the scheduler when there is something to do, and loses it nothing when it cannot."""

from __future__ import annotations

import contextlib
import time

import pytest
from workspace import DEADLINE

from elt.orchestration import notify, runs
from elt.services import databases


@pytest.fixture
def listener(platform):
    platform.wait_healthy()
    listener = notify.Listener(lambda: databases.connect(platform.settings, "airflow"))
    assert listener.wait(0)  # one may have been missed before
    yield listener
    listener.close()


def tell(platform, statement):
    """Run a statement in Airflow's database; its first row."""
    connecting = contextlib.closing(databases.connect(platform.settings, "airflow"))
    with connecting as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def test_it_is_notified_of_a_run_and_of_the_end_of_each_task(platform, listener):
    platform.wait("silence", lambda: not listener.wait(1), 60)  # heartbeats send nothing
    run = platform.api.trigger(runs.DAG)
    assert listener.wait(DEADLINE)
    notified = 0
    until = time.monotonic() + 90
    while platform.api.run_state(runs.DAG, run) not in ("success", "failed"):
        assert time.monotonic() < until
        notified += listener.wait(1)
    assert notified >= 4


def test_it_listens_again_after_its_connection_has_ended(platform, listener):
    listeners = "from pg_stat_activity where query = 'listen elt_wake'"
    listener.wait(0)
    assert tell(platform, f"select count(pg_terminate_backend(pid)) {listeners}")[0] >= 2  # one is the scheduler's
    assert not listener.wait(1)
    platform.wait("the scheduler's return", lambda: tell(platform, f"select count(*) {listeners}")[0] == 1, DEADLINE)
    assert listener.wait(0)
    run = platform.api.trigger("maintenance")
    assert listener.wait(DEADLINE)
    platform.wait("its end", lambda: platform.api.run_state("maintenance", run) in ("success", "failed"), 120)
    platform.wait_healthy()


def test_a_migration_may_change_what_it_looks_at(platform):
    assert tell(platform, notify.IS_INSTALLED) == (True,)
    columns = "select count(*) from information_schema.triggered_update_columns where trigger_name = 'elt_wake'"
    assert tell(platform, columns) == (0,)


def test_triggers_of_another_version_count_as_not_installed(platform):
    """After an upgrade of the workspace Airflow's version, which the stamp tells, may be the same."""
    with (
        contextlib.closing(databases.connect(platform.settings, "airflow")) as connection,
        connection.cursor() as cursor,
    ):
        body = "returns trigger language plpgsql as 'begin return null; end'"
        for change in (
            f"create or replace function {notify.CHANNEL}() {body}",
            f"alter table dag_run disable trigger {notify.CHANNEL}",
        ):
            cursor.execute(change)
            cursor.execute(notify.IS_INSTALLED)
            assert cursor.fetchone() == (False,)
            connection.rollback()
        cursor.execute(notify.IS_INSTALLED)
        assert cursor.fetchone() == (True,)
