"""A person's view of the running stack: Airflow, Flower and Streamlit in a real browser."""

from __future__ import annotations

import typing as t
from decimal import Decimal

import duckdb
import pytest
from screens import Screens

from elt.orchestration import runs

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from .conftest import Platform

STEPS = ["wait_for_extract", "extract_load", "dbt_run", "dbt_test", "data_quality", "publish"]


@pytest.fixture(scope="module")
def run(platform: Platform) -> str:
    """Id of a good run of the pipeline."""
    return runs.run_pipeline(platform.api, 120)


@pytest.fixture
def screens(browser: Browser, platform: Platform) -> Iterator[Screens]:
    """Pages that are closed at the end: one of Airflow asks for news all the time."""
    yield Screens(browser, platform.settings)
    for context in browser.contexts:
        context.close()


def steps(page: Page, selector: str) -> list[str]:
    """Texts of the elements that show a step each."""
    return [element.inner_text() for element in page.query_selector_all(selector)]


def test_airflow_shows_the_run_as_grid_and_graph(screens, run):
    page = screens.airflow(run)
    assert page.inner_text("[data-testid=header-card] [data-testid=state-badge]").strip() == "Success"
    screens.view(page, "Grid")
    for step in STEPS:
        page.wait_for_selector(f"[data-testid='grid-{run}-{step}']")
    rows = steps(page, "[data-testid=table-list] tbody tr")
    assert [step for step in STEPS if any(step in row and "success" in row.lower() for row in rows)] == STEPS
    screens.view(page, "Graph")
    nodes = steps(page, ".react-flow__node")
    assert [name for step in STEPS for name in [step] if any(step in node for node in nodes)] == STEPS
    assert all("success" in node for node in nodes)
    assert len(page.query_selector_all(".react-flow__edge")) == len(STEPS) - 1


def test_a_wrong_password_is_refused(screens):
    page = screens.sign_in("/", "not-it")
    page.wait_for_selector("text=Invalid credentials")
    assert "/login" in page.url


def test_flower_lists_the_tasks(screens, run):
    page = screens.flower()
    rows = steps(page, "table tbody tr")
    assert len([row for row in rows if "execute_workload" in row and "SUCCESS" in row]) >= len(STEPS)


def test_the_dashboard_shows_what_sql_finds_in_the_published_file(platform, screens, run):
    published = (platform.state / "published" / "dev" / "latest.duckdb").resolve()
    with duckdb.connect(str(published), read_only=True) as connection:
        query = "select sum(monetary_value), count(*) from marts.customer_summary"
        revenue, customers = connection.execute(query).fetchone()
    page = screens.streamlit()
    shown = dict(text.split("\n\n") for text in steps(page, "[data-testid=stMetric]"))
    assert Decimal(shown["Revenue"].replace("$", "").replace(",", "")) == round(revenue, 2)
    assert int(shown["Customers"].replace(",", "")) == customers
    page.click("text=Marts")
    page.wait_for_selector("[data-testid=stDataFrame]")
