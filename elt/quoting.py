"""Quote names and texts for SQL statements.

Also where DuckDB takes parameters: to know their types it would import pandas, which costs a fifth of a second.
"""

from __future__ import annotations


def text(value: object) -> str:
    """Return a text (such as a path) as a literal, quotes included."""
    return "'" + str(value).replace("'", "''") + "'"


def name(value: str) -> str:
    """Return the name of a table or column as an identifier, quotes included."""
    return '"' + value.replace('"', '""') + '"'
