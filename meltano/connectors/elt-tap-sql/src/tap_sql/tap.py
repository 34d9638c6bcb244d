"""The tap: sends streams as messages out of one snapshot, and begins anew where the connection broke."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.path

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import typing as t
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
from elt_singer import batch, messages, scratch, sql
from elt_singer.batch import KEYS, Batch

from tap_sql import catalog, incremental, records
from tap_sql.engine import Engine
from tap_sql.errors import LostError, SettingsError, SourceError
from tap_sql.incremental import Part
from tap_sql.pieces import pieces

if t.TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tap_sql.catalog import Stream
    from tap_sql.config import Config
    from tap_sql.dialects.base import Dialect
    from tap_sql.model import Column, Horizon

    Json = dict[str, t.Any]

_T = t.TypeVar("_T")
VERSION = "_sdc_table_version"
"""Column of a BATCH's file that bears the version of its rows, as a RECORD message does."""
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
"""Seconds before the first try again, and at most."""
_COPY = 1 << 20


@dataclass
class _Run:
    """What the tries of one run share."""

    bookmarks: Json
    sent: set[str]
    """Incremental streams that are done with."""


class Tap:
    """Reads the tables of one database, and writes messages to an output."""

    def __init__(self, dialect: Dialect, config: Config, output: t.BinaryIO) -> None:
        self._dialect, self._config, self._output = dialect, config, output
        self._logger = logging.getLogger(dialect.executable)
        self._opened = contextlib.ExitStack()
        self._folder = self._opened.enter_context(scratch.folder(dialect.executable))
        self._prefix = f"{config.batch_prefix}{dialect.executable}-"

    def __enter__(self) -> t.Self:
        """Return the tap itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is temporary."""
        self._opened.close()

    def discover(self) -> Json:
        """Return the catalog of all tables and views.

        Raises:
            SourceError: the database cannot be reached, or refuses.
        """
        return self._trying(self._discovered)

    def _discovered(self) -> Json:
        with self._engine() as engine:
            server = self._dialect.server(self._config)
            tables = self._dialect.tables(engine.ask, self._config)
            return {"streams": [catalog.entry(one, server.database if server else "") for one in tables]}

    def sync(self, chosen: Json | None = None, state: Json | None = None, *, rows: bool = True) -> None:
        """Send the streams.

        Args:
            chosen: a catalog; found out unless given.
            state: what an earlier run said last.
            rows: whether to send rows; without, only what comes before them.

        Raises:
            SettingsError: the catalog or the state does not fit.
            SourceError: the database refuses, or cannot be reached after the tries that the settings allow.
        """
        try:
            run = _Run({**((state or {}).get("bookmarks") or {})}, set())
        except (AttributeError, TypeError):
            raise SettingsError("the state is not of the form in which this tap says it") from None
        choices = catalog.choices(chosen or self.discover())
        if folder := self._config.batch_folder:
            batch.remove_stale(folder, self._prefix)
        self._trying(lambda: self._send(choices, run, rows=rows))

    def _trying(self, work: t.Callable[[], _T]) -> _T:
        """Do it again after a connection that failed or broke, with longer and longer waits."""
        wait = _FIRST_WAIT
        for left in range(self._config.retries, -1, -1):
            try:
                return work()
            except LostError as error:
                if not left:
                    raise
                self._logger.warning("%s; again in %.0f s, %d tries are left", error, wait, left)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        raise AssertionError  # the last try returns or raises

    @contextlib.contextmanager
    def _engine(self) -> t.Iterator[Engine]:
        engine = Engine(self._dialect, self._config, self._folder)
        try:
            yield engine
        finally:
            engine.close()

    def _send(self, choices: list[catalog.Choice], run: _Run, *, rows: bool) -> None:
        """Send all streams that are not done with, out of one snapshot."""
        with self._engine() as engine:
            self._dialect.check(engine.ask)
            horizon = self._horizon(engine, choices)
            with engine.snapshot():
                streams = self._resolved(engine, [one for one in choices if one.stream not in run.sent])
                version = time.time_ns() // 1_000_000
                parts = [self._part(engine, stream, run, horizon, version) for stream in streams]
                for stream, part in zip(streams, parts, strict=True):
                    if not part.is_empty:
                        self._refuse_conversion_errors(engine, stream, part)
                # What all of them are is said, and so was looked at, before the first row.
                for stream, part in zip(streams, parts, strict=True):
                    said = messages.schema(stream.name, stream.schema(), stream.keys, continues=not part.is_whole)
                    messages.write(self._output, said)
                if not rows:
                    return
                for stream, part in zip(streams, parts, strict=True):
                    self._send_stream(engine, stream, part, run)
        for stream in streams:
            if stream.key is None:
                self._activate(stream, version)
        messages.write(self._output, messages.state({"bookmarks": run.bookmarks}))

    def _horizon(self, engine: Engine, choices: list[catalog.Choice]) -> Horizon | None:
        """Look at open transactions before the snapshot begins."""
        if not any(one.key for one in choices):
            return None
        found = self._dialect.horizon(engine.ask, self._config.overlap_seconds)
        if not found.is_seen:
            what = "open transactions cannot be seen: bookmarks stay %d s (overlap_seconds) back"
            self._logger.warning(what, self._config.overlap_seconds)
        return found

    def _resolved(self, engine: Engine, choices: list[catalog.Choice]) -> list[Stream]:
        wanted = [(one.schema, one.table) for one in choices]
        tables = self._dialect.tables(engine.ask, self._config, wanted) if wanted else []
        found = {(one.schema, one.name): one for one in tables}
        return [catalog.resolve(one, found.get((one.schema, one.table)), self._logger) for one in choices]

    def _activate(self, stream: Stream, version: int | None) -> None:
        messages.write(self._output, {"type": "ACTIVATE_VERSION", "stream": stream.name, "version": version})

    def _part(self, engine: Engine, stream: Stream, run: _Run, horizon: Horizon | None, version: int) -> Part:
        if stream.key is None:
            return Part("", None, version)
        assert horizon
        return incremental.part(
            stream,
            run.bookmarks.get(stream.name),
            horizon,
            self._dialect,
            self._config,
            engine.ask,
            self._logger,
            version,
        )

    def _refuse_conversion_errors(self, engine: Engine, stream: Stream, part: Part) -> None:
        statement = self._dialect.conversion_errors(stream.table, stream.columns, part.where)
        if statement is None:
            return
        (found,) = engine.ask(statement)
        looked = (one for one in stream.columns if one.kind.conversion_error)
        for column, is_inexact in zip(looked, found, strict=True):
            if is_inexact:
                what = f"a value is NaN, or a time after 294246, which no {column.kind.duckdb} holds"
                raise SourceError(f"{what}; deselect the column", table=stream.table.label, column=column.name)

    def _send_stream(self, engine: Engine, stream: Stream, part: Part, run: _Run) -> None:
        if part.is_empty:
            if self._config.reconcile:
                self._send_keys(engine, stream)
            run.sent.add(stream.name)
            return
        started, where = time.monotonic(), part.where
        zeros = self._dialect.zeros(stream.table, stream.columns, where)
        if zeros and (count := int(engine.ask(zeros)[0][0])):
            what = "%s: %d dates without a month or a day are null here"
            self._logger.warning(what, stream.table.label, count)
        rows = self._send_rows(engine, stream, where, part.version)
        if self._config.reconcile and not part.is_whole:
            self._send_keys(engine, stream)
        if stream.key is None:
            run.bookmarks.pop(stream.name, None)
        else:
            run.sent.add(stream.name)
            if part.bookmark:
                run.bookmarks[stream.name] = part.bookmark
            if part.is_whole:
                self._activate(stream, part.version)
            messages.write(self._output, messages.state({"bookmarks": run.bookmarks}))
        self._logger.info("%s: %d rows in %.1f s", stream.table.label, rows, time.monotonic() - started)

    def _send_rows(self, engine: Engine, stream: Stream, where: str, version: int | None) -> int:
        extracted = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        values = _values(stream.columns)
        if self._config.batch_folder and version is not None:
            values.append(f"{version}::BIGINT as {VERSION}")
        select = f"select {', '.join(values)} from {self._dialect.rows(stream.table, stream.columns, where)}"
        folder, rows = self._config.batch_folder or self._folder, 0
        try:
            with duckdb.connect() as aside, engine.telling():
                aside.execute("set TimeZone = 'UTC'")
                for path in pieces(engine.connection, select, folder, self._prefix):
                    (count,) = aside.execute(f"select count(*) from read_parquet({sql.path(path)})").fetchone() or (
                        0,
                    )
                    rows += count
                    self._send_piece(aside, stream, path, extracted, version)
        except SourceError as error:
            raise _placed(error, stream) from None
        return rows

    def _send_keys(self, engine: Engine, stream: Stream) -> None:
        """Send the keys of all rows that there are, in one message of its own: a target retires the others.

        A target that does not know it passes over it or ends; no message of Singer could be misread so harmlessly.
        """
        columns = [one for one in stream.columns if one.name in stream.keys]
        if not columns:
            self._logger.warning("%s: has no key, and so is not reconciled", stream.table.label)
            return
        select = f"select {', '.join(_values(columns))} from {self._dialect.rows(stream.table, columns, '')}"
        assert self._config.batch_folder
        paths: list[Path] = []
        try:
            with engine.telling():
                paths.extend(pieces(engine.connection, select, self._config.batch_folder, self._prefix))
            message = Batch("parquet", gzip=False, files=tuple(paths)).message(stream.name)
            messages.write(self._output, message | {"type": KEYS})
        except BaseException as error:
            for path in paths:
                path.unlink(missing_ok=True)  # nobody will read it
            if isinstance(error, SourceError):
                raise _placed(error, stream) from None
            raise

    def _send_piece(
        self, aside: duckdb.DuckDBPyConnection, stream: Stream, path: Path, extracted: str, version: int | None
    ) -> None:
        if self._config.batch_folder:
            try:
                messages.write(self._output, Batch("parquet", gzip=False, files=(path,)).message(stream.name))
            except OSError:
                path.unlink(missing_ok=True)  # nobody will read it
                raise
            return
        lines = path.with_suffix(".jsonl")
        records.write(aside, path, lines, stream.name, stream.columns, extracted, version)
        path.unlink()
        with lines.open("rb") as file:
            shutil.copyfileobj(file, self._output, _COPY)
        self._output.flush()
        lines.unlink()


def _values(columns: t.Iterable[Column]) -> list[str]:
    """Return what DuckDB makes of the columns that the server sends."""
    return [f"{one.kind.local.format(sql.name(one.name))} as {sql.name(one.name)}" for one in columns]


def _placed(error: SourceError, stream: Stream) -> SourceError:
    """Say of which table an error of reading is."""
    return type(error)(str(error), table=stream.table.label)
