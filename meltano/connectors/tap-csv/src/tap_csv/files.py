"""Which files the path of an entity stands for."""

from __future__ import annotations

import glob
import os
import typing as t
from pathlib import Path

from tap_csv.errors import InputError

SUFFIXES = (".csv", ".csv.gz")
"""What a folder is searched for; a file or a glob is taken as named."""


def find(named: str) -> list[Path]:
    """The files, sorted so that two runs read them in the same order.

    Args:
        named: a file, a folder or a glob.

    Raises:
        InputError: nothing is there, or a folder cannot be listed.
    """
    path = Path(named)
    # What exists under the very name goes first: a name may hold a bracket and be no glob.
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return [path]
    if not glob.has_magic(named):
        reason = "is a link to nothing" if path.is_symlink() else "no such file or folder"
        raise InputError(reason, path)
    found = sorted(Path(one) for one in glob.glob(named, recursive=True) if Path(one).is_file())  # noqa: PTH207 - the pattern may be absolute
    if not found:
        raise InputError("no file matches", path)
    return found


def _in_folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> t.NoReturn:
        raise InputError(f"cannot be listed: {error.strerror}", error.filename)

    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    if not found:
        raise InputError(f"the folder holds no {' or '.join(SUFFIXES)} file", folder)
    return found
