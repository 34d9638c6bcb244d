"""Let days pass in the database of the shop, as an operational system would.

Each day brings orders with their items, new customers, changed customers and addresses, corrected prices, cancelled
orders, returns, rows that are deleted, and changes of an order and an address that begin before all others of the day
and are committed after them. What happens depends on the data and a seed alone, whatever the server; `updated_at` is
the start of the transaction, as it is in systems that take `now()`, or in MySQL that of the statement.
"""

# ruff: noqa: S608 - the statements are put together from this module's constants

from __future__ import annotations

import contextlib
import typing as t
from contextlib import closing

from rich.console import Console
from rich.table import Table

from elt.sources import servers, shop

if t.TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

    from elt.config.settings import Settings
    from elt.sources.servers import Session

_NOW = "current_timestamp(6)"
_NUMBERS = "with recursive numbers (i) as (select 1 union all select i + 1 from numbers where i < 1000)"
_ORDER = "'t' || i"
LATE = {"late changes", "late addresses"}
"""What is committed by the next day."""


def _steps(session: Session, day: dt.date, seed: int) -> dict[str, str]:
    """Return what happens on a day, each in a transaction of its own, in SQL that PostgreSQL and MySQL both know."""
    begin = f"timestamp '{day} 00:00:00'"

    def pick(what: str) -> str:
        """Return the server's expression of a number that depends on the seed, the day and a text."""
        digits = f"substr(md5('{seed}{day}' || {what}), 1, 8)"
        return f"({session.number.format(digits)} & 2147483647)"

    def one(table: str, key: str, order: str, where: str = "") -> str:
        """Return a query of one row's key, in a form that a change of its table may hold."""
        first = f"select {key} from {table} {where} order by {pick(key)} {order}, {key} limit 1"
        return f"select {key} from ({first}) as found"

    old = f"where ordered_at < {begin} - interval '9' day"
    second = session.seconds.format(f"({pick(_ORDER)} % 86400)")
    return {
        "late changes": f"""
            update orders set store_id = store_id + 1, updated_at = {_NOW}
            where order_id = ({one("orders", "order_id", "asc", old)})""",
        "late addresses": f"""
            update addresses set street = ({pick("'s' || address_id")} % 99 + 1) || ' Oak Street', updated_at = {_NOW}
            where address_id = ({one("addresses", "address_id", "desc")})""",
        "new customers": f"""
            insert into customers {_NUMBERS}
            select top + i, 'customer' || (top + i) || '@example.com', null, null, {begin}, {_NOW}
            from numbers join (select max(customer_id) as top, count(*) as n from customers) as c
                on i <= greatest(1, n / 1000)""",
        "addresses of them": f"""
            insert into addresses
            select 100000 + customer_id, customer_id, ({pick("customer_id")} % 99 + 1) || ' New Street',
                lpad('' || ({pick("'p' || customer_id")} % 100000), 5, '0'), 'Newport', {_NOW}
            from customers where customer_id not in (select customer_id from addresses)""",
        "new orders": f"""
            insert into orders {_NUMBERS},
            buyers as (select customer_id, row_number() over (order by customer_id) - 1 as place from customers),
            placed as (
                select i, {pick("'b' || i")} % (select count(*) from customers) as place
                from numbers join (select count(*) as n from orders where ordered_at < {begin}) as o
                    on i <= greatest(1, n / 365)
            )
            select (select max(order_id) from orders) + i, customer_id, 300 + i % 50, 'paid',
                {begin} + {second}, {_NOW}
            from placed join buyers using (place)""",
        "items of them": f"""
            insert into order_items {_NUMBERS},
            latest as (select product_id, max(valid_from) as valid_from from prices group by product_id),
            offers as (
                select product_id, price, row_number() over (order by product_id) - 1 as place
                from prices join latest using (product_id, valid_from)
            ),
            bought as (
                select order_id, i, {pick("'o' || i")} % (select count(*) from latest) as place,
                    1 + {pick("'u' || order_id || i")} % 3 as units
                from orders join numbers on i <= 1 + {pick("'l' || order_id")} % 12 where ordered_at >= {begin}
            )
            select order_id, i, product_id, units, units * price, 0, {_NOW} from bought join offers using (place)""",
        "changed addresses": f"""
            update addresses
            set street = ({pick("'s' || address_id")} % 99 + 1) || ' Elm Street', updated_at = {_NOW},
                city = case {pick("'c' || address_id")} % 3 when 0 then 'Ashland' when 1 then 'Dover' else 'Salem' end
            where {pick("address_id")} < {2**31 // 200}
                or address_id = ({one("addresses", "address_id", "asc")})
            """,
        "changed customers": f"""
            update customers set email = 'new' || email, updated_at = {_NOW}
            where customer_id = (
                select customer_id from (
                    select customer_id from addresses order by {pick("address_id")} desc, address_id limit 1
                ) as late
            )""",
        "corrected prices": f"""
            update prices set price = price + 0.01, updated_at = {_NOW}
            where {pick("product_id || valid_from")} % 2000 = 0""",
        "cancelled orders": f"""
            update orders set status = 'cancelled', updated_at = {_NOW}
            where status = 'paid' and ordered_at >= {begin} - interval '3' day and {pick("order_id")} % 40 = 0""",
        "returns": f"""
            insert into returns
            select top + row_number() over (order by order_id, line_number), order_id, line_number, 1, 'late',
                {_NOW}, {_NOW}
            from order_items join orders using (order_id)
                cross join (select coalesce(max(return_id), 0) as top from returns) as r
            where ordered_at >= {begin} - interval '7' day and quantity > 0
                and {pick("'r' || order_id || line_number")} % 100 = 0""",
        "deleted returns": f"delete from returns where {pick('return_id')} % 300 = 0",
        "deleted items": f"""
            delete from order_items where line_number > 1 and {pick("'d' || order_id || line_number")} % 3000 = 0
                and (order_id, line_number) not in (select order_id, line_number from returns)""",
    }


