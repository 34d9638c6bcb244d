"""Put what was loaded in the place of the raw tables, all at once or not at all.

The loader has no transaction and only adds and changes rows. So it loads into a schema aside, and a load that came to
its end replaces the raw tables in one transaction: a load that fails half-way leaves them as they were, and rows that
an extract no longer holds do not stay. An empty text becomes null there: an empty field of a CSV file says no more.
"""

from __future__ import annotations

import contextlib
import typing as t

import duckdb

from elt import quoting
from elt.errors import DataError

if t.TYPE_CHECKING:
    from pathlib import Path

INCOMING = "raw_incoming"
"""Schema that the loader writes to (meltano.yml says the same)."""
RAW = "raw"


@contextlib.contextmanager
def _opened(warehouse: Path) -> t.Iterator[duckdb.DuckDBPyConnection]:
    try:
        with duckdb.connect(str(warehouse)) as connection:
            yield connection
    except duckdb.Error as error:  # DuckDB names who holds the file
        raise DataError(f"raw: {warehouse} cannot be written: {' '.join(str(error).split())}") from None


def prepare(warehouse: Path) -> None:
    """Forget what an earlier load left half-done."""
    with _opened(warehouse) as connection:
        connection.execute(f'drop schema if exists "{INCOMING}" cascade')


def replace(warehouse: Path) -> None:
    """Replace each raw table that was loaded; tables of other sources stay.

    Raises:
        DataError: nothing was loaded.
    """
    with _opened(warehouse) as connection:
        query = "select table_name from duckdb_tables() where schema_name = ? order by all"
        tables = [quoting.name(name) for (name,) in connection.execute(query, [INCOMING]).fetchall()]
        if not tables:
            raise DataError(f"raw: nothing was loaded into schema {INCOMING} of {warehouse}")
        connection.execute(f"begin; create schema if not exists {RAW}")
        for name in tables:
            values = _without_empty_texts(connection, f"{INCOMING}.{name}")
            connection.execute(f"create or replace table {RAW}.{name} as {values}")
        connection.execute(f"drop schema {INCOMING} cascade; commit")


def _without_empty_texts(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The query of a table's rows."""
    described = connection.execute(f"describe {table}").fetchall()
    texts = [quoting.name(name) for name, kind, *_ in described if kind == "VARCHAR"]
    replaced = ", ".join(f"nullif({name}, '') as {name}" for name in texts)
    return f"select * {f'replace ({replaced})' if replaced else ''} from {table}"  # noqa: S608
