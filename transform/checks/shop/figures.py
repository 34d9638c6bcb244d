"""Compute the shop's figures a second time, in the source database by SQL of its own, without DuckDB, tap or dbt.

They agree while nothing changes in the database between the load and the check.
"""

# ruff: noqa: S608 - names of tables are this module's

from __future__ import annotations

import typing as t
from contextlib import closing

import psycopg2

from elt.config import settings
from elt.errors import DataError
from elt.pipeline.quality import Figure, keyed

if t.TYPE_CHECKING:
    from pathlib import Path

    import duckdb

TABLES = ("customers", "addresses", "products", "prices", "orders", "order_items", "returns")
KEYED = {
    "marts.fct_order_items: lines, dollars and units that came back by month and status": (
        """
        select to_char(ordered_at at time zone 'UTC', 'YYYY-MM') || ' ' || status, sum(lines)::bigint, sum(amount),
            coalesce(sum(back), 0)::bigint
        from orders
        join (select order_id, count(*) as lines, sum(amount) as amount from order_items group by order_id) as items
            using (order_id)
        left join (select order_id, sum(quantity) as back from returns group by order_id) as returned using (order_id)
        group by 1
        """,
        """
        select strftime(ordered_at, '%Y-%m') || ' ' || status, count(*), sum(amount), sum(returned_quantity)::bigint
        from marts.fct_order_items group by 1
        """,
    ),
    "marts.dim_customers: current address": (
        "select customer_id, email, street, postcode, city from customers join addresses using (customer_id)",
        "select customer_id, email, street, postcode, city from marts.dim_customers where is_current",
    ),
    "marts.dim_products: latest price": (
        """
        select distinct on (product_id) product_id, price from products left join prices using (product_id)
        order by product_id, valid_from desc nulls last
        """,
        "select product_id, price from marts.dim_products",
    ),
}
"""A figure by key: the source's query and the warehouse's, whose first column is the key."""


def figures(extract: Path, warehouse: duckdb.DuckDBPyConnection) -> list[Figure]:  # noqa: ARG001
    """Return each figure by both routes.

    Raises:
        DataError: the database does not answer.
    """
    try:
        connection = psycopg2.connect(settings.load().postgres_url("shop", scheme="postgresql"), connect_timeout=5)
    except psycopg2.OperationalError as error:
        raise DataError(f"quality: the database shop does not answer: {str(error).strip()}") from None
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read read only")

        def ask(query: str) -> list[t.Any]:
            cursor.execute(query)
            return cursor.fetchall()

        found = []
        for name in TABLES:
            live = f"select count(*) from raw_shop.{name} where _sdc_deleted_at is null"
            (rows,) = warehouse.execute(live).fetchall()
            found.append(Figure(f"raw_shop.{name}: rows", ask(f"select count(*) from {name}")[0][0], rows[0]))
        for name, (in_source, in_warehouse) in KEYED.items():
            wanted = {row[0]: row[1:] for row in ask(in_source)}
            found += keyed(name, wanted, [(row[0], row[1:]) for row in warehouse.execute(in_warehouse).fetchall()])
    return found
