"""Publish the marts as an immutable DuckDB file, which a new one replaces atomically.

DuckDB lets either one writer or many readers open a file, so nobody but the pipeline opens the warehouse. The folder
of an environment holds the last copies `marts-<time>.duckdb`, read-only, and the link `latest.duckdb` to the newest.
A reader resolves the link and opens what it finds: that file never changes.

A copy holds the marts in schema `marts` with their comments, as the warehouse does, and in `main` the table
`published` of one row: published_at (UTC), environment, row_counts (a map from the mart's name), and git_commit, with
`+` behind it if something was not committed, and null without git.
"""

# ruff: noqa: S608 - names and values of the queries are quoted by elt/quoting.py

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import typing as t

import duckdb

from elt import layout, quoting
from elt.errors import DataError
from elt.pipeline import revision
from elt.serving import postgres
from elt.warehouse import factory

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.config.settings import Settings
    from elt.warehouse.base import Warehouse

LINK = "latest.duckdb"
"""Not `marts`: DuckDB names the catalog after the file, and a schema of the same name would be ambiguous."""
SCHEMA = "marts"
SEARCH_PATH = f"{SCHEMA},main"
"""Setting by which a reader may leave out the schema."""
TABLE = "published"
"""Table of every copy with the time of publication, the environment, and the rows of each mart."""
KEPT_COPIES = 3
"""Number of copies that are kept: whoever has just resolved the link still finds the file."""
STORAGE_VERSION = "v1.5.0"
"""Version of DuckDB's file format, so that it does not change unnoticed with a newer engine."""


def to_all_readers(environment: str, settings: Settings, *, may_be_none: bool = False) -> None:
    """Publish the marts of an environment as a file and in PostgreSQL.

    Args:
        environment: which one's.
        settings: the checked settings.
        may_be_none: do nothing where there is no mart yet, as after the first run of a source that was just added.

    Raises:
        DataError: one of the two failed, as it would again; all readers see what they saw before.
        StackError: one of the two failed, for a lock or a connection; likewise.
    """
    warehouse = factory.stack_warehouse(environment)
    if may_be_none and not _holds_marts(warehouse):
        print(f"publish: {warehouse} holds no marts yet: readers see what they saw before")
        return
    with _new_copy(warehouse, layout.published(environment)) as copy:
        postgres.publish(copy, environment, settings)


def publish(warehouse: Warehouse, published: Path) -> Path:
    """Copy the marts to a new file, and let it replace the last copy.

    Args:
        warehouse: of an environment.
        published: folder that readers know.

    Returns:
        The file that the link now names.

    Raises:
        DataError: there is no warehouse, or it holds no marts.
        StackError: a writer has it open.
    """
    with _new_copy(warehouse, published) as copy:
        pass
    return copy


@contextlib.contextmanager
def _new_copy(warehouse: Warehouse, published: Path) -> t.Iterator[Path]:
    """Copy the marts to a new file, which readers see after the block, or which is removed after an error.

    One publication of a folder at a time, so that file and PostgreSQL never hold different ones.
    """
    if not warehouse.exists():
        raise DataError(f"publish: {warehouse} is missing: run the pipeline first")
    published.mkdir(parents=True, exist_ok=True)
    with _locked(published):
        for left in (*published.glob(".marts*"), published / f".{LINK}"):  # of a publication that was killed
            left.unlink(missing_ok=True)
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        version = f"marts-{now:%Y%m%dT%H%M%S%f}.duckdb"
        building, copy = published / f".{version}.building", published / version
        try:
            counts = _build(warehouse, building, now)
        except duckdb.Error as error:
            building.unlink(missing_ok=True)
            raise postgres.failure(f"publish: the marts of {warehouse} cannot be copied", error) from error
        _settle(building, copy)
        try:
            yield copy
        except BaseException:
            copy.unlink()
            raise
        link = published / f".{LINK}"
        link.symlink_to(version)
        link.replace(published / LINK)
        _sync(published)
        for old in sorted(published.glob("marts-*.duckdb"))[:-KEPT_COPIES]:
            old.unlink()
    rows = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"publish: {copy} ({rows})")


