"""Settings of a connector: what there is, and the values that are given, checked."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from elt_singer.errors import SettingsError

if t.TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Mapping, Sequence


class Setting(t.NamedTuple):
    """One setting, as `--about` shows it."""

    name: str
    kind: str
    """Its type in JSON."""
    description: str
    default: object = None
    obsolete: str = ""
    """Why the setting has no effect here; it is accepted with a warning."""
    items: Sequence[Setting] = ()
    """The settings of each entry of a list."""


_PYTHON = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list}
_WORDS = {"true": True, "false": False}


def checked(raw: Mapping[str, t.Any], known: Iterable[Setting], where: str = "") -> dict[str, t.Any]:
    """Return the settings that are given or have a default; what is not among the known ones is left out.

    Args:
        raw: what is given. Text for a number or a flag is what an environment variable gives, and becomes it.
        known: the settings.
        where: what the message of an error begins with.

    Raises:
        SettingsError: a value is of another type.
    """
    given: dict[str, t.Any] = {}
    for one in known:
        value = raw.get(one.name)
        if value is None or one.obsolete:
            if one.default is not None:
                given[one.name] = one.default
            continue
        if isinstance(value, str) and one.kind == "boolean":
            value = _WORDS.get(value.lower(), value)
        elif isinstance(value, str) and one.kind == "integer" and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if not isinstance(value, _PYTHON[one.kind]) or (one.kind == "integer" and isinstance(value, bool)):
            raise SettingsError(f"{where}{one.name} must be of type {one.kind}")
        given[one.name] = value
    return given


def warn(raw: Iterable[str], known: Iterable[Setting], logger: logging.Logger) -> None:
    """Warn of each setting that has no effect, because it is unknown or obsolete."""
    names = {one.name: one for one in known}
    for name in raw:
        if name not in names:
            logger.warning("setting %s is unknown and has no effect", name)
        elif names[name].obsolete:
            logger.warning("setting %s has no effect: %s", name, names[name].obsolete)


def json_schema(settings: Iterable[Setting]) -> dict[str, t.Any]:
    """Describe an object of these settings."""
    properties = {
        one.name: {"type": [one.kind, "null"], "description": one.description or f"No effect: {one.obsolete}"}
        | ({} if one.default is None else {"default": one.default})
        | ({"items": json_schema(one.items)} if one.items else {})
        for one in settings
    }
    return {"type": "object", "properties": properties}


def read_json(file: str) -> dict[str, t.Any]:
    """Return the object that a file holds.

    Raises:
        SettingsError: the file cannot be read or holds none.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{file} must hold an object")
    return found


def merged(files: Iterable[str]) -> dict[str, t.Any]:
    """Return the settings of several files, where the later ones win.

    Raises:
        SettingsError: a file cannot be read or holds no object.
    """
    found: dict[str, t.Any] = {}
    for file in files:
        found |= read_json(file)
    return found
