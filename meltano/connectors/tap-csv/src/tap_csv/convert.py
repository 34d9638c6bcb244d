"""Segments of a file as files of typed rows: by DuckDB where it reads as Python would, else by Python."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import threading
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from elt_singer.errors import one_line

from tap_csv import sql
from tap_csv.config import MAX_FIELD_BYTES, Shape
from tap_csv.errors import InputError
from tap_csv.files import local
from tap_csv.readable import readable
from tap_csv.reader import Reader
from tap_csv.source import line_ends
from tap_csv.tables import range_of
from tap_csv.types import SHORT, implied

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tap_csv.config import Dialect
    from tap_csv.files import File
    from tap_csv.reader import Misfits, Rejected
    from tap_csv.source import Segment
    from tap_csv.tables import Native
    from tap_csv.types import Type

FILE, MODIFIED, LINE = "_sdc_source_file", "_sdc_source_file_mtime", "_sdc_source_lineno"

_MISFITS = (
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.NotImplementedException,
    UnicodeDecodeError,  # its message quotes a long line, and may cut it within a letter
)
"""What DuckDB raises when it refuses a row or a value, or a file."""
_ROW_BYTES = 1 << 24
"""What DuckDB is ready for of a row from Python, as JSON, unless there is a longer one."""
_ROW_FIELDS = 8
"""So many fields of the longest value a row may hold; one has up to six times its bytes as JSON."""
_GLANCE = 200
"""Rows that are looked at before all others of a sample: they rule most types out, at little cost."""
_FEW, _AT_ONCE = 4_000, 100
"""Rows of which one statement looks at all columns, and columns that one looks at where there are more rows."""
_MEMORY, _MEMORY_OF_COLUMN, _MEMORY_OF_ROW = 512, 0.5, 24
"""Most that each DuckDB reserves, in MB: at all, for each column of a wide table, and for each MB of a long row."""
_PARQUET = "compression uncompressed, parquet_version v2, dictionary_size_limit 1, write_bloom_filter false"
"""What is written and read fastest; the files live for seconds."""


class _OtherwiseError(Exception):
    """DuckDB read something else than what stands there."""


@dataclass(frozen=True)
class Form:
    """What the rows of a file become."""

    path: File
    dialect: Dialect
    header: tuple[str, ...]
    keys: tuple[str, ...]
    types: Mapping[str, Type]
    """Types of the columns that are sent, in their order."""
    shape: Shape = field(default_factory=Shape)
    rejected: str = ""
    """Name of the stream of rows that do not fit; empty if such a row is refused."""
    ends_empty: bool = False
    """Whether the last column has no name, and must hold no value."""
    modified: float | None = None
    """When the file was changed last, in seconds since 1970, if columns say where a row is from."""
    stream: str | None = None
    """Name of the stream for RECORD messages; none for a parquet file."""
    extracted: str = ""
    """When the run began, as RECORD messages say it."""
    empty_is_null: bool = True
    is_rows: bool = False
    """Whether segments hold rows as texts, which tell an empty one from none."""
    natives: Mapping[str, Native] = field(default_factory=dict)
    """The columns of a parquet file, of which segments are ranges of rows."""

    def keeps_empty(self, column: str) -> bool:
        """Whether an empty field of the column is an empty text."""
        return not self.empty_is_null and self.types[column].sql == "VARCHAR"


class Made(t.NamedTuple):
    """What became of a segment."""

    path: Path
    """The file of its rows."""
    rows: int
    rejected: int = 0
    """How many rows do not fit."""
    records: Path | None = None
    """A file of RECORD messages of these."""
    first: InputError | None = None
    """What to say of the first of them."""

    def forget(self) -> None:
        """Remove the files."""
        self.path.unlink(missing_ok=True)
        if self.records:
            self.records.unlink(missing_ok=True)


class Converter:
    """Makes files of segments; each thread has an engine of its own, as they wait for nothing that they share."""

    def __init__(self, folder: Path) -> None:
        """Begin.

        Args:
            folder: for what is on its way.
        """
        self._folder = folder
        self._local = threading.local()
        self._memories: list[io.FileIO] = []

    def close(self) -> None:
        """Give memory back, once no thread converts any more."""
        for memory in self._memories:
            memory.close()

    def _engine(self) -> duckdb.DuckDBPyConnection:
        found: duckdb.DuckDBPyConnection | None = getattr(self._local, "engine", None)
        if found is None:
            options: dict[str, str | bool | int | float | list[str]] = {"threads": 1}
            options |= {"memory_limit": f"{_MEMORY}MB", "temp_directory": str(self._folder)}
            found = self._local.engine = duckdb.connect(config=options)
            found.execute("set TimeZone = 'UTC'")
        return found

    def _make_room(self, form: Form, longest: int = 0) -> None:
        """Let DuckDB reserve what it does for each column, be there many rows or few; it mostly uses less.

        Args:
            form: has the columns.
            longest: bytes of a row that is long.
        """
        needed = _MEMORY_OF_COLUMN * len(form.header), _MEMORY_OF_ROW * longest / 1e6
        engine, most = self._engine(), max(_MEMORY, *needed)
        if getattr(self._local, "most", _MEMORY) != most:  # to say it again takes milliseconds
            engine.execute(f"set memory_limit = '{most}MB'")
            self._local.most = most

    def convert(self, segment: Segment, form: Form, goal: Path) -> Made:
        """Write the rows of a segment to a file.

        Args:
            segment: whole rows without the header.
            form: what the rows become.
            goal: the file.

        Returns:
            The files, and how many rows there are.

        Raises:
            InputError: a row or a value does not fit.
            OpenEndError: the segment's last row goes on in the next one.
        """
        self._make_room(form)
        if form.natives:
            return self._by_parquet(segment, form, goal)
        if read := readable(segment, form):
            try:
                return Made(goal, self._by_duckdb(*read, form, goal))
            except (*_MISFITS, _OtherwiseError):
                pass  # Python finds out what it is, or reads it
        return self._by_python(segment, form, goal)

    def fits(
        self, segment: Segment, form: Form, rows: int | None, candidates: Mapping[str, Sequence[Type]]
    ) -> tuple[dict[str, list[Type]], set[str]]:
        """Which types the values of a segment fit.

        Args:
            segment: whole rows without the header.
            form: how they are written.
            rows: how many rows; none for all.
            candidates: the types to look at, by column, the narrowest first.

        Returns:
            Those that every value fits, and the columns that have a value and a type to look at.

        Raises:
            InputError: a row does not fit.
            OpenEndError: the segment's last row goes on in the next one.
        """
        self._make_room(form)
        with self._texts(segment, form, rows) as listed:
            glance, filled = self._fitting("glance", form.header, candidates, listed=True)
            fitting, also_filled = self._fitting("texts", form.header, glance, listed=listed)
        return fitting, filled | also_filled

    def _fitting(
        self, table: str, header: Sequence[str], candidates: Mapping[str, Sequence[Type]], *, listed: bool
    ) -> tuple[dict[str, list[Type]], set[str]]:
        """As `fits`, of a table of `_texts`; a type that follows from a narrower one is not looked at."""
        filled: set[str] = set()
        known: dict[tuple[str, Type], bool] = {}
        by_length = sorted(candidates.values(), key=len, reverse=True)  # so that the narrowest is the first of all
        for kind in dict.fromkeys(itertools.chain.from_iterable(by_length)):
            chosen = [column for column, those in candidates.items() if kind in those and (column, kind) not in known]

            def aggregates(text: str, kind: Type = kind) -> tuple[str, ...]:
                return f"bool_and({kind.meant(text)})", f"max(strlen({text}))"

            for column, fits, longest in self._by_column(aggregates, table, header, chosen, listed=listed):
                filled.add(column)
                known[column, kind] = fits
                if fits and longest <= SHORT:
                    known |= dict.fromkeys(((column, wider) for wider in implied(kind)), True)
        fitting = {
            column: [one for one in those if known.get((column, one), True)] for column, those in candidates.items()
        }
        return fitting, filled

    def _by_column(
        self,
        aggregates: Callable[[str], Iterable[str]],
        table: str,
        header: Sequence[str],
        chosen: Sequence[str],
        *,
        listed: bool,
    ) -> Iterator[tuple[t.Any, ...]]:
        """Return what aggregates of a text are, for each chosen column that has a value.

        Args:
            aggregates: makes the expressions for that of a text.
            table: the table.
            header: names of all columns.
            chosen: those to look at.
            listed: whether the column `row` of the table holds the texts of each row. With an expression for each
                column, DuckDB would plan longer than it works, in memory that no limit holds.
        """
        if listed and chosen:
            places = {column: place for place, column in enumerate(header, 1)}
            here = [places[column] for column in chosen]
            texts = f"*, unnest(list_select(row, {here})) as text, unnest({here}) as place"
            query = f"select place, {', '.join(aggregates('text'))} from (select {texts} from {table})"
            for place, *values in self._engine().execute(f"{query} where text <> '' group by place").fetchall():
                yield header[place - 1], *values
            return
        for start in range(0, len(chosen), _AT_ONCE):
            some = chosen[start : start + _AT_ONCE]
            expressions = [
                f"{one} filter ({sql.name(column)} <> '')" for column in some for one in aggregates(sql.name(column))
            ]
            row = self._engine().execute(f"select {', '.join(expressions)} from {table}").fetchone()
            assert row
            for column, found in zip(some, zip(*[iter(row)] * (len(row) // len(some)), strict=True), strict=True):
                if found[0] is not None:
                    yield column, *found

    @contextmanager
    def _texts(self, segment: Segment, form: Form, rows: int | None) -> Iterator[bool]:
        """Return the first rows as table `texts`, and some as table `glance`, whose column `row` is a list of texts.

        They are read for what does not have to be exact: by DuckDB if it can, else as Python does.

        Yields:
            Whether `texts` has such a column too; if it has many rows, each column of the file is one of its own.
        """
        listed = self._texts_by_duckdb(segment, form, rows)
        if listed is None:
            listed = True
            with self._as_text(segment, form, rows) as (table, _):
                self._engine().execute(f"create or replace temp table texts as select row from {table}")
        row = "row" if listed else f"[{sql.names(form.header)}] as row"
        self._engine().execute(f"create or replace temp table glance as select {row} from texts limit {_GLANCE}")
        yield listed
        self._engine().execute("drop table texts")

    def _texts_by_duckdb(self, segment: Segment, form: Form, rows: int | None) -> bool | None:
        """Make the table of `_texts`, and say what that yields; not if DuckDB cannot read the rows."""
        found = readable(segment, form)
        if not found:
            return None
        segment, quoted = found
        few = min(rows or _FEW, line_ends(segment.data) - line_ends(quoted)) < _FEW
        limit = f" limit {rows}" if rows else ""
        chosen = f"[{sql.names(form.header)}] as row" if few else "*"
        with self._readable(segment.data) as file:
            read = dict.fromkeys(form.header, "VARCHAR")
            source = _nulled(sql.read_csv(file, read, form.dialect, form.shape.max_field_bytes), form)
            try:
                self._engine().execute(f"create or replace temp table texts as select {chosen} from {source}{limit}")
            except _MISFITS:
                return None
        return few

    def _by_duckdb(self, segment: Segment, quoted: bytes, form: Form, goal: Path) -> int:
        """Return the fast way, for what DuckDB reads as Python would.

        Raises:
            duckdb.Error: one of `_MISFITS`, if DuckDB refuses something.
            _OtherwiseError: it read a row that has more delimiters than columns.
        """
        read, nulls = dict.fromkeys(form.header, "VARCHAR"), form.shape.null_values
        if not nulls:
            read |= {column: kind.read for column, kind in form.types.items()}
        values = {}
        for column, kind in form.types.items():
            value = kind.value(sql.name(column), text=kind.read != read[column])
            if column in form.keys:
                value = f"case when {sql.name(column)} is null then error('no key')::{kind.sql} else {value} end"
            values[column] = value
        if form.ends_empty:
            column, value = next(iter(values.items()))
            surplus = f"error('no name')::{form.types[column].sql}"
            values[column] = f"case when {sql.name(form.header[-1])} is not null then {surplus} else {value} end"
        line = f"row_number() over () + {segment.line - 1}"
        with self._readable(segment.data) as file:
            source = _nulled(sql.read_csv(file, read, form.dialect, form.shape.max_field_bytes), form)
            rows = self._copy(values, source, line, form, goal)
        delimiter = form.dialect.delimiter.encode()
        if segment.data.count(delimiter) - quoted.count(delimiter) != rows * (len(form.header) - 1):
            raise _OtherwiseError
        return rows

    def _by_python(self, segment: Segment, form: Form, goal: Path) -> Made:
        """Return the slow way, in which every text is read by Python first."""
        misfits: dict[int, tuple[str, str]] = {}
        while True:
            with self._as_text(segment, form, misfits=misfits) as (table, rejected):
                try:
                    return self._made(self._copy_texts(table, form, goal), rejected, form, goal)
                except _MISFITS:
                    found = self._misfits(table, form)
                    if not found:
                        raise
            if not form.rejected:
                line, (column, what) = min(found.items())
                raise InputError(what, form.path, line=line, column=column)
            misfits |= found

    def _made(self, rows: int, rejected: Sequence[Rejected], form: Form, goal: Path) -> Made:
        """Return what became of a segment; rows that do not fit are written."""
        if not rejected:
            return Made(goal, rows)
        records = self._folder / f"{goal.stem}.rejected.jsonl"
        with records.open("w", encoding="utf-8") as lines:
            for one in rejected:
                record = {"file": str(form.path), **one._asdict()}
                message = {"type": "RECORD", "stream": form.rejected, "record": record}
                lines.write(json.dumps({**message, "time_extracted": form.extracted}) + "\n")
        first = InputError(rejected[0].reason, form.path, line=rejected[0].line)
        return Made(goal, rows, len(rejected), records, first)

    def _copy_texts(self, table: str, form: Form, goal: Path) -> int:
        """Write the rows of a table of `_as_text` to a file; returns their number."""
        places = {column: place for place, column in enumerate(form.header, 1) if column in form.types}
        nulls = form.shape.null_values
        # Each text stands in the query once, and not as often as the expression of its value needs it.
        row = {
            column: f"row[{place}]"
            if form.is_rows or (nulls and form.keeps_empty(column))
            else f"nullif(row[{place}], '')"
            for column, place in places.items()
        }
        texts = ", ".join(f"{row[column]} as t{place}" for column, place in places.items())
        values = {column: kind.value(f"t{places[column]}", text=True) for column, kind in form.types.items()}
        return self._copy(values, f"(select line, {texts} from {table})", "line", form, goal)

    def _misfits(self, table: str, form: Form) -> dict[int, tuple[str, str]]:
        """Return what does not fit in a table of `_as_text`, by line: a column and why; all if rows are rejected."""
        found: list[tuple[int, str, str]] = []
        which = "list(line)" if form.rejected else "min(line)"
        for kind in set(form.types.values()):
            chosen = [column for column, one in form.types.items() if one == kind]

            def lines(text: str, kind: Type = kind) -> tuple[str]:
                return (f"{which} filter ({kind.misfit(text)})",)

            for column, here in self._by_column(lines, table, form.header, chosen, listed=True):
                listed = here if form.rejected else [here]
                found += [(line, column, kind.refusal(column)) for line in listed or () if line is not None]
        return {line: (column, what) for line, column, what in sorted(found, reverse=True)}

    def _by_parquet(self, segment: Segment, form: Form, goal: Path) -> Made:
        """Values as they are, of a range of rows of a parquet file.

        Raises:
            InputError: a value does not fit, or the file is damaged.
        """
        table, kinds = range_of(segment, local(form.path)), form.types
        values = {column: form.natives[column].value(column, kind) for column, kind in kinds.items()}
        wrong = {column: form.natives[column].misfit(column, kind) for column, kind in kinds.items()}
        for key in form.keys:
            name = sql.name(key)
            values[key] = f"case when {name} is null then error('no key')::{kinds[key].sql} else {values[key]} end"
            wrong[key] = f"({name} is null or {name}::VARCHAR = '' or {wrong[key]})"
        try:
            return Made(goal, self._copy(values, table, "__line", form, goal))
        except duckdb.Error as error:
            found = []
            with suppress(duckdb.Error):  # it is damaged
                for column, misfit in wrong.items():
                    row = self._engine().execute(f"select min(__line) from {table} where {misfit}").fetchone()
                    found += [(row[0], column)] if row and row[0] is not None else []
            if not found:
                raise InputError(f"cannot be read as parquet: {one_line(error)}", form.path) from None
        line, column = min(found)
        what = "a key must not be empty" if column in form.keys else kinds[column].refusal(column)
        raise InputError(what, form.path, line=line, column=column)

    def _copy(self, values: dict[str, str], table: str, line: str, form: Form, goal: Path) -> int:
        """Write the rows of a table to the file; returns their number."""
        if not (form.empty_is_null or form.shape.null_values or form.is_rows or form.natives):
            values = {
                column: f"coalesce({value}, '')" if form.keeps_empty(column) else value
                for column, value in values.items()
            }
        stamps = [column for column, kind in form.types.items() if kind.sql == "TIMESTAMP"]
        if form.modified is not None:
            modified = datetime.fromtimestamp(form.modified, UTC).replace(tzinfo=None).isoformat(" ")
            when = (
                f"timestamp {sql.literal(modified)}" if form.modified else "null::TIMESTAMP"
            )  # a server may not say
            values |= {FILE: sql.literal(str(form.path)), MODIFIED: when, LINE: line}
            stamps.append(MODIFIED)
        if form.stream is None:
            chosen = ", ".join(f"{value} as {sql.name(column)}" for column, value in values.items())
            how = f"format parquet, {_PARQUET}"
        else:
            for column, kind in form.types.items():
                if wider := kind.with_leading_zero():
                    values[column] = f"{values[column]}::{wider}"
            for column in stamps:
                values[column] = f"strftime({values[column]}, '%Y-%m-%dT%H:%M:%S.%fZ')"
            fields = ", ".join(f"{sql.name(column)} := {value}" for column, value in values.items())
            chosen = (
                f"'RECORD' as type, {sql.literal(form.stream)} as stream, struct_pack({fields}) as record, "
                f"{sql.literal(form.extracted)} as time_extracted"
            )
            how = "format json"
        found = self._engine().execute(f"copy (select {chosen} from {table}) to {sql.literal(str(goal))} ({how})")
        row = found.fetchone()
        assert row
        return int(row[0])

    @contextmanager
    def _as_text(
        self, segment: Segment, form: Form, rows: int | None = None, misfits: Misfits | None = None
    ) -> Iterator[tuple[str, Sequence[Rejected]]]:
        """Return the rows as Python reads them: a table of the columns `line` and `row`, a list of texts.

        Args:
            segment: whole rows without the header.
            form: how they are written.
            rows: how many rows; none for all.
            misfits: rows of which it is known that they do not fit.

        Yields:
            The table, and the rows that do not fit, if they are not refused.
        """
        if form.is_rows:
            chosen = segment.data.split(b"\n")[:rows]
            most = max(_ROW_BYTES, *map(len, chosen), 0)
            self._make_room(form, most)
            with self._readable(b"\n".join(chosen)) as file:
                yield sql.read_rows(file, most), ()
            return
        reader = Reader(form.path, form.dialect, form.shape, segment)
        found = reader.rows(form.header, form.keys, misfits or {}, ends_empty=form.ends_empty)
        nulls, most, longest = frozenset(form.shape.null_values), form.shape.max_field_bytes, _ROW_BYTES
        least = min(most, _ROW_BYTES) // 4
        with self._file("jsonl") as file:
            with file.open("w", encoding="utf-8", buffering=1 << 18) as lines:
                for line, row in itertools.islice(found, rows):
                    texts = [None if one in nulls else one for one in row] if nulls else row
                    text = json.dumps({"line": line, "row": texts}, ensure_ascii=False)
                    if len(text) > least:  # a character has up to four bytes
                        if any(len(one) * 4 > most and len(one.encode()) > most for one in row):
                            raise reader.too_long(line)
                        longest = max(longest, len(text.encode()))
                        if longest > _ROW_FIELDS * max(most, MAX_FIELD_BYTES):
                            what = f"a row of more than {_ROW_FIELDS * most:,} bytes; raise `max_field_bytes`"
                            raise InputError(what, form.path, line=line)
                    lines.write(text + "\n")
            self._make_room(form, longest)
            yield sql.read_rows(file, longest), reader.rejected

    @contextmanager
    def _readable(self, data: bytes) -> Iterator[Path]:
        """Return the bytes as a file: of memory, which is used again and again, or else of the disk."""
        memory = self._memory()
        if memory is None:
            with self._file("csv") as path:
                path.write_bytes(data)
                yield path
            return
        memory.seek(0)
        left = memoryview(data)
        while left:
            left = left[memory.write(left) :]
        memory.truncate()
        yield Path(f"/proc/self/fd/{memory.fileno()}")

    def _memory(self) -> io.FileIO | None:
        """Return the thread's file of memory, where there are such: a write to the disk costs ten times as much."""
        if sys.platform != "linux" or not Path("/proc/self/fd").exists():
            return None
        found: io.FileIO | None = getattr(self._local, "memory", None)
        if found is None:
            found = self._local.memory = io.FileIO(os.memfd_create("tap-csv"), "w")
            self._memories.append(found)
        return found

    @contextmanager
    def _file(self, suffix: str) -> Iterator[Path]:
        """Return the path of a file of the thread's own, which is gone afterwards."""
        path = self._folder / f"{threading.get_ident()}.{suffix}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _nulled(table: str, form: Form) -> str:
    """Return a table of a file's texts, in which null stands for an empty one and for `null_values`."""
    nulls = form.shape.null_values
    if not nulls:
        return table
    listed = ", ".join(map(sql.literal, nulls))
    texts = []
    for column in form.header:
        name = sql.name(column)
        # A key must not be empty, which is looked for later.
        keeps = column in form.types and form.keeps_empty(column) and "" not in nulls and column not in form.keys
        other = f"coalesce({name}, '')" if keeps else name
        texts.append(f"case when {name} in ({listed}) then null else {other} end as {name}")
    return f"(select {', '.join(texts)} from {table})"
