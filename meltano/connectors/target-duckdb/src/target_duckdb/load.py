"""One flush: records are read by DuckDB into a stage, and all that waits goes into the tables in one transaction."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import gzip
import logging
import shutil
import typing as t
import zlib
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import duckdb

from target_duckdb import database, jsonl, locate, messages, parquet, sql
from target_duckdb.database import one_line
from target_duckdb.errors import DatabaseError, InputError, SchemaError
from target_duckdb.stage import LACKS_KEY, Stage
from target_duckdb.stream import BATCHED_AT, DELETED_AT, EXTRACTED_AT, VERSION
from target_duckdb.table import holds

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from elt_singer.batch import Batch

    from target_duckdb.config import Config
    from target_duckdb.stream import Stream

LOGGER = logging.getLogger("target-duckdb")

CONVERSION_ERRORS = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException)
"""What DuckDB raises when a value is the reason."""
_OBJECT_SIZE = 2 << 20
"""Longest line the JSON reader expects; it splits a file among threads by twice this size."""
_FILE_OBJECT_SIZE = 16 << 20
"""The same for the files of a BATCH, whose lines nobody has seen."""
_COLUMNS_AT_ONCE = 2000
"""Most columns that all threads together may read or write."""
_KEYS = "temp.source_keys"
_METADATA = frozenset((EXTRACTED_AT, BATCHED_AT, DELETED_AT, VERSION))


class _ConversionError(Exception):
    """A row does not fit."""

    def __init__(self, row: int, column: str | None, what: str) -> None:
        """Say which one.

        Args:
            row: its number, counted from 0.
            column: the column, if it is known.
            what: what is wrong.
        """
        super().__init__(row, column, what)
        self.row, self.column, self.what = row, column, what


class Loader:
    """Moves what waits into the tables."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, config: Config, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._config = config
        self._stages = self._widest = 0
        row = connection.execute("select current_setting('threads')").fetchone()
        assert row
        self._threads = self._using = int(row[0])

    def flush(self, streams: Iterable[Stream], batch: tuple[Stream, Batch] | None = None) -> None:
        """Load all that waits, in one transaction.

        Args:
            streams: those with records or a schema that is new.
            batch: a stream and its BATCH message, whose rows come after those that wait.

        Raises:
            InputError: a record or a file does not fit; nothing of this flush is in the database then.
            DatabaseError: DuckDB cannot write.
        """
        staged = [(stream, self._stage_spool(stream)) for stream in streams]
        from_files = list(self._stage_files(*batch)) if batch else []
        with self._transaction():
            for stream, stage in staged:
                with self._writing(stream):
                    self._fit(stream, stage)
                    if stage:
                        self._merge(stream, stage)
                    self._retire(stream)
            for stage in from_files:
                assert batch
                with self._writing(batch[0]):
                    self._fit(batch[0], stage)
                    self._merge(batch[0], stage)
        for stream, _ in staged:
            stream.spool.clear()
            stream.activate = None
        self._drop_stages()

    def swap(self, streams: Iterable[Stream]) -> None:
        """Let the tables that were built aside take their places, all in one transaction."""
        with self._transaction():
            for stream in streams:
                with self._writing(stream):
                    stream.goal.aside.take_place_of(self._connection, stream.goal)

    def discard(self, streams: Iterable[Stream]) -> None:
        """Drop the tables that were built aside."""
        with self._transaction():
            for stream in streams:
                self._connection.execute(f"drop table if exists {stream.goal.aside}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("begin")
            yield
            self._connection.execute("commit")
        except duckdb.Error as error:
            self._rollback()
            raise DatabaseError(f"{self._config.path} cannot be written: {one_line(error)}") from error
        except BaseException:
            self._rollback()
            raise

    @contextmanager
    def _writing(self, stream: Stream) -> Iterator[None]:
        """Say of which stream and table an error is that DuckDB raises."""
        try:
            yield
        except duckdb.Error as error:
            what = f"stream {stream.name!r}: {stream.goal} cannot be written: {one_line(error)}"
            raise DatabaseError(what) from error

    def _rollback(self) -> None:
        try:
            self._connection.execute("rollback")
        except duckdb.Error:
            LOGGER.debug("nothing to roll back")

    def _fit(self, stream: Stream, stage: Stage | None) -> None:
        """Make the stream's table hold its columns."""
        if stage and stage.versions:
            stream.unversioned |= stage.versions < stage.rows
            if not stream.versioned:
                stream.versioned, stream.fitted = True, False
        elif stage:
            stream.unversioned = True
        if stream.activate is not None and not stream.versioned:
            stream.versioned, stream.fitted = True, False
        if not stream.fitted:
            if stream.overwrite and not stream.begun:
                self._connection.execute(f"drop table if exists {stream.table}")  # left by a run that was killed
                stream.begun = True
            wanted = stream.table_columns()
            if stream.continues and not stream.overwrite and not stream.table.columns(self._connection):
                what = f"{stream.goal} is not there, and only what is new since an earlier load comes"
                raise SchemaError(f"{what}: load all of it, by `--full-refresh`", stream=stream.name)
            if stream.upsert and not stream.overwrite:
                self._fit_keys(stream, wanted)
            stream.table.fit(self._connection, wanted, lenient=_METADATA)
            stream.there = stream.table.columns(self._connection)
            stream.fitted = True

    def _fit_keys(self, stream: Stream, wanted: dict[str, str]) -> None:
        """Let the keys of a table with rows find these rows, whatever type the stream has now.

        Integers alone are written in one way, so a key of text holds them; wanted is changed then.

        Raises:
            SchemaError: a row would be there twice, such as `2.0` in the table and `2` in a record.
        """
        there = stream.table.columns(self._connection)
        if not there or stream.table.is_empty(self._connection):
            return
        for key in stream.keys:
            old, new = there.get(key), wanted[key]
            if old is None:
                what = "%s: the key %s is new: rows from before have none, and no record takes their place"
                LOGGER.warning(what, stream.name, key)
                continue
            if holds(old, new) or (new == "VARCHAR" and old in sql.INTEGERS):
                continue
            if new != "VARCHAR" and stream.table.become(self._connection, key, old, new):
                continue
            if old == "VARCHAR" and new in sql.INTEGERS:
                wanted[key] = old
                continue
            new = "text" if new == "VARCHAR" else new
            what = f"the key is {new} now, and {old} in the table, where the same key may be written in another way"
            way = "keep its type, or remove the table and load everything anew"
            raise SchemaError(f"{what}: {way}", stream=stream.name, column=key)

    def _merge(self, stream: Stream, stage: Stage) -> None:
        """Bring staged rows into the table, where the last one of each key counts."""
        table, execute = stream.table, self._connection.execute
        there = stream.there
        self._hold_numbers(stream, stage)
        values = dict(stage.values)
        if stream.metadata:
            values[BATCHED_AT] = _now()
            values.setdefault(EXTRACTED_AT, values[BATCHED_AT])
        if VERSION not in there:
            values.pop(VERSION, None)
        types = {column.name: column.type for column in stream.columns}
        casts = {
            name: value if types.get(name, "TIMESTAMP") == there[name] else f"{value}::{there[name]}"
            for name, value in values.items()
        }
        only = ""
        if stream.keys and stream.upsert:
            keys = [casts[key] for key in stream.keys]
            if not table.is_empty(self._connection):
                aliases = ", ".join(f"{value} as k{number}" for number, value in enumerate(keys))
                on = " and ".join(f"t.{sql.name(key)} = s.k{number}" for number, key in enumerate(stream.keys))
                deleted = execute(
                    f"delete from {table} as t using (select {aliases} from {stage.source}) as s where {on}"
                ).fetchone()
                if stream.overwrite and deleted:  # else they may be of an earlier run, as is usual
                    stream.replaced += int(deleted[0])
            if not self._ascends(stage, keys[0]):
                group = f"from {stage.source} group by {', '.join(keys)}"
                distinct = execute(f"select count(*) from (select 1 {group})").fetchone()
                if distinct and distinct != (stage.rows,):
                    only = f"where {stage.row} in (select max({stage.row}) {group})"
                    if stream.overwrite:
                        stream.replaced += stage.rows - int(distinct[0])
        names = sql.names(casts)
        self._use(len(there), half=True)
        execute(f"insert into {table} ({names}) select {', '.join(casts.values())} from {stage.source} {only}")
        stream.loaded += stage.rows
        if self._config.hard_delete:
            execute(f"delete from {table} where {DELETED_AT} is not null")

    def _ascends(self, stage: Stage, key: str) -> bool:
        """Whether a key grows from row to row, so that none occurs twice: a tenth of the work of counting them."""
        pairs = f"select {key} as k, lag({key}) over () as before from {stage.source}"
        row = self._connection.execute(f"select bool_and(k > before) from ({pairs})").fetchone()
        return row is not None and row[0] is not False

    def _use(self, columns: int, *, half: bool) -> None:
        """Use all threads, or half of them, or fewer for a wide table; and the memory that it needs.

        Rows go in by half: each thread fills row groups of its own, and half-full ones cost space and time. The other
        processors are busy with what comes next.

        Args:
            columns: those of the table, of each of which a thread keeps a vector or a block in memory.
            half: whether rows go in.
        """
        wanted = max(1, min(self._threads // 2 if half else self._threads, _COLUMNS_AT_ONCE // max(1, columns)))
        if wanted != self._using:  # to set it takes milliseconds
            self._connection.execute(f"set threads = {wanted}")
            self._using = wanted
        if columns > self._widest:
            self._widest = columns
            database.make_room(self._connection, self._config, columns)

    def _retire(self, stream: Stream) -> None:
        """Remove or mark the rows of versions before the one that is to be activated."""
        if stream.activate is None:
            return
        # Rows without a version are from before, unless this run loaded such rows itself.
        old = f"({VERSION} < {stream.activate}" + ("" if stream.unversioned else f" or {VERSION} is null") + ")"
        self._delete(stream, old)

    def _delete(self, stream: Stream, which: str) -> int:
        """Remove or mark rows, and return how many."""
        if self._config.hard_delete or stream.overwrite:
            done = self._connection.execute(f"delete from {stream.table} where {which}").fetchone()
        else:
            if DELETED_AT not in stream.there:
                self._connection.execute(f"alter table {stream.table} add column {DELETED_AT} timestamp")
                stream.there[DELETED_AT] = "TIMESTAMP"
            change = f"update {stream.table} set {DELETED_AT} = {_now()}"
            done = self._connection.execute(f"{change} where {which} and {DELETED_AT} is null").fetchone()
        return int(done[0]) if done else 0

    def reconcile(self, stream: Stream, keys: Batch) -> tuple[int, int, int]:
        """Remove or mark the rows whose keys the source no longer has, in one transaction.

        Args:
            stream: a stream with keys, of which nothing waits.
            keys: those of all rows of the source.

        Returns:
            How many rows are gone; how many were marked, and are there again; how many keys have no row.

        Raises:
            InputError: a file does not fit.
            DatabaseError: DuckDB cannot write.
        """
        stages = [*self._stage_files(stream, keys)]
        execute, places = self._connection.execute, range(len(stream.keys))
        on = " and ".join(f"{sql.name(key)} = _elt_key_{place}" for place, key in enumerate(stream.keys))
        with self._transaction(), self._writing(stream):
            self._fit(stream, None)
            columns = ", ".join(f"_elt_key_{place} {stream.there[key]}" for place, key in enumerate(stream.keys))
            execute(f"create or replace temp table {_KEYS} ({columns})")
            for stage in stages:
                values = ", ".join(f"{stage.values[stream.keys[place]]}" for place in places)
                execute(f"insert into {_KEYS} select {values} from {stage.source}")
            known = f"exists (select 1 from {_KEYS} where {on})"
            gone = self._delete(stream, f"not {known}")
            back = None
            if DELETED_AT in stream.there:
                marked = f"{DELETED_AT} is not null and {known}"
                loaded = f", {BATCHED_AT} = {_now()}" if BATCHED_AT in stream.there else ""
                back = execute(f"update {stream.table} set {DELETED_AT} = null{loaded} where {marked}").fetchone()
            missing = execute(
                f"select count(*) from {_KEYS} where not exists (select 1 from {stream.table} where {on})"
            ).fetchone()
            execute(f"drop table {_KEYS}")
        self._drop_stages()
        assert missing
        return gone, int(back[0]) if back else 0, int(missing[0])

    def _stage_spool(self, stream: Stream) -> Stage | None:
        """Read the records that wait, or nothing if none do."""
        spool = stream.spool
        if not spool.rows:
            return None
        spool.ready()
        reader = jsonl.Reader(stream.columns, "record", metadata=stream.metadata, versions=stream.versions)
        try:
            stage = self._staged(reader, spool.path, max(_OBJECT_SIZE, spool.longest), stream)
        except _ConversionError as error:
            line = spool.line(error.row)
            raise InputError(error.what, stream=stream.name, line=line, column=error.column) from error.__cause__
        stage.spool = spool
        self._refuse_without_key(stream, stage)
        if stage.rows != spool.rows:  # not known to happen; better to stop than to lose a row
            raise InputError(f"{stage.rows} of {spool.rows} records were read", stream=stream.name)
        return stage

    def _stage_files(self, stream: Stream, batch: Batch) -> Iterator[Stage]:
        """Read the files one after the other, so that a later one wins over an earlier."""
        for path in batch.files:
            stage = self._stage_jsonl(stream, path, gzipped=batch.gzip) if batch.format == "jsonl" else None
            stage = stage or parquet.stage(self._connection, stream, path)
            stage.file = path
            self._refuse_without_key(stream, stage)
            yield stage

    def _stage_jsonl(self, stream: Stream, path: Path, *, gzipped: bool) -> Stage:
        plain = self._folder / "plain.jsonl" if gzipped else path
        try:
            if gzipped:  # DuckDB (1.5.5) does not look at the checksum
                with gzip.open(path) as packed, plain.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, messages.BLOCK)
            # With a key it lacks that.
            if not stream.keys and (row := jsonl.first_null(plain)) is not None:
                raise InputError("is no object", stream=stream.name, file=path, line=row + 1)
            return self._staged(jsonl.Reader(stream.columns, ""), plain, _FILE_OBJECT_SIZE, stream)
        except _ConversionError as error:
            raise InputError(
                error.what, stream=stream.name, file=path, line=error.row + 1, column=error.column
            ) from error.__cause__
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"cannot be read: {error}", stream=stream.name, file=path) from error
        finally:
            if gzipped:
                plain.unlink(missing_ok=True)

    def _staged(self, reader: jsonl.Reader, path: Path, object_size: int, stream: Stream) -> Stage:
        """Read a file of JSON into a temporary table: fast first, and where that is not exact, exactly.

        Raises:
            _ConversionError: a row does not fit.
        """
        self._stages += 1
        self._use(len(reader.columns), half=False)
        table, marked = f"temp.stage_{self._stages}", self._folder / "marked.jsonl"

        def mark() -> None:
            nonlocal reader, path, object_size
            if any(map(jsonl.nested_would_change(reader.columns), jsonl.blocks(path))):
                jsonl.rewrite(path, marked, jsonl.nested_numbers(reader.columns, member=reader.whole))
                path, object_size = marked, 2 * object_size  # each quote gets a backslash
                reader = replace(reader, marked=True)

        try:
            if has_json := any(column.type == "JSON" for column in reader.columns):
                mark()
            try:
                reader.read(self._connection, table, path, object_size, exact=False)
                is_exact = not self._may_be_rewritten(reader, table, path)
            except CONVERSION_ERRORS:
                is_exact = False
            if not is_exact:
                if not has_json:
                    mark()
                self._read_exactly(reader, table, path, object_size)
        except duckdb.Error as error:
            raise DatabaseError(f"stream {stream.name!r}: {one_line(error)}") from error
        finally:
            marked.unlink(missing_ok=True)
        count = f"count({VERSION})" if reader.versions else "0"
        counted = self._connection.execute(f"select count(*), {count} from {table}").fetchone()
        assert counted
        return Stage(table, "rowid", reader.names(), *counted)

    def _may_be_rewritten(self, reader: jsonl.Reader, table: str, path: Path) -> bool:
        """Whether texts seem to be numbers, objects or arrays that the JSON reader wrote anew."""
        names = reader.names()
        texts = [names[column.name] for column in reader.columns if column.type == "VARCHAR"]
        if not texts:
            return False
        seems = " or ".join(map(sql.may_be_rewritten, texts))
        if self._connection.execute(f"select 1 from {table} where {seems} limit 1").fetchone() is None:
            return False
        number, nested = jsonl.number_in_text(reader.columns), jsonl.nested_would_change(reader.columns)
        return any(number(block) or (not reader.marked and nested(block)) for block in jsonl.blocks(path))

    def _read_exactly(self, reader: jsonl.Reader, table: str, path: Path, object_size: int) -> None:
        rewritten = self._folder / "exact.jsonl"
        if transform := jsonl.exact_numbers(reader.columns, member=reader.whole):
            jsonl.rewrite(path, rewritten, transform)
            # A number of one digit, with a key of one letter, gets two quotes.
            path, object_size = rewritten, object_size + object_size // 2
        try:
            reader.read(self._connection, table, path, object_size, exact=True)
        except CONVERSION_ERRORS as error:
            found = locate.conversion_error(self._connection, reader, path, error, self._folder)
            raise _ConversionError(*found) from error
        finally:
            rewritten.unlink(missing_ok=True)

    def _drop_stages(self) -> None:
        while self._stages:
            self._connection.execute(f"drop table if exists temp.stage_{self._stages}")
            self._stages -= 1

    def _first(self, stage: Stage, condition: str) -> int | None:
        """Return the first row for which a condition holds, counted from 0."""
        query = f"select min({stage.row}) from {stage.source} where {condition}"
        row = self._connection.execute(query).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _refuse_without_key(self, stream: Stream, stage: Stage) -> None:
        firsts = ((self._first(stage, f"{stage.values[key]} is null"), key) for key in stream.keys)
        if found := [(row, key) for row, key in firsts if row is not None]:
            row, key = min(found)
            raise stage.error(row, LACKS_KEY, key, stream.name)

    def _hold_numbers(self, stream: Stream, stage: Stage) -> None:
        """Let columns of numbers, which the table has of another type, hold what is staged; else refuse it."""
        for column in stream.columns:
            there, value = stream.there[column.name], stage.values[column.name]

            def first(kind: str, of: str = column.type, value: str = value) -> int | None:
                return self._first(stage, f"try_cast(try_cast({value} as {kind}) as {of}) is distinct from {value}")

            if there == column.type or not there.startswith(("DOUBLE", "DECIMAL")) or (row := first(there)) is None:
                continue
            wider = None
            if there != "DOUBLE" or not column.type.startswith("DECIMAL"):  # there are readers who know it as DOUBLE
                wider = stream.table.become(self._connection, column.name, there, column.type)
            if wider is None or (wider != column.type and first(wider) is not None):
                what = f"the value does not fit {there}, which the table has"
                raise stage.error(row, what, column.name, stream.name)
            stream.there[column.name] = wider


def _now() -> str:
    """Return the time as DuckDB's SQL writes it, in UTC."""
    return f"timestamp {sql.literal(datetime.now(UTC).replace(tzinfo=None).isoformat(' '))}"
