"""All errors that the target raises for a person to read.

| error | raised when |
|---|---|
| `SettingsError` | the settings do not fit: no path, an unknown load method, a value of another type |
| `DatabaseError` | the database cannot be opened or written: locked, no such folder, disk full |
| `InputError` | a message does not fit; names the stream and the line of the input |
| `SchemaError` | a SCHEMA message cannot become a table |
| `RecordBeforeSchemaError` | a RECORD or BATCH comes before its SCHEMA |
| `MissingKeyError` | a record lacks a key |

The command line prints the message in one line and exits with 1. A traceback is shown at log level DEBUG.
"""

from __future__ import annotations

import typing as t


class TargetError(Exception):
    """A failure whose message says what is wrong and where."""


class SettingsError(TargetError):
    """The settings do not fit."""


class DatabaseError(TargetError):
    """The database cannot be opened or written."""


class InputError(TargetError):
    """A message of the input does not fit."""

    def __init__(
        self,
        what: str,
        *,
        stream: str | None = None,
        line: int | None = None,
        column: str | None = None,
        file: str | None = None,
    ) -> None:
        """Build the message from the place and what is wrong there.

        Args:
            what: what is wrong. It never quotes a value, since logs travel further than data may.
            stream: name of the stream.
            line: the line of the input, or of `file`, from 1.
            column: name of the column.
            file: the file of a BATCH message.
        """
        self.what, self.stream, self.line, self.column, self.file = what, stream, line, column, file
        place = [] if stream is None else [f"stream {stream!r}"]
        if file is not None:
            place.append(f"file {file}")
        if line is not None:
            place.append(f"line {line}")
        if column is not None:
            place.append(f"column {column!r}")
        super().__init__(f"{', '.join(place)}: {what}" if place else what)

    def at(self, stream: str | None, line: int) -> t.Self:
        """The same error with the place of the message, unless it knows the place of a record better."""
        if self.stream is not None:
            return self
        placed = type(self)(self.what, stream=stream, line=line, column=self.column, file=self.file)
        placed.__cause__ = self.__cause__
        return placed


class SchemaError(InputError):
    """A SCHEMA message cannot become a table."""


class RecordBeforeSchemaError(InputError):
    """A message that needs a schema comes before it."""


class MissingKeyError(InputError):
    """A record lacks a key."""
