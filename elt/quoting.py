"""Quote names and texts for SQL statements, and for files of dbt, which takes them for templates.

Also where DuckDB takes parameters: to know their types it would import pandas, which costs a fifth of a second.
"""

from __future__ import annotations

import json
import re
import typing as t


def text(value: object) -> str:
    """Return a text (such as a path) as a literal, quotes included."""
    return "'" + str(value).replace("'", "''") + "'"


def name(value: str) -> str:
    """Return the name of a table or column as an identifier, quotes included."""
    return '"' + value.replace('"', '""') + '"'


def template(value: str) -> str:
    """Return a text as a template of Jinja that stands for it: a name from elsewhere must not run as one."""
    return f"{{{{ {json.dumps(value, ensure_ascii=False)} }}}}" if re.search(r"\{[{%#]", value) else value


def templates(value: t.Any) -> t.Any:  # noqa: ANN401 - what YAML holds
    """Return a structure with each text in it as a template that stands for it."""
    if isinstance(value, dict):
        return {key: templates(one) for key, one in value.items()}
    return (
        [*map(templates, value)] if isinstance(value, list) else template(value) if isinstance(value, str) else value
    )
