"""Show any mart: choose one, filter it, draw it, read its rows, copy the SQL."""

from __future__ import annotations

import datetime as dt
import typing as t

import duckdb
import streamlit as st

from dashboard import query
from dashboard.charts import bars, time_bars
from dashboard.columns import Column, Profile, profile
from dashboard.published import Marts, marts
from dashboard.text import plain

# Numbers of rows that a browser still scrolls through.
LIMITS = [100, 1_000, 10_000, 100_000]
# Up to so many values a filter offers as a list; beyond, it looks for a text.
MAX_CHOICES = 100
# Bars of a chart.
MAX_BARS = 20
TOTALS: dict[str, query.Aggregate] = {"total": "sum", "average": "avg", "smallest": "min", "largest": "max"}


def show(marts: Marts) -> None:
    """Draw all sections."""
    name = st.selectbox("Mart", marts.names(), key="mart", bind="query-params")
    mart = profile(marts, name)
    if mart.comment:
        st.markdown(plain(mart.comment))
    chosen = query.Selection(name, filters(marts, mart))
    (fitting,) = marts.row(chosen.count())
    st.caption(f"{mart.rows:,} rows" if fitting == mart.rows else f"{fitting:,} of {mart.rows:,} rows")
    chart(marts, mart, chosen)
    rows(marts, mart, chosen, fitting)
    columns(mart)


# Filters -----------------------------------------------------------------------------------------


def filters(marts: Marts, mart: Profile) -> list[str]:
    """Return what the user wants to see, as conditions in SQL."""
    named = {column.name: column for column in mart.columns}
    chosen = st.multiselect("Filter by", named, key=f"{mart.name} filters", placeholder="Choose columns")
    return [condition for name in chosen for condition in conditions_on(marts, mart, named[name])]


def conditions_on(marts: Marts, mart: Profile, column: Column) -> list[str]:
    """Return the conditions on one column, by widgets that fit it."""
    key = f"{mart.name} {column.name}"
    if column.kind in ("number", "time"):
        left, right = st.columns(2)
        bounds: dict[t.Literal[">=", "<="], float | dt.date | None] = {
            ">=": bound(left, f"{plain(column.name)} from", column, column.least, key),
            "<=": bound(right, f"{plain(column.name)} to", column, column.most, key),
        }
        return [query.compared(column.name, how, value) for how, value in bounds.items() if value is not None]
    if column.kind == "text" and column.values <= MAX_CHOICES:
        values = [value for (value,) in marts.rows(query.Selection(mart.name, []).values(column.name))]
        picked = st.multiselect(
            plain(column.name), values, key=key, format_func=lambda value: "(empty)" if value is None else value
        )
        return [query.one_of(column.name, picked)] if picked else []
    text = st.text_input(f"{plain(column.name)} contains", key=key)
    return [query.contains(column.name, text)] if text else []


def bound(place: t.Any, label: str, column: Column, edge: str | None, key: str) -> float | dt.date | None:  # noqa: ANN401 - streamlit keeps the type to itself
    """Ask for one end of a range, empty at first, and show the extreme of numbers."""
    key = f"{key} {label}"
    if column.kind == "time":
        day: dt.date | None = place.date_input(label, None, min_value=dt.date.min, max_value=dt.date.max, key=key)
        return day
    step = 1 if column.is_whole else None
    number: float | None = place.number_input(label, value=None, step=step, placeholder=edge or "", key=key)
    return number


# Chart -------------------------------------------------------------------------------------------


def chart(marts: Marts, mart: Profile, chosen: query.Selection) -> None:
    """Draw a number by time or by category; a mart with neither has no chart."""
    axes = {column.name: column for column in mart.columns if column.is_axis}
    numbers = [column.name for column in mart.of("number")]
    if not axes:
        return
    st.subheader("Chart", anchor=False)
    left, middle, right = st.columns(3)
    first = list(axes).index(first_axis(axes))
    axis = axes[left.selectbox("By", axes, first, key=f"{mart.name} axis")]
    number = middle.selectbox(
        "Number",
        [None, *numbers],
        first_number(mart, axis),
        key=f"{mart.name} number of {axis.name}",
        format_func=lambda name: name or "rows",
    )
    kind = right.selectbox("Taken as", TOTALS, key=f"{mart.name} total", disabled=number is None)
    measure = query.Measure(number, TOTALS[kind])
    if axis.kind == "time":
        copied(over_time(marts, chosen, axis, measure))
    else:
        copied(by_category(marts, chosen, axis, measure))


