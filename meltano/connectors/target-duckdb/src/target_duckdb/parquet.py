"""Files of parquet: read where they lie, and checked before a transaction begins to depend on them."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import typing as t

import duckdb
from elt_singer.parquet import cut

from target_duckdb import sql
from target_duckdb.database import one_line
from target_duckdb.errors import InputError
from target_duckdb.stage import Stage
from target_duckdb.stream import VERSION

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from target_duckdb.schema import Column
    from target_duckdb.stream import Stream

_ROW = "file_row_number"


def stage(connection: duckdb.DuckDBPyConnection, stream: Stream, path: Path) -> Stage:
    """Take a file where it lies: DuckDB reads of it only the columns that a step needs.

    Raises:
        InputError: it cannot be read, or a value does not fit.
    """
    plain = f"read_parquet({sql.path(str(path))}, hive_partitioning = false"
    source = f"{plain}, {_ROW} = true)"
    try:
        described = connection.execute(f"describe select * from {plain})").fetchall()
        if any(name.lower() == _ROW for name, *_ in described):
            what = "DuckDB gives this name to the numbers of rows: leave it out, or send the stream as RECORDs"
            raise InputError(what, stream=stream.name, file=path, column=_ROW)
        counted = connection.execute(f"select count(*) from {source}").fetchone()
    except duckdb.Error as error:
        raise InputError(f"cannot be read: {one_line(error)}", stream=stream.name, file=path) from error
    assert counted
    there = {name: kind for name, kind, *_ in described}
    lower = {name.lower(): name for name in there}

    def kind(expression: str) -> str:
        row = connection.execute(f"describe select {expression} from {plain})").fetchone()
        assert row
        return str(row[1])

    used = {lower.get(column.path[0].lower(), "") for column in stream.columns}
    for column, what in cut(connection, path, {name: one for name, one in there.items() if name in used}).items():
        raise InputError(what, stream=stream.name, file=path, column=column)
    values = {column.name: _value(column, there, lower, kind) for column in stream.columns}
    kinds = {column.name: column.type for column in stream.columns}
    for name, value in values.items():
        _check(connection, stream, path, source, name, value, kinds[name])
    if not stream.versions or VERSION not in there:
        return Stage(source, _ROW, values, counted[0])
    values[VERSION] = sql.convert(VERSION, there[VERSION], "BIGINT")
    _check(connection, stream, path, source, VERSION, f"{VERSION}::BIGINT", "BIGINT")
    versions = connection.execute(f"select count({VERSION}) from {source}").fetchone()
    assert versions
    return Stage(source, _ROW, values, counted[0], versions[0])


def _check(
    connection: duckdb.DuckDBPyConnection, stream: Stream, path: Path, source: str, name: str, value: str, kind: str
) -> None:
    """Refuse a column whose values do not fit, before the transaction begins to depend on it."""
    if value.startswith('"') and "::" not in value:
        return  # taken as it is
    try:
        connection.execute(f"select count({value}) from {source}").fetchall()
    except duckdb.Error as error:
        what = f"a value does not fit {kind}"
        raise InputError(what, stream=stream.name, file=path, column=name) from error


def _value(column: Column, there: dict[str, str], lower: dict[str, str], kind: Callable[[str], str]) -> str:
    """Return the expression that makes a column of what the parquet file holds.

    Args:
        column: the column.
        there: types in the file by their names.
        lower: these names by themselves in lower case.
        kind: tells the type of an expression over the file.
    """
    first = column.path[0] if column.path[0] in there else lower.get(column.path[0].lower())
    if first is None:
        flat = lower.get(column.name)
        return sql.convert(sql.name(flat), there[flat], column.type) if flat else f"null::{column.type}"
    if len(column.path) == 1:
        return sql.convert(sql.name(first), there[first], column.type)
    if there[first] in {"VARCHAR", "JSON"}:
        pointer = sql.literal("".join("/" + key.replace("~", "~0").replace("/", "~1") for key in column.path[1:]))
        return sql.convert(f"json_extract_string({sql.name(first)}, {pointer})", "VARCHAR", column.type)
    value = ".".join(map(sql.name, (first, *column.path[1:])))
    return sql.convert(value, kind(value), column.type)
