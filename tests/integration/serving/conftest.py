"""A warehouse with marts, for the tests of what is published."""

from __future__ import annotations

import duckdb
import pytest


def fill(warehouse, version):
    """Two marts whose every row carries the same number."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        for mart, rows in (("small", 3), ("large", 5000)):
            connection.execute(
                f"create or replace table marts.{mart} as from range({rows}), (select {version}) as v(version)"
            )
        connection.execute("create schema if not exists raw")
        connection.execute("create or replace table raw.secret as select 1")


@pytest.fixture
def warehouse(tmp_path):
    """A warehouse with two marts of version 0."""
    path = tmp_path / "staging.duckdb"
    fill(path, 0)
    return path
