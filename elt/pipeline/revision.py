"""Which commit a run works with, and whether it holds all that the run reads; without git nothing is known."""

from __future__ import annotations

import subprocess

from elt import layout
from elt.errors import ConfigError

GUARDED = "prod"
"""The environment that takes nothing uncommitted unless it is told to."""
PATHS = ("meltano", "transform", "airflow/dags")
_SHOWN = 3


def refuse_uncommitted(environment: str, *, forced: bool) -> str:
    """Check that prod gets what is committed, and return a warning of commits that nobody else has; mostly empty.

    A scheduled run must not stop for a push that is late, hence a warning.

    Raises:
        ConfigError: files are changed, new or gone.
    """
    if environment != GUARDED or forced:
        return ""
    if changed := _changed():
        shown = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
        raise ConfigError(f"{GUARDED} takes what is committed, and {shown} is not: commit it, or give --uncommitted")
    ahead = _git("rev-list", "--count", "@{upstream}..HEAD")
    return f"{GUARDED} works with {ahead} commits that are not pushed" if ahead.strip("0") else ""


def current() -> str:
    """Return the commit, with `+` behind it if something is not committed; empty without git."""
    commit = _git("rev-parse", "HEAD")
    return f"{commit}+" if commit and _changed() else commit


def _changed() -> list[str]:
    lines = _git("status", "--porcelain", "--untracked-files=all", "--", *PATHS).splitlines()
    return [line.strip().partition(" ")[2].strip() for line in lines]


def _git(*words: str) -> str:
    """Return what git says; empty if there is no git, no clone, or no answer."""
    try:
        done = subprocess.run(["git", "-C", str(layout.ROOT), *words], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
