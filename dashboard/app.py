"""The dashboard: customer segments and sales, read from what was last published and from nothing else.

Started as `streamlit run dashboard/app.py` with the environment of elt/environment.py. A published file never changes
(elt/publish.py), so the page holds its resolved path, never the link: the pipeline can write and publish meanwhile.
"""

from __future__ import annotations

import os
import typing as t

import altair as alt
import duckdb
import streamlit as st

from elt import layout
from elt.publish import LINK

if t.TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # stubs are not worth a dependency

TOP = 10
# One blue and one grey that can be told from both a light page and a dark one.
INK = "#3d85c8"
GREY = "#8a8d98"

SEGMENTS = """
    select
        segment,
        count(*) as customers,
        sum(monetary_value) as revenue,
        sum(monetary_value) / sum(sum(monetary_value)) over () as share,
        sum(monetary_value) / sum(frequency) as average_basket
    from marts.customer_summary
    group by segment
    order by revenue desc
"""
SALES = """
    select
        sales_date,
        revenue,
        baskets,
        avg(revenue) over (order by sales_date range between interval 6 days preceding and current row) as smooth
    from marts.daily_sales
    order by sales_date
"""
CUSTOMERS = """
    select customer_id, segment, monetary_value, frequency, recency_days, last_purchase_at::date as last_purchase
    from marts.customer_summary
    order by monetary_value desc, customer_id
    limit ?
"""
DEPARTMENTS = """
    select department, sum(revenue) as revenue
    from marts.product_performance
    group by department
    order by revenue desc, department
    limit ?
"""
PRODUCTS = """
    select product_type, product_category, department, brand, revenue, customers, product_id
    from marts.product_performance
    order by revenue desc, product_id
    limit ?
"""


def newest() -> str | None:
    """Path of the file that was published last, none if nothing was."""
    path = os.path.realpath(layout.published(os.environ["ELT_ENVIRONMENT"]) / LINK)
    return path if os.path.exists(path) else None  # noqa: PTH110 - a string is what the cache is keyed by


# Two entries: while one session opens a new file, another may still be reading the one before.
@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda connection: connection.close())
def opened(path: str) -> duckdb.DuckDBPyConnection:
    """One read-only connection to a file for all sessions; a cursor of it is taken for each query."""
    return duckdb.connect(path, read_only=True, config={"enable_external_access": "false"})


