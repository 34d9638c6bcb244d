"""The shop as a database: what it holds, by the file of SQLite, which needs no server."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from elt import layout
from elt.config import settings
from elt.errors import DataError, StackError
from elt.sources import shop


@pytest.fixture
def extract(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "EXTRACT", tmp_path)
    return tmp_path


def test_the_sample_is_what_its_households_bought(extract):
    shop.seed(None, sample=True, engine="sqlite")
    with closing(sqlite3.connect(extract / shop.SQLITE_FILE)) as connection:
        ask = connection.execute
        counts = {name: ask(f"select count(*) from {name}").fetchone()[0] for name in shop.COLUMNS}
        assert (counts["customers"], counts["orders"], counts["order_items"]) == (162, 10_544, 93_912)
        assert counts["addresses"] == counts["customers"]
        assert ask("pragma foreign_key_check").fetchall() == []
        assert ask("select sum(amount) from order_items").fetchone()[0] == pytest.approx(309_467.60)
        assert ask("select typeof(updated_at), max(updated_at) from orders").fetchone()[0] == "text"
        first = list(connection.iterdump())
    shop.seed(None, sample=True, engine="sqlite")
    with closing(sqlite3.connect(extract / shop.SQLITE_FILE)) as connection:
        assert list(connection.iterdump()) == first, "the same seed gives the same rows"


def test_what_cannot_be_written_is_said(extract, tmp_path):
    (extract / shop.SQLITE_FILE).mkdir()
    with pytest.raises(DataError, match=r"cannot write to .*shop\.sqlite"):
        shop.seed(None, sample=True, engine="sqlite")


def test_a_stack_that_is_down_is_said():
    nowhere = settings.load().model_copy(update={"postgres_port": 1})
    with pytest.raises(StackError, match=r"(?s)PostgreSQL does not answer .*scripts/up\.sh starts it"):
        shop.seed(nowhere, sample=True)
