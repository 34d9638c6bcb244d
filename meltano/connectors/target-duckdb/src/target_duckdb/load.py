"""One flush: records are read by DuckDB into a stage, and all that waits goes into the tables in one transaction."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import gzip
import json
import logging
import re
import typing as t
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import duckdb

from target_duckdb import database, locate, messages, sql
from target_duckdb.database import one_line
from target_duckdb.errors import DatabaseError, InputError, MissingKeyError, SchemaError
from target_duckdb.schema import members, struct
from target_duckdb.spool import exact_numbers, nested_numbers, would_change
from target_duckdb.stream import BATCHED_AT, DELETED_AT, EXTRACTED_AT, VERSION

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from elt_singer.batch import Batch

    from target_duckdb.config import Config
    from target_duckdb.schema import Column
    from target_duckdb.spool import Spool
    from target_duckdb.stream import Stream

LOGGER = logging.getLogger("target-duckdb")

MISFITS = (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException)
"""What DuckDB raises when a value is the reason."""
_OBJECT_SIZE = 2 << 20
"""Longest line the JSON reader expects; it splits a file among threads by twice this size."""
_FILE_OBJECT_SIZE = 16 << 20
"""The same for the files of a BATCH, whose lines nobody has seen."""
_WIDE = 250
"""Columns from which on the members of a record cost more, each for itself, than to copy all records to a file."""
_COLUMNS_AT_ONCE = 2000
"""Most columns that all threads together may read or write."""
_ROW = "file_row_number"
_TIME = re.compile(r"\bTIME\b(?! ZONE)")
_LACKS_KEY = "the record lacks a key"
_MARK = "\x01"
_METADATA = frozenset((EXTRACTED_AT, BATCHED_AT, DELETED_AT, VERSION))


@dataclass
class Stage:
    """Rows that are read and checked, on their way to a table."""

    source: str
    """What to select from."""
    row: str
    """The expression that orders the rows."""
    values: dict[str, str]
    """Expressions by the names of the columns they go to."""
    rows: int
    versions: int = 0
    file: Path | None = None
    """The file of a BATCH that they are of."""
    spool: Spool | None = None
    """Else the lines of the input that they are of."""

    def misfit(self, row: int, what: str, column: str, stream: str) -> InputError:
        """The error that a row, counted from 0, does not fit."""
        kind = MissingKeyError if what == _LACKS_KEY else InputError
        if self.spool:
            return kind(what, stream=stream, line=self.spool.line(row), column=column)
        return kind(what, stream=stream, file=str(self.file), line=row + 1, column=column)


class _MisfitError(Exception):
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
            if stream.upsert and not stream.overwrite:
                self._refuse_other_keys(stream)
            stream.table.fit(self._connection, stream.table_columns(), lenient=_METADATA)
            stream.there = stream.table.columns(self._connection)
            stream.fitted = True

    def _refuse_other_keys(self, stream: Stream) -> None:
        """Refuse keys that are text now where the table's are not: `2.0` there and `2` here would be two rows.

        Raises:
            SchemaError: a key changes so; integers alone are written in one way.
        """
        there, wanted = stream.table.columns(self._connection), stream.table_columns()
        for key in stream.keys:
            old = there.get(key, "VARCHAR")
            same = old == "VARCHAR" or old in sql.INTEGERS
            if wanted[key] == "VARCHAR" and not same and not stream.table.is_empty(self._connection):
                what = (
                    f"the key is text now, and {old} in the table, where the same key may be written in another way"
                )
                way = "keep its type, or remove the table and load everything anew"
                raise SchemaError(f"{what}: {way}", stream=stream.name, column=key)

    def _merge(self, stream: Stream, stage: Stage) -> None:
        """Bring staged rows into the table, where the last one of each key counts."""
        table, execute = stream.table, self._connection.execute
        there = stream.there
        self._hold_numbers(stream, stage)
        values = dict(stage.values)
        if stream.metadata:
            values[BATCHED_AT] = f"timestamp {sql.literal(datetime.now(UTC).replace(tzinfo=None).isoformat(' '))}"
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
        table = stream.table
        # Rows without a version are from before, unless this run loaded such rows itself.
        old = f"({VERSION} < {stream.activate}" + ("" if stream.unversioned else f" or {VERSION} is null") + ")"
        if self._config.hard_delete or stream.overwrite:
            self._connection.execute(f"delete from {table} where {old}")
            return
        if DELETED_AT not in stream.there:
            self._connection.execute(f"alter table {table} add column {DELETED_AT} timestamp")
            stream.there[DELETED_AT] = "TIMESTAMP"
        now = sql.literal(datetime.now(UTC).replace(tzinfo=None).isoformat(" "))
        self._connection.execute(f"update {table} set {DELETED_AT} = {now} where {old} and {DELETED_AT} is null")

    def _stage_spool(self, stream: Stream) -> Stage | None:
        """Read the records that wait, or nothing if none do."""
        spool = stream.spool
        if not spool.rows:
            return None
        spool.ready()
        reader = Reader(stream.columns, "record", metadata=stream.metadata, versions=stream.versions)
        try:
            stage = self._staged(reader, spool.path, max(_OBJECT_SIZE, spool.longest), stream)
        except _MisfitError as misfit:
            line = spool.line(misfit.row)
            raise InputError(misfit.what, stream=stream.name, line=line, column=misfit.column) from misfit.__cause__
        stage.spool = spool
        self._refuse_without_key(stream, stage)
        if stage.rows != spool.rows:  # not known to happen; better to stop than to lose a row
            raise InputError(f"{stage.rows} of {spool.rows} records were read", stream=stream.name)
        return stage

    def _stage_files(self, stream: Stream, batch: Batch) -> Iterator[Stage]:
        """Read the files one after the other, so that a later one wins over an earlier."""
        for path in batch.files:
            stage = self._stage_jsonl(stream, path, gzipped=batch.gzip) if batch.format == "jsonl" else None
            stage = stage or self._stage_parquet(stream, path)
            stage.file = path
            self._refuse_without_key(stream, stage)
            yield stage

    def _stage_jsonl(self, stream: Stream, path: Path, *, gzipped: bool) -> Stage:
        try:
            return self._staged(Reader(stream.columns, "", gzip=gzipped), path, _FILE_OBJECT_SIZE, stream)
        except _MisfitError as misfit:
            raise InputError(
                misfit.what, stream=stream.name, file=str(path), line=misfit.row + 1, column=misfit.column
            ) from misfit.__cause__
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"cannot be read: {error}", stream=stream.name, file=str(path)) from error

    def _staged(self, reader: Reader, path: Path, object_size: int, stream: Stream) -> Stage:
        """Read a file of JSON into a temporary table: fast first, and where that is not exact, exactly.

        Raises:
            _MisfitError: a row does not fit.
        """
        self._stages += 1
        self._use(len(reader.columns), half=False)
        table, marked = f"temp.stage_{self._stages}", self._folder / "marked.jsonl"
        transform = nested_numbers(reader.columns, member=reader.whole)
        if transform and any(map(would_change, _blocks(path, gzipped=reader.gzip))):
            _rewrite(path, marked, transform, gzipped=reader.gzip)
            path, object_size = marked, 2 * object_size  # each quote gets a backslash
            reader = replace(reader, gzip=False, marked=True)
        try:
            try:
                reader.read(self._connection, table, path, object_size, exact=False)
            except MISFITS:
                self._read_exactly(reader, table, path, object_size)
        except duckdb.Error as error:
            raise DatabaseError(f"stream {stream.name!r}: {one_line(error)}") from error
        finally:
            marked.unlink(missing_ok=True)
        count = f"count({VERSION})" if reader.versions else "0"
        counted = self._connection.execute(f"select count(*), {count} from {table}").fetchone()
        assert counted
        return Stage(table, "rowid", reader.names(), *counted)

    def _read_exactly(self, reader: Reader, table: str, path: Path, object_size: int) -> None:
        rewritten = self._folder / "exact.jsonl"
        if transform := exact_numbers(reader.columns, member=reader.whole):
            _rewrite(path, rewritten, transform, gzipped=reader.gzip)
            # A number of 16 characters gets two quotes.
            path, reader, object_size = rewritten, replace(reader, gzip=False), object_size + object_size // 8
        try:
            reader.read(self._connection, table, path, object_size, exact=True)
        except MISFITS as error:
            raise _MisfitError(*locate.misfit(self._connection, reader, path, error, self._folder)) from error
        finally:
            rewritten.unlink(missing_ok=True)

    def _drop_stages(self) -> None:
        while self._stages:
            self._connection.execute(f"drop table if exists temp.stage_{self._stages}")
            self._stages -= 1

    def _stage_parquet(self, stream: Stream, path: Path) -> Stage:
        """Parquet is read where it lies: DuckDB takes from it only the columns that a step needs."""
        plain = f"read_parquet({sql.path(str(path))}, hive_partitioning = false"
        source = f"{plain}, {_ROW} = true)"
        try:
            described = self._connection.execute(f"describe select * from {plain})").fetchall()
            if any(name.lower() == _ROW for name, *_ in described):
                what = "DuckDB gives this name to the numbers of rows: leave it out, or send the stream as RECORDs"
                raise InputError(what, stream=stream.name, file=str(path), column=_ROW)
            counted = self._connection.execute(f"select count(*) from {source}").fetchone()
        except duckdb.Error as error:
            raise InputError(f"cannot be read: {one_line(error)}", stream=stream.name, file=str(path)) from error
        assert counted
        there = {name: kind for name, kind, *_ in described}
        lower = {name.lower(): name for name in there}

        def kind(expression: str) -> str:
            row = self._connection.execute(f"describe select {expression} from {plain})").fetchone()
            assert row
            return str(row[1])

        if column := self._cut_time(
            path, there, [lower.get(column.path[0].lower(), "") for column in stream.columns]
        ):
            what = "DuckDB would cut its nanoseconds: write it in microseconds, or as text"
            raise InputError(what, stream=stream.name, file=str(path), column=column)
        values = {column.name: _parquet_value(column, there, lower, kind) for column in stream.columns}
        kinds = {column.name: column.type for column in stream.columns}
        for name, value in values.items():
            self._check_parquet(stream, path, source, name, value, kinds[name])
        return Stage(source, _ROW, values, counted[0])

    def _cut_time(self, path: Path, there: dict[str, str], used: Iterable[str]) -> str | None:
        """The first of the columns that holds a TIME of nanoseconds, which DuckDB reads as one of microseconds."""
        times = [name for name in used if _TIME.search(there.get(name, ""))]
        if not times:
            return None
        query = (
            f"select name from parquet_schema({sql.path(str(path))}) where logical_type like '%NANOS=NanoSeconds%'"
        )
        fine = {name for (name,) in self._connection.execute(f"{query} and logical_type like 'TimeType%'").fetchall()}
        nested = fine - {name for name, kind in there.items() if kind == "TIME"}
        return next((name for name in times if name in fine or (there[name] != "TIME" and nested)), None)

    def _check_parquet(self, stream: Stream, path: Path, source: str, name: str, value: str, kind: str) -> None:
        """Refuse a column whose values do not fit, before the transaction begins to depend on it."""
        if value.startswith('"') and "::" not in value:
            return  # taken as it is
        try:
            self._connection.execute(f"select count({value}) from {source}").fetchall()
        except duckdb.Error as error:
            what = f"a value does not fit {kind}"
            raise InputError(what, stream=stream.name, file=str(path), column=name) from error

    def _first(self, stage: Stage, condition: str) -> int | None:
        """The first row for which a condition holds, counted from 0."""
        query = f"select min({stage.row}) from {stage.source} where {condition}"
        row = self._connection.execute(query).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _refuse_without_key(self, stream: Stream, stage: Stage) -> None:
        firsts = ((self._first(stage, f"{stage.values[key]} is null"), key) for key in stream.keys)
        if found := [(row, key) for row, key in firsts if row is not None]:
            row, key = min(found)
            raise stage.misfit(row, _LACKS_KEY, key, stream.name)

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
                raise stage.misfit(row, what, column.name, stream.name)
            stream.there[column.name] = wider


@dataclass
class Reader:
    """How a file of JSON lines becomes columns."""

    columns: Sequence[Column]
    whole: str
    """The member of each line that holds the record; empty if the line is the record."""
    metadata: bool = False
    versions: bool = False
    gzip: bool = False
    marked: bool = False
    """Whether values that JSON would change are texts that begin with `sql.MARK`."""
    mark: str = ""
    """What stands before the names of those members of a line that are beside the record's."""

    def names(self) -> dict[str, str]:
        """Names in the stage by those of the columns: numbers, since one may be called like a row's number, rowid."""
        extra = ([EXTRACTED_AT] if self.metadata else []) + ([VERSION] if self.versions else [])
        return {column.name: f'"{number}"' for number, column in enumerate(self.columns)} | {
            one: one for one in extra
        }

    def create(self, table: str, path: Path, object_size: int, *, exact: bool) -> str:
        """The statement that reads the file into a temporary table."""
        types = {column: sql.json_type(column.read_as, exact=exact) for column in self.columns}
        read = members(self.columns, types)
        if self.whole:
            read = {self.whole: struct(self.columns, types)} if self.columns else {}
        names = self.names()
        made = {
            column: sql.from_json(column.within(self.whole), column.read_as, exact=exact) for column in self.columns
        }
        if self.marked:
            texts = {"JSON", "VARCHAR"}
            made |= {column: sql.unmarked(one, column.type) for column, one in made.items() if column.type in texts}
        values = [f"{one} as {names[column.name]}" for column, one in made.items()]
        if self.metadata:
            extracted = f"{self.mark}time_extracted"
            read[extracted] = sql.json_type("TIMESTAMP", exact=exact)
            values.append(f"{sql.from_json(sql.name(extracted), 'TIMESTAMP', exact=exact)} as {EXTRACTED_AT}")
        if self.versions:
            version = f"{self.mark}version"
            read[version] = sql.json_type("BIGINT", exact=exact)
            values.append(f"{sql.from_json(sql.name(version), 'BIGINT', exact=exact)} as {VERSION}")
        file = sql.read_json(str(path), read, object_size, gzip=self.gzip)
        return f"create or replace temp table {table.removeprefix('temp.')} as select {', '.join(values)} from {file}"

    def read(
        self, connection: duckdb.DuckDBPyConnection, table: str, path: Path, object_size: int, *, exact: bool
    ) -> None:
        """Read the file into a temporary table.

        To take each of many members out of a structure, DuckDB needs time and memory (which no limit holds) that grow
        with the square of their number; not so where the members are a line's own. So they are made that first.
        """
        if not self.whole or len(self.columns) < _WIDE:
            connection.execute(self.create(table, path, object_size, exact=exact))
            return
        flat = path.with_suffix(".flat")
        size = 4 * object_size  # a number may be written with more digits: `1e15` as `1000000000000000.0`
        try:
            connection.execute(self._flatten(path, flat, object_size))
            reader = replace(self, whole="", gzip=False, mark=_MARK)
            connection.execute(reader.create(table, flat, size, exact=exact))
        finally:
            flat.unlink(missing_ok=True)

    def _flatten(self, path: Path, flat: Path, object_size: int) -> str:
        """The statement that writes a file of which each line is a record, with what is beside it in the message."""
        beside = (["time_extracted"] if self.metadata else []) + (["version"] if self.versions else [])
        members = [f"""'{json.dumps(_MARK + one)}:' || coalesce({one}, 'null')""" for one in beside]
        record = self.whole
        if members:
            # Before the record's own, of which there may be none.
            first = " || ',' || ".join(members)
            record = f"'{{' || {first} || if({self.whole} = '{{}}', '}}', ',' || {self.whole}[2:])"
        file = sql.read_json(str(path), dict.fromkeys((self.whole, *beside), "JSON"), object_size, gzip=self.gzip)
        plain = "format csv, header false, quote '', escape '', delimiter '\x01'"
        return f"copy (select {record} from {file}) to {sql.literal(str(flat))} ({plain})"


