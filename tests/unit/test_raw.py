"""What was loaded takes the place of the raw tables."""

from __future__ import annotations

import duckdb
import pytest

from elt import raw
from elt.errors import DataError


def test_rows_are_replaced_and_an_empty_text_is_null(tmp_path):
    warehouse = tmp_path / "w.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "create schema raw_incoming; create schema raw; create table raw.things as select 'old' as a"
        )
        connection.execute("create table raw.others as select 1 as b")
        connection.execute(
            """create table raw_incoming.things as from (values ('x', 1), ('', null), (' ', 0)) t("a b", n)"""
        )
    raw.replace(warehouse)
    with duckdb.connect(str(warehouse)) as connection:
        assert connection.execute("from raw.things").fetchall() == [("x", 1), (None, None), (" ", 0)]
        assert connection.execute("describe raw.things").fetchall()[0][:2] == ("a b", "VARCHAR")
        assert connection.execute("from raw.others").fetchall() == [(1,)]
        assert (
            connection.execute("select 1 from duckdb_schemas() where schema_name = 'raw_incoming'").fetchall() == []
        )
    with pytest.raises(DataError, match="nothing was loaded"):
        raw.replace(warehouse)
