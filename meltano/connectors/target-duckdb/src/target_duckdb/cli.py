"""The command line, with the flags that the targets of the Singer SDK have."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import typing as t
from importlib import metadata
from pathlib import Path

import duckdb

from target_duckdb.config import SETTINGS, Config
from target_duckdb.database import one_line
from target_duckdb.errors import SettingsError, TargetError
from target_duckdb.target import Target

if t.TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "target-duckdb"
LOGGER = logging.getLogger(NAME)
DISTRIBUTION = "elt-target-duckdb"
ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask to end; Windows has no SIGHUP."""
CAPABILITIES = ("about", "activate-version", "batch", "hard-delete", "schema-flattening", "soft-delete")


def about() -> dict[str, t.Any]:
    """What `--about --format json` prints."""
    properties = {
        one.name: {"type": [one.kind, "null"], "description": one.description or f"No effect: {one.obsolete}"}
        | ({} if one.default is None else {"default": one.default})
        for one in SETTINGS
    }
    return {
        "name": NAME,
        "description": metadata.metadata(DISTRIBUTION)["Summary"],
        "version": metadata.version(DISTRIBUTION),
        "capabilities": list(CAPABILITIES),
        "settings": {"type": "object", "properties": properties},
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


def read_config(files: Sequence[str]) -> dict[str, t.Any]:
    """The settings of one or more files, where the later ones win.

    Raises:
        SettingsError: a file cannot be read or is not JSON.
    """
    merged: dict[str, t.Any] = {}
    for file in files:
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{file}: {error.strerror}") from None
        except ValueError as error:
            raise SettingsError(f"{file} is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise SettingsError(f"{file} must hold an object")
        merged |= found
    return merged


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description="Load Singer messages from standard input into DuckDB.")
    parser.add_argument("-c", "--config", action="append", default=[], metavar="FILE", help="settings, as JSON")
    parser.add_argument("--input", metavar="FILE", help="read messages from a file instead of standard input")
    parser.add_argument("--about", action="store_true", help="describe the target and its settings")
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text", help="format of --about")
    parser.add_argument("--version", action="version", version=f"{NAME} {metadata.version(DISTRIBUTION)}")
    return parser


class _EndedError(BaseException):
    """A signal asked to end: what is on its way is removed, as after an error."""


_ended: list[signal.Signals] = []
"""The signal that came; where it comes while DuckDB works, that raises an error of its own."""


def _end(number: int, _: object) -> t.NoReturn:
    for one in ENDS:
        signal.signal(one, signal.SIG_IGN)  # a second one would leave the clean-up half done
    _ended.append(signal.Signals(number))
    raise _EndedError


def _run(arguments: argparse.Namespace) -> None:
    config = Config.from_dict(read_config(arguments.config))
    if sys.stdout is None:  # it is where a program is started with `>&-`
        raise SettingsError("standard output is closed: there is nowhere to say STATE")
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
    level = os.environ.get("TARGET_DUCKDB_LOGLEVEL", "INFO").upper()
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
        LOGGER.error("ended by %s; what was committed stays", _ended[0].name)
        return 128 + _ended[0]
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at the end
        LOGGER.error("nobody reads STATE any more; what was committed stays")
    elif isinstance(error, (TargetError, OSError, duckdb.Error)):  # OSError: a full disk for what waits
        LOGGER.error("%s", one_line(error), exc_info=error if LOGGER.isEnabledFor(logging.DEBUG) else None)
    else:
        raise error
    return 1


if __name__ == "__main__":
    main()
