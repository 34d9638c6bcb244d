"""The tap: sends each stream's files as messages, and a state after each file that covers what was sent."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import shutil
import time
import typing as t
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from elt_singer import batch, messages, scratch
from elt_singer.batch import Batch
from elt_singer.errors import SchemaError
from elt_singer.selection import is_selected

from tap_csv import catalog
from tap_csv.convert import Converter
from tap_csv.errors import InputError, SettingsError
from tap_csv.files import facts
from tap_csv.form import Made
from tap_csv.reader import OpenEndError
from tap_csv.source import Recut, Source

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tap_csv.catalog import Opened, Stream
    from tap_csv.config import Config, Entity
    from tap_csv.files import Facts, File
    from tap_csv.form import Form
    from tap_csv.source import Segment

    Json = dict[str, t.Any]
    _Submitted = tuple[Segment, Path, Future[Made]]

LOGGER = logging.getLogger("tap-csv")

_READING = 2
"""Counted up when a text becomes another value than before, so that everything is sent again."""

WORKERS = min(8, os.cpu_count() or 1)
_OURS = "tap-csv-"
"""How the names of files of BATCH messages begin, behind the prefix of the settings."""
_AHEAD = 1
"""Segments that wait while all workers are busy."""
_COPY = 1 << 20


class Tap:
    """Reads the files of one configuration, and writes messages to an output."""

    def __init__(self, config: Config, output: t.BinaryIO) -> None:
        self._config = config
        self._output = output
        self._opened = contextlib.ExitStack()
        self._folder = self._opened.enter_context(scratch.folder("tap-csv"))
        self._converter = Converter(self._folder)
        self._pool = ThreadPoolExecutor(WORKERS)
        self._extracted = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def __enter__(self) -> t.Self:
        """Return the tap itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget what is on its way."""
        self._pool.shutdown(cancel_futures=True)
        self._converter.close()
        self._opened.close()

    def discover(self) -> Json:
        """Return the catalog of all entities.

        Raises:
            InputError: a file does not fit.
        """
        return {"streams": [self._discovered(entity).entry() for entity in self._config.entities]}

    def sync(self, chosen: Json | None = None, state: Json | None = None, *, rows: bool = True) -> None:
        """Send the streams.

        Args:
            chosen: a catalog; found out unless given.
            state: what an earlier run said last.
            rows: whether to send rows; without, only what comes before them.

        Raises:
            InputError: a file does not fit; what was sent before it is covered by the last state.
            SettingsError: the catalog or the state does not fit.
        """
        try:
            said: Json = {"bookmarks": {**((state or {}).get("bookmarks") or {})}}
        except (AttributeError, TypeError):
            raise SettingsError("the state is not of the form in which this tap says it") from None
        if folder := self._config.batch_folder:
            batch.remove_stale(folder, self._config.batch_prefix + _OURS)
        for stream in list(self._streams(chosen)):  # all are looked at before the first row is sent
            name = stream.entity.name
            known = _Bookmark(stream, said["bookmarks"].get(name), self._config)
            said["bookmarks"][name] = known.state()
            messages.write(self._output, messages.schema(name, stream.schema(), stream.entity.keys))
            rejected = stream.entity.rejected
            if rejected:
                messages.write(self._output, messages.schema(rejected, catalog.REJECTED, ("file", "line")))
            # Whether too many rows do not fit is known once all files were read.
            groups = [stream.files] if rejected else [(file,) for file in stream.files]
            for group in groups if rows else ():
                made = itertools.chain.from_iterable(self._read(stream, file, known) for file in group)
                for one in self._within_limit(made, stream) if rejected else made:
                    self._send(one, stream)
                if self._config.incremental:
                    said["bookmarks"][name] = known.state()
                    messages.write(self._output, messages.state(said))
        if not self._config.incremental and said["bookmarks"]:  # by this a target knows that the tap did not die
            messages.write(self._output, messages.state(said))

    def _discovered(self, entity: Entity) -> Stream:
        return catalog.discover(entity, self._config, self._converter)

    def _streams(self, chosen: Json | None) -> Iterator[Stream]:
        if chosen is None:
            yield from map(self._discovered, self._config.entities)
            return
        entities = {entity.name: entity for entity in self._config.entities}
        try:
            for entry in chosen["streams"]:
                if not is_selected(entry):
                    continue
                name = entry["tap_stream_id"]
                if name not in entities:
                    raise SettingsError(f"the catalog has stream {name!r}, of which the settings name no files")
                yield catalog.chosen(entry, entities[name], self._config)
        except (AttributeError, KeyError, TypeError, SchemaError) as error:
            raise SettingsError(f"the catalog is not of the form that --discover prints: {error!r}") from None

    def _read(self, stream: Stream, file: File, known: _Bookmark) -> Iterator[Made]:
        """Return the rows of a file, unless it is known and did not change."""
        started, before = time.monotonic(), facts(file)
        if known.unchanged(file, before, stream):
            LOGGER.info("%s: %s did not change", stream.entity.name, file)
            return
        source = Source(file, stream.entity, hashed=self._config.incremental)
        opened = catalog.split(source, stream.entity, columns=[*stream.types], known=stream.known)
        catalog.refuse_missing(stream.types, opened, file, "the catalog has")
        form = self._form(stream, file, opened, before)
        rows = 0
        for one in self._converted(opened.segments, form):
            yield one
            rows += one.rows
        after = facts(file)
        if after != before:
            raise InputError("was changed while it was read", file)
        known.add(file, before, source.sha256)
        LOGGER.info("%s: %d rows of %s in %.1f s", stream.entity.name, rows, file, time.monotonic() - started)

    def _within_limit(self, made: Iterator[Made], stream: Stream) -> Iterator[Made]:
        """Return what was made of all files, unless too many rows do not fit.

        Raises:
            InputError: there are too many.
        """
        shape, held = stream.entity.shape, deque[Made]()
        rows, rejected = 0, list[InputError]()
        count = 0

        def refuse_too_many(known: int | None) -> None:
            if shape.is_too_many(count, known):
                first = rejected[0]
                what = f"{count:,} of {rows:,} rows do not fit, more than `max_rejected: {shape.max_rejected}`"
                raise InputError(f"{what}; this is the first: {first.what}", first.file or "", line=first.line)

        try:
            for one in made:
                held.append(one)
                rows, count = rows + one.rows + one.rejected, count + one.rejected
                rejected += [one.first] if one.first else []
                refuse_too_many(None)
            refuse_too_many(rows)
            if rejected:
                what = "%s: %d of %d rows do not fit, and go to %s; the first: %s"
                LOGGER.warning(what, stream.entity.name, count, rows, stream.entity.rejected, rejected[0])
            while held:
                yield held.popleft()
        finally:
            for one in held:
                one.forget()

    def _form(self, stream: Stream, file: File, opened: Opened, stat: Facts) -> Form:
        return dataclasses.replace(
            opened.form(file, stream.entity),
            types=stream.types,
            modified=stat.mtime_ns / 1e9 if stream.metadata else None,
            stream=None if self._config.batch_folder else stream.entity.name,
            extracted=self._extracted,
            empty_is_null=self._config.infer_types,
        )

    def _converted(self, segments: Iterator[Segment], form: Form) -> Iterator[Made]:
        """Return what becomes of each segment, in order; several are worked on at the same time."""
        waiting: deque[_Submitted] = deque()
        segments = Recut(segments, form.dialect.quote)
        try:
            while True:
                while len(waiting) < WORKERS + _AHEAD and (segment := next(segments, None)):
                    waiting.append(self._submit(segment, form))
                if not waiting:
                    return
                segment, path, future = waiting.popleft()
                try:
                    made = future.result()
                except OpenEndError as open_end:
                    path.unlink(missing_ok=True)  # DuckDB may have begun it
                    self._go_on(segment, open_end.line, waiting, segments, form)
                    continue
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
                if made.rows or made.rejected:
                    yield made
                else:
                    made.forget()
        finally:
            for one in waiting:
                _forget(*one)

    def _go_on(self, segment: Segment, line: int, waiting: deque[_Submitted], segments: Recut, form: Form) -> None:
        """Submit what is to be converted instead of a segment whose end is open.

        Args:
            segment: that one.
            line: where the row begins that goes on.
            waiting: those that follow, and where to put what is submitted.
            segments: those behind them.
            form: what the rows become.
        """
        if whole := segment.size_before(line):
            segment, rest = segment.divided(whole, form.dialect.quote)
            for gone in waiting:
                _forget(*gone)
            segments.again(rest, *(after for after, *_ in waiting))
            waiting.clear()
        else:
            size = 2 * len(segment.data)
            while len(segment.data) < size and not segment.last:  # one by one would take forever
                if waiting:
                    after, *_ = gone = waiting.popleft()
                    _forget(*gone)
                else:
                    after = next(segments)
                segment = segment.joined(after)
        waiting.appendleft(self._submit(segment, form))

    def _submit(self, segment: Segment, form: Form) -> _Submitted:
        folder, prefix = self._folder, ""
        if self._config.batch_folder:
            folder, prefix = self._config.batch_folder, self._config.batch_prefix
        suffix = "parquet" if self._config.batch_folder else "jsonl"
        path = folder / f"{prefix}{_OURS}{uuid.uuid4().hex}.{suffix}"
        return segment, path, self._pool.submit(self._converter.convert, segment, form, path)

    def _send(self, made: Made, stream: Stream) -> None:
        records = [made.records] if made.records else []
        if not made.rows:
            made.path.unlink()
        elif self._config.batch_folder:
            message = Batch("parquet", gzip=False, files=(made.path,)).message(stream.entity.name)
            try:
                messages.write(self._output, message)
            except OSError:
                made.forget()  # nobody will read it
                raise
        else:
            records.insert(0, made.path)
        for path in records:
            with path.open("rb") as lines:
                shutil.copyfileobj(lines, self._output, _COPY)
            path.unlink()


class _Bookmark:
    """The files of a stream that were sent as a whole."""

    _FIELDS = ("size", "mtime_ns", "sha256")

    def __init__(self, stream: Stream, bookmark: Json | None, config: Config) -> None:
        """Take what a state says, if it was said of rows of the same form.

        Args:
            stream: the stream.
            bookmark: what the state has of it.
            config: says whether files are remembered at all, and what an empty value means.

        Raises:
            SettingsError: the state is damaged.
        """
        entity, remember = stream.entity, config.incremental
        dialect = dataclasses.asdict(entity.dialect)
        form = [_READING, stream.schema(), entity.keys, entity.encoding, dialect, config.infer_types]
        given = entity.shape.given()
        given |= {
            name: kind.name for name, kind in entity.columns.items() if "%" in kind.name or "money" in kind.name
        }
        form += [given] if given else []  # so that older states stay good
        self._form = hashlib.sha256(json.dumps(form).encode()).hexdigest()
        self._remember = remember
        self._files: dict[str, Json] = {}
        try:
            if remember and bookmark and bookmark.get("form") == self._form:
                wanted = {str(file) for file in stream.files}
                known = {file: one for file, one in bookmark.get("files", {}).items() if file in wanted}
                self._files = {file: {name: one[name] for name in self._FIELDS} for file, one in known.items()}
                for file, one in known.items():
                    if "etag" in one:
                        self._files[file]["etag"] = one["etag"]
        except (AttributeError, KeyError, TypeError) as error:
            what = f"the state of stream {entity.name!r} is not of the form in which this tap says it: {error!r}"
            raise SettingsError(what) from None

    def state(self) -> Json:
        """Return what a state has to say of the stream."""
        return {"form": self._form, "files": {**self._files}} if self._remember else {}

    def unchanged(self, file: File, stat: Facts, stream: Stream) -> bool:
        """Whether the file is as it was when it was sent; if only its time is another, its hash tells."""
        one = self._files.get(str(file))
        if one is None or one["size"] != stat.size:
            return False
        if (one["mtime_ns"], one.get("etag", "")) != stat[1:] or not (stat.mtime_ns or stat.etag):
            if Source(file, stream.entity, hashed=True).drain() != one["sha256"]:
                return False
            one["mtime_ns"] = stat.mtime_ns
            if stat.etag:
                one["etag"] = stat.etag
        return True

    def add(self, file: File, stat: Facts, sha256: str) -> None:
        """Remember a file that was sent."""
        if self._remember:
            self._files[str(file)] = {"size": stat.size, "mtime_ns": stat.mtime_ns, "sha256": sha256}
            if stat.etag:
                self._files[str(file)]["etag"] = stat.etag


def _forget(_: Segment, path: Path, future: Future[Made]) -> None:
    """Remove what was made of a segment for nothing."""
    if not future.cancel():
        future.exception()
    path.unlink(missing_ok=True)
