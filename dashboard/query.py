"""Write the SQL that the page Marts runs and shows for copying: readable, with every name and value quoted."""
# ruff: noqa: S608 - quoting is what this module is for

from __future__ import annotations

import datetime as dt
import functools
import re
import typing as t
from dataclasses import dataclass

import duckdb

from elt.serving.duckdb_copy import SCHEMA

Aggregate = t.Literal["sum", "avg", "min", "max"]
Unit = t.Literal["minute", "hour", "day", "month", "year"]

UNITS: list[tuple[Unit, float]] = [("minute", 3 / 24), ("hour", 4), ("day", 400), ("month", 40 * 366)]
"""Units of a bar of a time chart, each with the span in days up to which it is used; beyond the last, a year."""


@functools.cache
def reserved() -> frozenset[str]:
    """Return the words that DuckDB accepts as a name only in quotes."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select keyword_name from duckdb_keywords() where keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(word for (word,) in rows)


def quoted(name: str) -> str:
    """Write a name as SQL, in quotes only if it needs them."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in reserved()
    return name if plain else '"' + name.replace('"', '""') + '"'


def literal(value: float | dt.date | str) -> str:
    """Write a value as SQL."""
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dt.date):
        return f"date '{value.isoformat()}'"
    return "'" + value.replace("'", "''").replace("\0", "' || chr(0) || '") + "'"


def relation(mart: str) -> str:
    """Write a mart as SQL."""
    return f"{SCHEMA}.{quoted(mart)}"


# Conditions --------------------------------------------------------------------------------------


def compared(column: str, operator: t.Literal[">=", "<="], value: float | dt.date) -> str:
    """Write the condition of a bound, which a day includes as a whole."""
    name = f"{quoted(column)}::date" if isinstance(value, dt.date) else quoted(column)
    return f"{name} {operator} {literal(value)}"


def one_of(column: str, values: t.Sequence[str | None]) -> str:
    """Write the condition that a column has one of the values; None stands for null."""
    either = []
    if some := [literal(value) for value in values if value is not None]:
        either.append(f"{quoted(column)} in ({', '.join(some)})")
    if None in values:
        either.append(f"{quoted(column)} is null")
    return either[0] if len(either) == 1 else f"({' or '.join(either)})"


def contains(column: str, text: str) -> str:
    """Write the condition that a column contains a text, ignoring case."""
    return f"contains(lower({quoted(column)}::varchar), {literal(text.lower())})"


def is_given(column: str) -> str:
    """Write the condition that a column is not null."""
    return f"{quoted(column)} is not null"


# Queries -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """Describe the number that a chart draws of the rows of one bar."""

    number: str | None
    """Column of numbers; None counts the rows."""
    aggregate: Aggregate

    def sql(self) -> str:
        """Return it as SQL, with a name."""
        if self.number is None:
            return "count(*) as rows"
        return f"{self.aggregate}({quoted(self.number)}) as {quoted(f'{self.aggregate}_{self.number}')}"


@dataclass(frozen=True)
class Selection:
    """Write queries on selected rows of a mart."""

    mart: str
    conditions: list[str]

    def count(self) -> str:
        """Write the query of their number."""
        return self._query("select count(*)")

    def rows(self, order: str, *, descending: bool, limit: int) -> str:
        """Write the query of all columns, in the order of one, up to a number of rows."""
        by = f"order by {quoted(order)}{' desc' if descending else ''} nulls last"
        return self._query("select *", by, f"limit {limit}")

    def values(self, column: str) -> str:
        """Write the query of the different values of a column, as text."""
        return self._query(f"select {quoted(column)}::varchar", "group by all", "order by all")

    def days(self, when: str) -> str:
        """Write the query of the span of a time column in days with fraction; null without rows."""
        return self._query(f"select (epoch(max({quoted(when)})) - epoch(min({quoted(when)}))) / 86400")

    def over_time(self, when: str, unit: Unit, measure: Measure) -> str:
        """Write the query of a number for each unit of time."""
        return self._query(
            f"select date_trunc('{unit}', {quoted(when)}) as {unit}, {measure.sql()}", "group by all", "order by 1"
        )

    def by_category(self, category: str, measure: Measure, limit: int) -> str:
        """Write the query of a number for each category, the largest first."""
        return self._query(
            f"select {quoted(category)}, {measure.sql()}",
            "group by all",
            "order by 2 desc nulls last, 1",
            f"limit {limit}",
        )

    def also(self, condition: str) -> Selection:
        """Return a selection with one more condition."""
        return Selection(self.mart, [*self.conditions, condition])

    def _query(self, select: str, *rest: str) -> str:
        where = "where " + "\n    and ".join(self.conditions) if self.conditions else ""
        return "\n".join(filter(None, (select, f"from {relation(self.mart)}", where, *rest)))


def unit(days: float, *, whole_days: bool) -> Unit:
    """Choose the unit of time of a bar for a chart that spans so many days.

    Args:
        days: the span.
        whole_days: the moments are days, which have no hours.
    """
    units = UNITS[2:] if whole_days else UNITS
    return next((name for name, up_to in units if days <= up_to), "year")


def figures(mart: str, columns: t.Sequence[str], *, exact: bool) -> str:
    """Write the query of each column's values: not null, different (exact or estimated), smallest, largest."""
    different = "count(distinct {})" if exact else "least(approx_count_distinct({0}), count({0}))"
    each = ",\n    ".join(
        f"count({name}), {different.format(name)}, min({name})::varchar, max({name})::varchar"
        for name in map(quoted, columns)
    )
    return f"select {each}\nfrom {relation(mart)}"


def cast(sql: str, types: t.Mapping[str, str]) -> str:
    """Write a query with some columns cast to other types."""
    casts = ", ".join(f"{quoted(name)}::{type_} as {quoted(name)}" for name, type_ in types.items())
    return f"select * replace ({casts}) from ({sql})" if types else sql
