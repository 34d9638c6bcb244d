"""The command line, with the flags that the targets of the Singer SDK have."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import duckdb
from elt_singer.cli import Connector

from target_duckdb.config import SETTINGS, Config
from target_duckdb.database import one_line
from target_duckdb.errors import SettingsError
from target_duckdb.target import Target

if t.TYPE_CHECKING:
    import argparse

TARGET = Connector(
    name="target-duckdb",
    distribution="elt-target-duckdb",
    capabilities=("about", "activate-version", "batch", "hard-delete", "schema-flattening", "soft-delete"),
    settings=SETTINGS,
    reader="the reader of STATE",
    errors=(duckdb.Error,),
    one_line=one_line,
    kept="what was committed stays",
)


def _parser() -> argparse.ArgumentParser:
    parser = TARGET.parser("Load Singer messages from standard input into DuckDB.")
    parser.add_argument("--input", metavar="FILE", help="read messages from a file instead of standard input")
    return parser


def _run(arguments: argparse.Namespace, settings: dict[str, t.Any]) -> None:
    config = Config.from_dict(settings)
    if sys.stdin is None and not arguments.input:
        raise SettingsError("standard input is closed: there are no messages")
    with Target(config, sys.stdout) as target:
        if not arguments.input:
            target.run(sys.stdin.buffer)
            return
        try:
            source = Path(arguments.input).open("rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise SettingsError(f"{arguments.input}: {error.strerror}") from None
        with source:
            target.run(source)


def main() -> None:
    """Entry point of the executable."""
    TARGET.main(_parser(), _run)


if __name__ == "__main__":
    main()
