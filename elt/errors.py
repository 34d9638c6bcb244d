"""Define all errors that the workspace raises for a person to read.

| error | raised when |
|---|---|
| `SetupError` | the machine or the clone is not ready: no `.env`, no environment, a port that is taken |
| `ConfigError` | a file or a setting holds an invalid value; the message names file and field |
| `StackError` | a process of the stack failed, or did not become healthy in time |
| `DataError` | input or results are wrong: a missing extract, a figure that does not match |

`elt` prints the message in one line and exits with 1; `ELT_TRACEBACK=1` shows where it came from.
"""

from __future__ import annotations


class EltError(Exception):
    """Report a failure by a message that says what is wrong and how to fix it."""


class SetupError(EltError):
    """Report that the machine or the clone is not ready."""


class ConfigError(EltError):
    """Report that a file or a setting holds an invalid value."""


class StackError(EltError):
    """Report that a process of the stack failed or did not become healthy in time."""


class DataError(EltError):
    """Report that input or results are wrong."""


def last_line(text: str) -> str:
    """Return the last line of a program's output that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
