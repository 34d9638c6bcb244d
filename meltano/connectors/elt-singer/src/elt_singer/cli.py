"""The command line of a connector, with the flags that those of the Singer SDK have."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import typing as t
from dataclasses import dataclass
from importlib import metadata

from elt_singer import settings
from elt_singer.errors import ConnectorError, SettingsError, one_line

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from elt_singer.settings import Setting

ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask to end; Windows has no SIGHUP."""


@dataclass(frozen=True)
class Connector:
    """A connector, as its command line presents it."""

    name: str
    distribution: str
    capabilities: tuple[str, ...]
    settings: Sequence[Setting]
    reader: str
    """Who reads its standard output."""
    errors: tuple[type[Exception], ...] = ()
    """Errors that are said in one line, beside `ConnectorError` and `OSError`, such as a full disk."""
    one_line: Callable[[BaseException], str] = one_line
    """Puts an error in one line."""
    kept: str = ""
    """What stays of a run that was ended, or whose output was closed."""

    @property
    def logger(self) -> logging.Logger:
        """The logger of all its modules."""
        return logging.getLogger(self.name)

    def about(self) -> dict[str, t.Any]:
        """Return what `--about --format json` prints."""
        return {
            "name": self.name,
            "description": metadata.metadata(self.distribution)["Summary"],
            "version": metadata.version(self.distribution),
            "capabilities": list(self.capabilities),
            "settings": settings.json_schema(self.settings),
        }

    def about_text(self, form: str) -> str:
        """Return what `--about` prints in one of its formats."""
        found = self.about()
        if form == "json":
            return json.dumps(found, indent=2)
        described = found["settings"]["properties"].items()
        if form == "markdown":
            rows = [f"| `{name}` | {one.get('default', '')} | {one['description']} |" for name, one in described]
            head = [f"# {self.name} {found['version']}", "", "| setting | default | meaning |", "|---|---|---|"]
            return "\n".join([*head, *rows])
        rows = [f"  {name}: {one['description']}" for name, one in described]
        return "\n".join([f"{self.name} {found['version']}: {found['description']}", *rows])

    def parser(self, description: str) -> argparse.ArgumentParser:
        """Make a parser of the flags that every connector has."""
        parser = argparse.ArgumentParser(prog=self.name, description=description)
        parser.add_argument("-c", "--config", action="append", default=[], metavar="FILE", help="settings, as JSON")
        parser.add_argument("--about", action="store_true", help="describe this program and its settings")
        parser.add_argument(
            "--format", choices=("text", "json", "markdown"), default="text", help="format of --about"
        )
        version = f"{self.name} {metadata.version(self.distribution)}"
        parser.add_argument("--version", action="version", version=version)
        return parser

    def main(
        self, parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace, dict[str, t.Any]], None]
    ) -> None:
        """Do what the command line says; exit with 1 after an error, and with 128 and its number after a signal.

        Args:
            parser: the flags.
            run: does the work, by the flags that are given and the settings of the files of `--config`.
        """
        level = os.environ.get(f"{self.name.upper().replace('-', '_')}_LOGLEVEL", "INFO").upper()
        logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")
        arguments = parser.parse_args()
        if arguments.about:
            sys.stdout.write(self.about_text(arguments.format) + "\n")
            return
        for one in ENDS:
            if signal.getsignal(one) is not signal.SIG_IGN:  # as by nohup
                signal.signal(one, _end)
        try:
            _refuse_closed_output()
            run(arguments, settings.merged(arguments.config))
        except BaseException as error:  # noqa: BLE001 - what is not known is raised again
            sys.exit(self._tell(error))

    def _tell(self, error: BaseException) -> int:
        """Say in one line why the run ended; the exit code."""
        kept = f"; {self.kept}" if self.kept else ""
        if _ended:
            self.logger.error("ended by %s%s", _ended[0].name, kept)
            return 128 + _ended[0]
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at the end
            self.logger.error("output closed by %s%s", self.reader, kept)
        elif isinstance(error, (ConnectorError, OSError, *self.errors)):
            shown = error if self.logger.isEnabledFor(logging.DEBUG) else None
            self.logger.error("%s", self.one_line(error), exc_info=shown)
        else:
            raise error
        return 1


def _refuse_closed_output() -> None:
    if sys.stdout is None:  # it is where a program is started with `>&-`
        raise SettingsError("standard output is closed: send it to /dev/null to drop it")


class _EndedError(BaseException):
    """A signal asked to end: what is on its way is removed, as after an error."""


_ended: list[signal.Signals] = []
"""The signal that came; where it comes while DuckDB works, that raises an error of its own."""


def _end(number: int, _: object) -> t.NoReturn:
    for one in ENDS:
        signal.signal(one, signal.SIG_IGN)  # a second one would leave the clean-up half done
    _ended.append(signal.Signals(number))
    raise _EndedError
