"""What is known of a mart's columns without knowing the mart: types, comments, how many values and which."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

import streamlit as st

from dashboard import query
from dashboard.published import Marts
from elt.serving.duckdb_copy import SCHEMA

Kind = t.Literal["number", "time", "text", "other"]

FEW = 50
"""Whole numbers with at most so many values (a year, a store) are taken for categories as well."""
EXACT = 1_000_000
"""Rows up to which different values are counted; beyond, that would take seconds, and they are estimated."""


@dataclass(frozen=True)
class Column:
    """One column of a mart."""

    name: str
    type: str
    """As DuckDB writes it."""
    comment: str
    """What its model says of it; empty if nothing came with the published file."""
    filled: int
    """Rows in which it is not null."""
    values: int
    """Different values; an estimate above EXACT rows."""
    least: str | None
    """The smallest value, as text."""
    most: str | None

    @property
    def kind(self) -> Kind:
        """How it can be filtered and drawn."""
        if re.match(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))$", self.type):
            return "number"
        if re.match(r"(DATE|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE)$", self.type):
            return "time"
        if re.match(r"(VARCHAR|BOOLEAN|ENUM\(.*\))$", self.type):
            return "text"
        return "other"

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers."""
        return "INT" in self.type

    @property
    def has_zone(self) -> bool:
        """Whether it holds moments that a reader would see in the time zone of a session."""
        return self.type == "TIMESTAMP WITH TIME ZONE"

    @property
    def is_category(self) -> bool:
        """Whether its values name groups of rows: each value stands for two rows or more, on average."""
        groups = 2 * self.values <= max(self.filled, 2)
        return groups and (self.kind == "text" or (self.is_whole and self.values <= FEW))

    @property
    def is_axis(self) -> bool:
        """Whether a chart can stand on it: categories, or moments of which none is infinite or before Christ."""
        edges = (edge for edge in (self.least, self.most) if edge)
        return self.is_category or (self.kind == "time" and all(re.match(r"\d{4}-[^(]*$", edge) for edge in edges))

    @property
    def is_key(self) -> bool:
        """Whether its numbers are names, of which no sum is wanted."""
        return bool(re.search(r"(^|_)(id|key|code|year)$", self.name.lower()))


@dataclass(frozen=True)
class Profile:
    """A mart in figures."""

    name: str
    comment: str
    rows: int
    columns: list[Column]

    def of(self, *kinds: Kind) -> list[Column]:
        """The columns of some kinds."""
        return [column for column in self.columns if column.kind in kinds]


@st.cache_data(max_entries=100, show_spinner=False, hash_funcs={Marts: lambda marts: marts.path})
def profile(marts: Marts, mart: str) -> Profile:
    """Look through a mart, once for each file that was published."""
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
    found = marts.row(query.figures(mart, [name for name, _, _ in described], exact=rows <= EXACT))
    columns = [
        Column(*about, *found[4 * number : 4 * number + 4])  # the four figures of each column
        for number, about in enumerate(described)
    ]
    return Profile(mart, comment, rows, columns)
