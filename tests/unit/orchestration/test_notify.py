"""The scheduler's listener without a database: it waits all the same. tests/e2e/test_notify.py has one."""

from __future__ import annotations

import time

import psycopg2

from elt.orchestration.notify import Listener


def test_without_a_database_it_waits_that_long_and_tries_again():
    tries = []

    def connect():
        tries.append(time.monotonic())
        raise psycopg2.OperationalError("nobody there")

    listener = Listener(connect)
    began = time.monotonic()
    assert not listener.wait(0.2)
    assert time.monotonic() - began >= 0.2
    assert not listener.wait(0)
    assert len(tries) == 2
    listener.close()


def test_the_executor_reads_the_settings_once(monkeypatch):
    """What was edited since must not end a scheduler whose connection was cut."""
    from airflow.providers.celery.executors.celery_executor import CeleryExecutor

    from elt.orchestration import executor

    loads, connections = [], []
    monkeypatch.setattr(CeleryExecutor, "__init__", lambda *_: None)
    monkeypatch.setattr(executor.settings, "load", lambda: loads.append(1) or "settings")
    monkeypatch.setattr(executor.databases, "connect", lambda *words: connections.append(words))
    listener = executor.PromptCeleryExecutor()._listener
    listener._connect()
    listener._connect()
    assert loads == [1]
    assert connections == [("settings", "airflow")] * 2
