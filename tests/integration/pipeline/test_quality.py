"""The comparison with the source catches each planted fault and names it with both figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from workspace import BIN, DEADLINE, ROOT, run

from elt import layout
from elt.errors import ConfigError, DataError, EltError, StackError
from elt.pipeline import quality
from elt.sources import seed as extracts
from elt.warehouse.duckdb_file import DuckDBFile

CHECKS = quality.load(quality.CHECKS / "completejourney.py")
REVENUE = Decimal("6628.49")
"""Of the example, by hand: 1560.00 + 520.00 + 1530.00 + 17.99 + 1500.00 + 0.50 + 1500.00."""


@pytest.fixture(autouse=True)
def the_sample_alone(tmp_path, monkeypatch):
    """Let the tests see nothing that a project added to the sample: no entry of meltano.yml, no check."""
    every = quality.listed
    monkeypatch.setattr(
        quality, "listed", lambda folder: [one for one in every(folder) if one.table in extracts.FILES]
    )
    folder = tmp_path / "transform" / "checks"
    folder.mkdir(parents=True)
    shutil.copy(quality.CHECKS / "completejourney.py", folder)
    monkeypatch.setattr(quality, "CHECKS", folder)


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract")
    extracts.seed("example", 1, folder)
    return folder


@pytest.fixture(scope="module")
def built(extract, tmp_path_factory):
    """A warehouse with the example in raw and the sample's models on it."""
    work = tmp_path_factory.mktemp("warehouse")
    warehouse = layout.warehouse("dev", work)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema raw")
        for name in extracts.FILES:
            connection.execute(
                f"create table raw.{name} as from read_csv('{extract / name}.csv', all_varchar = true)"
            )
    env = os.environ | {
        "ELT_WAREHOUSES": str(work),
        "MELTANO_ENVIRONMENT": "dev",
        "DBT_PROJECT_DIR": str(ROOT / "transform"),
        "DBT_PROFILES_DIR": str(ROOT / "transform"),
        "DBT_TARGET_PATH": str(work / "target"),
        "DBT_LOG_PATH": str(work / "logs"),
    }
    command = [BIN / "dbt", "run", "--select", "+customer_summary", "+daily_sales", "+product_performance"]
    done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return warehouse


@pytest.fixture
def warehouse(built, tmp_path):
    return Path(shutil.copy(built, tmp_path))


def test_a_right_warehouse_passes(extract, warehouse, capsys):
    figures = {figure.name: figure.warehouse for figure in quality.check(extract, DuckDBFile(warehouse))}
    assert figures["raw.transactions: rows"] == 218
    assert figures["staging: lines kept"] == 213
    assert figures["staging: lines left out, no_quantity"] == 3
    assert figures["staging: lines left out, no_sales_value"] == 2
    for mart in ("customer_summary", "daily_sales", "product_performance"):
        assert figures[f"marts.{mart}: revenue"] == REVENUE
    assert figures["marts.customer_summary: customers"] == 7
    segments = {"champion": 1, "loyal": 1, "big_spender": 2, "occasional": 2, "lapsed": 1}
    assert {name: figures[f"marts.customer_summary: {name}"] for name in segments} == segments
    assert capsys.readouterr().out.startswith("quality: 21 of 21 figures agree")
    quality.check(extract, DuckDBFile(warehouse), table=True)
    assert "6,628.49" in capsys.readouterr().out


