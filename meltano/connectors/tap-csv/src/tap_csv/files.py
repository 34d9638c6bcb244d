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
    found: dict[Path, Path] = {}
    for one in sorted(map(Path, glob.glob(named, recursive=True))):  # noqa: PTH207 - the pattern may be absolute
        if one.is_symlink() and not one.exists():
            raise InputError("is a link to nothing", one)
        if one.is_file():
            found.setdefault(one.resolve(), one)  # `**` follows links, round and round
    if not found:
        raise InputError("no file matches", path)
    return list(found.values())


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, which could be waited for in vain."""
    return path.exists() and not path.is_file()


def _in_folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> t.NoReturn:
        raise InputError(f"cannot be listed: {error.strerror}", error.filename)

    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.lower().endswith(SUFFIXES) and not _is_special(Path(parent, name))
    )
    if not found:
        raise InputError(f"the folder holds no {' or '.join(SUFFIXES)} file", folder)
    return found
