"""A tap for CSV files as one writes it with the Singer SDK: every column is text."""

from __future__ import annotations

import csv
import typing as t
from pathlib import Path

from singer_sdk import Stream, Tap
from singer_sdk import typing as th

if t.TYPE_CHECKING:
    from collections.abc import Iterable


class Things(Stream):
    """The rows of one file."""

    name = "things"
    primary_keys = ("id",)

    def __init__(self, tap: Tap) -> None:
        self._path = Path(tap.config["path"])
        with self._path.open(newline="") as file:
            columns = next(csv.reader(file))
        super().__init__(
            tap, schema=th.PropertiesList(*(th.Property(one, th.StringType) for one in columns)).to_dict()
        )

    def get_records(self, context: t.Any) -> Iterable[dict[str, t.Any]]:
        """Each row as a dictionary."""
        with self._path.open(newline="") as file:
            yield from csv.DictReader(file)


class PlainTap(Tap):
    """Nothing but the SDK."""

    name = "plain-tap"
    config_jsonschema = th.PropertiesList(th.Property("path", th.StringType, required=True)).to_dict()

    def discover_streams(self) -> list[Stream]:
        """The one stream."""
        return [Things(self)]


if __name__ == "__main__":
    PlainTap.cli()
