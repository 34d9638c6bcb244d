"""Names, literals and conversions, as DuckDB's SQL writes them."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_WITH_ZONE = ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
_EXACT_IN_DOUBLE = 2**53
"""Integers below it are the same as DOUBLE and as text."""


def name(text: str) -> str:
    """A quoted identifier."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted text."""
    return "'" + text.replace("'", "''") + "'"


def names(texts: Iterable[str]) -> str:
    """Quoted identifiers with commas between."""
    return ", ".join(map(name, texts))


def path(file: str) -> str:
    """A file's path as a text that DuckDB does not take for a pattern."""
    return literal("".join(f"[{one}]" if one in "*?[" else one for one in file))


def json_type(target: str, *, exact: bool) -> str:
    """The type to let the JSON reader make of a value that becomes a `target`.

    Args:
        target: type of the column.
        exact: numbers are read as text, which is slower and holds every integer, and tells a number that is too large
            from an infinity that was meant. DuckDB rounds a fraction when it reads one as integer, and would not say
            so.
    """
    if target == "BIGINT":
        return "VARCHAR" if exact else "DOUBLE"
    if target == "DOUBLE":
        return "JSON" if exact else "DOUBLE"  # where true is 1, as it is in DOUBLE
    if target == "TIMESTAMP":
        return "TIMESTAMPTZ"  # TIMESTAMP would pass over the offset
    # A number with a fraction is rounded to DOUBLE before it becomes a DECIMAL; as text it stays.
    return "VARCHAR" if target in {"HUGEINT", "TIME"} or target.startswith("DECIMAL") else target


def from_json(value: str, target: str, *, exact: bool) -> str:
    """An expression that makes `target` of a value that was read as `json_type` says; fails where it does not fit."""
    if target == "BIGINT" and not exact:
        safe = f"{value} = floor({value}) and abs({value}) < {_EXACT_IN_DOUBLE}"
        return f"case when {value} is null then null when {safe} then {value}::BIGINT else error('inexact') end"
    if target == "DOUBLE" and not exact:
        return f"case when isinf({value}) then error('inexact')::DOUBLE else {value} end"
    read = json_type(target, exact=exact)
    return value if read == target else convert(value, read, target)


def convert(value: str, source: str, target: str) -> str:
    """An expression that makes `target` of a `source`, and fails where a value does not fit."""
    if target == "JSON":
        return _to_json(value, source)
    if target in {"BIGINT", "HUGEINT"} and source not in INTEGERS + _UNSIGNED:
        return _to_integer(value, source, target)
    if target == "DOUBLE" and source in {"VARCHAR", "JSON"}:
        too_large = f"isinf({value}::DOUBLE) and regexp_matches({value}, '[0-9]')"
        value = f"(case when {too_large} then error('too large') else {value} end)"
    if target == "TIME" and source == "VARCHAR":
        return f"('2000-01-01 ' || {value})::TIMESTAMPTZ::TIMESTAMP::TIME"  # an offset counts
    if target == "TIMESTAMP" and source in {"VARCHAR", *_WITH_ZONE}:
        return _to_timestamp(value if source != "VARCHAR" else f"({value}::TIMESTAMPTZ)")
    if target == "VARCHAR" and (source.startswith(("STRUCT", "MAP")) or source.endswith("]")):
        return f"{_to_json(value, source)}::VARCHAR"
    return value if source == target else f"{value}::{target}"


def _to_json(value: str, source: str) -> str:
    if source == "JSON":
        return f"json({value})"  # without blanks, as from a RECORD
    if source in {"VARCHAR", "BLOB"}:
        return f"case when json_valid({value}::VARCHAR) then json({value}::VARCHAR) else to_json({value}) end"
    return f"case when {value} is not null then to_json({value}) end"


def _to_integer(value: str, source: str, target: str) -> str:
    """DuckDB would round a fraction, and has rounded a number that has one or an exponent to DOUBLE."""
    double = f"{value}::DOUBLE" if source == "VARCHAR" else value
    fraction = f"{double} <> floor({double})"
    if source in {"DOUBLE", "FLOAT", "VARCHAR"}:
        fraction += f" or abs({double}) >= {_EXACT_IN_DOUBLE}"
    if source == "VARCHAR":
        written = " or ".join(f"contains({value}, '{mark}')" for mark in ".eE")
        fraction = f"({written}) and ({fraction})"
    return f"case when {fraction} then error('fraction')::{target} else {value}::{target} end"


def _to_timestamp(value: str) -> str:
    """The cast asks the time zone database for every value; only infinities are left to it."""
    return f"coalesce(make_timestamp(epoch_us({value})), {value}::TIMESTAMP)"
