"""Names, literals and paths, as DuckDB's SQL writes them."""

from __future__ import annotations

import re
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


def text_of_double(value: str) -> str:
    """Return the expression of a DOUBLE's text, which gives it back.

    DuckDB (1.5.5) writes 2 ** 81 as 2 ** 82, 2 ** 91 as 2 ** 92, and 2 ** 807 with a letter.
    """
    text = f"({value})::VARCHAR"
    same = f"try_cast({text} as DOUBLE) is not distinct from {value}"
    return f"case when {same} then {text} else printf('%.17g', {value}) end"


def to_json(value: str, kind: str) -> str:
    """Return the expression of a value of a type as JSON.

    DuckDB (1.5.5) would write `.5` for a DECIMAL(1,1), which is no JSON; of 38 digits there is no wider one.
    """
    wider = re.sub(r"DECIMAL\((\d+),\1\)", lambda found: f"DECIMAL({min(int(found[1]) + 1, 38)},{found[1]})", kind)
    return f"to_json({value})" if wider == kind else f"to_json({value}::{wider})"
