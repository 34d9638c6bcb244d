"""Servers to read from, and what a run of a tap gave."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psutil
import psycopg2
import pytest
from elt_singer.errors import ConnectorError
from tap_sql.config import Config
from tap_sql.dialects.mysql import MySQL
from tap_sql.dialects.postgres import Postgres
from tap_sql.dialects.sqlite import SQLite
from tap_sql.engine import _extension
from tap_sql.tap import Tap

from elt.config import programs
from elt.services.postgres import unprivileged

PASSWORD = "p'w\"d \\x"  # noqa: S105  # pragma: allowlist secret
"""One that needs to be quoted everywhere."""
DIALECTS = {one.name: one for one in (Postgres(), MySQL(), SQLite())}
MARIADB = os.environ.get("ELT_MARIADB", "")
"""Folder to which Debian's packages of MariaDB are unpacked, if it is not installed."""
NO_MARIADB = "no mariadbd on PATH"


class Ran(t.NamedTuple):
    """What one run of a tap gave."""

    messages: list[dict[str, t.Any]]
    error: ConnectorError | None

    def of_type(self, kind: str, stream: str | None = None) -> list[dict[str, t.Any]]:
        return [one for one in self.messages if one["type"] == kind and stream in {None, one.get("stream")}]

    @property
    def records(self) -> list[dict[str, t.Any]]:
        return [one["record"] for one in self.of_type("RECORD")]

    @property
    def state(self) -> t.Any:
        states = self.of_type("STATE")
        return states[-1]["value"] if states else None

    @property
    def properties(self) -> dict[str, dict[str, t.Any]]:
        return self.of_type("SCHEMA")[0]["schema"]["properties"]

    def rows(self, select: str = "*") -> list[tuple[t.Any, ...]]:
        """The rows of the files of its BATCH messages."""
        files = [one.removeprefix("file://") for batch in self.of_type("BATCH") for one in batch["manifest"]]
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(f"select {select} from read_parquet({files})").fetchall() if files else []


@dataclass
class Source:
    """A database, and a tap that reads it."""

    kind: str
    settings: dict[str, t.Any]
    execute: t.Callable[[str], t.Any]
    extra: dict[str, t.Any] = field(default_factory=dict)

    def tap(self, output: t.Any, **settings: t.Any) -> Tap:
        dialect = DIALECTS[self.kind]
        return Tap(dialect, Config.from_dict(self.settings | {"retries": 0} | self.extra | settings, dialect), output)

    def discover(self, **settings: t.Any) -> dict[str, t.Any]:
        with self.tap(io.BytesIO(), **settings) as tap:
            return tap.discover()

    def run(self, catalog: t.Any = None, state: t.Any = None, **settings: t.Any) -> Ran:
        output, error = io.BytesIO(), None
        try:
            with self.tap(output, **settings) as tap:
                tap.sync(catalog, state)
        except ConnectorError as caught:
            error = caught
        return Ran([json.loads(line) for line in output.getvalue().splitlines()], error)

    def only(self, *tables: str, key: str | None = None) -> dict[str, t.Any]:
        """A catalog of these tables, incremental by a key if one is given."""
        found = self.discover()
        found["streams"] = [one for one in found["streams"] if one["table_name"] in tables]
        for one in found["streams"] if key else ():
            one["metadata"][0]["metadata"] |= {"replication-method": "INCREMENTAL", "replication-key": key}
        return found


