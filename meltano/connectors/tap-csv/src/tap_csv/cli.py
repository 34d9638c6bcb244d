"""The command line, with the flags that the taps of the Singer SDK have."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import signal
import sys
import typing as t
from importlib import metadata
from pathlib import Path

import duckdb

from tap_csv.config import ENTITY_SETTINGS, SETTINGS, Config, Setting
from tap_csv.errors import SettingsError, TapCSVError
from tap_csv.tap import Tap

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NAME = "tap-csv"
LOGGER = logging.getLogger(NAME)
ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask to end; Windows has no SIGHUP."""
DISTRIBUTION = "elt-tap-csv"
NICE = 10
"""With BATCH messages the target goes first where both want the same processor, so that it is never left behind."""
CAPABILITIES = ("about", "batch", "catalog", "discover", "state")


def about() -> dict[str, t.Any]:
    """What `--about --format json` prints."""
    properties = _properties(SETTINGS)
    properties["files"]["items"] = {"type": "object", "properties": _properties(ENTITY_SETTINGS)}
    return {
        "name": NAME,
        "description": metadata.metadata(DISTRIBUTION)["Summary"],
        "version": metadata.version(DISTRIBUTION),
        "capabilities": list(CAPABILITIES),
        "settings": {"type": "object", "properties": properties},
    }


def _properties(settings: Iterable[Setting]) -> dict[str, t.Any]:
    return {
        one.name: {"type": [one.kind, "null"], "description": one.description}
        | ({} if one.default is None else {"default": one.default})
        for one in settings
    }


def about_text(form: str) -> str:
    """What `--about` prints in one of its formats."""
    found = about()
    if form == "json":
        return json.dumps(found, indent=2)
    settings = found["settings"]["properties"].items()
    if form == "markdown":
        rows = [f"| `{name}` | {one.get('default', '')} | {one['description']} |" for name, one in settings]
        return "\n".join(
            [f"# {NAME} {found['version']}", "", "| setting | default | meaning |", "|---|---|---|", *rows]
        )
    rows = [f"  {name}: {one['description']}" for name, one in settings]
    return "\n".join([f"{NAME} {found['version']}: {found['description']}", *rows])


def read_json(file: str) -> dict[str, t.Any]:
    """The object that a file holds.

    Raises:
        SettingsError: the file cannot be read or holds none.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{file} must hold an object")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="Write the rows of CSV files as Singer messages.")
    parser.add_argument("-c", "--config", action="append", default=[], metavar="FILE", help="settings, as JSON")
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
    parser.add_argument("--about", action="store_true", help="describe the tap and its settings")
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text", help="format of --about")
    parser.add_argument("--version", action="version", version=f"{NAME} {metadata.version(DISTRIBUTION)}")
    return parser


def _merged(files: Sequence[str]) -> dict[str, t.Any]:
    merged: dict[str, t.Any] = {}
    for file in files:
        merged |= read_json(file)
    return merged


class _EndedError(BaseException):
    """A signal asked to end: files on their way are removed, as after an error."""


_ended: list[signal.Signals] = []
"""The signal that came; where it comes while DuckDB works, that raises an error of its own."""


def _end(number: int, _: object) -> t.NoReturn:
    for one in ENDS:
        signal.signal(one, signal.SIG_IGN)  # a second one would leave the clean-up half done
    _ended.append(signal.Signals(number))
    raise _EndedError


def _run(arguments: argparse.Namespace) -> None:
    config = Config.from_dict(_merged(arguments.config))
    if sys.stdout is None:  # it is where a program is started with `>&-`
        raise SettingsError("standard output is closed: nobody reads the messages")
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
    level = os.environ.get("TAP_CSV_LOGLEVEL", "INFO").upper()
    logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")
    arguments = _parser().parse_args()
    if arguments.about:
        sys.stdout.write(about_text(arguments.format) + "\n")
        return
    for one in ENDS:
        if signal.getsignal(one) is not signal.SIG_IGN:  # as by nohup
            signal.signal(one, _end)
    try:
        _run(arguments)
    except BaseException as error:  # noqa: BLE001 - what is not known is raised again
        sys.exit(_tell(error))


def _tell(error: BaseException) -> int:
    """Say in one line why the run ended; the exit code."""
    if _ended:
        LOGGER.error("ended by %s", _ended[0].name)
        return 128 + _ended[0]
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at the end
        LOGGER.error("nobody reads the messages any more")
    elif isinstance(error, (TapCSVError, OSError, duckdb.Error)):  # OSError: a full disk for what is on its way
        text = " ".join(str(error).split())
        LOGGER.error("%s", text, exc_info=error if LOGGER.isEnabledFor(logging.DEBUG) else None)
    else:
        raise error
    return 1


if __name__ == "__main__":
    main()
