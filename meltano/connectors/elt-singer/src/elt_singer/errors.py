"""Errors that connectors raise for a person to read.

The command line prints the message in one line and exits with 1; at log level DEBUG it adds the traceback.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path


class ConnectorError(Exception):
    """A failure whose message says what is wrong and where."""


class SettingsError(ConnectorError):
    """The settings do not fit."""


class InputError(ConnectorError):
    """What is read is missing, unreadable or does not fit."""

    file_as: t.ClassVar[str] = "file {}"
    """How the message names the file."""

    def __init__(
        self,
        what: str,
        *,
        stream: str | None = None,
        line: int | None = None,
        column: str | None = None,
        file: Path | str | None = None,
    ) -> None:
        """Keep the place and what is wrong there.

        Args:
            what: what is wrong. It never quotes a value, since logs travel further than data may.
            stream: name of the stream.
            line: the line of the file, or of the input where there is none, from 1.
            column: name of the column.
            file: the file.
        """
        super().__init__(what)
        self.what, self.stream, self.line, self.column, self.file = what, stream, line, column, file

    def __str__(self) -> str:
        """Return the message: the place, as far as it is known, and what is wrong there."""
        place = [] if self.stream is None else [f"stream {self.stream!r}"]
        if self.file is not None:
            place.append(self.file_as.format(self.file))
        if self.line is not None:
            place.append(f"line {self.line}")
        if self.column is not None:
            place.append(f"column {self.column!r}")
        return f"{', '.join(place)}: {self.what}" if place else self.what

    def at(self, stream: str | None, line: int) -> t.Self:
        """Add the place of a message, unless the error knows the place of a record better."""
        if self.stream is None:
            self.stream, self.line = stream, line
        return self


class SchemaError(InputError):
    """A JSON schema or a SCHEMA message cannot become types."""


def one_line(error: BaseException) -> str:
    """Put an error in one line, without DuckDB's drawing of the query and its advice for sessions of its own."""
    text, _, _ = str(error).partition("\nLINE ")[0].partition("Possible solutions:")
    return " ".join(text.split())