def batched(folder: Path) -> dict[str, t.Any]:
    """The setting that sends files."""
    return {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": str(folder)}}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Program:
    """A server that may be killed, and started again on what it wrote."""

    def __init__(self, words: t.Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log, self._words, self._env = log, words, env
        self._running: psutil.Popen | None = None

    def start(self, works: t.Callable[[], t.Any]) -> t.Any:
        """Start it, and wait until something works."""
        with self.log.open("ab") as said:
            self._running = psutil.Popen(self._words, stdout=said, stderr=said, env=self._env)
        return until(works, self.log)

    def kill(self) -> None:
        """End it at once, with all that it started."""
        if self._running:
            family = [*self._running.children(recursive=True), self._running]
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(family)

    @contextlib.contextmanager
    def running(self, works: t.Callable[[], t.Any]) -> t.Iterator[t.Any]:
        """Yield what works, while it runs."""
        try:
            yield self.start(works)
        finally:
            self.kill()


def until(works: t.Callable[[], t.Any], log: Path) -> t.Any:
    """Wait for a server."""
    for _ in range(200):
        with contextlib.suppress(psycopg2.OperationalError, duckdb.Error):
            return works()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def new_postgres(folder: Path) -> tuple[dict[str, t.Any], Program]:
    """Make a server with a user `elt`; return the settings of its database."""
    programs_folder, data, port = programs.postgres_bin(), folder / "data", free_port()
    data.mkdir(mode=0o700)
    prefix = unprivileged(data)
    secret = folder / "secret"
    secret.write_text(PASSWORD + "\n")
    words = ("-U", "elt", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync", "--encoding=UTF8", "--locale=C")
    subprocess.run([*prefix, programs_folder / "initdb", "-D", data, *words], check=True, capture_output=True)
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    given = {"host": "127.0.0.1", "port": port, "user": "elt", "password": PASSWORD, "database": "postgres"}
    return given, Program([*prefix, str(programs_folder / "postgres"), "-D", str(data), *settings], folder / "log")


@contextlib.contextmanager
def postgres(folder: Path) -> t.Iterator[tuple[dict[str, t.Any], t.Any]]:
    """A server with a user `elt`: the settings of its database, and a connection."""
    given, program = new_postgres(folder)
    reach = {"dbname" if name == "database" else name: value for name, value in given.items()}
    with program.running(lambda: psycopg2.connect(**reach)) as connection:
        connection.autocommit = True
        yield given, connection
        connection.close()


def mariadb_program(name: str) -> str | None:
    if MARIADB:
        return next((str(one) for one in Path(MARIADB, "usr").glob(f"*bin/{name}")), None)
    return shutil.which(name)


def new_mariadb(folder: Path) -> tuple[dict[str, t.Any], Program]:
    """Make a server with a database `shop`; return the settings of a user `elt`."""
    port, data, first = free_port(), folder / "data", folder / "first.sql"
    env = dict(os.environ)
    base = []
    if MARIADB:
        libraries = sorted({str(one.parent) for one in Path(MARIADB).rglob("*.so*")})
        env["LD_LIBRARY_PATH"] = ":".join(libraries)
        base = [f"--basedir={MARIADB}/usr", f"--lc-messages-dir={MARIADB}/usr/share/mysql"]
    install, server = mariadb_program("mariadb-install-db"), mariadb_program("mariadbd")
    assert install
    assert server
    user = ["--user=root"] if os.geteuid() == 0 else []
    common = ["--no-defaults", *base, f"--datadir={data}", *user]
    words = ("--auth-root-authentication-method=normal", "--skip-test-db")
    subprocess.run([install, *common, *words], check=True, capture_output=True, env=env)
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    first.write_text(
        "create database if not exists shop character set utf8mb4;\n"
        f"create user if not exists elt@'%' identified by '{quoted}';\n"
        "grant all on *.* to elt@'%';\n"
        "set global sql_mode='';\n"
    )
    options = (f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", "--skip-name-resolve")
    given = {"host": "127.0.0.1", "port": port, "user": "elt", "password": PASSWORD, "database": "shop"}
    return given, Program([server, *common, *options, f"--init-file={first}"], folder / "log", env)


def needs(group: str) -> None:
    """Skip without an optional group of packages, or without the server that it reads."""
    if group == "mysql" and not mariadb_program("mariadbd"):
        pytest.skip(NO_MARIADB)
    if not importlib.util.find_spec(f"duckdb_extension_{group}_scanner"):
        pytest.skip(f"the group {group} is not installed")


@contextlib.contextmanager
def mariadb(folder: Path) -> t.Iterator[tuple[dict[str, t.Any], duckdb.DuckDBPyConnection]]:
    """A server with a database `shop`: the settings of a user `elt`, and DuckDB's connection as root, called `my`."""
    given, program = new_mariadb(folder)
    with duckdb.connect() as connection:
        connection.execute(f"load '{_extension('mysql')}'")
        attach = f"attach 'host=127.0.0.1 port={given['port']} user=root db=shop' as my (type mysql)"
        with program.running(lambda: connection.execute(attach)):
            yield given, connection


def command(kind: str, *arguments: str | Path) -> list[str]:
    """The command line of a tap."""
    return [str(Path(sys.executable).with_name(DIALECTS[kind].executable)), *map(str, arguments)]
