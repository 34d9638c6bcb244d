"""Parquet files: the columns of which DuckDB would not read all digits."""

# ruff: noqa: S608 - the path of the query is quoted by sql.path

from __future__ import annotations

import importlib
import re
import typing as t

from elt_singer import sql
from elt_singer.json_schema import MOST_DIGITS

if t.TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import duckdb

_MAY_BE_CUT = re.compile(r"\bTIME\b|\bDOUBLE\b")
"""Types that DuckDB makes of more digits than they hold, if a parquet file has them: TIMESTAMP_NS is none."""


def cut(connection: duckdb.DuckDBPyConnection, path: Path, used: Mapping[str, str]) -> dict[str, str]:
    """Return what to do about columns whose digits DuckDB (1.5.5) does not all read, by their names.

    Args:
        connection: a DuckDB.
        path: the file.
        used: columns to look at, with their types in DuckDB.
    """
    if not any(map(_MAY_BE_CUT.search, used.values())):
        return {}
    members = "name, coalesce(num_children, 0), logical_type, coalesce(precision, 0), duckdb_type"
    query = f"select {members} from parquet_schema({sql.path(path)}) offset 1"  # the first is the whole row
    found: dict[str, str] = {}
    column, left = "", 0
    for name, children, logical, digits, kind in connection.execute(query).fetchall():
        column, left = (name, children) if not left else (column, left - 1 + children)
        if column in used and kind == "DOUBLE" and digits > MOST_DIGITS:
            found[column] = f"DuckDB would round it to a DOUBLE: write at most {MOST_DIGITS} digits, or texts"
        is_nanoseconds = "NANOS=NanoSeconds" in str(logical) and _MAY_BE_CUT.search(kind)
        if column in used and is_nanoseconds and (name != column or _has_nanoseconds(path, column)):
            found[column] = "DuckDB would cut its nanoseconds: write it in microseconds, or as text"
    return found


def _has_nanoseconds(path: Path, column: str) -> bool:
    """Whether a column of times has digits below microseconds; without pyarrow it is taken to have some.

    pandas writes all times in nanoseconds, and few of them have any.
    """
    try:
        pyarrow, compute, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.compute", "pyarrow.parquet"))
    except ImportError:
        return True
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[column]):
            whole = batch.column(0).cast(pyarrow.int64())
            cut_off = compute.multiply(compute.divide(whole, 1000), 1000)
            if compute.any(compute.not_equal(cut_off, whole)).as_py():
                return True
    return False
