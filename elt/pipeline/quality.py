"""Compare the warehouse with totals computed independently from the CSV files: the quality step.

For every extract of meltano.yml the number of records is compared. What a project's own marts must equal is defined
in transform/checks: each file there has a function `figures(extract, warehouse)` that returns a list of `Figure`.
What is loaded from another source has a folder of its name there, whose files are called for that source alone.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import traceback
import typing as t
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

import duckdb
from rich.console import Console
from rich.table import Table

from elt import layout
from elt.errors import ConfigError, DataError, EltError, StackError
from elt.sources import csv_files
from elt.sources.meltano_yml import listed

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.warehouse.base import Warehouse

CHECKS = layout.DBT_PROJECT / "checks"
NAMED_KEYS = 3
"""Number of keys that a message names when figures by key differ."""


@dataclass(frozen=True)
class Figure:
    """Hold one compared figure: its values by the source and in the warehouse."""

    name: str
    source: object
    warehouse: object

    @property
    def agrees(self) -> bool:
        """Return whether both values are equal."""
        return self.source == self.warehouse


LOCKED = "Could not set lock"
"""Words of DuckDB's error where another process has the file open for writing."""


class DiffersError(DataError):
    """Report figures that differ; `figures` holds all that were compared."""

    def __init__(self, message: str, figures: list[Figure]) -> None:
        super().__init__(message)
        self.figures = figures


def check(extract: Path, warehouse: Warehouse, *, table: bool = False, source: str | None = None) -> list[Figure]:
    """Compare the warehouse with its extracts, and print the result.

    Args:
        extract: folder that $ELT_EXTRACT stands for in meltano.yml.
        warehouse: what is compared.
        table: print every figure, not only those that differ.
        source: compare what is loaded from this source, in place of the extracts.

    Returns:
        Every figure that was compared.

    Raises:
        DiffersError: a figure differs; the message names each with both values.
        StackError: another process writes to the warehouse.
        DataError: one side cannot be read, or a file of transform/checks raised something.
        ConfigError: a file of transform/checks is not what it must be.
    """
    started = time.perf_counter()
    if not warehouse.exists():
        raise DataError(f"quality: {warehouse} is missing: run the pipeline first")
    figures = _compare(extract, warehouse, source)
    wrong = [figure for figure in figures if not figure.agrees]
    if table or wrong:
        _print(figures if table else wrong)
    print(
        f"quality: {len(figures) - len(wrong)} of {len(figures)} figures agree, {time.perf_counter() - started:.1f} s"
    )
    if wrong:
        details = "; ".join(
            f"{figure.name}: {shown(figure.warehouse)} in the warehouse, {shown(figure.source)} by the source"
            for figure in wrong
        )
        raise DiffersError(f"quality: {len(wrong)} of {len(figures)} figures differ: {details}", figures)
    return figures


def _compare(extract: Path, warehouse: Warehouse, source: str | None = None) -> list[Figure]:
    try:
        with csv_files.remembering(), warehouse.connect() as connection:
            extracts = [] if source else listed(extract)
            for one in [*extracts]:
                if reason := one.uncounted():
                    print(f"quality: raw.{one.table}: rows are not compared: {reason}")
                    extracts.remove(one)
                else:
                    one.required()
            folder = CHECKS / source if source else CHECKS
            own = [figure for path in sorted(folder.glob("*.py")) for figure in _figures(path, extract, connection)]
            # What the checks have read need not be read again to be counted.
            rows = [Figure(f"raw.{one.table}: rows", one.rows(), _count(connection, one.table)) for one in extracts]
    except duckdb.Error as error:
        kind = StackError if LOCKED in str(error) else DataError  # a retry may find it free
        raise kind(f"quality: {warehouse} cannot be read: {error}") from error
    return rows + own


def _figures(path: Path, extract: Path, connection: duckdb.DuckDBPyConnection) -> list[Figure]:
    """Call a file of transform/checks, and return its figures.

    Raises:
        DataError: the file raised something else than an error for a person to read; the message names the line.
    """
    try:
        return list(load(path).figures(extract, connection))
    except (EltError, duckdb.Error):
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines.append(error.lineno)
        where = "/".join(path.parts[-3:]) + (f", line {lines[-1]}" if lines else "")
        raise DataError(f"quality: {where}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f'select count(*) from raw."{table}"').fetchone()  # noqa: S608
    assert row is not None
    return int(row[0])


def load(path: Path) -> t.Any:  # noqa: ANN401 - a module
    """Import a file of transform/checks.

    Raises:
        ConfigError: it has no function `figures`.
    """
    spec = importlib.util.spec_from_file_location(f"checks_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    if not callable(getattr(module, "figures", None)):
        raise ConfigError(f"{path} has no function figures(extract, warehouse)")
    return module


def keyed(name: str, source: dict[str, t.Any], rows: list[t.Any]) -> list[Figure]:
    """Make one figure when all rows agree, else one for each of the first rows that differ.

    Args:
        name: what a value is, up to the key.
        source: expected value by key.
        rows: key and value as the warehouse has them; a key that occurs twice differs by that alone.
    """
    found: dict[str, list[t.Any]] = defaultdict(list)
    for key, value in rows:
        found[key].append(value)
    differing = [key for key in source | found if found.get(key) != ([source[key]] if key in source else None)]
    if not differing:
        return [Figure(f"{name} each", len(source), len(rows))]
    figures = []
    for key in differing[:NAMED_KEYS]:
        values = found.get(key, ["absent"])
        figures.append(Figure(f"{name} {key}", source.get(key, "absent"), values[0] if len(values) == 1 else values))
    if len(differing) > NAMED_KEYS:
        figures.append(Figure(f"{name} each: keys that differ", 0, len(differing)))
    return figures


# Output -------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """Return a figure's value as a person reads it; several values of one key are joined by "and"."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, tuple):
        return " / ".join(map(shown, value))
    if isinstance(value, list):
        return " and ".join(map(shown, value))
    return f"{value:,}" if isinstance(value, int | float | Decimal) else str(value)


def _print(figures: list[Figure]) -> None:
    table = Table("figure")
    table.add_column("by the source", justify="right")
    table.add_column("in the warehouse", justify="right")
    table.add_column("agrees")
    for figure in figures:
        agrees = "yes" if figure.agrees else "NO"
        table.add_row(
            figure.name,
            shown(figure.source),
            shown(figure.warehouse),
            agrees,
            style=None if figure.agrees else "red",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
