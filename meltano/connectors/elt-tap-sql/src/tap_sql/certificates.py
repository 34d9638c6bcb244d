"""Certificates and keys, which settings hold as files or as text."""

from __future__ import annotations

import typing as t
from pathlib import Path

from tap_sql.errors import SettingsError


def file_of(given: t.Mapping[str, t.Any], name: str, folder: str) -> str | None:
    """Return the file of a certificate or a key; of text one is made that only its owner may read.

    Args:
        given: the settings.
        name: the setting.
        folder: where a file is made.

    Raises:
        SettingsError: there is no such file.
    """
    value = given.get(name)
    if not value:
        return None
    if "-----BEGIN" in value:
        path = Path(folder, f"{name}.pem")
        path.touch(0o600)
        path.write_text(value, encoding="ascii")
        return str(path)
    if not Path(value).is_file():
        raise SettingsError(f"{name}: no such file, and no certificate as text")
    return str(value)
