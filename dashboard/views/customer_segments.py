"""Show the sample data: customer segments and sales. Delete this file when you bring other data."""

from __future__ import annotations

import typing as t

import altair as alt
import streamlit as st

from dashboard.charts import INK, bars
from dashboard.published import Marts, marts

TOP_ROWS = 10
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


def show(marts: Marts) -> None:
    """Draw all sections."""
    first, last = marts.row("select min(sales_date), max(sales_date) from marts.daily_sales")
    if first:
        st.caption(f"Sales of {first:%d %b %Y} to {last:%d %b %Y}")
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
    """Draw the four figures."""
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
    """Draw the revenue of each day, and the mean of seven days, which shows the trend."""
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
    """Draw customers and revenue of each segment, as bars and as figures."""
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
    """List the customers who spent most."""
    st.dataframe(
        marts.table(CUSTOMERS, TOP_ROWS),
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
    """Draw the departments with the most revenue."""
    st.altair_chart(bars(marts.table(DEPARTMENTS, TOP_ROWS), "department", "revenue", "$,.0f", None, height=385))


def top_products(marts: Marts) -> None:
    """List the products that sell best."""
    st.dataframe(
        marts.table(PRODUCTS, TOP_ROWS),
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


def money(label: str, explained: str | None = None) -> t.Any:  # noqa: ANN401 - streamlit keeps the type to itself
    """Configure a column of dollars."""
    return st.column_config.NumberColumn(label, format="dollar", help=explained)


show(marts("customer_summary", "daily_sales", "product_performance"))
