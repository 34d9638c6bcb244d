"""The warehouses of this clone."""

from __future__ import annotations

from elt import layout
from elt.warehouse.duckdb_file import DuckDBFile


def stack_warehouse(environment: str) -> DuckDBFile:
    """Make the warehouse that the stack's pipeline fills, of an environment."""
    return DuckDBFile(layout.warehouse(environment))


def local_warehouse(environment: str) -> DuckDBFile:
    """Make the warehouse of `elt run`, of an environment."""
    return DuckDBFile(layout.warehouse(environment, layout.LOCAL_RUN))
