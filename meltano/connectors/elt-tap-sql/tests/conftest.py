"""Databases that tests read from: each server is started once, and emptied for each test."""

from __future__ import annotations

import sqlite3
import typing as t

import pytest
from tap_sql_harness import Source, mariadb, needs, postgres

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[t.Any]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[t.Any]:
    needs("mysql")
    with mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def pg(postgres_server: t.Any) -> Source:
    """PostgreSQL with an empty schema."""
    settings, connection = postgres_server

    def execute(statement: str) -> t.Any:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    execute("drop schema public cascade; create schema public")
    return Source("postgres", settings, execute)


@pytest.fixture
def my(mariadb_server: t.Any) -> Source:
    """MariaDB with an empty database."""
    settings, connection = mariadb_server

    def execute(statement: str) -> t.Any:
        connection.execute("call mysql_execute('my', $1)", [statement])

    execute("drop database shop")
    execute("create database shop character set utf8mb4")
    return Source("mysql", settings, execute)


@pytest.fixture
def lite(tmp_path: Path) -> Source:
    """An SQLite file."""
    needs("sqlite")
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table gone (x)")
        connection.execute("drop table gone")

    def execute(statement: str) -> t.Any:
        with sqlite3.connect(path) as connection:
            return connection.executescript(statement).fetchall()

    return Source("sqlite", {"path_to_database": str(path)}, execute)
