"""The fixture that all tests of the tap share."""

from __future__ import annotations

import typing as t

import pytest
from tap_csv_harness import TEXT, run

if t.TYPE_CHECKING:
    from pathlib import Path

    from tap_csv_harness import Sync, Synced


@pytest.fixture
def sync(tmp_path: Path) -> Sync:
    """Run the tap on a path, or on a file of the given bytes, with `id` as the key and text unless told otherwise."""

    def on(
        path: Path | str | bytes,
        *,
        catalog: dict[str, t.Any] | None = None,
        state: t.Any = None,
        settings: dict[str, t.Any] | None = None,
        **entry: t.Any,
    ) -> Synced:
        if isinstance(path, bytes):
            content, path = path, tmp_path / "input.csv"
            path.write_bytes(content)
        files = [{"entity": "things", "path": str(path), "keys": ["id"], **entry}]
        return run({"files": files} | (TEXT if settings is None else settings), catalog, state)

    return on
