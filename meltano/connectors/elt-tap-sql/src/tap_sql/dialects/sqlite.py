"""SQLite: columns of declared types whose values may have others."""

# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import re
import typing as t
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from elt_singer import sql
from elt_singer.settings import Setting

from tap_sql import kinds
from tap_sql.dialects.base import SOURCE, Dialect, Listed
from tap_sql.errors import SettingsError
from tap_sql.model import Column, Horizon, Kind, Table

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_sql.config import Config
    from tap_sql.dialects.base import Ask, Server

_TABLES = """
select t.name, t.type = 'view' as is_view, c.name as "column", c.type, c."notnull", c.pk
from main.sqlite_schema t join pragma_table_xinfo(t.name) c
where t.type in ('table', 'view') and t.name not like 'sqlite\\_%' escape '\\' and c.hidden <> 1 and {tables}
order by t.name, c.cid
"""
_SCHEMA = "main"
_DIGITS = re.compile(r"\w+\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_INTEGER = replace(kinds.INTEGER, remote="cast({} as text)")
_REAL = replace(kinds.DOUBLE, remote="printf('%!.20g', {})", local="{}::DOUBLE")
_TEXT = replace(kinds.TEXT, remote="cast({} as text)")
_SPELLED = replace(
    kinds.TEXT,
    remote="case when typeof({0}) <> 'real' or cast(cast({0} as text) as real) = {0} then cast({0} as text) "
    "when cast(printf('%!.17g', {0}) as real) = {0} then printf('%!.17g', {0}) else printf('%!.20g', {0}) end",
)
"""Of numbers among texts; SQLite writes 15 digits, which are not always all of a real."""
_BLOB = replace(kinds.BYTES, remote="hex({})", local="to_base64(from_hex({}))")
_DATE = "'[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'"
_IS_NO_DAY = "date(substr({0}, 1, 10), '+0 days') is not substr({0}, 1, 10)"
"""Nothing but the modifier makes SQLite look whether a month has so many days."""
_FINER = f"{{0}} glob '*.{'[0-9]' * 6}*' and ltrim(substr({{0}}, 27), '0') glob '[1-9]*'"
"""It has digits below a microsecond: the 27th letter and those behind it."""
_NO_OFFSET = "{0} glob '*[0-9] [zZ+-]*' or {0} glob '*z'"
"""Offsets that SQLite reads and DuckDB does not."""
_SECOND = (
    "case when length({0}) = 19 then replace({0}, ' ', 'T') "
    "else coalesce(strftime('%Y-%m-%dT%H:%M:%S', {0}), {0}) end"
)


class Affinity(t.NamedTuple):
    """What a declared type means, and which values have it."""

    kind: Kind
    is_other: str
    """SQLite's condition of a value that has another type."""


def _typed(kind: Kind, *types: str) -> Affinity:
    return Affinity(kind, f"typeof({{0}}) not in ({', '.join(map(sql.literal, (*types, 'null')))})")


_AFFINITIES = {
    "int": _typed(_INTEGER, "integer"),
    **dict.fromkeys(("char", "clob", "text"), _typed(_TEXT, "text")),
    "blob": _typed(_BLOB, "blob"),
    **dict.fromkeys(("real", "floa", "doub"), _typed(_REAL, "real", "integer")),
}
"""By what stands in a declared type, of which the first counts."""


def affinity(declared: str) -> Affinity:
    """Return what a declared type means, by SQLite's rules, and those of dates beside them."""
    name = declared.lower()
    if name.startswith("date") and "time" not in name:
        return Affinity(replace(kinds.DATE, local="{}::DATE"), f"{{0}} not glob {_DATE} or {_IS_NO_DAY}")
    if "datetime" in name or "timestamp" in name:
        shape = "typeof({0}) <> 'text' or datetime({0}) is null or {0} not glob '????-??-??[ T]??:??:??*'"
        shape += f" or length({{0}}) > 19 and ({_FINER} or {_NO_OFFSET})"
        shape += f" or {_IS_NO_DAY} or substr({{0}}, 12, 2) = '24'"
        return Affinity(
            replace(kinds.TIMESTAMP, local="({}::TIMESTAMPTZ at time zone 'UTC')"), f"{{0}} is not null and ({shape})"
        )
    if "bool" in name:
        kind = replace(kinds.BOOLEAN, remote="cast({} as text)", local="{}::BOOLEAN")
        return Affinity(kind, "{0} is not null and {0} not in (0, 1)")
    found = _DIGITS.match(name) if name.startswith(("decimal", "numeric")) else None
    if found and kinds.is_decimal(*(digits := (int(found[1]), int(found[2] or 0)))):
        return _decimal(*digits)
    words = (one for one in _AFFINITIES if one in name)
    return _AFFINITIES.get(next(words, ""), _typed(_SPELLED, "text", "integer", "real"))


def _decimal(precision: int, scale: int) -> Affinity:
    whole = f"abs({{0}}) < 1e{precision - scale} and round({{0}}, {scale}) = {{0}}"
    kind = kinds.decimal(precision, scale, f"printf('%.{scale}f', {{}})")
    return Affinity(replace(kind, bound=""), f"{{0}} is not null and (typeof({{0}}) = 'text' or not ({whole}))")


class SQLite(Dialect):
    """SQLite, as a dialect."""

    name = "sqlite"
    executable = "tap-sqlite"
    count = "text"
    settings = (Setting("path_to_database", "string", "The database's file"),)

    def attach(self, config: Config, folder: str) -> list[str]:  # noqa: ARG002
        """Attach the file."""
        path = config.given.get("path_to_database")
        if not path:
            raise SettingsError("path_to_database: set the database's file")
        if not Path(path).is_file():
            raise SettingsError(f"path_to_database: no such file: {path}")
        return [f"attach {sql.literal(path)} as {SOURCE} (type sqlite, read_only)"]

    def server(self, config: Config) -> Server | None:  # noqa: ARG002
        """There is none."""
        return None

    def tables(self, ask: Ask, config: Config, only: Iterable[tuple[str, str]] | None = None) -> list[Table]:  # noqa: ARG002
        """Return the tables and views; a column with values of other types than declared is text."""
        names = None if only is None else ", ".join(sql.literal(table) for _, table in only)
        found, declared = Listed(), dict[str, dict[str, str]]()
        statement = _TABLES.format(tables="1" if names is None else f"t.name in ({names})")
        for name, is_view, column, kind, not_null, place in ask(statement):
            declared.setdefault(name, {})[column] = kind or ""
            read = Column(column, affinity(kind or "").kind, not_null == "0")
            found.add(Table(_SCHEMA, name, {}, is_view=is_view == "1"), read, int(place) or None)
        tables = found.tables()
        for table in tables:
            self._look_at_values(ask, table, declared[table.name])
        return tables

    def _look_at_values(self, ask: Ask, table: Table, declared: dict[str, str]) -> None:
        """Make text of columns whose values have other types than declared, and refuse bytes in such.

        With numbers among its texts such a column has no order: to SQLite each text is greater than all numbers.
        """
        columns = list(table.columns)
        others = (affinity(declared[one]).is_other.format(sql.name(one)) for one in columns)
        bytes_ = (f"typeof({sql.name(one)}) = 'blob'" for one in columns)
        numbers = (f"typeof({sql.name(one)}) in ('integer', 'real')" for one in columns)
        looked = ", ".join(f"max({one}) as n{place}" for place, one in enumerate((*others, *bytes_, *numbers)))
        (row,) = ask(f"select {looked} from {sql.name(table.name)}")
        for place, column in enumerate(columns):
            kind, is_other, has_bytes, has_numbers = table.columns[column].kind, *row[place :: len(columns)]
            if is_other == "1":
                kind = replace(_SPELLED, bound="timestamp" if kind.bound == "timestamp" else "text")
                if has_bytes == "1":
                    table.unreadable[column] = "declared as no BLOB, and bytes are in it; leave the column out"
            if kind.remote == _SPELLED.remote and has_numbers == "1":
                kind = replace(kind, bound="")
            table.columns[column] = replace(table.columns[column], kind=kind)

    def horizon(self, ask: Ask, overlap_seconds: int) -> Horizon:  # noqa: ARG002
        """Return a time that lies `overlap_seconds` back: a file does not say who writes to it."""
        at = datetime.now(UTC) - timedelta(seconds=overlap_seconds)
        local = min(at, at.astimezone().replace(tzinfo=UTC))
        utc, here = (one.strftime("%Y-%m-%dT%H:%M:%S") for one in (at, local))
        return Horizon(utc, here, is_seen=True)

    def literal(self, value: str, bound: str) -> str:
        """Write a bound."""
        if bound == "integer":
            return str(int(value))
        return self.ordered(sql.literal(value), bound)

    def text(self, expression: str, bound: str) -> str:  # noqa: ARG002
        """Write a key as text."""
        return f"cast({expression} as text)"

    def ordered(self, key: str, bound: str) -> str:
        """Return the second of a time in UTC: as texts, a blank is less than `T`, and offsets say nothing."""
        return _SECOND.format(key) if bound == "timestamp" else key
