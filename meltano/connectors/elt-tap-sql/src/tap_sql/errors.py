"""All errors that the taps raise for a person to read.

| error | raised when |
|---|---|
| `SettingsError` | settings, catalog or state do not fit |
| `SourceError` | the database refuses or holds what cannot be carried; names table and column |
| `LostError` | the connection failed or broke: worth another try |
"""

from __future__ import annotations

from elt_singer.errors import ConnectorError, SettingsError

__all__ = ["LostError", "SettingsError", "SourceError"]


class SourceError(ConnectorError):
    """The database refuses, or holds what cannot be carried."""

    def __init__(self, what: str, *, table: str | None = None, column: str | None = None) -> None:
        """Keep the place and what is wrong there.

        Args:
            what: what is wrong. It never quotes a value, since logs travel further than data may.
            table: the table, with its schema.
            column: name of the column.
        """
        place = [f"table {table}"] if table else []
        if column is not None:
            place.append(f"column {column!r}")
        super().__init__(f"{', '.join(place)}: {what}" if place else what)


class LostError(SourceError):
    """The connection failed or broke."""
