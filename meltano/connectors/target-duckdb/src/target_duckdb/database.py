"""The connection: waiting for a file that another process holds, and the words of DuckDB's errors."""

from __future__ import annotations

import logging
import re
import time
import typing as t

import duckdb
from elt_singer import errors

from target_duckdb import sql
from target_duckdb.errors import DatabaseError, SettingsError

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb.config import Config

LOGGER = logging.getLogger("target-duckdb")

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")
_POLL_SECONDS = 0.2
_MEMORY, _MEMORY_OF_COLUMN = 512, 0.65
"""DuckDB's limit in MB unless it is set: at all, and for each column of a wide table.

Without, DuckDB would keep pages of the database in most of the machine's memory, and a load is no faster for it. To
append rows to a table that has some, it keeps two blocks of 256 kB for each column (DuckDB 1.5.5).
"""
_LIMITS = {"memory_limit", "max_memory"}
"""What DuckDB calls it."""


def connect(config: Config, folder: Path) -> tuple[duckdb.DuckDBPyConnection, str]:
    """Open the database, once nobody else holds it.

    Args:
        config: the settings.
        folder: for what DuckDB spills, if `temp_dir` says that it shall not lie beside the database.

    Returns:
        The connection, and the name of the database to write to.

    Raises:
        DatabaseError: it stays locked for longer than `lock_wait_seconds`, or cannot be opened.
        SettingsError: DuckDB refuses one of the `settings`, or there is no database of the name `dbname`.
    """
    connection = _opened(config)
    try:
        _set_up(connection, config, folder)
        return connection, _catalog(connection, config)
    except BaseException:
        connection.close()
        raise


def _set_up(connection: duckdb.DuckDBPyConnection, config: Config, folder: Path) -> None:
    settings = {"memory_limit": f"{_MEMORY}MB"}
    if config.temp_dir:
        settings["temp_directory"] = str(folder)
    # The order of insertion tells which record of a key is the last.
    needed = {"TimeZone": "UTC", "preserve_insertion_order": "true"}
    for name, value in (settings | config.settings | needed).items():
        try:
            connection.execute(f"set {sql.name(name)} = {sql.literal(str(value))}")
        except duckdb.Error as error:
            raise SettingsError(f"settings: {name}: {one_line(error)}") from None


def _opened(config: Config) -> duckdb.DuckDBPyConnection:
    options: dict[str, t.Any] = {}
    if config.token and config.path.startswith(("md:", "motherduck:")):
        options["motherduck_token"] = config.token
    elif config.token:
        LOGGER.warning("setting token has no effect: the path is no MotherDuck database")
    deadline = time.monotonic() + config.lock_wait_seconds
    waiting = False
    while True:
        try:
            return duckdb.connect(config.path, config=options)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise DatabaseError(f"{config.path} cannot be opened: {one_line(error)}") from None
            holder = _holder(str(error))
            if time.monotonic() >= deadline:
                seconds = config.lock_wait_seconds
                raise DatabaseError(f"{config.path} is locked by {holder}, gave up after {seconds} s") from None
            if not waiting:
                LOGGER.warning(
                    "%s is locked by %s, waiting up to %s s", config.path, holder, config.lock_wait_seconds
                )
                waiting = True
            time.sleep(_POLL_SECONDS)
        except duckdb.Error as error:
            raise DatabaseError(f"{config.path} cannot be opened: {one_line(error)}") from None


def _holder(message: str) -> str:
    found = _HOLDER.search(message)
    return f"{found['program']} (process {found['pid']})" if found else "another process"


def _catalog(connection: duckdb.DuckDBPyConnection, config: Config) -> str:
    row = connection.execute("select current_database()").fetchone()
    assert row
    query = "select database_name from duckdb_databases() where not internal order by all"
    there = [name for (name,) in connection.execute(query).fetchall()]
    if config.database is None:
        return str(row[0])
    for name in there:
        if name.lower() == config.database.lower():
            return str(name)
    raise SettingsError(f"dbname: there is no database {config.database!r}, only {', '.join(there)}")


def make_room(connection: duckdb.DuckDBPyConnection, config: Config, columns: int) -> None:
    """Let DuckDB use the memory that it needs for a table of so many columns, unless the settings limit it."""
    if not _LIMITS & {name.lower() for name in config.settings}:
        connection.execute(f"set memory_limit = '{max(_MEMORY, round(_MEMORY_OF_COLUMN * columns))}MB'")


def one_line(error: BaseException) -> str:
    """Return an error of DuckDB without its line breaks and its drawing of the query, with this target's way out."""
    lacks_memory = "Possible solutions:" in str(error)
    hint = """; `settings` of the target raise the limit: {"memory_limit": "4GB"}""" if lacks_memory else ""
    return errors.one_line(error) + hint
