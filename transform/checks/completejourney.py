"""The sample's marts, computed a second time from the CSV files by an independent route.

Nothing of the warehouse, of DuckDB or of dbt takes part in the expected figures: Python's csv module reads the
extracts, money is counted in whole cents, and the rules of staging and of the segments are written here a second
time. Only the thresholds have one place, the vars of dbt_project.yml.
"""

from __future__ import annotations

import datetime as dt
import typing as t
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

import yaml

from elt import layout
from elt.errors import ConfigError, DataError
from elt.extracts import records
from elt.quality import Figure, keyed

if t.TYPE_CHECKING:
    from pathlib import Path

    import duckdb

REJECTIONS = ("no_quantity", "no_sales_value")


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


@dataclass
class Expected:
    """What the CSV files say. Money in cents."""

    rows: int = 0
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


def figures(extract: Path, warehouse: duckdb.DuckDBPyConnection) -> list[Figure]:
    """Each figure by both routes.

    Args:
        extract: folder of transactions.csv.
        warehouse: the warehouse, read-only.

    Raises:
        DataError: the extract cannot be read.
        ConfigError: dbt_project.yml lacks a threshold.
    """
    thresholds = read_thresholds(layout.DBT_PROJECT / "dbt_project.yml")
    expected = _read(extract / "transactions.csv")
    return _compare(expected, expected.customers(thresholds), warehouse)


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


def _cents(text: str) -> int:
    """Dollars as text to whole cents, a half away from zero as SQL rounds."""
    return int((Decimal(text) * 100).to_integral_value(ROUND_HALF_UP))


def _read(path: Path) -> Expected:
    expected = Expected()
    columns = ("household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp")
    known_cents: dict[str, int] = {}  # a few thousand prices make up all lines
    known_quantities: dict[str, int] = {}
    visits: Counter[tuple[str, str, str]] = Counter()  # cents by household, basket and day; far fewer than lines
    product_cents = expected.product_cents
    try:
        for household, basket, product, quantity_text, sales, moment in records(path, columns):
            expected.rows += 1
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
            product_cents[product] += cents
            visits[household, basket, moment[:10]] += cents
        for (household, basket, day), cents in visits.items():
            expected.baskets[household].add(basket)
            expected.customer_cents[household] += cents
            expected.day_cents[day] += cents
            if expected.last_day.get(household, "") < day:
                expected.last_day[household] = day
        for day in expected.day_cents:
            dt.date.fromisoformat(day)
    except (ValueError, InvalidOperation) as error:
        raise DataError(f"quality: {path}, row {expected.rows}: not a number or a date: {error}") from error
    return expected


# The comparison ----------------------------------------------------------------------------------


def _compare(
    expected: Expected,
    customers: dict[str, tuple[int, int, int, str]],
    connection: duckdb.DuckDBPyConnection,
) -> list[Figure]:
    def value(query: str) -> int | Decimal:
        row = connection.execute(query).fetchone()
        assert row is not None
        return t.cast("int | Decimal", row[0] or 0)  # a sum over no rows is null

    kept = expected.rows - expected.rejected.total()
    revenue = _dollars(sum(expected.customer_cents.values()))
    figures = [
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
    figures += keyed(
        "marts.daily_sales: revenue of",
        {day: _dollars(cents) for day, cents in expected.day_cents.items()},
        connection.execute("select sales_date::varchar, revenue from marts.daily_sales").fetchall(),
    )
    figures += keyed(
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
    figures += keyed(
        "marts.customer_summary: days, baskets, dollars and segment of",
        {key: (days, baskets, _dollars(cents), name) for key, (days, baskets, cents, name) in customers.items()},
        [(row[0], tuple(row[1:])) for row in rows],
    )
    return figures


def _dollars(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)
