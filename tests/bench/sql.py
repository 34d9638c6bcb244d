"""Databases to DuckDB through Singer, beside DuckDB itself and what people use else; writes its part of the page.

The servers are those of the connector's tests, in a folder of their own. Every figure of a table is taken in one
run; times are of whole programs, their start included, and a table is loaded into a new database. Its ten columns
are of all common types, with nulls, a primary key, and an index on `updated_at`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from workspace import BIN, ROOT, apart

from bench import measure, page
from bench.measure import DATA, Measured
from elt import layout

sys.path.insert(0, str(ROOT / "meltano" / "connectors" / "elt-tap-sql" / "tests"))
import tap_sql_harness as servers

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PEERS = Path(__file__).parent / "peers"
PLAIN_ROWS = 100_000
"""Rows for the peer that needs a minute for a million; its time is said of as many rows as the others had."""
NEW_ROWS = 1_000
"""Rows that are new for an incremental run."""
ROWS = {
    "postgres": """
        insert into {table} select i, i % 50000, (array['paid', 'open', 'cancelled'])[1 + i % 3],
            case when i % 10 > 0 then round((i * 7919 % 1000000) / 100.0, 2) end, (i * 31 % 1000) / 1000.0,
            case when i % 5 > 0 then 'note ' || i % 9973 end, date '2015-01-01' + (i % 3650)::int,
            timestamp '2015-01-01' + i * interval '1 s', timestamptz '2015-01-01' + i * interval '1 s', i % 2 = 0
        from generate_series({first}::bigint, {last}) i""",
    "mysql": """
        insert into {table} select seq, seq % 50000, elt(1 + seq % 3, 'paid', 'open', 'cancelled'),
            if(seq % 10 > 0, round((seq * 7919 % 1000000) / 100, 2), null), (seq * 31 % 1000) / 1000,
            if(seq % 5 > 0, concat('note ', seq % 9973), null), date_add('2015-01-01', interval seq % 3650 day),
            date_add('2015-01-01', interval seq second), date_add('2015-01-01', interval seq second), seq % 2
        from seq_{first}_to_{last}""",
}
COLUMNS = (
    "id bigint primary key, customer_id bigint not null, status varchar(20) not null, amount numeric(12,2), "
    "discount double precision not null, note varchar(100), ordered_on date not null, created_at {local} not null, "
    "updated_at {utc} not null, paid boolean not null"
)
LIMIT = """
import json, os, sys, duckdb
given, kind, extension, database = json.loads(os.environ["SOURCE"]), *sys.argv[1:]
connection = duckdb.connect(database)
connection.execute(f"load '{extension}'")
if kind == "mysql":
    connection.execute("set mysql_tinyint1_as_boolean = false")
words = ", ".join(f"{name} '{str(value).replace(chr(39), chr(39) * 2)}'" for name, value in given.items())
connection.execute(f"create secret (type {kind}, {words})")
connection.execute(f"attach '' as src (type {kind}, read_only)")
schema = "public" if kind == "postgres" else given["database"]
connection.execute(f"create table orders as from src.{schema}.orders")
"""
"""DuckDB's own copy, with its scanner."""
COUNT = """
import json, sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
connection.execute("set enable_progress_bar = false")
print(json.dumps(connection.execute(f"select count(*), count(distinct id) from {sys.argv[2]}").fetchone()))
"""


