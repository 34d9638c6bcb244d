"""Read the marts that were published last, and nothing else.

A page takes them as `marts("daily_sales").table("select * from marts.daily_sales")`.
"""

from __future__ import annotations

import os
import typing as t

import duckdb
import streamlit as st

from elt import layout
from elt.errors import DataError
from elt.serving.duckdb_copy import LINK

if t.TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # stubs are not worth a dependency

ENVIRONMENT = "ELT_ENVIRONMENT"
"""Environment variable with the environment whose marts are shown (elt/config/process_env.py)."""
HELD = "published"
"""Key under which a session keeps the path that its frame and its page show."""


def newest() -> str | None:
    """Return the path of the file that was published last; None if nothing was."""
    path = os.path.realpath(layout.published(os.environ[ENVIRONMENT]) / LINK)
    return path if os.path.exists(path) else None  # noqa: PTH110 - a string is what the cache is keyed by


def hold_newest() -> str | None:
    """Keep the newest file for this run, whatever is published while it draws, and return its path."""
    st.session_state[HELD] = newest()
    return t.cast("str | None", st.session_state[HELD])


# Two entries: while one session opens a new file, another may still be reading the one before.
@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda connection: connection.close())
def opened(path: str) -> duckdb.DuckDBPyConnection:
    """Open one read-only connection to a file for all sessions; each query takes a cursor of it."""
    connection = duckdb.connect(path, read_only=True, config={"enable_external_access": "false"})
    connection.execute("set global TimeZone = 'UTC'")
    return connection


class Marts:
    """Query the marts of one published file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection = opened(path)

    def names(self) -> list[str]:
        """Return the names of the published marts in alphabetical order."""
        return [name for (name,) in self.rows("select unnest(map_keys(row_counts)) from published order by all")]

    def row(self, sql: str, *parameters: object) -> tuple[t.Any, ...]:
        """Return the one row of a query."""
        (row,) = self.rows(sql, *parameters)
        return row

    def rows(self, sql: str, *parameters: object) -> list[tuple[t.Any, ...]]:
        """Return all rows of a query."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).fetchall()

    def table(self, sql: str, *parameters: object) -> pd.DataFrame:
        """Return all rows of a query as a table; decimals become floats, as charts and tables need them."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).df()


def marts(*needed: str) -> Marts:
    """Return the marts that this run shows.

    Args:
        needed: names of those that the page cannot do without.

    Raises:
        DataError: one of them was not published; the frame shows that in one line in place of the page.
    """
    shown = Marts(st.session_state[HELD])
    missing = [name for name in needed if name not in shown.names()]
    if missing:
        raise DataError(
            f"This page needs what is not among the published marts: {', '.join(missing)}. "
            f"There are {', '.join(shown.names())}; the page Marts shows any of them."
        )
    return shown
