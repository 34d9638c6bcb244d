"""Days of a shop, loaded while tap or target are killed: nothing is lost, and nothing stays that is gone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import types
import typing as t
from pathlib import Path
from urllib.parse import quote

import duckdb
import psycopg2
import pytest
from tap_sql_harness import Source, batched, command

from elt.sources import shop, simulate

DAYS = 20 if os.environ.get("ELT_FAULTS") == "all" else 3
KEYS = {
    "customers": "customer_id",
    "addresses": "address_id",
    "products": "product_id",
    "prices": "product_id, valid_from",
    "orders": "order_id",
    "order_items": "order_id, line_number",
    "returns": "return_id",
}


class Loader:
    """Loads by pipe, and keeps the last state that the target said, as Meltano does."""

    def __init__(self, source: Source, catalog: t.Any, folder: Path) -> None:
        self.warehouse, self.state, self._folder = folder / "w.duckdb", None, folder
        self.took = 0.0  # seconds of the last load that came to its end
        self._source = source
        self._catalog = self._write("catalog", catalog)
        self._settings = source.settings | {"retries": 0} | batched(folder)
        self._config = self._write("config", self._settings)
        target = {"path": str(self.warehouse), "default_target_schema": "raw", "add_metadata_columns": True}
        self._target = self._write("target", target | {"batch_folder": str(folder)})

    def _write(self, name: str, content: t.Any) -> Path:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    def load(self, kill: str = "", share: float = 0, **settings: t.Any) -> bool:
        """Load, and kill `tap` or `target` after a share of the last load's time; whether both came to their end."""
        begun = time.monotonic()
        self._write("config", self._settings | settings)
        known = ["--state", self._write("state", self.state)] if self.state else []
        words = command(self._source.kind, "--config", self._config, "--catalog", self._catalog, *known)
        goal = [str(Path(sys.executable).with_name("target-duckdb")), "--config", str(self._target)]
        said = self._folder / "said.jsonl"
        quiet = subprocess.DEVNULL
        with (
            said.open("wb") as output,
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=quiet) as tap,
            subprocess.Popen(goal, stdin=tap.stdout, stdout=output, stderr=quiet) as target,
        ):
            assert tap.stdout
            tap.stdout.close()
            if kill:
                time.sleep(share * self.took)
                (tap if kill == "tap" else target).kill()
        lines = [line for line in said.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        self.state = json.loads(lines[-1]) if lines else self.state
        ended = tap.returncode == target.returncode == 0
        self.took = time.monotonic() - begun if ended else self.took
        return ended

    def rows(self, table: str) -> list[tuple[t.Any, ...]]:
        """The rows that are live, as the source has them."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            columns = f"* exclude ({', '.join(self._own(connection, table))})"
            query = f"select {columns} from raw.{table} where _sdc_deleted_at is null order by {KEYS[table]}"
            return connection.execute(query).fetchall()

    @staticmethod
    def _own(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
        described = connection.execute(f"describe raw.{table}").fetchall()
        return [name for name, *_ in described if name.startswith("_sdc_")]


@pytest.mark.timeout(1200)
def test_days_with_kills_end_as_the_source_is(pg: Source, tmp_path: Path) -> None:
    given = {name: quote(str(value), safe="") for name, value in pg.settings.items()}
    url = "postgresql://{user}:{password}@{host}:{port}/{database}".format(**given)
    settings: t.Any = types.SimpleNamespace(postgres_url=lambda *_, **__: url)
    shop.seed(settings, sample=True)
    catalog = pg.only(*KEYS, key="updated_at")
    loader = Loader(pg, catalog, tmp_path)
    assert loader.load()
    fate = random.Random(7)
    happened: set[str] = set()
    ended = 0
    for done in simulate.days(lambda: psycopg2.connect(url, options="-c TimeZone=UTC"), DAYS):
        happened |= {name for name, rows in done.items() if rows}
        ended += not loader.load(fate.choice(["tap", "target"]), fate.uniform(0.1, 0.9))
        assert loader.load()  # the change that is late is not committed yet
    assert happened == set(done), "each step changed something"
    assert ended, "no kill came before the end"
    assert loader.load()

    def source(table: str) -> list[tuple[t.Any, ...]]:
        utc = {"created_at", "updated_at", "ordered_at", "returned_at"}
        found = pg.execute(
            f"select column_name from information_schema.columns where table_name = '{table}'"
            " and table_schema = 'public' order by ordinal_position"
        )
        columns = (f"{name} at time zone 'UTC'" if name in utc else name for (name,) in found)
        return [tuple(row) for row in pg.execute(f"select {', '.join(columns)} from {table} order by {KEYS[table]}")]

    for table in KEYS:  # what a key does not show is what was deleted, and nothing else
        there = set(source(table))
        assert there <= set(loader.rows(table)), table
    assert len(loader.rows("order_items")) > len(source("order_items"))
    assert loader.load(reconcile="keys")
    for table in KEYS:
        assert loader.rows(table) == source(table), table