def days(connect: Callable[[], Session], number: int, seed: int = 0) -> Iterator[dict[str, int]]:
    """Let days pass, and yield after each how many rows each step changed.

    While the caller has the control the late changes of the day are not committed yet; the next day commits them, and
    the end. If the server dies meanwhile, they are undone.

    Args:
        connect: begins a session.
        number: of days.
        seed: another one, other days.
    """
    for _ in range(number):
        with closing(connect()) as session, closing(connect()) as late:
            ((day,),) = session.ask("select cast(max(ordered_at) + interval '1' day as date) from orders")
            session.commit()
            done = {}
            for name, statement in _steps(session, day, seed).items():
                done[name] = (late if name in LATE else session).run(statement)
                session.commit()
            yield done
            with contextlib.suppress(*servers.ERRORS):
                late.commit()


def simulate(settings: Settings, number: int, seed: int, engine: servers.Engine = "postgres") -> None:
    """Let days pass in the database of the shop, and print what happened.

    Args:
        settings: the checked settings.
        number: of days.
        seed: another one, other days.
        engine: the stack's PostgreSQL, or the server of tap-mysql.

    Raises:
        StackError: the server does not answer.
        DataError: the database was not seeded, or its tables are somebody's own.
    """
    total: dict[str, int] = {}
    with servers.telling("simulate", engine):
        if engine == "mysql":
            to = servers.mysql(settings)
            with closing(servers.MySQL(to)) as session:
                shop.refuse_strange("simulate", to, session.ask)
        for done in days(servers.connector(settings, engine), number, seed):
            total = {name: total.get(name, 0) + rows for name, rows in done.items()}
    table = Table(f"{number} days", "rows")
    for name, rows in total.items():
        table.add_row(name, f"{rows:,}")
    Console().print(table)
