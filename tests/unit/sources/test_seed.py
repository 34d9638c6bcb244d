"""The extracts: what each size holds, that keys stay unique, and that nobody reads half a file."""

from __future__ import annotations

import csv

import duckdb
import pytest

from elt.errors import DataError
from elt.sources import seed as extracts


def count(folder, name, what="count(*)"):
    return duckdb.sql(f"select {what} from read_csv('{folder / name}.csv')").fetchone()[0]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    extracts.seed("sample", 1, folder)
    return folder


def test_sample_holds_every_fifteenth_household(sample):
    assert count(sample, "transactions") == 93_912
    assert count(sample, "transactions", "count(distinct household_id)") == 162
    assert count(sample, "transactions", "count(distinct basket_id)") == 10_544
    assert count(sample, "transactions", "max(household_id % 15)") == 0
    assert count(sample, "products") == 21_019
    assert count(sample, "demographics") == 50


def test_full_holds_everything(tmp_path):
    extracts.seed("full", 1, tmp_path)
    assert count(tmp_path, "transactions") == 1_469_307
    assert count(tmp_path, "transactions", "sum(sales_value::decimal(12, 2))::varchar") == "4596039.58"
    assert count(tmp_path, "products") == 92_331
    assert count(tmp_path, "demographics") == 801


def test_scale_multiplies_and_keeps_keys_unique(sample, tmp_path):
    extracts.seed("sample", 3, tmp_path)
    assert count(tmp_path, "transactions") == 3 * 93_912
    assert count(tmp_path, "transactions", "count(distinct (basket_id, product_id))") == 3 * 93_912
    assert count(tmp_path, "transactions", "count(distinct household_id)") == 3 * 162
    assert count(tmp_path, "demographics", "count(distinct household_id)") == 3 * 50
    assert count(tmp_path, "products") == 21_019
    assert (tmp_path / "transactions.csv").read_bytes().startswith((sample / "transactions.csv").read_bytes())


def test_same_seed_gives_same_bytes(sample, tmp_path):
    extracts.seed("sample", 1, tmp_path)
    for name in extracts.FILES:
        assert (tmp_path / f"{name}.csv").read_bytes() == (sample / f"{name}.csv").read_bytes()


def test_money_is_whole_cents(sample):
    with (sample / "transactions.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            assert len(row["sales_value"].partition(".")[2]) == 2


def test_what_was_written_last_is_known(tmp_path):
    assert extracts.last(tmp_path) == ("full", 1)
    extracts.seed("sample", 2, tmp_path)
    assert extracts.last(tmp_path) == ("sample", 2)
    for text in ("", "[]", '{"size": "huge", "scale": 1}', '{"size": "full", "scale": "x"}'):
        (tmp_path / extracts.RECORD).write_text(text)
        assert extracts.last(tmp_path) == ("full", 1)


def test_present_seed_is_not_written_again_but_a_changed_file_is(tmp_path, capsys):
    extracts.seed("example", 1, tmp_path)
    assert "writing" in capsys.readouterr().out
    extracts.seed("example", 1, tmp_path)
    assert "nothing to do" in capsys.readouterr().out
    path = tmp_path / "products.csv"
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    extracts.seed("example", 1, tmp_path)
    assert path.read_bytes() == before


def test_another_size_replaces_the_files(tmp_path):
    extracts.seed("sample", 1, tmp_path)
    extracts.seed("example", 1, tmp_path)
    assert count(tmp_path, "transactions") == 218
    assert count(tmp_path, "products") == 4
    assert count(tmp_path, "demographics") == 3


def test_failed_seed_leaves_the_previous_file_and_nothing_else(tmp_path, monkeypatch):
    extracts.seed("example", 1, tmp_path)
    before = (tmp_path / "transactions.csv").read_bytes()
    broken = extracts._queries("sample", 1) | {
        "transactions": "select if(range > 5000, error('disk'), 1) from range(9999)"
    }
    monkeypatch.setattr(extracts, "_queries", lambda *_: broken)
    with pytest.raises(DataError, match=r"cannot write to .*disk"):
        extracts.seed("sample", 1, tmp_path)
    assert (tmp_path / "transactions.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "demographics.csv",
        "products.csv",
        "seed.json",
        "transactions.csv",
    ]
    assert extracts.last(tmp_path) == ("example", 1)


def test_example_has_no_scale(tmp_path):
    with pytest.raises(DataError, match="example"):
        extracts.seed("example", 2, tmp_path)


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        extracts.seed("example", 1, tmp_path / "file")
