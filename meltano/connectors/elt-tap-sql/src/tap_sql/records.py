"""RECORD messages, as DuckDB writes them from a file of rows."""

# ruff: noqa: S608 - names and values of the query are quoted by sql.name and sql.literal

from __future__ import annotations

import re
import typing as t

from elt_singer import sql

if t.TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import duckdb

    from tap_sql.model import Column

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def write(
    connection: duckdb.DuckDBPyConnection,
    rows: Path,
    goal: Path,
    stream: str,
    columns: Iterable[Column],
    extracted: str,
    version: int | None,
) -> None:
    """Write a RECORD message for each row.

    Args:
        connection: a DuckDB.
        rows: the file of rows.
        goal: the file of lines.
        stream: its name.
        columns: those of the rows.
        extracted: when the rows were read, as ISO 8601 writes it.
        version: that of the table, if it has one.
    """
    fields = ", ".join(f"{sql.name(one.name)} := {_value(one)}" for one in columns)
    versioned = "" if version is None else f", {version}::BIGINT as version"
    select = (
        f"select 'RECORD' as type, {sql.literal(stream)} as stream, struct_pack({fields}) as record, "
        f"{sql.literal(extracted)} as time_extracted{versioned} from read_parquet({sql.path(rows)})"
    )
    connection.execute(f"copy ({select}) to {sql.literal(str(goal))} (format json)")


def _value(column: Column) -> str:
    name, kind = sql.name(column.name), column.kind.duckdb
    if kind == "TIMESTAMP":
        form = f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        return f"case when isfinite({name}) then {form} else {name}::VARCHAR end"
    if kind == "DOUBLE":  # JSON has neither infinities nor NaN
        word = f"case when isnan({name}) then 'NaN' when {name} > 0 then 'Infinity' else '-Infinity' end"
        return f"case when coalesce(isfinite({name}), true) then to_json({name}) else to_json({word}) end"
    if kind == "JSON":
        return f"{name}::JSON"
    if (found := _DECIMAL.fullmatch(kind)) and found[1] == found[2]:
        return f"{name}::DECIMAL({int(found[1]) + 1},{found[2]})"  # DuckDB would write .5, which is no JSON
    return name
