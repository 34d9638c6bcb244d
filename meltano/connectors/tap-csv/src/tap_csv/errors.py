"""All errors that the tap raises for a person to read.

| error | raised when |
|---|---|
| `SettingsError` | the settings do not fit: no files, an entity named twice, an unknown encoding, a bad dialect |
| `InputError` | a file is missing, unreadable or holds what the tap refuses; names file, line and column |
"""

from __future__ import annotations

from elt_singer import errors
from elt_singer.errors import SettingsError

__all__ = ["InputError", "SettingsError"]


class InputError(errors.InputError):
    """A file is missing, unreadable or malformed."""

    file_as = "{}"

    def __init__(self, what: str, path: object, *, line: int | None = None, column: str | None = None) -> None:
        """Keep the place and what is wrong there.

        Args:
            what: what is wrong. It never quotes a value, since logs travel further than data may.
            path: the file; its text names it.
            line: the line as an editor counts it, from 1; of a row with quoted newlines, its first.
            column: name of the column.
        """
        super().__init__(what, file=str(path), line=line, column=column)
