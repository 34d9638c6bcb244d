"""RECORD messages, as DuckDB writes them from a file of rows."""

# ruff: noqa: S608 - names and values of the query are quoted by sql.name and sql.literal

from __future__ import annotations

import json
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
    columns = list(columns)
    head: dict[str, t.Any] = {"type": "RECORD", "stream": stream, "time_extracted": extracted}
    head |= {} if version is None else {"version": version}
    if any(one.kind.duckdb == "JSON" for one in columns):
        begin = sql.literal(json.dumps(head)[:-1] + ', "record":{')
        members = " || ',' || ".join(f"{sql.literal(json.dumps(one.name) + ':')} || {_json(one)}" for one in columns)
        select = f"{begin} || {members} || {sql.literal('}}')}"
        form = "format csv, header false, quote '', escape '', delimiter '\x01'"
    else:
        values = [
            f"{sql.literal(value) if isinstance(value, str) else value} as {name}" for name, value in head.items()
        ]
        fields = ", ".join(f"{sql.name(one.name)} := {_value(one)}" for one in columns)
        select, form = ", ".join([*values, f"struct_pack({fields}) as record"]), "format json"
    source = f"read_parquet({sql.path(rows)})"
    connection.execute(f"copy (select {select} from {source}) to {sql.literal(str(goal))} ({form})")


def _json(column: Column) -> str:
    """Return the text of a value; that of JSON as it stands, since DuckDB would round numbers in it to 17 digits."""
    name = sql.name(column.name)
    text = (
        f"translate({name}, E'\n\r', '  ')" if column.kind.duckdb == "JSON" else f"to_json({_value(column)})::VARCHAR"
    )
    return f"coalesce({text}, 'null')"


def _value(column: Column) -> str:
    name, kind = sql.name(column.name), column.kind.duckdb
    if kind == "TIMESTAMP":
        form = f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        return f"case when isfinite({name}) then {form} else {name}::VARCHAR end"
    if kind == "DOUBLE":  # JSON has neither infinities nor NaN
        word = f"case when isnan({name}) then 'NaN' when {name} > 0 then 'Infinity' else '-Infinity' end"
        return f"case when coalesce(isfinite({name}), true) then to_json({name}) else to_json({word}) end"
    if (found := _DECIMAL.fullmatch(kind)) and found[1] == found[2]:
        return f"{name}::DECIMAL({int(found[1]) + 1},{found[2]})"  # DuckDB would write .5, which is no JSON
    return name
