"""What a catalog selects: streams and columns by their metadata."""

from __future__ import annotations

import typing as t

Marks = t.Mapping[str, t.Any]


def marks_of(stream: Marks) -> dict[tuple[str, ...], Marks]:
    """Return the metadata of a catalog's stream by its breadcrumbs; its own is that of the empty one."""
    return {tuple(one["breadcrumb"]): one["metadata"] for one in stream.get("metadata", ())}


def is_selected(stream: Marks) -> bool:
    """Say whether a catalog's stream is chosen."""
    return is_chosen(marks_of(stream).get((), {}))


def is_chosen(marks: Marks) -> bool:
    """Say whether what bears such metadata is chosen."""
    if marks.get("inclusion") in {"automatic", "unsupported"}:
        return bool(marks["inclusion"] == "automatic")
    chosen = marks.get("selected")
    return bool(marks.get("selected-by-default", True) if chosen is None else chosen)
