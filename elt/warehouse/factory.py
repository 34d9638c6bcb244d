"""Make the warehouses of this clone."""

from __future__ import annotations

from elt import layout
from elt.warehouse.duckdb_file import DuckDBFile


def stack_warehouse(environment: str) -> DuckDBFile:
    """Make the warehouse of an environment that the stack's pipeline fills."""
    return DuckDBFile(layout.warehouse(environment))


def local_warehouse(environment: str) -> DuckDBFile:
    """Make the warehouse of an environment for `elt run`."""
    return DuckDBFile(layout.warehouse(environment, layout.LOCAL_RUN))