def _blocks(path: Path, *, gzipped: bool) -> Iterator[bytes]:
    with gzip.open(path) if gzipped else path.open("rb") as lines:
        yield from messages.blocks(t.cast("t.BinaryIO", lines))


def _rewrite(source: Path, goal: Path, transform: Callable[[bytes], bytes], *, gzipped: bool) -> None:
    with goal.open("wb") as changed:
        changed.writelines(map(transform, _blocks(source, gzipped=gzipped)))


def _parquet_value(column: Column, there: dict[str, str], lower: dict[str, str], kind: Callable[[str], str]) -> str:
    """The expression that makes a column of what the parquet file holds.

    Args:
        column: the column.
        there: types in the file by their names.
        lower: these names by themselves in lower case.
        kind: tells the type of an expression over the file.
    """
    first = column.path[0] if column.path[0] in there else lower.get(column.path[0].lower())
    if first is None:
        flat = lower.get(column.name)
        return sql.convert(sql.name(flat), there[flat], column.type) if flat else f"null::{column.type}"
    if len(column.path) == 1:
        return sql.convert(sql.name(first), there[first], column.type)
    if there[first] in {"VARCHAR", "JSON"}:
        pointer = sql.literal("".join("/" + key.replace("~", "~0").replace("/", "~1") for key in column.path[1:]))
        return sql.convert(f"json_extract_string({sql.name(first)}, {pointer})", "VARCHAR", column.type)
    value = ".".join(map(sql.name, (first, *column.path[1:])))
    return sql.convert(value, kind(value), column.type)
