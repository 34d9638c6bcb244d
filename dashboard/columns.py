"""Profile the columns of any mart: types, comments, number of values, extremes."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

import streamlit as st

from dashboard import query
from dashboard.published import Marts
from elt.serving.duckdb_copy import SCHEMA

Kind = t.Literal["number", "time", "text", "other"]

MAX_CATEGORIES = 50
"""Number of different values up to which whole numbers (a year, a store) are categories as well."""
DOUBLE_DIGITS = 15
"""Digits that a float shows, which DuckDB makes of decimals and HUGEINT in a data frame."""
EXACT_ROWS = 1_000_000
"""Number of rows up to which different values are counted; beyond, which would take seconds, they are estimated."""


@dataclass(frozen=True)
class Column:
    """Describe one column of a mart."""

    name: str
    type: str
    """Type as DuckDB writes it."""
    comment: str
    """Comment of its model; empty if the published file has none."""
    filled: int
    """Number of rows in which it is not null."""
    values: int
    """Number of different values; an estimate above EXACT_ROWS rows."""
    least: str | None
    """The smallest value, as text."""
    most: str | None

    @property
    def kind(self) -> Kind:
        """Return by which kind of widget and chart it is shown."""
        if re.match(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))$", self.type):
            return "number"
        if re.match(r"(DATE|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE)$", self.type):
            return "time"
        if re.match(r"(VARCHAR|BOOLEAN|ENUM\(.*\))$", self.type):
            return "text"
        return "other"

    @property
    def is_whole(self) -> bool:
        """Return whether it holds whole numbers."""
        return "INT" in self.type

    @property
    def is_in_frames(self) -> bool:
        """Return whether a data frame shows all its values: numbers of 15 digits, and times that are finite."""
        if self.kind == "time":
            return self._is_of_calendar
        found = re.match(r"HUGEINT|DECIMAL\(\d+,(\d+)\)", self.type)
        if found is None:
            return True
        digits = DOUBLE_DIGITS - int(found[1] or 0)
        return all(len(edge.lstrip("-0").partition(".")[0]) <= digits for edge in (self.least, self.most) if edge)

    @property
    def _is_of_calendar(self) -> bool:
        """Return whether all its times are finite and after Christ."""
        return all(re.match(r"\d{4}-[^(]*$", edge) for edge in (self.least, self.most) if edge)

    @property
    def has_zone(self) -> bool:
        """Return whether it holds moments that a reader would see in the time zone of a session."""
        return self.type == "TIMESTAMP WITH TIME ZONE"

    @property
    def is_category(self) -> bool:
        """Return whether its values name groups of rows: each value stands for two rows or more, on average."""
        groups = 2 * self.values <= max(self.filled, 2)
        return groups and (self.kind == "text" or (self.is_whole and self.values <= MAX_CATEGORIES))

    @property
    def is_axis(self) -> bool:
        """Return whether it can be a chart's axis: categories, or times."""
        return self.is_category or (self.kind == "time" and self._is_of_calendar)

    @property
    def is_key(self) -> bool:
        """Return whether its numbers are keys, of which no sum is wanted."""
        return bool(re.search(r"(^|_)(id|key|code|year)$", self.name.lower()))


@dataclass(frozen=True)
class Profile:
    """Hold the figures of a mart."""

    name: str
    comment: str
    rows: int
    columns: list[Column]

    def of(self, *kinds: Kind) -> list[Column]:
        """Return the columns of the given kinds."""
        return [column for column in self.columns if column.kind in kinds]


@st.cache_data(max_entries=100, show_spinner=False, hash_funcs={Marts: lambda marts: marts.path})
def profile(marts: Marts, mart: str) -> Profile:
    """Profile a mart, once for each published file."""
    (comment,) = marts.row(
        "select coalesce(any_value(comment), '') from duckdb_tables() where schema_name = ? and table_name = ?",
        SCHEMA,
        mart,
    )
    described = marts.rows(
        "select column_name, data_type, coalesce(comment, '') from duckdb_columns()"
        " where schema_name = ? and table_name = ? order by column_index",
        SCHEMA,
        mart,
    )
    (rows,) = marts.row(query.Selection(mart, []).count())
    found = marts.row(query.figures(mart, [name for name, _, _ in described], exact=rows <= EXACT_ROWS))
    columns = [
        Column(*about, *found[4 * number : 4 * number + 4])  # the four figures of each column
        for number, about in enumerate(described)
    ]
    return Profile(mart, comment, rows, columns)
