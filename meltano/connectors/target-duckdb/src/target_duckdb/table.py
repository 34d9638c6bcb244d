"""Tables: made, and fitted to a schema that changed."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import logging
import typing as t
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from target_duckdb import sql

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import duckdb

LOGGER = logging.getLogger("target-duckdb")

ASIDE = "__sdc_incoming"
"""Ends the name of a table that is built to take the place of another."""
_MOST_DIGITS = 38
_WHOLE_DIGITS = dict(zip(sql.WHOLE, (3, 5, 10, 19, 39, 3, 5, 10, 20, 39), strict=True))
"""Digits of the longest number of each type of integers."""


@dataclass(frozen=True)
class Table:
    """A table by its full name."""

    catalog: str
    schema: str
    name: str

    def __str__(self) -> str:
        """Return the name as SQL has it."""
        return ".".join(map(sql.name, (self.catalog, self.schema, self.name)))

    @property
    def aside(self) -> Table:
        """The table that is built to take this one's place."""
        return replace(self, name=self.name + ASIDE)

    def columns(self, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Types of its columns by their names, which are lower case here; empty if there is no such table."""
        # Not with parameters: for those DuckDB would import pandas, where that is installed, to know their types.
        wanted = {"database_name": self.catalog, "schema_name": self.schema, "table_name": self.name}
        conditions = [f"lower({column}) = lower({sql.literal(value)})" for column, value in wanted.items()]
        query = f"select column_name, data_type from duckdb_columns() where {' and '.join(conditions)}"
        found = connection.execute(f"{query} order by column_index").fetchall()
        return {name.lower(): kind for name, kind in found}

    def is_empty(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Whether it holds no row."""
        return connection.execute(f"select 1 from {self} limit 1").fetchone() is None

    def fit(
        self,
        connection: duckdb.DuckDBPyConnection,
        wanted: Mapping[str, str],
        *,
        lenient: frozenset[str] = frozenset(),
    ) -> None:
        """Make the table, or change it so that it holds what is wanted. What it holds beyond that stays.

        Args:
            connection: within a transaction.
            wanted: types by names of columns.
            lenient: columns that stay whatever their type is.
        """
        connection.execute(f"create schema if not exists {sql.name(self.catalog)}.{sql.name(self.schema)}")
        there = self.columns(connection)
        if not there:
            columns = ", ".join(f"{sql.name(name)} {kind}" for name, kind in wanted.items())
            connection.execute(f"create table {self} ({columns})")
            return
        for name, kind in wanted.items():
            if name not in there:
                LOGGER.info("%s: new column %s", self.name, name)
                connection.execute(f"alter table {self} add column {sql.name(name)} {kind}")
            elif name not in lenient and not holds(there[name], kind):
                self._change(connection, name, there[name], kind, there)

    def _change(
        self, connection: duckdb.DuckDBPyConnection, name: str, old: str, new: str, there: Mapping[str, str]
    ) -> None:
        if self.become(connection, name, old, new):
            return
        dated = f"{name}_{datetime.now(UTC):%Y%m%d_%H%M}"
        number = 1
        while dated in there:
            number += 1
            dated = f"{dated.rsplit('__', 1)[0]}__{number}"
        column = sql.name(name)
        LOGGER.warning("%s: column %s is %s now; its %s values stay in %s", self.name, name, new, old, dated)
        connection.execute(f"alter table {self} rename column {column} to {sql.name(dated)}")
        connection.execute(f"alter table {self} add column {column} {new}")

    def become(self, connection: duckdb.DuckDBPyConnection, name: str, old: str, new: str) -> str | None:
        """Let a column hold values of a new type too, if every value in it is the same after that.

        Returns:
            The type that it has now; none if there is no such type, and the column is what it was.
        """
        column = sql.name(name)
        for kind in _may_become(old, new):
            if kind == old:
                return kind
            if self._survives(connection, column, old, kind):
                LOGGER.info("%s: column %s becomes %s, was %s", self.name, name, kind, old)
                # A text within JSON loses its quotes, as those of new records have none.
                made = f" using {sql.convert(column, old, kind)}" if (old, kind) == ("JSON", "VARCHAR") else ""
                connection.execute(f"alter table {self} alter column {column} set data type {kind}{made}")
                return kind
        return None

    def _survives(self, connection: duckdb.DuckDBPyConnection, column: str, old: str, new: str) -> bool:
        """Whether every value is the same after it went to the new type and back."""
        back = f"try_cast(try_cast({column} as {new}) as {old})"
        query = f"select 1 from {self} where {column} is not null and {back} is distinct from {column} limit 1"
        return connection.execute(query).fetchone() is None

    def take_place_of(self, connection: duckdb.DuckDBPyConnection, other: Table) -> None:
        """Become the other table, which goes away."""
        connection.execute(f"drop table if exists {other}")
        connection.execute(f"alter table {self} rename to {sql.name(other.name)}")


def holds(there: str, wanted: str) -> bool:
    """Whether a column stays of its type, which holds every value of the other, or all that are usual.

    Those who read the table go on to read the type they know; a number that it does not hold is refused.
    """
    if there == wanted:
        return True
    if there in sql.INTEGERS and wanted in sql.INTEGERS:
        return sql.INTEGERS.index(there) > sql.INTEGERS.index(wanted)
    if there == "DOUBLE" or (sql.DECIMAL.fullmatch(there) and wanted in sql.INTEGERS):
        return wanted in sql.INTEGERS or wanted.startswith("DECIMAL")
    if (ours := _digits(there)) and (theirs := _digits(wanted)) and sql.DECIMAL.fullmatch(there):
        return ours[0] >= theirs[0] and ours[1] >= theirs[1]
    return (wanted == "TIMESTAMP" and there == "TIMESTAMP WITH TIME ZONE") or (
        there == "TIMESTAMP" and wanted == "DATE"
    )


def _may_become(old: str, new: str) -> Iterator[str]:
    """Return the types that a column may change to if all its values survive; none if the meaning differs."""
    if "VARCHAR" in {old, new} or (_is_number(old) and _is_number(new)) or (old, new) == ("DATE", "TIMESTAMP"):
        yield new
    if (ours := _digits(old)) and (theirs := _digits(new)):
        whole, fraction = map(max, ours, theirs)
        yield f"DECIMAL({min(whole + fraction, _MOST_DIGITS)},{fraction})"


def _digits(kind: str) -> tuple[int, int] | None:
    """How many digits a type holds before the point and behind it, if that can be said."""
    if found := sql.DECIMAL.fullmatch(kind):
        return int(found[1]) - int(found[2]), int(found[2])
    return (_WHOLE_DIGITS[kind], 0) if kind in _WHOLE_DIGITS else None


def _is_number(kind: str) -> bool:
    return kind in {*_WHOLE_DIGITS, "FLOAT", "DOUBLE"} or kind.startswith("DECIMAL")
