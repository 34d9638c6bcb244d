"""Rows as files of parquet that are complete one after the other, while the next are written."""

# ruff: noqa: S608 - paths are quoted by sql.path

from __future__ import annotations

import shutil
import threading
import typing as t
import uuid

import duckdb
from elt_singer import sql

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GROUP_ROWS = 122_880
"""Rows of a row group: as many as those of DuckDB's own tables."""
_PIECE = "8MB"
"""Size from which a file is closed at the end of a row group, and the target may begin with it."""
_LOOK_SECONDS = 0.02
_MAGIC = b"PAR1"
"""Ends a file of parquet that is complete."""


def pieces(connection: duckdb.DuckDBPyConnection, select: str, folder: Path, prefix: str) -> Iterator[Path]:
    """Write the rows of a query, and yield each file once it is complete; whoever takes one removes it.

    Args:
        connection: on which the query runs, in another thread; nobody else may use it meanwhile.
        select: the query.
        folder: where the files go.
        prefix: what their names begin with.

    Raises:
        duckdb.Error: the query failed; files that were not yielded are gone.
    """
    own = folder / f"{prefix}{uuid.uuid4().hex}"
    copy = (
        f"copy ({select}) to {sql.literal(str(own))} (format parquet, file_size_bytes '{_PIECE}', "
        f"row_group_size {_GROUP_ROWS}, filename_pattern '{prefix}{{uuid}}', write_empty_file false, "
        "dictionary_size_limit 1)"  # dictionaries cost a tenth of a load, and make the files a sixth smaller
    )
    failed: list[BaseException] = []

    def work() -> None:
        try:
            connection.execute(copy)
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            failed.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(_LOOK_SECONDS)
            for path in filter(_is_complete, _files(own)[:-1]):  # the last is the one that is being written
                yield path.rename(folder / path.name)
        if failed:
            raise failed[0]
        for path in _files(own):
            yield path.rename(folder / path.name)
    finally:
        if worker.is_alive():
            connection.interrupt()
            worker.join()
        shutil.rmtree(own, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    """Return the files so far, the oldest first; there is no folder before the first row."""
    return sorted(folder.glob("*.parquet"), key=lambda one: one.stat().st_mtime_ns)


def _is_complete(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 2 * len(_MAGIC):
            return False
        file.seek(-len(_MAGIC), 2)
        if file.read() != _MAGIC:
            return False
    with duckdb.connect() as looking:
        try:
            looking.execute(f"select count(*) from parquet_metadata({sql.path(path)})")
        except duckdb.Error:
            return False
    return True
