"""The fixture that all tests of the target share."""

from __future__ import annotations

import typing as t

import pytest
from target_duckdb_harness import Warehouse

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A database that is not there yet."""
    return Warehouse(tmp_path / "warehouse.duckdb")
