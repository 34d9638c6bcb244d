"""List the optional parts of the workspace, whether each runs, and what it needs."""

from __future__ import annotations

import importlib.util
import typing as t

from elt.config import services

if t.TYPE_CHECKING:
    from elt.config.services import Part
    from elt.config.settings import Settings


def show(settings: Settings) -> None:
    """Print a table of the optional parts."""
    off = services.parts_off(settings.elt_parts)
    print(f"{'part':<12} {'runs':<5} {'needs':<32} what it is")
    for part in services.PARTS:
        print(f"{part.name:<12} {'no' if part.name in off else 'yes':<5} {_needs(part):<32} {part.about}")
    print("ELT_PARTS in .env names those that run; scripts/down.sh and scripts/up.sh after a change")


def is_installed(part: Part) -> bool:
    """Return whether the Python module that a part needs is installed."""
    return not part.module or importlib.util.find_spec(part.module) is not None


def _needs(part: Part) -> str:
    if is_installed(part):
        return "nothing more"
    return f"uv sync --group {part.group}" if part.group else "scripts/bootstrap.sh"
