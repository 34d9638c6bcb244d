"""Let days pass in the database of the shop, as an operational system would.

Each day brings orders with their items, new customers, changed addresses, corrected prices, cancelled orders,
returns, rows that are deleted, and a change of an order that begins before all others of the day and is committed
after them. What happens depends on the data and a seed alone; `updated_at` is the start of the transaction, as it is
in systems that take `now()`.
"""

# ruff: noqa: S608 - the statements are put together from this module's constants

from __future__ import annotations

import contextlib
import typing as t
from contextlib import closing

import psycopg2
from rich.console import Console
from rich.table import Table

from elt.errors import DataError, StackError
from elt.sources.shop import DATABASE

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2 import extensions

    from elt.config.settings import Settings

_DAY = "current_setting('shop.day')"
_PICK = "(('x' || substr(md5(current_setting('shop.seed') || {day} || {what}), 1, 8))::bit(32)::bigint & 2147483647)"
"""The server's expression of a number that depends on the seed, the day and a text."""


def _pick(what: str) -> str:
    return _PICK.format(day=_DAY, what=what)


_STEPS = {
    "new customers": f"""
        with born as (
            insert into customers
            select last + i, 'customer' || last + i || '@example.com', null, null, {_DAY}::date, now()
            from (select max(customer_id) as last, count(*) as n from customers) as c,
                generate_series(1, greatest(1, n / 1000)) as i
            returning customer_id
        )
        insert into addresses
        select 100000 + customer_id, customer_id, {_pick("customer_id")} % 99 + 1 || ' New Street',
            lpad(({_pick("'p' || customer_id")} % 100000)::text, 5, '0'), 'Newport', now() from born""",
    "new orders": f"""
        with buyers as (select customer_id, row_number() over (order by customer_id) - 1 as place from customers)
        insert into orders
        select last + i, customer_id, 300 + i % 50, 'paid',
            {_DAY}::timestamptz + {_pick("'t' || i")} % 86400 * interval '1 second', now()
        from (select max(order_id) as last, count(*) as n from orders where ordered_at < {_DAY}::timestamptz) as o,
            generate_series(1, greatest(1, n / 365)) as i
        join buyers on place = {_pick("'b' || i")} % (select count(*) from customers)""",
    "items of them": f"""
        with latest as (
            select distinct on (product_id) product_id, price from prices order by product_id, valid_from desc
        ), offers as (select *, row_number() over (order by product_id) - 1 as place from latest)
        insert into order_items
        select order_id, line, product_id, units, units * price, 0, now()
        from orders, generate_series(1, 1 + {_pick("'l' || order_id")} % 12) as line
        join offers on place = {_pick("'o' || line")} % (select count(*) from offers),
            lateral (select 1 + {_pick("'u' || order_id || line")} % 3 as units) as u
        where ordered_at >= {_DAY}::timestamptz""",
    "changed addresses": f"""
        update addresses set street = {_pick("'s' || address_id")} % 99 + 1 || ' Elm Street',
            city = (array['Ashland', 'Dover', 'Salem'])[1 + {_pick("'c' || address_id")} % 3], updated_at = now()
        where {_pick("address_id")} % 200 = 0
            or address_id = (select min(address_id) + {_pick("'a'")} % 10 from addresses)""",
    "corrected prices": f"""
        update prices set price = price + 0.01, updated_at = now()
        where {_pick("product_id || valid_from::text")} % 2000 = 0""",
    "cancelled orders": f"""
        update orders set status = 'cancelled', updated_at = now()
        where status = 'paid' and ordered_at >= {_DAY}::timestamptz - interval '3 days'
            and {_pick("order_id")} % 40 = 0""",
    "returns": f"""
        insert into returns
        select last + row_number() over (order by order_id, line_number), order_id, line_number, 1, 'late',
            now(), now()
        from order_items join orders using (order_id), (select coalesce(max(return_id), 0) as last from returns) as r
        where ordered_at >= {_DAY}::timestamptz - interval '7 days' and quantity > 0
            and {_pick("'r' || order_id || line_number")} % 100 = 0""",
    "deleted returns": f"delete from returns where {_pick('return_id')} % 300 = 0",
    "deleted items": f"""
        delete from order_items as i where line_number > 1 and {_pick("'d' || order_id || line_number")} % 3000 = 0
            and not exists (
                select from returns r where r.order_id = i.order_id and r.line_number = i.line_number
            )""",
}
"""What happens on a day, each in a transaction of its own."""
_LATE = f"""
    update orders set store_id = store_id + 1, updated_at = now() where order_id = (
        select order_id from orders where ordered_at < {_DAY}::timestamptz - interval '9 days'
        order by {_pick("'z' || order_id")}, order_id limit 1
    )"""


_SET = "select set_config('shop.seed', %s, false), set_config('shop.day', %s, false)"


def days(connect: Callable[[], extensions.connection], number: int, seed: int = 0) -> Iterator[dict[str, int]]:
    """Let days pass, and yield after each how many rows each step changed.

    While the caller has the control the late change of the day is not committed yet; the next day commits it, and the
    end.

    Args:
        connect: opens a connection to the database.
        number: of days.
        seed: another one, other days.
    """
    late: extensions.connection | None = None
    with closing(connect()) as connection, contextlib.ExitStack() as opened:
        for _ in range(number):
            if late:
                late.commit()
            with connection, connection.cursor() as cursor:
                cursor.execute("select (max(ordered_at) at time zone 'UTC')::date + 1 from orders")
                ((day,),) = cursor.fetchall()
            late = late or opened.enter_context(closing(connect()))
            for one in (connection, late):
                with one.cursor() as cursor:
                    cursor.execute(_SET, (str(seed), str(day)))
                one.commit()
            with late.cursor() as cursor:
                cursor.execute(_LATE)
                done = {"late changes": cursor.rowcount}
            for name, statement in _STEPS.items():
                with connection, connection.cursor() as cursor:
                    cursor.execute(statement)
                    done[name] = cursor.rowcount
            yield done
        if late:
            late.commit()


def simulate(settings: Settings, number: int, seed: int) -> None:
    """Let days pass in the database `shop` of the stack, and print what happened.

    Raises:
        StackError: PostgreSQL does not answer.
        DataError: the database was not seeded.
    """

    def connect() -> extensions.connection:
        connection: extensions.connection = psycopg2.connect(
            settings.postgres_url(DATABASE, scheme="postgresql"), connect_timeout=5, options="-c TimeZone=UTC"
        )
        return connection

    total: dict[str, int] = {}
    try:
        for done in days(connect, number, seed):
            total = {name: total.get(name, 0) + rows for name, rows in done.items()}
    except psycopg2.OperationalError as error:
        raise StackError(f"simulate: PostgreSQL does not answer ({str(error).strip()}): scripts/up.sh") from None
    except psycopg2.errors.UndefinedTable:
        raise DataError("simulate: the database has no shop yet: scripts/seed.sh --shop") from None
    table = Table(f"{number} days", "rows")
    for name, rows in total.items():
        table.add_row(name, f"{rows:,}")
    Console().print(table)