@dataclass
class Lab:
    """A server with a table `orders`, and what all ways of loading need."""

    kind: str
    """`postgres` or `mysql`, as DuckDB calls it."""
    rows: int
    folder: Path
    settings: dict[str, t.Any] = field(repr=False)
    execute: Callable[[str], t.Any] = field(repr=False)

    @property
    def schema(self) -> str:
        """Where the table is."""
        return "public" if self.kind == "postgres" else "shop"

    @property
    def database(self) -> Path:
        """The database that all ways load into, one after the other."""
        return self.folder / "loaded.duckdb"

    @functools.cached_property
    def env(self) -> dict[str, str]:
        """The environment of all programs, in which the source's address stands."""
        given = {name: self.settings[name] for name in ("host", "port", "user", "password", "database")}
        words = (quote(str(given[name]), safe="") for name in ("user", "password"))
        where = f"{self.settings['host']}:{self.settings['port']}/{self.settings['database']}"
        url = f"postgresql+psycopg2://{':'.join(words)}@{where}"
        return apart(layout.STATE) | {"SOURCE_URL": url, "SOURCE": json.dumps(given)}

    def fill(self, table: str, first: int, last: int) -> None:
        """Add rows to a table."""
        name = table if self.kind == "postgres" else f"{self.schema}.{table}"
        self.execute(ROWS[self.kind].format(table=name, first=first, last=last))

    def make(self, table: str, rows: int) -> None:
        """Make a table of so many rows."""
        say(f"making {rows:,} rows in {self.kind}")
        types = {"local": "timestamp", "utc": "timestamptz"} if self.kind == "postgres" else {}
        types = types or {"local": "datetime", "utc": "timestamp"}
        name = table if self.kind == "postgres" else f"{self.schema}.{table}"
        self.execute(f"create table {name} ({COLUMNS.format(**types)})")
        self.fill(table, 1, rows)
        self.execute(f"create index updated on {name} (updated_at)")
        if self.kind == "postgres":
            self.execute(f"vacuum analyze {name}")

    def write(self, name: str, content: object) -> Path:
        """A file of JSON."""
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path

    def tap(self, *, batch: bool = True) -> list[str | Path]:
        """Our tap."""
        settings = dict(self.settings)
        if batch:
            settings |= servers.batched(self.folder)
        executable = servers.DIALECTS[self.kind].executable
        return [BIN / executable, "--config", self.write("tap.json", settings)]

    def target(self) -> list[str | Path]:
        """Our target."""
        given = {"path": str(self.database), "temp_dir": str(self.folder), "batch_folder": str(self.folder)}
        return [BIN / "target-duckdb", "--config", self.write("target.json", given)]

    @functools.cached_property
    def catalog(self) -> Path:
        """The catalog, in which the table is read on by `updated_at`."""
        ran = subprocess.run([*self.tap(), "--discover"], env=self.env, check=True, capture_output=True)
        found = json.loads(ran.stdout)
        found["streams"] = [one for one in found["streams"] if one["table_name"] == "orders"]
        for one in found["streams"]:
            one["metadata"][0]["metadata"] |= {"replication-method": "INCREMENTAL", "replication-key": "updated_at"}
        return self.write("catalog.json", found)

    def run(self, *commands: Sequence[str | Path]) -> Measured:
        """Run programs in this folder and measure them."""
        return measure.pipe(*commands, env=self.env, cwd=self.folder)

    def count(self, table: str, rows: int) -> None:
        """Make sure that all rows are there, each once."""
        command = [sys.executable, "-c", COUNT, self.database, table]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert found == [rows, rows], f"{table} holds {found}, not {rows} rows"


def say(what: str) -> None:
    """A line of progress."""
    print(f"bench: {what}", flush=True)


@dataclass(frozen=True)
class Way:
    """One way of loading."""

    name: str
    run: Callable[[Lab], Measured]
    table: str = "main.orders"
    most: int | None = None
    """It is measured on no more rows than this."""
    part: int | None = None
    """It is measured on so many rows, and its time is said of all."""


def _limit(lab: Lab) -> Measured:
    extension = servers._extension(lab.kind)
    return lab.run([sys.executable, "-c", LIMIT, lab.kind, extension, lab.database])


def _pipe(lab: Lab) -> Measured:
    return lab.run(lab.tap(), lab.target())


def _record_pipe(lab: Lab) -> Measured:
    return lab.run(lab.tap(batch=False), lab.target())


def _python(peer: str) -> Path:
    """The interpreter of a peer's own environment, made of its own lock."""
    home = DATA / "peers" / peer
    env = apart(layout.STATE) | {"UV_PROJECT_ENVIRONMENT": str(home)}
    env.pop("VIRTUAL_ENV", None)
    command = [BIN / "uv", "sync", "--quiet", "--frozen", "--project", PEERS / peer]
    subprocess.run(command, env=env, check=True)
    return home / "bin" / "python"


