"""All errors that the tap raises for a person to read.

| error | raised when |
|---|---|
| `SettingsError` | the settings do not fit: no files, an entity named twice, an unknown encoding, a bad dialect |
| `InputError` | a file is missing, unreadable or holds what the tap refuses; names file, line and column |

The command line prints the message in one line and exits with 1. A traceback is shown at log level DEBUG.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path


class TapCSVError(Exception):
    """A failure whose message says what is wrong and where."""


class SettingsError(TapCSVError):
    """The settings do not fit."""


class InputError(TapCSVError):
    """A file is missing, unreadable or malformed."""

    def __init__(self, what: str, path: Path | str, *, line: int | None = None, column: str | None = None) -> None:
        """Build the message from the place and what is wrong there.

        Args:
            what: what is wrong. It never quotes a value, since logs travel further than data may.
            path: the file.
            line: the line as an editor counts it, from 1; of a row with quoted newlines, its first.
            column: name of the column.
        """
        self.path = path
        self.line = line
        self.column = column
        place = [str(path)]
        if line is not None:
            place.append(f"line {line}")
        if column is not None:
            place.append(f"column {column!r}")
        super().__init__(f"{', '.join(place)}: {what}")