FAULTS = {
    "one cent changed in raw": (
        "update raw.transactions set sales_value = '10.01' where basket_id = '1001' and product_id = '101'",
        [r"raw.transactions: revenue: 6,623.60 in the warehouse, 6,623.59 by the source"],
    ),
    "a unit more, in a mart": (
        "update marts.product_performance set units = units + 1 where product_id = 999",
        [r"revenue and units of 999: 0.50 / 2 in the warehouse, 0.50 / 1 by the source"],
    ),
    "another discount": (
        "update marts.daily_sales set discount = discount - 0.01 where sales_date = '2017-12-31'",
        [r"of 2017-12-31: 0.50 / 1 / 0.24 in the warehouse, 0.50 / 1 / 0.25 by the source"],
    ),
    "another department": (
        "update raw.products set department = 'X' where product_id = '102'",
        [r"raw.products: fields of 102: .* / X / .* in the warehouse"],
    ),
    "another age": (
        "update raw.demographics set age = '1' where household_id = '1'",
        [r"raw.demographics: fields of 1: 1 / .* in the warehouse"],
    ),
    "a rejected line lost from raw": (
        "delete from raw.transactions where product_id = '104' and sales_value = '0.00' and quantity = '1'",
        [
            r"raw.transactions: rows: 217 in the warehouse, 218 by the source",
            r"left out, no_sales_value: 1 in the warehouse, 2 by the source",
        ],
    ),
    "a product's description lost from raw": (
        "delete from raw.products where product_id = '102'",
        [r"raw.products: rows: 3 in the warehouse, 4 by the source"],
    ),
    "a household's description twice in raw": (
        "insert into raw.demographics from raw.demographics where household_id = '1'",
        [r"raw.demographics: rows: 4 in the warehouse, 3 by the source"],
    ),
    "a customer missing": (
        "delete from marts.customer_summary where customer_id = 6",
        [
            r"customers: 6 in the warehouse, 7 by the source",
            r"revenue: 6,627.99 in the warehouse, 6,628.49 by the source",
            r"of 6: absent in the warehouse, 0 / 1 / 1 / 0.50 / occasional by the source",
        ],
    ),
    "a segment doubled": (
        (
            "insert into marts.customer_summary select * replace ('loyal' as segment, 0 as monetary_value)"
            " from marts.customer_summary where customer_id = 1"
        ),
        [
            r"loyal: 2 in the warehouse, 1 by the source",
            r"of 1: 1 / 52 / 156 / 1,560.00 / champion and 1 / 52 / 156 / 0.00 / loyal in the warehouse",
        ],
    ),
    "two customers' segments exchanged": (
        (
            "update marts.customer_summary set segment = if(segment = 'loyal', 'champion', 'loyal')"
            " where customer_id in (1, 2)"
        ),
        [
            r"of 1: 1 / 52 / 156 / 1,560.00 / loyal in the warehouse",
            r"of 2: 1 / 52 / 104 / 520.00 / champion in the warehouse",
        ],
    ),
    "a customer too many": (
        (
            "insert into marts.customer_summary select * replace (8 as customer_id, 0 as monetary_value)"
            " from marts.customer_summary where customer_id = 6"
        ),
        [r"customers: 8 in the warehouse, 7 by the source", r"of 8: .* in the warehouse, absent by the source"],
    ),
    "a cent moved from one customer to another": (
        (
            "update marts.customer_summary set monetary_value = monetary_value + if(customer_id = 1, 0.01, -0.01)"
            " where customer_id in (1, 2)"
        ),
        [r"of 1: 1 / 52 / 156 / 1,560.01 / champion in the warehouse, 1 / 52 / 156 / 1,560.00 / champion by"],
    ),
    "a basket counted twice": (
        "update marts.customer_summary set frequency = frequency + 1 where customer_id = 4",
        [r"of 4: 60 / 3 / 5 / 17.99 / occasional in the warehouse, 60 / 2 / 5 / 17.99 / occasional by the source"],
    ),
    "a product row lost": (
        "delete from marts.product_performance where product_id = 999",
        [
            r"marts.product_performance: revenue: 6,627.99 in the warehouse, 6,628.49 by the source",
            r"revenue and units of 999: absent in the warehouse, 0.50 / 1 by the source",
        ],
    ),
    "a day lost": (
        "delete from marts.daily_sales where sales_date = '2017-12-31'",
        [r"of 2017-12-31: absent in the warehouse, 0.50 / 1 / 0.25 by the source"],
    ),
    "an empty mart": (
        "delete from marts.daily_sales",
        [
            r"marts.daily_sales: revenue: 0 in the warehouse, 6,628.49",
            r"each: keys that differ: \d+ in the warehouse",
        ],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(extract, warehouse, capsys, fault):
    statement, named = FAULTS[fault]
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(statement)
    with pytest.raises(DataError) as raised:
        quality.check(extract, DuckDBFile(warehouse))
    for pattern in named:
        assert raised.match(pattern)
    printed = capsys.readouterr().out
    assert "NO" in printed
    assert "yes" not in printed  # what agrees is not in the way


def test_what_cannot_be_read_is_named(extract, warehouse, tmp_path):
    with pytest.raises(DataError, match=r"nowhere.duckdb is missing: run the pipeline"):
        quality.check(extract, DuckDBFile(tmp_path / "nowhere.duckdb"))
    with pytest.raises(DataError, match=r"transactions.csv is missing: put the extract of table transactions there"):
        quality.check(tmp_path / "nowhere", DuckDBFile(warehouse))
    (tmp_path / "no.duckdb").write_text("not a database")
    with pytest.raises(DataError, match=r"no.duckdb cannot be read"):
        quality.check(extract, DuckDBFile(tmp_path / "no.duckdb"))
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("drop table marts.daily_sales")
    with pytest.raises(DataError, match="daily_sales"):
        quality.check(extract, DuckDBFile(warehouse))


def test_a_warehouse_that_is_being_written_is_not_read(extract, warehouse):
    """A retry may find it free."""
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, warehouse], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(StackError, match="Could not set lock"):
            quality.check(extract, DuckDBFile(warehouse))
        writer.communicate(timeout=DEADLINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("household_id,store_id", "customer,store_id"), "lacks the column household_id"),
        (("2017-01-07 10:15:00", "2017-01-07 10:15:00,9"), "line 2: 12 fields instead of 11"),
        (("10.00", "ten"), "row 1: not a number"),
        (("2017-01-07", "07.01.2017"), "not a number or a date"),
    ],
)
def test_a_bad_extract_is_named(extract, warehouse, tmp_path, change, message):
    old, new = change
    folder = Path(shutil.copytree(extract, tmp_path / "extract"))
    path = folder / "transactions.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        quality.check(folder, DuckDBFile(warehouse))


