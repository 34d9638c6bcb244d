"""The dashboard shows what was published, and only that."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import typing as t
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
import yaml
from streamlit.testing.v1 import AppTest
from workspace import BIN, DEADLINE, free_ports, wait_for

from elt import layout, quoting
from elt.serving.duckdb_copy import LINK, SCHEMA, publish
from elt.warehouse.duckdb_file import DuckDBFile

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser

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
    publish(DuckDBFile(warehouse), published)


def page(test: AppTest | None = None) -> AppTest:
    shown = (AppTest.from_file(APP, default_timeout=DEADLINE) if test is None else test).run()
    assert not shown.exception
    return shown


def sql_on(published: Path, query: str) -> list[tuple[t.Any, ...]]:
    """The rows of a query on a copy, since DuckDB opens one file twice in a process only with the page's settings."""
    copy = shutil.copy(published / LINK, published.parent / "copy.duckdb")
    with duckdb.connect(str(copy), read_only=True) as marts:
        return marts.execute(query).fetchall()


def marts_page(mart: str | None = None) -> AppTest:
    """The page that fits any marts, with one of them chosen."""
    shown = page(page().switch_page("views/marts.py"))
    assert [title.value for title in shown.title] == ["Marts"]
    return page(shown.selectbox(key="mart").select(mart)) if mart else shown


def published_sql(published: Path, sql: str) -> None:
    """Publish the marts that some SQL makes."""
    warehouse = published.parent / "dev.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"create schema if not exists {SCHEMA}; use {SCHEMA}; {sql}")
    publish(DuckDBFile(warehouse), published)


