"""Days of a shop, loaded while tap, target or server are killed: nothing is lost, and nothing stays that is gone."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import subprocess
import sys
import time
import typing as t
import warnings
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest
from tap_sql_harness import Source, batched, command, needs, new_mariadb, new_postgres

from elt import layout
from elt.config import settings
from elt.errors import DataError, StackError
from elt.pipeline import quality
from elt.sources import servers, shop, simulate

DAYS = 20 if os.environ.get("ELT_FAULTS") == "all" else 3
EVERY = 60
"""Which households buy: every sixtieth, 57,000 rows."""
KEYS = {
    "customers": "customer_id",
    "addresses": "address_id",
    "products": "product_id",
    "prices": "product_id, valid_from",
    "orders": "order_id",
    "order_items": "order_id, line_number",
    "returns": "return_id",
}
CUSTOMERS = """
    select c.customer_id, greatest(c.updated_at, a.updated_at), email, age, income, street, postcode, city
    from customers as c join addresses as a using (customer_id) order by c.customer_id
"""
"""Each customer as of now."""
VERSIONS = """
    select customer_id, valid_from, email, age, income, street, postcode, city, valid_to
    from marts.dim_customers order by customer_id, valid_from
"""
MARTS = {
    "dim_customers": """
        select * exclude (customer_version_id, valid_from) from marts.dim_customers
        where is_current order by customer_id
    """,
    "dim_products": "from marts.dim_products order by product_id",
    "fct_order_items": "select * exclude (loaded_at) from marts.fct_order_items order by order_id, line_number",
}
"""What is now, without the moments of loads."""


def url(source: Source) -> str:
    """The address of a database of PostgreSQL."""
    given = {name: quote(str(value), safe="") for name, value in source.settings.items()}
    return "postgresql://{user}:{password}@{host}:{port}/{database}".format(**given)


class Shop:
    """A shop on a server of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        given, self.server = (new_postgres if kind == "postgres" else new_mariadb)(folder)
        self.source = Source(kind, given, print)
        self.restart()
        with shop.data(EVERY) as rows:
            if kind == "postgres":
                shop.to_postgres(rows, url(self.source))
            else:
                shop.to_mysql(rows, servers.Database(**given))

    def connect(self) -> servers.Session:
        """Begin a session."""
        if self.source.kind == "postgres":
            return servers.Postgres(url(self.source))
        return servers.MySQL(servers.Database(**self.source.settings))

    def restart(self) -> None:
        """Start the server, and wait for it."""
        self.server.start(lambda: self.connect().close())

    def ask(self, query: str) -> list[tuple[t.Any, ...]]:
        """Ask the server itself; moments are in UTC."""
        with closing(self.connect()) as session:
            return [
                tuple(one.replace(tzinfo=None) if isinstance(one, dt.datetime) else one for one in row)
                for row in session.ask(query)
            ]