@contextlib.contextmanager
def _locked(folder: Path) -> t.Iterator[None]:
    """Lock the folder against other publications; the lock ends with its holder."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _holds_marts(warehouse: Warehouse) -> bool:
    try:
        with warehouse.connect() as connection:
            query = f"select 1 from duckdb_tables() where schema_name = '{SCHEMA}' limit 1"
            return bool(connection.execute(query).fetchall())
    except duckdb.Error:
        return True  # what hinders is named where they are copied


def _build(warehouse: Warehouse, building: Path, now: dt.datetime) -> dict[str, int]:
    """Write every mart and the table `published` to a new file, and return the number of rows by mart."""
    with duckdb.connect() as connection:
        warehouse.attach(connection, "warehouse")
        connection.execute(f"attach {quoting.text(building)} as copy (storage_version '{STORAGE_VERSION}')")
        names = connection.execute(
            "select table_name from duckdb_tables()"
            f" where database_name = 'warehouse' and schema_name = '{SCHEMA}' order by table_name"
        ).fetchall()
        if not names:
            raise DataError(f"publish: {warehouse} holds no marts: run the pipeline first")
        if (TABLE,) in names:
            raise DataError(
                f"publish: a mart cannot be called {TABLE}, the table that says when: give it another name"
            )
        connection.execute(f"create schema copy.{SCHEMA}; use copy")
        counts = {}
        for (name,) in names:
            mart = f"{SCHEMA}.{quoting.name(name)}"
            copied = connection.execute(f"create table {mart} as from warehouse.{mart}").fetchone()
            assert copied is not None
            counts[name] = copied[0]
            _copy_comments(connection, name)
        environment = quoting.text(warehouse.environment)
        by_mart = ", ".join(f"{quoting.text(name)}: {count}::bigint" for name, count in counts.items())
        connection.execute(
            f"create table copy.main.published as select timestamp '{now}' as published_at,"
            f" {environment} as environment, map {{{by_mart}}} as row_counts,"
            f" nullif({quoting.text(revision.current())}, '') as git_commit"
        )
        connection.execute("use memory; checkpoint copy")
        connection.execute("detach copy")
    return counts


def _copy_comments(connection: duckdb.DuckDBPyConnection, mart: str) -> None:
    """Copy the comments of a mart and of its columns."""
    of_mart = (
        f"where database_name = 'warehouse' and schema_name = '{SCHEMA}' and table_name = {quoting.text(mart)}"
        " and comment is not null"
    )
    columns = connection.execute(
        f"select column_name, comment from duckdb_columns() {of_mart}"
        f" union all select null, comment from duckdb_tables() {of_mart}"
    ).fetchall()
    for column, comment in columns:
        table = f"{SCHEMA}.{quoting.name(mart)}"
        what = f"column {table}.{quoting.name(column)}" if column else f"table {table}"
        connection.execute(f"comment on {what} is {quoting.text(comment.strip())}")


def _settle(building: Path, target: Path) -> None:
    """Sync the file to the disk, make it read-only and rename it."""
    wal = building.with_name(building.name + ".wal")
    if wal.exists():
        raise DataError(f"publish: {wal} is left: the copy is not complete")
    building.chmod(0o444)
    _sync(building)
    building.replace(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def latest(folder: Path) -> tuple[dt.datetime, str]:
    """Return when the marts were published last (UTC), and from which environment.

    Raises:
        DataError: nothing was published yet.
    """
    path = (folder / LINK).resolve()
    if not path.exists():
        raise DataError(
            f"nothing is published in {folder} yet: `elt pipeline` on a running stack does that; "
            "`elt sql --local` shows the result of `elt run`"
        )
    with duckdb.connect(str(path), read_only=True) as connection:
        row = connection.execute("select published_at::timestamp, environment from published").fetchone()
    assert row is not None
    return row[0].replace(tzinfo=dt.UTC), row[1]
