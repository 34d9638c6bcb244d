"""All errors that the target raises for a person to read.

| error | raised when |
|---|---|
| `SettingsError` | the settings do not fit: no path, an unknown load method, a value of another type |
| `DatabaseError` | the database cannot be opened or written: locked, no such folder, disk full |
| `InputError` | a message does not fit; names the stream and the line of the input |
| `SchemaError` | a SCHEMA message cannot become a table |
| `RecordBeforeSchemaError` | a RECORD or BATCH comes before its SCHEMA |
| `MissingKeyError` | a record lacks a key |
| `UnfinishedError` | the input ends before what overwrites a table is whole |
"""

from __future__ import annotations

from elt_singer.errors import ConnectorError, InputError, SchemaError, SettingsError

__all__ = [
    "DatabaseError",
    "InputError",
    "MissingKeyError",
    "RecordBeforeSchemaError",
    "SchemaError",
    "SettingsError",
    "UnfinishedError",
]


class DatabaseError(ConnectorError):
    """The database cannot be opened or written."""


class RecordBeforeSchemaError(InputError):
    """A message that needs a schema comes before it."""


class MissingKeyError(InputError):
    """A record lacks a key."""


class UnfinishedError(ConnectorError):
    """The input ends before what overwrites a table is whole."""