class Marts:
    """The published marts behind one path."""

    def __init__(self, path: str) -> None:
        self._connection = opened(path)

    def row(self, sql: str) -> tuple[t.Any, ...]:
        """The one row of a query."""
        with self._connection.cursor() as cursor:
            row = cursor.execute(sql).fetchone()
        assert row is not None
        return row

    def table(self, sql: str, *parameters: object) -> pd.DataFrame:
        """All rows of a query; decimals become floats, which is what charts and tables draw."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).df()


@st.fragment(run_every="5s")
def watch(shown: str | None) -> None:
    """Draw the page anew once something newer than what it shows was published."""
    if newest() != shown:
        st.rerun()


def main() -> None:
    """The page, from top to bottom."""
    st.set_page_config(page_title="Customer segments", page_icon=":material/groups:", layout="wide")
    st.title("Customer segments and sales", anchor=False)
    path = newest()
    if path is None:
        explain_empty()
    else:
        show(Marts(path))
    watch(path)


def explain_empty() -> None:
    """What to do while there is nothing to show."""
    airflow = os.environ.get("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    st.info(
        "**Nothing was published yet.** Once the pipeline has run, its results appear here by themselves.\n\n"
        f"Run it from [Airflow]({airflow}/dags/meltano_elt_pipeline) (`meltano_elt_pipeline`, *Trigger*), or run "
        "everything from the start with `scripts/e2e.sh --keep`.",
        icon=":material/hourglass_empty:",
    )


def show(marts: Marts) -> None:
    """All sections."""
    published_at, environment = marts.row("select published_at, environment from published")
    first, last = marts.row("select min(sales_date), max(sales_date) from marts.daily_sales")
    span = f"sales of {first:%d %b %Y} to {last:%d %b %Y} · " if first else ""
    st.caption(f"{environment} · {span}published {published_at:%d %b %Y %H:%M:%S} UTC")
    headline(marts)
    st.subheader("Revenue over time", anchor=False)
    revenue_over_time(marts)
    st.subheader("Segments", anchor=False)
    segments(marts)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Top customers", anchor=False)
        top_customers(marts)
    with right:
        st.subheader("Top departments", anchor=False)
        top_departments(marts)
    st.subheader("Top products", anchor=False)
    top_products(marts)


def headline(marts: Marts) -> None:
    """The four figures."""
    revenue, customers, baskets = marts.row(
        "select coalesce(sum(monetary_value), 0), count(*), coalesce(sum(frequency), 0)::bigint"
        " from marts.customer_summary"
    )
    figures = {
        "Revenue": f"${revenue:,.2f}",
        "Customers": f"{customers:,}",
        "Baskets": f"{baskets:,}",
        "Average basket": f"${revenue / baskets:,.2f}" if baskets else "none",
    }
    for column, (label, value) in zip(st.columns(len(figures)), figures.items(), strict=True):
        column.metric(label, value, border=True)


def revenue_over_time(marts: Marts) -> None:
    """Each day, and the mean of its seven days, which shows the trend through the rhythm of the week."""
    base = alt.Chart(marts.table(SALES)).encode(
        x=alt.X("sales_date:T", title=None, axis=alt.Axis(format="%b %Y", tickCount="month", grid=False)),
        tooltip=[
            alt.Tooltip("sales_date:T", title="Day", format="%a %d %b %Y"),
            alt.Tooltip("revenue:Q", title="Revenue", format="$,.2f"),
            alt.Tooltip("smooth:Q", title="7-day mean", format="$,.2f"),
            alt.Tooltip("baskets:Q", title="Baskets", format=","),
        ],
    )
    days = base.mark_bar(color=INK, opacity=0.3).encode(
        y=alt.Y("revenue:Q", title=None, axis=alt.Axis(format="$,.0f"))
    )
    mean = base.mark_line(color=INK, strokeWidth=2).encode(y="smooth:Q")
    st.altair_chart((days + mean).properties(height=260))
    st.caption("Bars are days, the line is the mean of seven days.")


def segments(marts: Marts) -> None:
    """Customers and revenue of each segment, as bars and as figures."""
    table = marts.table(SEGMENTS)
    left, middle, right = st.columns([3, 3, 5], gap="medium")
    with left:
        st.altair_chart(bars(table, "segment", "customers", ",", "Customers"))
    with middle:
        st.altair_chart(bars(table, "segment", "revenue", "$,.0f", "Revenue"))
    right.dataframe(
        table,
        hide_index=True,
        column_config={
            "segment": "Segment",
            "customers": st.column_config.NumberColumn("Customers", format="localized"),
            "revenue": money("Revenue"),
            "share": st.column_config.ProgressColumn("Share", format="percent", max_value=1.0, color=INK),
            "average_basket": money("Basket", "Average of a basket"),
        },
    )


def top_customers(marts: Marts) -> None:
    """Those who spent most."""
    st.dataframe(
        marts.table(CUSTOMERS, TOP),
        hide_index=True,
        column_config={
            "customer_id": st.column_config.NumberColumn("Customer", format="%d"),
            "segment": "Segment",
            "monetary_value": money("Revenue"),
            "frequency": st.column_config.NumberColumn("Baskets", format="localized"),
            "recency_days": st.column_config.NumberColumn("Days since", help="Days since the last purchase"),
            "last_purchase": st.column_config.DateColumn("Last purchase"),
        },
    )


def top_departments(marts: Marts) -> None:
    """Where the revenue is made."""
    st.altair_chart(bars(marts.table(DEPARTMENTS, TOP), "department", "revenue", "$,.0f", None, height=385))


def top_products(marts: Marts) -> None:
    """What sells best."""
    st.dataframe(
        marts.table(PRODUCTS, TOP),
        hide_index=True,
        column_config={
            "product_type": "Product",
            "product_category": "Category",
            "department": "Department",
            "brand": "Brand",
            "revenue": money("Revenue"),
            "customers": st.column_config.NumberColumn("Customers", format="localized"),
            "product_id": st.column_config.NumberColumn("Product id", format="%d"),
        },
    )


def bars(
    table: pd.DataFrame, label: str, value: str, number: str, title: str | None, *, height: int = 215
) -> alt.LayerChart:
    """Horizontal bars in the order of the table, each with its figure at the end."""
    base = alt.Chart(table, height=height).encode(
        x=alt.X(f"{value}:Q", axis=None, scale=alt.Scale(domainMax=1.25 * float(table[value].max() or 1))),
        y=alt.Y(f"{label}:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=180)),
        tooltip=[alt.Tooltip(f"{label}:N"), alt.Tooltip(f"{value}:Q", format=number)],
    )
    text = base.mark_text(align="left", dx=4, color=GREY).encode(text=alt.Text(f"{value}:Q", format=number))
    chart = base.mark_bar(color=INK, cornerRadiusEnd=2) + text
    return t.cast("alt.LayerChart", chart.properties(title=title) if title else chart)


def money(label: str, explained: str | None = None) -> t.Any:  # noqa: ANN401 - streamlit keeps the type to itself
    """A column of dollars."""
    return st.column_config.NumberColumn(label, format="dollar", help=explained)


main()
