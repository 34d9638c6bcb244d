"""The sample's second computation adds up what the lines of the extract say."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
from collections import Counter, defaultdict
from unittest import mock

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elt.errors import DataError
from elt.pipeline import quality
from elt.sources import columns, csv_files

CHECKS = quality.load(quality.CHECKS / "completejourney.py")
LINE = st.tuples(
    st.sampled_from(["1", "2", "01", "a"]),  # household
    st.sampled_from(["7", "8", "", "é"]),
    st.sampled_from(["2017-01-01 10:00:00", "2017-01-01 23:59:59", "2017-03-01", "2016-12-31 00:00:00"]),
    st.sampled_from(["5", "6", ""]),
    st.sampled_from(["1", "2", "0", "-1", "2147483647", " 3 "]),
    st.one_of(
        st.sampled_from(["0", "0.00", "0.004", "0.005", "1e3", "-1.5", "9999999999.99", "19.99"]),
        st.decimals(-1000, 1000, places=3).map(str),
    ),
    *[st.sampled_from(["0", "0.00", "0.35", "-0.35", "2"])] * 3,
)


def plainly(lines):
    """What the lines say, one after the other, by Python alone."""
    found, baskets = CHECKS.Expected(), defaultdict(set)
    for household, basket, moment, product, quantity, sales, *discounts in lines:
        cents = CHECKS._cents(sales)
        found.rows += 1
        found.raw_cents += cents
        if int(quantity) <= 0:
            found.rejected["no_quantity"] += 1
        elif cents <= 0:
            found.rejected["no_sales_value"] += 1
        else:
            day = dt.date.fromisoformat(moment[:10]).toordinal()
            found.product_cents[product] += cents
            found.customer_cents[household] += cents
            found.day_cents[day] += cents
            units = int(quantity)
            found.product_units[product] += units
            found.customer_units[household] += units
            found.day_units[day] += units
            if discount := sum(CHECKS._cents(one) for one in discounts):
                found.day_discount[day] += discount
            baskets[household].add(basket)
            found.last_day[household] = max(found.last_day.get(household, 0), day)
    found.day_discount = Counter({day: cents for day, cents in found.day_discount.items() if cents})
    found.baskets = {household: len(different) for household, different in baskets.items()}
    return found


def in_blocks(path, size):
    """What a file says, read in blocks of so many bytes."""
    with mock.patch.object(columns, "BLOCK_BYTES", size):
        return CHECKS._read(path)


@settings(deadline=None)
@given(lines=st.lists(LINE, min_size=1), block=st.integers(60, 200))
@example(
    lines=[("1", "7", "not a date", "5", "0", "1", "0", "0", "0")], block=99
)  # of what is left out only the cents are read
@example(lines=[("1", "7", "2017-01-01", "5", "1", "9999999999.99", "0", "0", "0")] * 99, block=10**6)
def test_blocks_add_up_to_what_the_lines_say(tmp_path_factory, lines, block):
    path = tmp_path_factory.mktemp("lines") / "transactions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([CHECKS._Reader.COLUMNS, *lines])
    assert in_blocks(path, block) == plainly(lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,7,2017-01-01,5,1,10000000000", "row 3: not a number or a date: 10000000000 is no decimal"),
        ("1,7,2017-01-01,5,1,nan", "row 3: not a number"),
        ("1,7,2017-01-01,5,1,inf", "row 3: not a number"),
        ("1,7,2017-01-01,5,,1", "row 3: not a number"),
        ("1,7,,5,1,1", "row 3: not a number or a date"),
        ("1,7,2017-01-01,5,99999999999999999999,1", "row 3: not a number"),
        ("1,7,2017-01-01,5,1,1,x", "row 3: not a number"),
    ],
)
def test_a_line_that_cannot_be_added_is_named(tmp_path, line, message):
    path = tmp_path / "transactions.csv"
    good = "1,7,2017-01-01,5,1,1,0,0,0\n"
    line += ",0" * (8 - line.count(","))
    path.write_text(f"{','.join(CHECKS._Reader.COLUMNS)}\n{good * 2}{line}\n{good}")
    with pytest.raises(DataError, match=message):
        in_blocks(path, 50)


@settings(deadline=None)
@given(st.decimals(-100_000, 100_000, places=4).map(str))
def test_cents_are_rounded_as_the_warehouse_rounds(text):
    expected = duckdb.execute("select (?::varchar::decimal(12, 2) * 100)::bigint", [text]).fetchone()[0]
    assert CHECKS._cents(text) == expected


def test_rows_that_cannot_be_counted_are_named(tmp_path, monkeypatch, capsys):
    """A count that is not that of the tap would fail the check of a load that is right."""
    path = tmp_path / "a.csv"
    path.write_text("id\n1\n2\n")
    extracts = [csv_files.Extract("a", path), csv_files.Extract("b", path, other=("skip",))]
    monkeypatch.setattr(quality, "listed", lambda _: extracts)
    monkeypatch.setattr(quality, "CHECKS", tmp_path / "none")
    with duckdb.connect() as connection:
        connection.execute(
            "create schema raw; create table raw.a as from range(2); create table raw.b as from range(1)"
        )
        warehouse = mock.Mock(connect=lambda: contextlib.nullcontext(connection))
        figures = quality._compare(tmp_path, warehouse)
    assert [(one.name, one.agrees) for one in figures] == [("raw.a: rows", True)]
    assert capsys.readouterr().out == "quality: raw.b: rows are not compared: its entry sets skip\n"
