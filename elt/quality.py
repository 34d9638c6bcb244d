"""The marts compared with totals taken from the CSV files by an independent route.

Nothing of the warehouse, of DuckDB or of dbt takes part in the expected figures: Python's csv module reads the
extracts, money is counted in whole cents, and the rules of staging and of the segments are written here a second
time. Only the thresholds have one place, the vars of dbt_project.yml.
"""

from __future__ import annotations

import csv
import datetime as dt
import sys
import time
import typing as t
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

import duckdb
import yaml
from rich.console import Console
from rich.table import Table

from elt import layout
from elt.errors import ConfigError, DataError

if t.TYPE_CHECKING:
    from pathlib import Path

REJECTIONS = ("no_quantity", "no_sales_value")
NAMED = 3
"""How many keys a message names when a figure of many differs."""


@dataclass(frozen=True)
class Thresholds:
    """Numbers of the segmentation rule: days, baskets, dollars."""

    lapsed_after_days: int
    frequent_from_baskets: int
    high_value_from: Decimal

    def segment(self, recency_days: int, frequency: int, cents: int) -> str:
        """The one segment of a customer."""
        if recency_days > self.lapsed_after_days:
            return "lapsed"
        frequent, high = frequency >= self.frequent_from_baskets, cents >= self.high_value_from * 100
        if frequent:
            return "champion" if high else "loyal"
        return "big_spender" if high else "occasional"


@dataclass(frozen=True)
class Figure:
    """One comparison; the two values are equal when all is well."""

    name: str
    source: object
    warehouse: object

    @property
    def agrees(self) -> bool:
        """Whether both routes give the same."""
        return self.source == self.warehouse


@dataclass
class Expected:
    """What the CSV files say. Money in cents."""

    rows: dict[str, int] = field(default_factory=dict)
    raw_cents: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    baskets: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    last_day: dict[str, str] = field(default_factory=dict)
    customer_cents: Counter[str] = field(default_factory=Counter)
    day_cents: Counter[str] = field(default_factory=Counter)
    product_cents: Counter[str] = field(default_factory=Counter)

    def customers(self, thresholds: Thresholds) -> dict[str, tuple[int, int, int, str]]:
        """Recency in days, frequency in baskets, cents and segment of each customer."""
        if not self.last_day:
            return {}
        days = {day: dt.date.fromisoformat(day) for day in self.day_cents}
        latest = max(days.values())
        found = {}
        for customer, cents in self.customer_cents.items():
            recency = (latest - days[self.last_day[customer]]).days
            frequency = len(self.baskets[customer])
            found[customer] = (recency, frequency, cents, thresholds.segment(recency, frequency, cents))
        return found


def check(extract: Path, warehouse: Path) -> list[Figure]:
    """Compare the warehouse with its extracts and print the figures.

    Args:
        extract: folder of transactions.csv, products.csv and demographics.csv.
        warehouse: the DuckDB file, opened read-only.

    Returns:
        Every figure that was compared.

    Raises:
        DataError: a figure differs (the message names each with both values), or one side cannot be read.
    """
    started = time.perf_counter()
    if not warehouse.exists():
        raise DataError(f"quality: {warehouse} is missing: run the pipeline first")
    thresholds = read_thresholds(layout.DBT_PROJECT / "dbt_project.yml")
    expected = _read_extracts(extract)
    figures = _compare(expected, expected.customers(thresholds), warehouse)
    _print(figures, time.perf_counter() - started)
    wrong = [figure for figure in figures if not figure.agrees]
    if wrong:
        details = "; ".join(
            f"{figure.name}: {_show(figure.warehouse)} in the warehouse, {_show(figure.source)} by the source"
            for figure in wrong
        )
        raise DataError(f"quality: {len(wrong)} of {len(figures)} figures differ: {details}")
    return figures


