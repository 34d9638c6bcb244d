"""Names, literals and paths, as DuckDB's SQL writes them."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def name(text: str) -> str:
    """Quote an identifier."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text."""
    return "'" + text.replace("'", "''") + "'"


def names(texts: Iterable[str]) -> str:
    """Quote identifiers and put commas between them."""
    return ", ".join(map(name, texts))


def path(file: Path | str) -> str:
    """Quote a file's path so that DuckDB does not take it for a pattern."""
    return literal("".join(f"[{one}]" if one in "*?[" else one for one in str(file)))
