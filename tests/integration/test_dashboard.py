"""The dashboard shows what was published, and only that."""

from __future__ import annotations

import os
import shutil
import typing as t
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from elt import layout
from elt.publish import LINK, publish

APP = layout.ROOT / "dashboard" / "app.py"

CUSTOMERS = [
    {"customer_id": 1, "segment": "champion", "monetary_value": Decimal("1200.50"), "frequency": 60},
    {"customer_id": 2, "segment": "lapsed", "monetary_value": Decimal("0.01"), "frequency": 1},
    {"customer_id": 3, "segment": "champion", "monetary_value": Decimal("1234567.89"), "frequency": 40},
]
DAYS = [
    {"sales_date": "2017-01-01", "revenue": Decimal("1200.51"), "baskets": 61},
    {"sales_date": "2017-01-03", "revenue": Decimal("1234567.89"), "baskets": 40},
]
PRODUCTS = [
    {"product_id": number, "department": f"D{number % 12}", "product_type": f"T{number}", "revenue": Decimal(number)}
    for number in range(1, 31)
]


def write_marts(warehouse: Path, **rows: list[dict[str, t.Any]]) -> None:
    """Marts with the columns that their dbt contracts name, so that a column that is renamed there is missed here."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        for contract in sorted((layout.DBT_PROJECT / "models" / "marts").glob("*.yml")):
            for model in yaml.safe_load(contract.read_text())["models"]:
                name = model["name"]
                columns = ", ".join(f"{column['name']} {column['data_type']}" for column in model["columns"])
                connection.execute(f"create or replace table marts.{name} ({columns})")
                for row in rows.get(name, []):
                    values = ", ".join(f"? as {column}" for column in row)
                    connection.execute(f"insert into marts.{name} by name select {values}", [*row.values()])


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page looks into; empty."""
    monkeypatch.setattr(layout, "PUBLISHED", tmp_path / "published")
    layout.PUBLISHED.mkdir()
    monkeypatch.setenv("ELT_ENVIRONMENT", "dev")
    return layout.published("dev")


def publish_marts(published: Path, **rows: list[dict[str, t.Any]]) -> None:
    warehouse = published.parent / "dev.duckdb"
    write_marts(warehouse, **rows)
    publish(warehouse, published)


def page(test: AppTest | None = None) -> AppTest:
    shown = (test or AppTest.from_file(APP, default_timeout=30)).run()
    assert not shown.exception
    return shown


def metrics(shown: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in shown.metric}


def test_figures_equal_sql_on_the_file(published: Path) -> None:
    publish_marts(published, customer_summary=CUSTOMERS, daily_sales=DAYS, product_performance=PRODUCTS)
    shown = page()
    # A copy, since DuckDB opens one file twice in a process only with the page's own settings.
    copy = shutil.copy(published / LINK, published.parent / "copy.duckdb")
    with duckdb.connect(str(copy), read_only=True) as marts:
        revenue, customers, baskets = marts.sql(
            "select sum(revenue), (select count(*) from marts.customer_summary), sum(baskets) from marts.daily_sales"
        ).fetchall()[0]
        (published_at,) = marts.sql("select published_at from published").fetchall()[0]
        assert metrics(shown) == {
            "Revenue": f"${revenue:,.2f}",
            "Customers": f"{customers:,}",
            "Baskets": f"{baskets:,}",
            "Average basket": f"${revenue / baskets:,.2f}",
        }
        assert metrics(shown)["Revenue"] == "$1,235,768.40"
        segments, top_customers, top_products = (frame.value for frame in shown.dataframe)
        assert segments[["segment", "customers"]].values.tolist() == [["champion", 2], ["lapsed", 1]]
        assert segments["revenue"].tolist() == [1235768.39, 0.01]
        assert segments["share"].sum() == pytest.approx(1)
        assert segments["average_basket"].tolist() == pytest.approx([12357.6839, 0.01])
        assert top_customers["customer_id"].tolist() == [3, 1, 2]
        assert top_products["product_id"].tolist() == [
            key
            for (key,) in marts.sql(
                "select product_id from marts.product_performance order by revenue desc limit 10"
            ).fetchall()
        ]
    assert f"published {published_at:%d %b %Y %H:%M:%S} UTC" in shown.caption[0].value
    assert shown.caption[0].value.startswith("dev · sales of 01 Jan 2017 to 03 Jan 2017")
    assert len(shown.get("vega_lite_chart")) == 4
    assert not shown.info


def test_nothing_published(published: Path) -> None:
    shown = page()
    assert "Nothing was published yet" in shown.info[0].value
    assert "meltano_elt_pipeline" in shown.info[0].value
    assert not shown.metric
    published.mkdir()
    (published / LINK).symlink_to("gone.duckdb")
    assert page().info


def test_marts_without_rows(published: Path) -> None:
    publish_marts(published)
    assert metrics(page())["Average basket"] == "none"


def test_a_republish_is_seen_by_an_open_page(published: Path) -> None:
    publish_marts(published, customer_summary=CUSTOMERS[:1], daily_sales=DAYS)
    shown = page()
    assert metrics(shown)["Revenue"] == "$1,200.50"
    publish_marts(published, customer_summary=CUSTOMERS[:2], daily_sales=DAYS)
    assert metrics(page(shown))["Revenue"] == "$1,200.51"


def test_files_are_let_go(published: Path) -> None:
    """Two files at most are held, and read-only: the pipeline never waits for the page."""
    shown = None
    for number in range(4):
        publish_marts(published, customer_summary=CUSTOMERS[:1], daily_sales=DAYS[: number + 1])
        shown = page(shown)
    held = {path for path in open_files() if path.parent == published}
    assert (published / LINK).resolve() in held
    assert len(held) <= 2
    with duckdb.connect(str(published.parent / "dev.duckdb")) as warehouse:
        warehouse.sql("create table written_meanwhile as select 1")


def open_files() -> set[Path]:
    import psutil

    return {Path(os.fsdecode(file.path)) for file in psutil.Process().open_files()}
