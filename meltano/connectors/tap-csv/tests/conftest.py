"""What all tests of the tap share."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import json
import signal
import typing as t

import pytest
from tap_csv.errors import TapCSVError
from tap_csv.tap import TapCSV

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Making a tap takes over Ctrl-C, and pytest needs it."""
    yield
    for number, handler in _HANDLERS.items():
        signal.signal(number, handler)


class Synced(t.NamedTuple):
    """What one run of the tap gave."""

    messages: list[dict[str, t.Any]]
    error: TapCSVError | None

    def of_type(self, kind: str) -> list[dict[str, t.Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def records(self) -> list[dict[str, t.Any]]:
        return [message["record"] for message in self.of_type("RECORD")]


class Sync(t.Protocol):
    """Runs the tap on one entity."""

    def __call__(
        self,
        path: Path | str | bytes,
        *,
        catalog: dict[str, t.Any] | None = None,
        metadata: bool = False,
        **entry: t.Any,
    ) -> Synced: ...


@pytest.fixture
def sync(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Sync:
    """Run the tap on a path, or on a file of the given bytes, with `id` as the key unless told otherwise."""

    def run(
        path: Path | str | bytes, *, catalog: dict[str, t.Any] | None = None, metadata: bool = False, **entry: t.Any
    ) -> Synced:
        if isinstance(path, bytes):
            content, path = path, tmp_path / "input.csv"
            path.write_bytes(content)
        files = [{"entity": "things", "path": str(path), "keys": ["id"], **entry}]
        error = None
        try:
            TapCSV(config={"files": files, "add_metadata_columns": metadata}, catalog=catalog).sync_all()
        except TapCSVError as caught:
            error = caught
        return Synced([json.loads(line) for line in capsysbinary.readouterr().out.splitlines()], error)

    return run
