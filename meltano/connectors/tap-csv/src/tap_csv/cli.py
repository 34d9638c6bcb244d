"""The command line, with the flags that the taps of the Singer SDK have."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import typing as t
from pathlib import Path

import duckdb
from elt_singer.cli import Connector
from elt_singer.settings import read_json

from tap_csv.config import SETTINGS, Config
from tap_csv.tap import Tap

if t.TYPE_CHECKING:
    import argparse

NICE = 10
"""With BATCH messages the target goes first where both want the same processor, so that it is never left behind."""
TAP = Connector(
    name="tap-csv",
    distribution="elt-tap-csv",
    capabilities=("about", "batch", "catalog", "discover", "state"),
    settings=SETTINGS,
    reader="the target",
    errors=(duckdb.Error,),
)


def _parser() -> argparse.ArgumentParser:
    parser = TAP.parser("Write the rows of CSV files as Singer messages.")
    parser.add_argument("--catalog", "--properties", metavar="FILE", help="the streams and columns to send")
    parser.add_argument("-s", "--state", metavar="FILE", help="what an earlier run said last")
    parser.add_argument("-d", "--discover", action="store_true", help="print the catalog")
    parser.add_argument(
        "--test",
        nargs="?",
        const="records",
        choices=("records", "schema"),
        help="find out whether all files can be read: send nothing, or (schema) only what comes before the rows",
    )
    return parser


def _run(arguments: argparse.Namespace, settings: dict[str, t.Any]) -> None:
    config = Config.from_dict(settings)
    chosen = read_json(arguments.catalog) if arguments.catalog else None
    state = read_json(arguments.state) if arguments.state else None
    if config.batch_folder:
        os.nice(NICE)
    with Tap(config, sys.stdout.buffer) as tap:
        if arguments.discover:
            sys.stdout.write(json.dumps(tap.discover(), indent=2) + "\n")
        elif arguments.test == "records":
            silently = dataclasses.replace(config, batch_folder=None)
            with Path(os.devnull).open("wb") as nowhere, Tap(silently, nowhere) as silent:
                silent.sync(chosen)
        else:
            tap.sync(chosen, state, rows=arguments.test is None)


def main() -> None:
    """Entry point of the executable."""
    TAP.main(_parser(), _run)


if __name__ == "__main__":
    main()
