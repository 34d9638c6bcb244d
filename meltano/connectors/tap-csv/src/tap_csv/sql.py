"""Readers of files, as DuckDB's SQL writes them, beside names and literals."""

from __future__ import annotations

import typing as t

from elt_singer.sql import literal, name, names, path, text_of_double, to_json

if t.TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tap_csv.config import Dialect

__all__ = ["literal", "name", "names", "path", "read_csv", "read_rows", "text_of_double", "to_json"]


_LINE_BYTES, _BUFFER_BYTES = 2_000_000, 32_000_000
"""DuckDB's own limit of a line, and what it reads at once."""


def read_csv(file: Path, types: Mapping[str, str], dialect: Dialect, longest: int) -> str:
    """Rows of a file without a header, where nothing is guessed and an empty field is null.

    Not in parallel: DuckDB would look for beginnings of rows in the middle, and take some within quotes for such.

    Args:
        file: the file.
        types: of its columns.
        dialect: how its rows are written.
        longest: bytes of the longest value; a row that is longer than DuckDB's limit, or this, is refused.
    """
    columns = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in types.items())
    quote = literal(dialect.quotechar)
    return (
        f"read_csv({path(file)}, columns = {{{columns}}}, auto_detect = false, header = false, nullstr = '', "
        f"delim = {literal(dialect.delimiter)}, quote = {quote}, escape = {quote}, comment = '', strict_mode = true, "
        f"max_line_size = {min(longest, _LINE_BYTES)}, buffer_size = {_BUFFER_BYTES}, parallel = false, "
        "hive_partitioning = false)"
    )


def read_rows(file: Path, longest: int) -> str:
    """Rows of a file of JSON lines that hold a line number and a list of fields: columns `line` and `row`."""
    columns = "{'line': 'BIGINT', 'row': 'VARCHAR[]'}"
    return (
        f"read_json({path(file)}, columns = {columns}, format = 'newline_delimited', hive_partitioning = false, "
        f"maximum_object_size = {longest})"
    )
