"""The command lines of the taps, with the flags that the taps of the Singer SDK have."""

from __future__ import annotations

import functools
import json
import os
import sys
import typing as t

from elt_singer.cli import Connector
from elt_singer.settings import read_json

from tap_sql.config import Config, settings
from tap_sql.dialects.mysql import MySQL
from tap_sql.dialects.postgres import Postgres
from tap_sql.dialects.sqlite import SQLite
from tap_sql.tap import Tap

if t.TYPE_CHECKING:
    import argparse

    from tap_sql.dialects.base import Dialect

NICE = 10
"""With BATCH messages the target goes first where both want the same processor, so that it is never left behind."""


def connector(dialect: Dialect) -> Connector:
    """Describe a tap."""
    return Connector(
        name=dialect.executable,
        distribution="elt-tap-sql",
        capabilities=("about", "activate-version", "batch", "catalog", "discover", "state"),
        settings=settings(dialect),
        reader="the target",
    )


def _run(dialect: Dialect, arguments: argparse.Namespace, given: dict[str, t.Any]) -> None:
    config = Config.from_dict(given, dialect)
    chosen = read_json(arguments.catalog) if arguments.catalog else None
    state = read_json(arguments.state) if arguments.state else None
    if config.batch_folder:
        os.nice(NICE)
    with Tap(dialect, config, sys.stdout.buffer) as tap:
        if arguments.discover:
            sys.stdout.write(json.dumps(tap.discover(), indent=2) + "\n")
        else:
            tap.sync(chosen, state, rows=not arguments.test)


def _main(dialect: Dialect) -> None:
    own = connector(dialect)
    parser = own.parser("Write the rows of a database's tables as Singer messages.")
    parser.add_argument("--catalog", "--properties", metavar="FILE", help="the streams and columns to send")
    parser.add_argument("-s", "--state", metavar="FILE", help="what an earlier run said last")
    parser.add_argument("-d", "--discover", action="store_true", help="print the catalog")
    parser.add_argument("--test", action="store_true", help="send only what comes before the rows")
    own.main(parser, functools.partial(_run, dialect))


def mysql() -> None:
    """Entry point of tap-mysql."""
    _main(MySQL())


def postgres() -> None:
    """Entry point of tap-postgres."""
    _main(Postgres())


def sqlite() -> None:
    """Entry point of tap-sqlite."""
    _main(SQLite())