class Loader:
    """Loads by pipe, and keeps the last state that the target said, as Meltano does."""

    def __init__(self, shop: Shop, warehouse: Path, folder: Path) -> None:
        self.warehouse, self.state, self._folder = warehouse, None, folder
        self.took = 0.0  # seconds of the last load that came to its end
        source, self._server = shop.source, shop.server
        self._kind = source.kind
        self._catalog = self._write("catalog", source.only(*KEYS, key="updated_at"))
        self._settings = source.settings | {"retries": 0} | batched(folder)
        self._config = self._write("config", self._settings)
        target = {"path": str(self.warehouse), "default_target_schema": "raw_shop", "add_metadata_columns": True}
        self._target = self._write("target", target | {"load_method": "upsert", "batch_folder": str(folder)})

    def _write(self, name: str, content: t.Any) -> Path:
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    def load(self, kill: str = "", share: float = 0, **settings: t.Any) -> bool:
        """Load, and kill one of the three after a share of the last load's time; whether it came to its end."""
        begun = time.monotonic()
        self._write("config", self._settings | settings)
        known = ["--state", self._write("state", self.state)] if self.state else []
        words = command(self._kind, "--config", self._config, "--catalog", self._catalog, *known)
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
                {"tap": tap, "target": target, "server": self._server}[kill].kill()
        lines = [line for line in said.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        self.state = json.loads(lines[-1]) if lines else self.state
        ended = tap.returncode == target.returncode == 0
        self.took = time.monotonic() - begun if ended else self.took
        return ended

    def ask(self, query: str) -> list[tuple[t.Any, ...]]:
        """Ask the warehouse."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def rows(self, table: str) -> list[tuple[t.Any, ...]]:
        """The rows that are live, as the source has them."""
        live = f"from raw_shop.{table} where _sdc_deleted_at is null order by {KEYS[table]}"
        return self.ask(f"select columns(c -> not starts_with(c, '_sdc_')) {live}")


@pytest.fixture(params=["postgres", "mysql"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[Shop]:
    if request.param == "mysql":
        needs("mysql")
    folder = tmp_path / "server"
    folder.mkdir()
    one = Shop(request.param, folder)
    yield one
    one.server.kill()


class Models:
    """The models of the shop, in a warehouse of their own."""

    def __init__(self, folder: Path) -> None:
        from dbt.cli.main import dbtRunner

        self.warehouse = layout.warehouse("dev", folder)
        self._runner = dbtRunner()
        self._runner.manifest = self._run("parse").result

    def build(self) -> None:
        """Have dbt build them, snapshot included."""
        without = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        self._run("build", "--select", "tag:shop", *without)

    def _run(self, *words: str) -> t.Any:
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = self._runner.invoke([*words])
        DuckDBConnectionManager.close_all_connections()  # else the next load waits for the file
        assert done.success, done
        return done


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Models]:
    folder, project = tmp_path_factory.mktemp("models"), layout.DBT_PROJECT
    paths = {"ELT_WAREHOUSES": folder, "DBT_TARGET_PATH": folder / "dbt", "DBT_LOG_PATH": folder / "dbt"}
    with pytest.MonkeyPatch.context() as patch:
        for name, path in (paths | {"DBT_PROJECT_DIR": project, "DBT_PROFILES_DIR": project}).items():
            patch.setenv(name, str(path))
        patch.setenv("MELTANO_ENVIRONMENT", "dev")
        patch.setenv("DBT_QUIET", "true")
        yield Models(folder)


class History:
    """What dim_customers is to hold: each customer as of each load."""

    def __init__(self) -> None:
        self._versions: dict[int, list[list[t.Any]]] = {}

    def add(self, customers: list[tuple[t.Any, ...]], seen: dt.datetime) -> None:
        """Note the customers who are others than at the load before, by the moment at which the snapshot saw them."""
        for customer, changed, *now in customers:
            known = self._versions.setdefault(customer, [])
            if not known or known[-1][1:-1] != now:
                late = bool(known) and changed <= known[-1][-1]
                known.append([seen if late else changed, *now, seen])

    def rows(self) -> list[tuple[t.Any, ...]]:
        """The versions, in the order of VERSIONS."""
        return [
            (customer, *version[:-1], after[0] if after else None)
            for customer, known in sorted(self._versions.items())
            for version, after in zip(known, [*known[1:], None], strict=True)
        ]


@pytest.mark.timeout(1200)
def test_days_with_kills_end_as_the_source_is(there: Shop, models: Models, tmp_path: Path) -> None:
    models.warehouse.unlink(missing_ok=True)
    loader = Loader(there, models.warehouse, tmp_path)
    history = History()

    def finish(**settings: t.Any) -> None:
        """Load what is there, and build the models on it."""
        customers = there.ask(CUSTOMERS)
        assert loader.load(**settings)
        models.build()
        ((seen,),) = loader.ask("select max(dbt_valid_from) from snapshots.snp_shop__customers")
        history.add(customers, seen)

    fate = random.Random(7)
    happened: set[str] = set()
    ended = 0
    finish()
    for day, done in enumerate(simulate.days(there.connect, DAYS)):
        happened |= {name for name, rows in done.items() if rows}
        if day % 3 == 0:
            victims = fate.sample(["tap", "target", "server"], 3)
        ended += not loader.load(victims[day % 3], fate.uniform(0.1, 0.9))
        if victims[day % 3] == "server":
            there.restart()
        finish()  # the changes that are late are not committed yet
    assert happened == set(done), "each step changed something"
    assert ended, "no kill came before the end"
    assert loader.load()

    source = {table: there.ask(f"select * from {table} order by {KEYS[table]}") for table in KEYS}
    for table, rows in source.items():  # what a key does not show is what was deleted, and nothing else
        assert set(rows) <= set(loader.rows(table)), table
    assert len(loader.rows("order_items")) > len(source["order_items"])
    finish(reconcile="keys")
    for table, rows in source.items():
        assert loader.rows(table) == rows, table
    assert loader.ask(VERSIONS) == history.rows()
    marts = {name: loader.ask(query) for name, query in MARTS.items()}

    loader.warehouse.unlink()
    loader.state = None
    assert loader.load()
    models.build()
    for name, query in MARTS.items():
        assert marts[name] == loader.ask(query), name


def test_the_check_of_the_shop_asks_nothing_anew_for_each_row(pg: Source) -> None:
    """On all 2 million rows such a query took more than ten minutes."""
    with shop.data(EVERY) as rows:
        shop.to_postgres(rows, url(pg))
    for query, _ in quality.load(quality.CHECKS / "shop" / "figures.py").KEYED.values():
        assert "SubPlan" not in str(pg.execute(f"explain {query}")), query


def test_the_settings_of_tap_mysql_name_the_server(my: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in my.settings.items():
        monkeypatch.setenv(f"TAP_MYSQL_{name.upper()}", str(value))
    monkeypatch.setattr(shop, "SAMPLE_EVERY", EVERY)
    given = settings.load()
    with pytest.raises(DataError, match=r"simulate: the database has no shop yet: .* --engine mysql"):
        simulate.simulate(given, 1, 0, "mysql")
    for _ in range(2):
        shop.seed(given, sample=True, engine="mysql")
    simulate.simulate(given, 1, 0, "mysql")
    with closing(servers.connector(given, "mysql")()) as session:
        assert session.ask("select count(*) from customers") == [(42,)], "a customer more than the seed has"
    my.execute("drop table shop.returns, shop.order_items, shop.orders")
    my.execute("create table shop.orders (id int primary key)")
    with pytest.raises(DataError, match=r"a table orders that no seed wrote, .* TAP_MYSQL_DATABASE"):
        shop.seed(given, sample=True, engine="mysql")
    monkeypatch.setenv("TAP_MYSQL_PORT", "1")
    with pytest.raises(StackError, match=r"seed: the server of tap-mysql does not answer .* TAP_MYSQL_HOST"):
        shop.seed(given, sample=True, engine="mysql")
