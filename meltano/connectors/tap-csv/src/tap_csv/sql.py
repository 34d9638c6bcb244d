"""Names, literals and readers, as DuckDB's SQL writes them."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tap_csv.config import Dialect


def name(text: str) -> str:
    """A quoted identifier."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted text."""
    return "'" + text.replace("'", "''") + "'"


def names(texts: Iterable[str]) -> str:
    """Quoted identifiers with commas between."""
    return ", ".join(map(name, texts))


def path(file: Path) -> str:
    """A file's path as a text that DuckDB does not take for a pattern."""
    return literal("".join(f"[{one}]" if one in "*?[" else one for one in str(file)))


def read_csv(file: Path, types: Mapping[str, str], dialect: Dialect) -> str:
    """Rows of a file without a header, where nothing is guessed and an empty field is null.

    Not in parallel: DuckDB would look for beginnings of rows in the middle, and take some within quotes for such.
    """
    columns = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in types.items())
    quote = literal(dialect.quotechar)
    return (
        f"read_csv({path(file)}, columns = {{{columns}}}, auto_detect = false, header = false, nullstr = '', "
        f"delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote}, comment = '', strict_mode = true, "
        "parallel = false, hive_partitioning = false)"
    )


def read_rows(file: Path, longest: int) -> str:
    """Rows of a file of JSON lines that hold a line number and a list of fields: columns `line` and `row`."""
    columns = "{'line': 'BIGINT', 'row': 'VARCHAR[]'}"
    return (
        f"read_json({path(file)}, columns = {columns}, format = 'newline_delimited', hive_partitioning = false, "
        f"maximum_object_size = {longest})"
    )
