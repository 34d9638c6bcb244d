"""`elt run` on the worked example: segments worked out by hand, and bad input that leaves the marts as they were."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time

import duckdb
import psutil
import pytest
from workspace import DEADLINE, ROOT, apart, run

SEGMENTS = {
    1: ("champion", 1, 52, "1560.00"),  # every Saturday 20.00 + 10.00: 52 x 30.00; last on 30 December
    2: ("loyal", 1, 52, "520.00"),  # every Saturday 10.00
    3: ("big_spender", 1, 51, "1530.00"),  # one Saturday less, 30.00 each: a basket short of champion
    4: ("occasional", 60, 2, "17.99"),  # 7.99 + 7.99 + 2.01; last on 1 November, 60 days before the last day
    5: ("lapsed", 61, 1, "1500.00"),  # a big purchase, one day longer ago
    6: ("occasional", 0, 1, "0.50"),  # five lines on 31 December, of which one is a sale, of an unknown product
    7: ("big_spender", 1, 1, "1500.00"),  # exactly the threshold
    # 8 bought nothing that counts and is no customer
}
MARTS = ("customer_summary", "daily_sales", "product_performance")


def fetch(state, query):
    with duckdb.connect(str(state / "inner" / "warehouse_dev.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


def marts(state):
    """All that the marts hold."""
    return {mart: fetch(state, f"from marts.{mart} order by all") for mart in MARTS}


def elt(state, *arguments):
    return run("elt", *arguments, env=apart(state) | {"ELT_ENVIRONMENT": "dev"})


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A state folder in which `elt run` has built the example."""
    state = tmp_path_factory.mktemp("inner") / "state"
    assert elt(state, "seed", "--example").returncode == 0
    done = elt(state, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "raw.transactions: 218 rows" in done.stdout
    assert "DIFFERS" not in done.stdout
    return state


@pytest.fixture
def extract(ran):
    """The folder of the extracts; what a test changes there is put back."""
    folder = ran / "extract"
    kept = shutil.copytree(folder, ran / "kept")
    yield folder
    shutil.rmtree(folder)
    kept.rename(folder)


def test_segments_are_as_worked_out_by_hand(ran):
    rows = fetch(
        ran,
        "select customer_id, segment, recency_days, frequency, monetary_value::varchar from marts.customer_summary",
    )
    assert {row[0]: tuple(row[1:]) for row in rows} == SEGMENTS
    assert len(rows) == len(SEGMENTS)


def test_dirt_is_treated_as_decided(ran):
    assert fetch(ran, "select count(*) from raw.transactions") == [(218,)]
    assert fetch(ran, "select count(*) from staging.stg_completejourney__transactions") == [(213,)]
    reasons = (
        "select rejection_reason, count(*) from staging.base_completejourney__transactions"
        " where rejection_reason is not null group by all order by all"
    )
    assert fetch(ran, reasons) == [("no_quantity", 3), ("no_sales_value", 2)]
    unknown = "select product_id, department, revenue::varchar from marts.product_performance where not is_known"
    assert fetch(ran, unknown) == [(999, "UNKNOWN", "0.50")]
    assert fetch(ran, "select product_category from raw.products where product_id = '102'") == [("COFFEE, GROUND",)]


def test_nothing_is_written_outside_the_state_folder(ran):
    assert {path.name for path in ran.iterdir() if any(path.iterdir())} <= {"extract", "inner"}
    assert not list((ROOT / "meltano").glob("**/*.lock"))
    for left in (".meltano", "logs", "output"):
        assert not (ROOT / "meltano" / left).exists()
    for left in ("target", "logs", "dbt_packages", ".user.yml"):
        assert not (ROOT / "transform" / left).exists()


def test_unchanged_extracts_are_not_loaded_again_and_a_selection_builds_its_part(ran):
    done = elt(ran, "run", "daily_sales+", "product_performance")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "load: skipped" in done.stdout
    assert "marts.daily_sales" in done.stdout
    assert "marts.product_performance" in done.stdout
    assert "customer_summary" not in done.stdout
    assert "quality: left out, since only a part was built" in done.stdout


def test_what_the_project_no_longer_holds_is_dropped_after_a_run_that_succeeded(ran, extract):
    def left():
        query = "select schema_name || '.' || table_name from duckdb_tables() where table_name = 'former'"
        views = "select schema_name || '.' || view_name from duckdb_views() where view_name = 'former'"
        return fetch(ran, f"{query} union all {views} order by all")

    with duckdb.connect(str(ran / "inner" / "warehouse_dev.duckdb")) as connection:
        connection.execute("create table marts.former as select 1 as a; create view staging.former as select 2 as b")
        connection.execute("create table raw.former as select 3 as c")  # raw is not dbt's
    path = extract / "transactions.csv"
    good = path.read_bytes()
    replace(path, b",7.99,", b",dear,")
    assert elt(ran, "run").returncode == 1
    assert left() == [("marts.former",), ("raw.former",), ("staging.former",)]
    path.write_bytes(good)
    done = elt(ran, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'dropped "warehouse_dev"."marts"."former": no model of the project' in done.stdout
    assert left() == [("raw.former",)]


def test_rows_that_an_extract_no_longer_holds_are_gone(ran, extract):
    path = extract / "transactions.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("5,")))
    done = elt(ran, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fetch(ran, "select count(*) from marts.customer_summary where customer_id = 5") == [(0,)]


def test_a_selection_of_nothing_is_a_failure(ran):
    done = elt(ran, "run", "no_such_model")
    assert done.returncode == 1
    assert "no_such_model" in done.stderr


def replace(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


BAD = {
    "missing": (
        lambda path: path.unlink(),
        ["transactions.csv is missing: put the extract of table transactions there"],
    ),
    "ragged": (
        lambda path: replace(path, b",2,2017-01-14 10:15:00\n", b",2\n"),
        ["transactions.csv, line", "ragged"],
    ),
    "no key": (lambda path: replace(path, b"basket_id", b"basket"), ["transactions.csv, line 1", "'basket_id'"]),
    "encoding": (lambda path: replace(path, b"2017-12-30", b"2017\xff12-30"), ["transactions.csv, line", "utf-8"]),
    "empty": (lambda path: path.write_bytes(b""), ["transactions.csv", "empty"]),
    "no number": (
        lambda path: replace(path, b",7.99,", b",dear,"),
        ["transactions.csv, line 157, column 'sales_value': the value is no decimal(12,2)"],
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_named_and_leaves_the_marts(ran, extract, fault):
    spoil, words = BAD[fault]
    before = marts(ran)
    spoil(extract / "transactions.csv")
    done = elt(ran, "run")
    assert done.returncode == 1
    assert done.stderr.startswith("elt: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert marts(ran) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(ran, number):
    """Ctrl-C goes to the whole group, as a terminal sends it; the others to `elt` alone."""
    env = apart(ran) | {"ELT_ENVIRONMENT": "dev"}
    with subprocess.Popen(
        ["elt", "run", "--full-refresh"], cwd=ROOT, env=env, start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        family = []
        while not any(child.name() == "tap-csv" for child in family) and time.monotonic() < deadline:
            time.sleep(0.05)
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid).children(recursive=True)
        assert family
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(timeout=DEADLINE) != 0
        _, alive = psutil.wait_procs(family, timeout=DEADLINE)
        assert not alive


def test_after_bad_input_a_good_one_is_loaded(ran, extract):
    (extract / "transactions.csv").write_bytes(b"")
    assert elt(ran, "run").returncode == 1
    assert elt(ran, "seed", "--example").returncode == 0
    done = elt(ran, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fetch(ran, "select count(*) from marts.customer_summary") == [(len(SEGMENTS),)]
