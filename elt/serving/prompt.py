"""Open a read-only SQL prompt on the published marts, or on the warehouse of a local run."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t

from elt import layout, quoting
from elt.config import settings
from elt.errors import DataError
from elt.serving.duckdb_copy import LINK, SEARCH_PATH, latest
from elt.warehouse import factory

if t.TYPE_CHECKING:
    from pathlib import Path


def prompt(query: str | None, environment: str | None = None, *, local: bool = False, unsafe: bool = False) -> None:
    """Open a read-only SQL prompt, or run one query and print its result.

    It reads and writes no other file and runs no program, since a query may be somebody else's.

    Args:
        query: SQL; none opens a prompt that replaces this process.
        environment: which one's; default: ELT_ENVIRONMENT.
        local: read the warehouse of `elt run` instead of what was published.
        unsafe: let it use files, extensions and programs.

    Raises:
        DataError: there is nothing to read yet.
        SystemExit: with 1, when the query fails.
    """
    environment = environment or settings.load().elt_environment
    path = _local_warehouse(environment) if local else _published(layout.published(environment))
    program = str(layout.package("duckdb_cli") / "duckdb")
    command = [*filter(None, (layout.LOADER, program)), "-readonly", str(path)]
    for name, value in (("extension_directory", layout.DUCKDB_EXTENSIONS), ("search_path", SEARCH_PATH)):
        command += ["-cmd", f"set {name} = {quoting.text(value)}"]
    if not sys.stdout.isatty():
        command += ["-cmd", ".highlight off"]
    if not unsafe:
        command += ["-cmd", ".safe_mode"]  # the last one, as it locks all settings
    if query is None:
        os.execv(command[0], command)  # noqa: S606 - that is what a prompt is for
    sys.stdout.flush()
    command += ["-dark-mode"]  # else it asks the terminal for its colours, and waits for those that do not answer
    sys.exit(1 if subprocess.run([*command, "-c", query], check=False).returncode else 0)


def _published(folder: Path) -> Path:
    """Return the newest copy, and print its time of publication to standard error."""
    when, environment = latest(folder)
    path = (folder / LINK).resolve()
    print(f"published {when:%Y-%m-%d %H:%M:%S} UTC from {environment}: {path}", file=sys.stderr)
    return path


def _local_warehouse(environment: str) -> Path:
    warehouse = factory.local_warehouse(environment)
    if not warehouse.exists():
        raise DataError(f"sql: {warehouse} is missing: run `elt run` first")
    path = warehouse.path
    print(f"warehouse of `elt run`: {path}", file=sys.stderr)
    return path
