"""Add entries to lists of YAML files and take them out as text, so that comments and everything else stay."""

from __future__ import annotations

import typing as t

import yaml

from elt.errors import ConfigError

if t.TYPE_CHECKING:
    from pathlib import Path

NAMES = ("name", "entity", "value")
"""Keys of which an entry of a list has one, whose value is what it is called."""


def insert(path: Path, text: str, where: t.Sequence[str], entry: t.Callable[[int], str]) -> str:
    """Return the text of a file with an entry more at the end of a list.

    Args:
        path: the file, for messages.
        text: what it holds.
        where: keys that lead to the list; in a list, the name of an entry, or a key that one of its entries has.
        entry: makes the text of the entry, whose `-` is indented by so many blanks.

    Raises:
        ConfigError: there is no such list, or not in block style.
    """
    node = _composed(text)
    for key in where:
        node = _below(node, key)
    if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
        raise ConfigError(f"{path}: no list `{': '.join(where)}` with an item a line to add to: paste the entry")
    place = _end(text, node.value[-1])
    return text[:place] + entry(node.value[0].start_mark.column - 2) + text[place:]


def entry(text: str, where: t.Sequence[str], name: str) -> tuple[int, int] | None:
    """Return where the lines of an entry of a list begin and end; None if no entry is called so."""
    node = _composed(text)
    for key in (*where, name):
        node = _below(node, key)
    if node is None:
        return None
    return text.rfind("\n", 0, node.start_mark.index) + 1, _end(text, node)


def _composed(text: str) -> yaml.Node | None:
    found: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return found


def _end(text: str, node: yaml.Node) -> int:
    """Return where the lines of an entry end; comments that follow belong to the next part."""
    last = node.end_mark.index
    start = text.rfind("\n", 0, last) + 1
    end = last if not text[start:last].strip() else text.find("\n", last) + 1
    lines = text[:end].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return len("".join(lines))


def _below(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode):
        named = (one for one in node.value for name in NAMES if getattr(_below(one, name), "value", None) == key)
        holding = (found for one in node.value if (found := _below(one, key)) is not None)
        return next(named, None) or next(holding, None)
    return None
