"""Runs the tap, and reads what it said."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import io
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import duckdb
from elt_singer.errors import ConnectorError
from tap_csv.config import Config
from tap_csv.tap import Tap


class Synced(t.NamedTuple):
    """What one run of the tap gave."""

    messages: list[dict[str, t.Any]]
    error: ConnectorError | None

    def of_type(self, kind: str) -> list[dict[str, t.Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def records(self) -> list[dict[str, t.Any]]:
        return [message["record"] for message in self.of_type("RECORD")]

    @property
    def types(self) -> dict[str, dict[str, t.Any]]:
        return self.of_type("SCHEMA")[0]["schema"]["properties"]

    @property
    def state(self) -> dict[str, t.Any] | None:
        states = self.of_type("STATE")
        return states[-1]["value"] if states else None

    def rows(self) -> list[tuple[t.Any, ...]]:
        """The rows of the files of its BATCH messages."""
        paths = [Path(one.removeprefix("file://")) for batch in self.of_type("BATCH") for one in batch["manifest"]]
        with duckdb.connect() as connection:
            return [row for path in paths for row in connection.execute(f"from read_parquet('{path}')").fetchall()]


def run(config: dict[str, t.Any], catalog: dict[str, t.Any] | None = None, state: t.Any = None) -> Synced:
    """Run the tap with these settings."""
    output, error = io.BytesIO(), None
    try:
        with Tap(Config.from_dict(config), output) as tap:
            tap.sync(catalog, state)
    except ConnectorError as caught:
        error = caught
    return Synced([json.loads(line) for line in output.getvalue().splitlines()], error)


def discover(config: dict[str, t.Any]) -> dict[str, t.Any]:
    """The catalog."""
    with Tap(Config.from_dict(config), io.BytesIO()) as tap:
        return tap.discover()


class Sync(t.Protocol):
    """Runs the tap on one entity."""

    def __call__(
        self,
        path: Path | str | bytes,
        *,
        catalog: dict[str, t.Any] | None = None,
        state: t.Any = None,
        settings: dict[str, t.Any] | None = None,
        **entry: t.Any,
    ) -> Synced: ...


TEXT = {"infer_types": False, "incremental": False}
"""Settings with which the tap does what MeltanoLabs' does."""


class Cost(t.NamedTuple):
    """What a run of the command took."""

    seconds: float
    """Of processor time, which other programs do not change as they do the time of the clock."""
    peak: int
    """Most memory at once, in bytes."""


_MEASURE = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss << 10]))
"""


def cost_of(*arguments: str | Path) -> Cost:
    """Run the command and measure it.

    A small program of its own starts it: the peak of a process begins with that of the one that it is forked from.
    """
    tap = Path(sys.executable).with_name("tap-csv")
    found = subprocess.run([sys.executable, "-c", _MEASURE, tap, *arguments], check=True, capture_output=True)
    return Cost(*json.loads(found.stdout))