def first_axis(axes: dict[str, Column]) -> str:
    """Return the first useful axis: marts begin with their key, and a boolean shows little."""
    telling = (name for name, column in axes.items() if column.type != "BOOLEAN" and not column.is_key)
    return next(telling, next(iter(axes)))


def first_number(mart: Profile, axis: Column) -> int:
    """Return the default measure: the count, or, with one row for each time, the first number that is no key."""
    numbers = mart.of("number")
    if axis.kind == "time" and axis.values > 0.9 * mart.rows:
        return next((place for place, column in enumerate(numbers, 1) if not column.is_key), 0)
    return 0


def over_time(marts: Marts, chosen: query.Selection, axis: Column, measure: query.Measure) -> str:
    """Draw a number over time, and return the SQL."""
    dated = chosen.also(query.is_given(axis.name))
    (days,) = marts.row(dated.days(axis.name))
    unit = query.unit(days or 0, whole_days=axis.type == "DATE")
    sql = dated.over_time(axis.name, unit, measure)
    table = marts.table(query.cast(sql, {unit: "timestamp"})).set_axis(["x", "y"], axis=1)
    st.altair_chart(time_bars(table, "x", "y", unit))
    st.caption(f"One bar for each {unit}.")
    return sql


def by_category(marts: Marts, chosen: query.Selection, axis: Column, measure: query.Measure) -> str:
    """Draw a number by category, and return the SQL."""
    sql = chosen.by_category(axis.name, measure, MAX_BARS)
    table = marts.table(query.cast(sql, {axis.name: "varchar"})).set_axis(["x", "y"], axis=1).fillna({"x": "(empty)"})
    st.altair_chart(bars(table, "x", "y", ",.6~g", None, height=max(60, 28 * len(table))))
    if axis.values > MAX_BARS:
        st.caption(f"The {MAX_BARS} largest of {axis.values:,}.")
    return sql


# Rows and columns --------------------------------------------------------------------------------


def rows(marts: Marts, mart: Profile, chosen: query.Selection, fitting: int) -> None:
    """Show the selected rows, sorted in the database, so that the limit applies to the order."""
    st.subheader("Rows", anchor=False)
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    names = [column.name for column in mart.columns]
    order = left.selectbox("Sort by", names, key=f"{mart.name} order")
    limit = middle.selectbox("At most", LIMITS, 1, key=f"{mart.name} limit", format_func=lambda number: f"{number:,}")
    descending = right.toggle("Largest first", key=f"{mart.name} descending")
    sql = chosen.rows(order, descending=descending, limit=limit)
    days = {c.name: st.column_config.DateColumn() for c in mart.columns if c.type == "DATE" and c.is_in_frames}
    st.dataframe(drawable(marts, mart, sql), hide_index=True, column_config=days)
    if fitting > limit:
        st.caption(f"The first {limit:,} of {fitting:,} rows.")
    copied(sql)


def drawable(marts: Marts, mart: Profile, sql: str) -> t.Any:  # noqa: ANN401 - a data frame, whose types are not here
    """Return the result of a query on all columns; what a browser would show otherwise is text, times are in UTC."""
    types = {column.name: "varchar" for column in mart.columns if column.kind == "other" or not column.is_in_frames}
    types |= {column.name: "timestamp" for column in mart.columns if column.has_zone and column.is_in_frames}
    try:
        return marts.table(query.cast(sql, types))
    except (duckdb.Error, NotImplementedError, OverflowError):  # a type or a date that pandas has not
        return marts.table(query.cast(sql, dict.fromkeys((column.name for column in mart.columns), "varchar")))


def columns(mart: Profile) -> None:
    """Show type, comment and values of each column."""
    st.subheader("Columns", anchor=False)
    described = any(column.comment for column in mart.columns)
    st.dataframe(
        [
            {
                "column": column.name,
                "type": column.type.lower(),
                **({"description": column.comment} if described else {}),
                "filled": column.filled / mart.rows if mart.rows else None,
                "values": column.values,
                "smallest": column.least,
                "largest": column.most,
            }
            for column in mart.columns
        ],
        hide_index=True,
        height="content",
        column_config={
            "description": st.column_config.TextColumn(width="large"),
            "filled": st.column_config.NumberColumn(format="percent", help="Rows in which it is not empty"),
            "values": st.column_config.NumberColumn(format="localized", help="Different values"),
        },
    )


def copied(sql: str) -> None:
    """Show the SQL of the table or chart above."""
    with st.expander("SQL", icon=":material/code:"):
        st.code(sql, language="sql")
        st.caption("`elt sql` opens a prompt on the same file.")


show(marts())
