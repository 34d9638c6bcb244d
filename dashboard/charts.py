"""Draw the charts that several pages share."""

from __future__ import annotations

import typing as t

import altair as alt

if t.TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # stubs are not worth a dependency

# One blue and one grey that can be told from both a light page and a dark one.
INK = "#3d85c8"
GREY = "#8a8d98"


def bars(
    table: pd.DataFrame, label: str, value: str, number: str, title: str | None, *, height: int = 215
) -> alt.LayerChart:
    """Draw horizontal bars in the order of the table, each with its figure at the end."""
    largest = float(table[value].max() or 1)
    room = 7 * len(f"{largest:,.0f}") + 16  # pixels right of the longest bar for its figure, however wide the page is
    base = alt.Chart(table, height=height).encode(
        x=alt.X(f"{value}:Q", axis=None, scale=alt.Scale(domainMax=largest, nice=False)),
        y=alt.Y(f"{label}:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=180)),
        tooltip=[alt.Tooltip(f"{label}:N"), alt.Tooltip(f"{value}:Q", format=number)],
    )
    text = base.mark_text(align="left", dx=4, color=GREY, fontSize=12).encode(
        text=alt.Text(f"{value}:Q", format=number)
    )
    chart = (base.mark_bar(color=INK, cornerRadiusEnd=2) + text).properties(padding={"right": room})
    return t.cast("alt.LayerChart", chart.properties(title=title) if title else chart)


def time_bars(table: pd.DataFrame, when: str, value: str, unit: str, *, height: int = 260) -> alt.Chart:
    """Draw a bar for each unit of time (minute, hour, day, month or year)."""
    written = {"minute": "%d %b %H:%M", "hour": "%d %b %H:00", "day": "%a %d %b %Y", "month": "%b %Y", "year": "%Y"}
    return alt.Chart(table, height=height, mark=alt.MarkDef(type="bar", color=INK, opacity=0.7)).encode(
        x=alt.X(f"{when}:T", title=None, axis=alt.Axis(grid=False)),
        y=alt.Y(f"{value}:Q", title=None, axis=alt.Axis(format="~s")),
        tooltip=[
            alt.Tooltip(f"{when}:T", title=unit.capitalize(), format=written[unit]),
            alt.Tooltip(f"{value}:Q", format=",.6~g"),
        ],
    )