def as_drawn(markdown: str) -> str:
    """A text without the backslashes that take every meaning from it."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


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
    assert shown.caption[0].value.startswith("dev · ")
    assert shown.caption[1].value == "Sales of 01 Jan 2017 to 03 Jan 2017"
    assert [title.value for title in shown.title] == ["Customer segments"]
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


# The page that fits any marts ---------------------------------------------------------------------


@pytest.mark.parametrize("mart", ["customer_summary", "daily_sales", "product_performance"])
def test_marts_shows_each_mart_and_the_sql_that_gives_it(published: Path, mart: str) -> None:
    publish_marts(published, customer_summary=CUSTOMERS, daily_sales=DAYS, product_performance=PRODUCTS)
    shown = marts_page(mart)
    ((rows,),) = sql_on(published, f"select count(*) from {SCHEMA}.{mart}")
    assert f"{rows} rows" in [caption.value for caption in shown.caption]
    table, columns = (frame.value for frame in shown.dataframe)
    assert len(table) == rows > 0
    described = sql_on(published, f"describe {SCHEMA}.{mart}")
    assert columns["column"].tolist() == table.columns.tolist() == [name for name, *_ in described]
    assert columns["type"].tolist() == [type_.lower() for _, type_, *_ in described]
    of_chart, of_rows = (code.value for code in shown.code)
    assert [str(row[0]) for row in sql_on(published, of_rows)] == table.iloc[:, 0].astype(str).tolist()
    assert sql_on(published, of_chart)
    assert len(shown.get("vega_lite_chart")) == 1


def test_a_chart_is_of_what_the_mart_is_about(published: Path) -> None:
    """A day for each row: its first number; a group for many rows: how many; never by a key."""
    customers = [one | {"customer_id": number} for number, one in enumerate(CUSTOMERS * 4)]
    publish_marts(published, customer_summary=customers, daily_sales=DAYS)
    assert sql_on(published, marts_page("daily_sales").code[0].value)[1][1] == Decimal("1234567.89")
    assert sql_on(published, marts_page("customer_summary").code[0].value) == [("champion", 8), ("lapsed", 4)]
    published_sql(
        published, "create table visits as select range % 5 as store_id, range % 2 + 0.5 as n from range(99)"
    )
    assert sql_on(published, marts_page("visits").code[0].value)[0] == (0, 20)


def test_a_chart_of_what_is_chosen(published: Path) -> None:
    publish_marts(published, product_performance=PRODUCTS)
    shown = marts_page("product_performance")
    named = {box.label: box for box in shown.selectbox}
    named["Number"].select("revenue")
    shown = page(shown)
    named = {box.label: box for box in shown.selectbox}
    named["Taken as"].select("largest")
    shown = page(shown)
    assert sql_on(published, shown.code[0].value)[0] == ("D6", Decimal(30))


def test_rows_are_sorted_before_they_are_limited(published: Path) -> None:
    published_sql(published, "create table numbers as select range % 7 as part, range as n from range(1500)")
    shown = marts_page()
    assert "The first 1,000 of 1,500 rows." in [caption.value for caption in shown.caption]
    named = {box.label: box for box in shown.selectbox}
    named["Sort by"].select("n")
    named["At most"].select(100)
    shown.toggle[0].set_value(True)
    assert page(shown).dataframe[0].value["n"].tolist() == list(range(1499, 1399, -1))


def test_filters_are_what_the_sql_says(published: Path) -> None:
    published_sql(
        published,
        """create table visits as
        select range as n, date '2024-01-01' + range::int as day, range / 2 as half, 'It''s ' || range as said,
            case when range % 3 > 0 then 'part ' || range % 3 end as part
        from range(300)""",
    )
    shown = marts_page()
    shown.multiselect[0].set_value(["n", "day", "half", "said", "part"])
    shown = page(shown)
    numbers = {box.label: box for box in shown.number_input}
    numbers["n from"].set_value(10)
    numbers["half to"].set_value(99.5)
    days = {box.label: box for box in shown.date_input}
    days["day from"].set_value("2024-01-21")
    days["day to"].set_value("2024-03-31")
    shown.text_input[0].set_value("iT'S 4")
    next(box for box in shown.multiselect if box.label == "part").set_value([None, "part 1"])
    shown = page(shown)
    wanted = [n for n in range(20, 91) if str(n).startswith("4") and n % 3 != 2]
    assert shown.dataframe[0].value["n"].tolist() == wanted
    assert [row[0] for row in sql_on(published, shown.code[-1].value)] == wanted
    assert f"{len(wanted)} of 300 rows" in [caption.value for caption in shown.caption]


def test_any_type_any_name_and_no_rows(published: Path) -> None:
    published_sql(
        published,
        """create table every_type as from test_all_types();
        create table "Odd name; --" as
            select range % 2 = 0 as "yes or no", range as "order", 1.5 as "a.b", now() as "at [x]", 'x' as "quo""ted"
            from range(10);
        create table nothing as select 1 as n, date '2024-01-01' as day, 'x' as text limit 0;
        create table only_text as select 'name ' || range as text from range(10)""",
    )
    every = marts_page("every_type")
    assert [error.value for error in every.error] == []
    assert len(every.dataframe[0].value) == 3
    odd = marts_page("Odd name; --")
    assert odd.dataframe[0].value.columns.tolist() == ["yes or no", "order", "a.b", "at [x]", 'quo"ted']
    assert len(sql_on(published, odd.code[-1].value)) == 10
    for number in odd.selectbox[2].options:
        assert not odd.selectbox[2].select(number).run().exception
    assert len(marts_page("nothing").dataframe[0].value) == 0
    assert not marts_page("only_text").get("vega_lite_chart")


def test_rows_show_what_a_data_frame_would_round(published: Path) -> None:
    published_sql(
        published,
        """create table sums as select 1234567890123.45::decimal(38, 2) as few, 9007199254740993::hugeint as total,
            -12345678901234567.89::decimal(38, 2) as many,
            'infinity'::timestamp as until, '0044-03-15 (BC)'::date as day,
            'infinity'::timestamptz as at""",
    )
    (row,) = marts_page("sums").dataframe[0].value.to_dict("records")
    assert row == {
        "few": 1234567890123.45,
        "total": "9007199254740993",
        "many": "-12345678901234567.89",
        "until": "infinity",
        "day": "0044-03-15 (BC)",
        "at": "infinity",
    }


def test_each_filter_takes_each_type(published: Path) -> None:
    published_sql(published, "create table every_type as from test_all_types()")
    shown = marts_page()
    shown.multiselect[0].set_value(shown.multiselect[0].options)
    shown = page(shown)
    for box in [*shown.number_input]:
        box.set_value(0)
    for box in [*shown.date_input]:
        box.set_value("2000-01-01")
    for box in [*shown.text_input]:
        box.set_value("a")
    for box in shown.multiselect[1:]:
        box.set_value(box.options[:1])
    shown = page(shown)
    assert [error.value for error in shown.error] == []
    assert sql_on(published, shown.code[-1].value) == []


def test_what_the_models_say_of_their_columns(published: Path) -> None:
    published_sql(
        published,
        """create table told as select 1 as "a ""b"" c", 2 as m;
        comment on table told is 'Told of.';
        comment on column told."a ""b"" c" is 'The mart''s first.'""",
    )
    shown = marts_page()
    assert "Told of." in [as_drawn(text.value) for text in shown.markdown]
    assert shown.dataframe[1].value["description"].tolist() == ["The mart's first.", ""]


HOSTILE = (
    "![x](http://127.0.0.1:{port}/x.png) <img src='http://127.0.0.1:{port}/y.png'> :red[r] $x$ https://127.0.0.1"
)


def test_names_and_comments_are_shown_as_they_stand(published: Path, tmp_path: Path, browser: Browser) -> None:
    """A real browser asks nobody for an image that a column's name or comment names."""
    (port,) = free_ports(1)
    hostile = HOSTILE.format(port=port)
    name, text = quoting.name(hostile), quoting.text(hostile)
    published_sql(
        published,
        f"create table told as select 1 as {name}, 'a' || range as other from range(3);"
        f" comment on table told is {text}; comment on column told.{name} is {text}",
    )
    env = os.environ | {"ELT_ENVIRONMENT": "dev", "ELT_STATE": str(tmp_path), "PYTHONPATH": str(layout.ROOT)}
    options = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1"]
    command = [str(BIN / "streamlit"), "run", str(APP), *options, "--browser.gatherUsageStats=false"]
    asked: list[str] = []
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: answers(port), 60)
            page = browser.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{port}/marts")
            page.get_by_text("Filter by").wait_for()
            page.get_by_placeholder("Choose columns").fill("img")
            page.keyboard.press("Enter")
            page.get_by_text(f"{hostile} from").wait_for()
            assert page.get_by_test_id("stMarkdownContainer").filter(has_text=hostile).count() >= 3
            page.close()
        finally:
            server.terminate()
    assert [url for url in asked if url.endswith(".png") and "/static/" not in url and "favicon" not in url] == []


