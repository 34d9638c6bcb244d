"""The pipeline through Airflow and Celery: good input, every kind of bad input, another environment."""

from __future__ import annotations

import contextlib
import re
import typing as t
from pathlib import Path

import duckdb
import pytest
from workspace import run

from elt.e2e import checks
from elt.errors import StackError
from elt.orchestration import runs
from elt.pipeline import quality
from elt.services import databases
from elt.warehouse.duckdb_file import DuckDBFile

if t.TYPE_CHECKING:
    from .conftest import Platform


def published(platform: Platform) -> tuple[Path, list[tuple[t.Any, ...]]]:
    """The file that readers see and the customers in it."""
    path = (platform.state / "published" / "dev" / "latest.duckdb").resolve()
    with duckdb.connect(str(path), read_only=True) as connection:
        return path, connection.execute("select * from marts.customer_summary order by all").fetchall()


@pytest.fixture(scope="module")
def loaded(platform: Platform) -> Platform:
    """The platform after one good run on Celery."""
    run_id = runs.run_pipeline(platform.api, 120)
    assert checks.executed_by_celery(platform.settings, run_id).startswith("6 tasks")
    return platform


def test_a_run_ends_in_published_marts(loaded):
    figures = quality.check(loaded.state / "extract", DuckDBFile(loaded.state / "warehouse" / "warehouse_dev.duckdb"))
    assert len(figures) >= 15
    assert all(figure.agrees for figure in figures)
    assert len(published(loaded)[1]) == 7
    assert "customers" in loaded.elt("sql", "select count(*) as customers from customer_summary")


def test_meltano_keeps_its_state_in_postgres(loaded):
    assert "in PostgreSQL" in checks.meltano_state(loaded.settings, 0)


def test_full_refresh_gives_the_same_marts_and_no_reader_blocks_it_or_is_blocked(loaded):
    path, before = published(loaded)
    with duckdb.connect(str(path), read_only=True) as reader:
        runs.run_pipeline(loaded.api, 120, {"full_refresh": True})
        assert reader.execute("select count(*) from marts.customer_summary").fetchone() == (7,)
    assert published(loaded)[1] == before
    assert published(loaded)[0] != path
    assert run("elt", "sql", "select 1", env=loaded.env).returncode == 0


def test_two_environments_at_once_share_nothing(loaded):
    """One schedule, asked for in both: each run loads what lies there at its own turn, marts and state are apart."""
    seen = published(loaded)
    products = loaded.state / "extract" / "products.csv"
    good = products.read_bytes()

    def names(environment: str) -> list[t.Any]:
        path = loaded.state / "published" / environment / "latest.duckdb"
        with duckdb.connect(str(path), read_only=True) as connection:
            query = "select environment, (select count(*) from marts.customer_summary) from published"
            found = connection.execute(query).fetchall()
        with duckdb.connect(str(loaded.state / f"warehouse/warehouse_{environment}.duckdb"), read_only=True) as one:
            return found + one.execute("select count(*) from raw.products where product_id = 999999999").fetchall()

    def states() -> set[str]:
        connection = databases.connect(loaded.settings, "meltano")
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("select state_id from state")
            return {name for (name,) in cursor.fetchall()}

    conf: list[dict[str, object]] = [{"environment": one, "uncommitted": True} for one in ("dev", "prod")]
    dev, prod = (loaded.api.trigger(runs.DAG, one) for one in conf)
    runs.follow(loaded.api, dev, 120)
    try:
        products.write_bytes(good + b"999999999,1,FEW,National,FEW,FEW,1 OZ\n")
        runs.follow(loaded.api, prod, 120)
    finally:
        products.write_bytes(good)
    assert names("dev") == [("dev", 7), (0,)]
    assert names("prod") == [("prod", 7), (1,)]
    assert published(loaded)[1] == seen[1]
    assert {f"{name}:tap-csv-to-target-duckdb" for name in ("dev", "prod")} <= states()
    assert "prod" in loaded.elt("sql", "--environment", "prod", "select environment from published")


