"""Which files an entity is read from, and how: one entry of the `files` setting, checked."""

from __future__ import annotations

import codecs
import csv
import glob
import os
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from tap_csv.errors import InputError, SettingsError

SUFFIX = ".csv"
"""What a folder is searched for; a file or a glob is taken as named."""

DIALECT = ("delimiter", "doublequote", "escapechar", "quotechar", "skipinitialspace", "strict")
"""Settings handed to Python's csv module, which owns their defaults."""


@dataclass(frozen=True)
class FileSettings:
    """One entry of the `files` setting."""

    entity: str
    path: str
    keys: tuple[str, ...] = ()
    encoding: str = "utf-8-sig"
    dialect: dict[str, t.Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, entry: t.Mapping[str, t.Any]) -> FileSettings:
        """Check one entry that already fits the JSON schema.

        Raises:
            SettingsError: Python knows no such encoding, or its csv module refuses the dialect.
        """
        dialect = {name: entry[name] for name in DIALECT if entry.get(name) is not None}
        try:
            csv.reader((), **dialect)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"entity {entry['entity']!r}: {error}") from None
        return cls(
            entity=entry["entity"],
            path=entry["path"],
            keys=tuple(entry["keys"]),
            encoding=_encoding(entry.get("encoding") or "utf-8", entry["entity"]),
            dialect=dialect,
        )

    def find(self) -> list[Path]:
        """The files, sorted so that two runs read them in the same order.

        Raises:
            InputError: nothing is there, or a folder cannot be listed.
        """
        path = Path(self.path)
        # What exists under the very name goes first: a name may hold a bracket and be no glob.
        if path.is_dir():
            return _in_folder(path)
        if path.exists():
            return [path]
        if not glob.has_magic(self.path):
            reason = "is a link to nothing" if path.is_symlink() else "no such file or folder"
            raise InputError(reason, path)
        found = sorted(Path(one) for one in glob.glob(self.path, recursive=True) if Path(one).is_file())  # noqa: PTH207 - the pattern may be absolute
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
        if name.lower().endswith(SUFFIX)
    )
    if not found:
        raise InputError(f"the folder holds no {SUFFIX} file", folder)
    return found


def _encoding(name: str, entity: str) -> str:
    try:
        canonical = codecs.lookup(name).name
        "".encode(canonical)  # a codec that turns bytes into bytes is found, yet is no encoding
    except LookupError:
        raise SettingsError(f"entity {entity!r}: unknown encoding {name!r}") from None
    # The byte order mark that Excel puts first would become part of the first column's name.
    return "utf-8-sig" if canonical == "utf-8" else canonical