def answers(port: int) -> bool:
    """Whether a server of this machine listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# The pages of a user ------------------------------------------------------------------------------


@pytest.fixture
def dashboard(tmp_path: Path, published: Path) -> Path:
    """A copy of the dashboard, to change as a user would."""
    folder = tmp_path / "dashboard"
    shutil.copytree(APP.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def start(dashboard: Path) -> AppTest:
    return page(AppTest.from_file(dashboard / APP.name, default_timeout=DEADLINE))


def test_other_data_with_the_page_of_the_sample(published: Path, dashboard: Path) -> None:
    published_sql(published, "create table orders as select 1 as n")
    shown = start(dashboard)
    (line,) = (as_drawn(info.value) for info in shown.info)
    assert "customer_summary, daily_sales, product_performance" in line
    assert "orders" in line
    assert not shown.metric
    assert len(page(shown.switch_page("views/marts.py")).dataframe) == 2


def test_other_data_without_the_page_of_the_sample(published: Path, dashboard: Path) -> None:
    (dashboard / "views" / "customer_segments.py").unlink()
    published_sql(published, "create table orders as select 1 as n")
    shown = start(dashboard)
    assert [title.value for title in shown.title] == ["Marts"]
    assert not shown.info
    assert len(shown.dataframe) == 2


def test_a_page_of_ones_own(published: Path, dashboard: Path) -> None:
    """A file is a page; what goes wrong in its SQL stands in one line, and the other pages are there."""
    own = dashboard / "views" / "all_orders.py"
    own.write_text(
        "import streamlit as st\n"
        "from dashboard.published import marts\n"
        "st.dataframe(marts('orders').table('select * from marts.orders'))\n"
    )
    published_sql(published, "create table orders as select 1 as n")
    shown = start(dashboard)
    assert [title.value for title in shown.title] == ["All orders"]
    assert shown.dataframe[0].value["n"].tolist() == [1]
    own.write_text(own.read_text().replace("select *", "select price"))
    (line,) = (as_drawn(error.value) for error in start(dashboard).error)
    assert line.startswith("All orders: Binder Error")
    assert '"price"' in line
    assert "\n" not in line


def test_without_the_workspace_s_environment(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELT_ENVIRONMENT")
    assert "elt exec streamlit run dashboard/app.py" in page().error[0].value


def open_files() -> set[Path]:
    import psutil

    return {Path(os.fsdecode(file.path)) for file in psutil.Process().open_files()}
