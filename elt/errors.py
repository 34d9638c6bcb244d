"""All errors that the workspace raises for a person to read.

| error | raised when |
|---|---|
| `SetupError` | the machine or the clone is not ready: no `.env`, no environment, a port that is taken |
| `ConfigError` | a file or a setting holds something that does not fit; the message names file and field |
| `StackError` | a process of the stack failed, or did not become healthy in time |
| `DataError` | input or results are wrong: a missing extract, a figure that does not match |

`elt` prints the message in one line and exits with 1; `ELT_TRACEBACK=1` shows where it came from.
"""

from __future__ import annotations


class EltError(Exception):
    """A failure whose message says what is wrong and how to fix it."""


class SetupError(EltError):
    """The machine or the clone is not ready."""


class ConfigError(EltError):
    """A file or a setting holds something that does not fit."""


class StackError(EltError):
    """A process of the stack failed or did not become healthy in time."""


class DataError(EltError):
    """Input or results are wrong."""


def last_line(text: str) -> str:
    """The last line of a program's output that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