def test_thresholds_come_from_the_dbt_project(extract, warehouse, tmp_path, monkeypatch):
    text = (ROOT / "transform" / "dbt_project.yml").read_text()
    project = tmp_path / "dbt_project.yml"
    project.write_text(text.replace("lapsed_after_days: 60", "lapsed_after_days: 61"))
    monkeypatch.setattr(quality.layout, "DBT_PROJECT", tmp_path)
    with pytest.raises(DataError, match=r"of 5: 61 / 1 / 100 / 1,500.00 / lapsed in the warehouse"):
        quality.check(extract, DuckDBFile(warehouse))
    project.write_text(text.replace("lapsed_after_days", "lapsed"))
    with pytest.raises(ConfigError, match="lapsed_after_days"):
        quality.check(extract, DuckDBFile(warehouse))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def figures(extract, warehouse):\n    row = None\n    return row.first\n",
            "quality: transform/checks/shop.py, line 3: AttributeError: 'NoneType' object has no attribute 'first'",
        ),
        (
            "from elt.sources import csv_files\n\ndef figures(extract, warehouse):\n    csv_files.Extract().rows()\n",
            r"quality: transform/checks/shop.py, line 4: TypeError: .*missing 2 required positional arguments",
        ),
        (
            "import nowhere\n",
            "quality: transform/checks/shop.py, line 1: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("x = 1\ndef figures(:\n", "quality: transform/checks/shop.py, line 2: SyntaxError: invalid syntax"),
        ("def figures(extract, warehouse):\n    pass\n", "quality: transform/checks/shop.py: TypeError: "),
        ("x = 1\n", "shop.py has no function figures"),
    ],
    ids=["figures", "below", "import", "syntax", "nothing", "no function"],
)
def test_what_a_check_raises_is_told_with_its_line(extract, warehouse, text, message):
    (quality.CHECKS / "shop.py").write_text(text)
    with pytest.raises(EltError, match=message):
        quality.check(extract, DuckDBFile(warehouse))


def test_the_source_is_read_by_nothing_that_the_warehouse_is_made_by():
    script = (
        "import sys; from pathlib import Path; from elt.sources import columns\n"
        "for one in columns.blocks(Path(sys.argv[1]), ['basket_id']): print(one.rows)\n"
        "print([name for name in ('duckdb', 'dbt', 'tap_csv', 'pandas') if name in sys.modules])"
    )
    done = run(sys.executable, "-c", script, layout.SAMPLE_CSV, env=os.environ)
    assert done.stdout == "218\n[]\n", done.stderr