def read_thresholds(project: Path) -> Thresholds:
    """Read the segmentation rule's numbers from dbt_project.yml.

    Raises:
        ConfigError: the file lacks one or holds something that is no number.
    """
    try:
        given = yaml.safe_load(project.read_text())["vars"]
        return Thresholds(
            int(given["lapsed_after_days"]),
            int(given["frequent_from_baskets"]),
            Decimal(str(given["high_value_from"])),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation, yaml.YAMLError) as error:
        raise ConfigError(f"{project}: vars lack a threshold of the segmentation rule: {error!r}") from error


# The source --------------------------------------------------------------------------------------


def _rows(path: Path, columns: tuple[str, ...]) -> t.Iterator[tuple[str, ...]]:
    """The wanted columns of a CSV file, row by row.

    Raises:
        DataError: the file cannot be read, lacks a column or holds a ragged row.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise DataError(f"quality: {path} lacks the column {', '.join(missing)}")
            places = [header.index(column) for column in columns]
            width = len(header)
            for row in reader:
                if len(row) != width:
                    raise DataError(f"quality: {path}, line {reader.line_num}: {len(row)} fields instead of {width}")
                yield tuple([row[place] for place in places])
    except FileNotFoundError:
        raise DataError(f"quality: {path} is missing: run scripts/seed.sh") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"quality: {path} cannot be read: {error}") from error


def _cents(text: str) -> int:
    """Dollars as text to whole cents, a half away from zero as SQL rounds."""
    return int((Decimal(text) * 100).to_integral_value(ROUND_HALF_UP))


def _read_extracts(extract: Path) -> Expected:
    expected = Expected()
    path = extract / "transactions.csv"
    columns = ("household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp")
    known_cents: dict[str, int] = {}  # a few thousand prices make up all lines
    known_quantities: dict[str, int] = {}
    rows = 0
    try:
        for household, basket, product, quantity_text, sales, moment in _rows(path, columns):
            rows += 1
            cents = known_cents.get(sales)
            if cents is None:
                cents = known_cents[sales] = _cents(sales)
            quantity = known_quantities.get(quantity_text)
            if quantity is None:
                quantity = known_quantities[quantity_text] = int(quantity_text)
            expected.raw_cents += cents
            if quantity <= 0:
                expected.rejected["no_quantity"] += 1
                continue
            if cents <= 0:
                expected.rejected["no_sales_value"] += 1
                continue
            day = moment[:10]
            expected.baskets[household].add(basket)
            expected.customer_cents[household] += cents
            expected.day_cents[day] += cents
            expected.product_cents[product] += cents
            if expected.last_day.get(household, "") < day:
                expected.last_day[household] = day
        for day in expected.day_cents:
            dt.date.fromisoformat(day)
    except (ValueError, InvalidOperation) as error:
        raise DataError(f"quality: {path}, row {rows}: not a number or a date: {error}") from error
    expected.rows["transactions"] = rows
    expected.rows["products"] = sum(1 for _ in _rows(extract / "products.csv", ("product_id",)))
    expected.rows["demographics"] = sum(1 for _ in _rows(extract / "demographics.csv", ("household_id",)))
    return expected


# The comparison ----------------------------------------------------------------------------------


def _compare(expected: Expected, customers: dict[str, tuple[int, int, int, str]], warehouse: Path) -> list[Figure]:
    """Read each figure from the warehouse and set it beside the expected one."""
    try:
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            return _figures(expected, customers, connection)
    except duckdb.Error as error:
        raise DataError(f"quality: {warehouse} cannot be read: {error}") from error


def _figures(
    expected: Expected,
    customers: dict[str, tuple[int, int, int, str]],
    connection: duckdb.DuckDBPyConnection,
) -> list[Figure]:
    def value(query: str) -> int | Decimal:
        row = connection.execute(query).fetchone()
        assert row is not None
        return t.cast("int | Decimal", row[0] or 0)  # a sum over no rows is null

    figures = [
        Figure(f"raw.{name}: rows", rows, value(f"select count(*) from raw.{name}"))  # noqa: S608
        for name, rows in expected.rows.items()
    ]
    kept = expected.rows["transactions"] - expected.rejected.total()
    revenue = _dollars(sum(expected.customer_cents.values()))
    figures += [
        Figure(
            "raw.transactions: revenue",
            _dollars(expected.raw_cents),
            value("select sum(sales_value::decimal(12, 2)) from raw.transactions"),
        ),
        Figure(
            "staging: lines kept",
            kept,
            value("select count(*) from staging.stg_completejourney__transactions"),
        ),
    ]
    rejected = dict(
        connection.execute(
            "select rejection_reason, count(*) from staging.base_completejourney__transactions group by all"
        ).fetchall()
    )
    figures += [
        Figure(f"staging: lines left out, {reason}", expected.rejected[reason], rejected.get(reason, 0))
        for reason in REJECTIONS
    ]
    figures += [
        Figure(
            f"marts.{mart}: revenue",
            revenue,
            value(f"select sum({column})::decimal(18, 2) from marts.{mart}"),  # noqa: S608
        )
        for mart, column in (
            ("customer_summary", "monetary_value"),
            ("daily_sales", "revenue"),
            ("product_performance", "revenue"),
        )
    ]
    figures += _customer_figures(customers, connection)
    figures += _keyed(
        "marts.daily_sales: revenue of",
        {day: _dollars(cents) for day, cents in expected.day_cents.items()},
        connection.execute("select sales_date::varchar, revenue from marts.daily_sales").fetchall(),
    )
    figures += _keyed(
        "marts.product_performance: revenue of",
        {product: _dollars(cents) for product, cents in expected.product_cents.items()},
        connection.execute("select product_id::varchar, revenue from marts.product_performance").fetchall(),
    )
    return figures


def _customer_figures(
    customers: dict[str, tuple[int, int, int, str]], connection: duckdb.DuckDBPyConnection
) -> list[Figure]:
    """Number of customers, of each segment, and what each customer is."""
    rows = connection.execute(
        "select customer_id::varchar, recency_days, frequency, monetary_value, segment from marts.customer_summary"
    ).fetchall()
    named = Counter(row[0] for row in rows)
    segments = Counter(customer[3] for customer in customers.values())
    found = Counter(row[4] for row in rows)
    figures = [Figure("marts.customer_summary: customers", len(customers), len(named))]
    figures += [
        Figure(f"marts.customer_summary: {segment}", segments[segment], found[segment])
        for segment in sorted(segments | found)
    ]
    figures += _keyed(
        "marts.customer_summary: days, baskets, dollars and segment of",
        {key: (days, baskets, _dollars(cents), name) for key, (days, baskets, cents, name) in customers.items()},
        [(row[0], tuple(row[1:])) for row in rows],
    )
    return figures


def _keyed(name: str, source: dict[str, t.Any], rows: list[t.Any]) -> list[Figure]:
    """One figure when all rows agree, else one for each of the first rows that differ.

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
    for key in differing[:NAMED]:
        values = found.get(key, ["absent"])
        figures.append(Figure(f"{name} {key}", source.get(key, "absent"), values[0] if len(values) == 1 else values))
    if len(differing) > NAMED:
        figures.append(Figure(f"{name} each: keys that differ", 0, len(differing)))
    return figures


# What a person reads -----------------------------------------------------------------------------


def _dollars(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return " / ".join(map(_show, value))
    if isinstance(value, list):
        return " and ".join(map(_show, value))
    return f"{value:,}" if isinstance(value, int | Decimal) else str(value)


def _print(figures: list[Figure], seconds: float) -> None:
    table = Table("figure", title=f"quality: {len(figures)} figures by two routes, {seconds:.1f} s")
    table.add_column("by the source", justify="right")
    table.add_column("in the warehouse", justify="right")
    table.add_column("")
    for figure in figures:
        table.add_row(
            figure.name,
            _show(figure.source),
            _show(figure.warehouse),
            "" if figure.agrees else "DIFFERS",
            style=None if figure.agrees else "red",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