def replace_first_line(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


FAULTS = {
    "missing file": (lambda path: path.unlink(), "products.csv"),
    "ragged row": (lambda path: replace_first_line(path, "\n", "\n1,2\n"), "line 2"),
    "absent key column": (lambda path: replace_first_line(path, "product_id", "article"), "product_id"),
    "wrong encoding": (lambda path: path.write_bytes(path.read_bytes() + b"\xff\xfe,1,x,y,z,u,v\n"), "utf"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_fails_the_run_and_leaves_the_marts(loaded, fault):
    plant, word = FAULTS[fault]
    products = loaded.state / "extract" / "products.csv"
    good, before = products.read_bytes(), published(loaded)
    try:
        plant(products)
        with pytest.raises(StackError) as error:
            runs.run_pipeline(loaded.api, 180)
    finally:
        products.write_bytes(good)
    assert "task extract_load" in str(error.value)
    (task,) = [
        one for one in loaded.api.tasks(runs.DAG, loaded.api.last_run(runs.DAG)[0]) if one.name == "extract_load"
    ]
    assert task.tries == (3 if fault == "missing file" else 1), "the file may come, what stands in it stays"
    assert word in str(error.value).lower()
    assert "products.csv" in str(error.value)
    assert "Traceback" not in str(error.value)
    assert published(loaded) == before


def test_the_second_extractor_loads_when_asked_and_leaves_the_other_tables(loaded):
    lines = ["product_id,store_id,display_location,mailer_location,week", *["1,2,9,0,1"] * 2, "1,3,A,,1"]
    path = loaded.state / "extract" / "promotions.csv"
    path.write_text("\n".join(lines) + "\n")
    loaded.elt("exec", "meltano", "run", "tap-csv--promotions", "target-duckdb")
    path.unlink()
    with duckdb.connect(str(loaded.state / "warehouse" / "warehouse_dev.duckdb"), read_only=True) as connection:
        rows = connection.execute("select store_id, display_location, mailer_location from raw.promotions").fetchall()
        assert connection.execute("select count(*) > 0 from raw.transactions").fetchone() == (True,)
    assert sorted(rows, key=str) == [(2, "9", "0"), (2, "9", "0"), (3, "A", None)]


def test_a_failed_run_goes_on_with_the_task_that_failed(loaded):
    products = loaded.state / "extract" / "products.csv"
    good = products.read_bytes()
    try:
        products.write_bytes(good.replace(b"product_id", b"id", 1))
        failed = run("elt", "pipeline", env=loaded.env, seconds=180)
    finally:
        products.write_bytes(good)
    assert failed.returncode == 1
    assert re.search(r"extract_load .* failed: .*products.csv.*'product_id'", failed.stderr)
    log = failed.stderr.partition("log: ")[2].splitlines()[0]
    assert "'product_id'" in Path(log).read_text()
    run_id, state = loaded.api.last_run(runs.DAG)
    assert state == "failed"
    loaded.elt("pipeline", "--resume")
    tasks = {task.name: task for task in loaded.api.tasks(runs.DAG, run_id)}
    assert {task.state for task in tasks.values()} == {"success"}
    assert tasks["wait_for_extract"].tries == 1
    assert tasks["extract_load"].tries == 2  # the first failure was final
    assert "products: " in loaded.elt("logs", "extract_load")
    again = run("elt", "pipeline", "--resume", env=loaded.env)
    assert again.returncode == 1
    assert f"{run_id}, did not fail but is success" in again.stderr


def test_a_resumed_run_loads_what_was_mended(loaded):
    """A key that occurs twice is found by the last check; the load that took it in has long succeeded."""
    products = loaded.state / "extract" / "products.csv"
    good, before = products.read_text(), published(loaded)
    try:
        products.write_text(good + good.splitlines()[-1] + "\n")
        failed = run("elt", "pipeline", env=loaded.env, seconds=180)
    finally:
        products.write_text(good)
    assert failed.returncode == 1
    assert "data_quality of meltano_elt_pipeline failed: quality: 1 of" in failed.stderr
    assert f"{products} changed since: goes on with extract_load" in loaded.elt("pipeline", "--resume")
    assert published(loaded)[1] == before[1]
    assert published(loaded)[0] != before[0]