def _dlt(backend: str, lab: Lab) -> Measured:
    python, folder = _python("dlt_sql"), lab.folder / "dlt"
    shutil.rmtree(folder, ignore_errors=True)
    lab.env["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    return lab.run([python, PEERS / "dlt_sql/load.py", "orders", lab.database, backend, folder])


def _released(lab: Lab) -> Measured:
    settings = {name: lab.settings[name] for name in ("host", "port", "user", "password", "database")}
    config = lab.write("released.json", settings | {"filter_schemas": ["part"]})
    tap = [_python("tap_postgres").parent / "tap-postgres", "--config", config]
    ran = subprocess.run([*tap, "--discover"], env=lab.env, check=True, capture_output=True)
    found = json.loads(ran.stdout)
    for one in found["streams"]:
        for mark in one["metadata"]:
            mark["metadata"]["selected"] = True
    return lab.run([*tap, "--catalog", lab.write("released_catalog.json", found)], lab.target())


RELEASED = "meltanolabs-tap-postgres 0.10.0 into our target"
WAYS = {
    "postgres": (
        Way("DuckDB's create table from PostgreSQL (the limit)", _limit),
        Way("ours by pipe", _pipe),
        Way("ours by pipe, RECORD messages", _record_pipe, most=1_000_000),
        Way("dlt 1.31 sql_database, connectorx", functools.partial(_dlt, "connectorx"), "bench.orders"),
        Way("dlt 1.31 sql_database, pyarrow", functools.partial(_dlt, "pyarrow"), "bench.orders", most=1_000_000),
        Way(RELEASED, _released, most=1_000_000, part=PLAIN_ROWS),
    ),
    "mysql": (
        Way("DuckDB's create table from MariaDB (the limit)", _limit),
        Way("ours by pipe, MariaDB", _pipe),
    ),
}


def measured(lab: Lab, times: int, only: str | None) -> dict[str, Measured]:
    """Measure all ways, one after the other, as often as asked; the middle run counts."""
    ways = [
        way
        for way in WAYS[lab.kind]
        if (lab.rows <= (way.most or lab.rows)) and (not only or only in way.name or way is WAYS[lab.kind][0])
    ]
    runs: dict[str, list[Measured]] = {way.name: [] for way in ways}
    for _ in range(times):
        for way in ways:  # in turns, so that all meet the same machine
            lab.database.unlink(missing_ok=True)
            one = way.run(lab)
            rows = min(lab.rows, way.part or lab.rows)
            lab.count(way.table, rows)
            runs[way.name].append(
                dataclasses.replace(one, seconds=one.seconds * lab.rows / rows, cpu=one.cpu * lab.rows / rows)
            )
            say(f"{lab.rows:,} rows, {way.name}: {one.seconds:.1f} s, CPU {one.cpu:.1f} s, {one.peak >> 20} MiB")
    return {name: measure.median(iter(found).__next__, times) for name, found in runs.items()}


def incremental(lab: Lab, times: int) -> Measured:
    """Runs that bring NEW_ROWS each into a table that is loaded."""
    lab.database.unlink(missing_ok=True)
    words, last = ["--catalog", lab.catalog], lab.rows
    state: Path | None = None

    def load() -> Measured:
        nonlocal state
        known = ["--state", state] if state else []
        said = lab.folder / "said.jsonl"
        target = ["bash", "-c", 'exec "$@" > said.jsonl', "-", *map(str, lab.target())]
        one = lab.run([*lab.tap(), *words, *known], target)
        state = lab.write("state.json", json.loads(said.read_text().splitlines()[-1]))
        return one

    load()
    runs = []
    for _ in range(times):
        lab.fill("orders", last + 1, last + NEW_ROWS)
        last += NEW_ROWS
        runs.append(load())
        lab.count("main.orders", last)
    return measure.median(iter(runs).__next__, times)


def rendered(rows: int, found: dict[str, Measured]) -> str:
    """The table of one size."""
    limit = next(iter(found.values())).seconds
    lines = [
        [
            name + ("*" if name == RELEASED else ""),
            f"{one.seconds:.1f}",
            f"{rows / one.seconds / 1000:,.0f}",
            f"{one.seconds / limit:.2f}",
            f"{one.cpu:.1f}",
            " + ".join(f"{peak >> 20:,}" for peak in one.peaks),
        ]
        for name, one in found.items()
    ]
    head = ["", "s", "1,000 rows/s", "x limit", "CPU s", "peak MiB, each program"]
    return f"**{rows:,} rows**\n\n{page.table(head, lines)}"


@contextlib.contextmanager
def lab_of(kind: str, rows: int) -> t.Iterator[Lab]:
    """A server, with its table."""
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        if os.geteuid() == 0:
            folder.chmod(0o711)  # PostgreSQL runs as another user
        (folder / "server").mkdir()
        server = servers.postgres if kind == "postgres" else servers.mariadb
        settings, connection = opened.enter_context(server(folder / "server"))

        def execute(statement: str) -> None:
            if kind == "postgres":
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            else:
                connection.execute("call mysql_execute('my', $1)", [statement])

        lab = Lab(kind, rows, folder, settings, execute)
        lab.make("orders", rows)
        if kind == "postgres":
            execute("create schema part")
            execute(f"create table part.orders as select * from orders where id <= {PLAIN_ROWS}")
            execute("alter table part.orders add primary key (id)")
            lab.settings = settings | {"filter_schemas": ["public"]}
        yield lab


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh sql", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes, in rows")
    parser.add_argument("--times", type=int, default=3, help="runs of each way, of which the middle one counts")
    parser.add_argument("--only", metavar="TEXT", help="only ways with this in their names; writes no page")
    arguments = parser.parse_args(words)
    begin, tables, charts = time.monotonic(), [], {}
    DATA.mkdir(parents=True, exist_ok=True)
    has_mysql = servers.mariadb_program("mariadbd") and importlib.util.find_spec("duckdb_extension_mysql_scanner")
    kinds = ["postgres", *(["mysql"] if has_mysql else [])]
    for kind, rows in [
        *(("postgres", rows) for rows in arguments.rows),
        *((one, min(arguments.rows)) for one in kinds[1:]),
    ]:
        with lab_of(kind, rows) as lab:
            found = measured(lab, arguments.times, arguments.only)
            if kind == "postgres" and not arguments.only:
                found[f"ours, {NEW_ROWS:,} new rows by updated_at"] = incremental(lab, arguments.times)
        tables.append(rendered(rows, found))
        print(f"\n{tables[-1]}\n", flush=True)
        charts |= {name: one.seconds for name, one in found.items() if rows == min(arguments.rows)}
    if arguments.only:
        return
    chart = page.bars("sql", f"{min(arguments.rows):,} rows of a database into DuckDB, seconds", charts)
    note = f"\\* measured on {PLAIN_ROWS:,} rows; its time grows in proportion."
    page.put("sql", "\n\n".join([f"![Seconds by way of loading]({chart})", *tables, note]))
    say(f"wrote {page.PAGE.relative_to(layout.ROOT)} after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
