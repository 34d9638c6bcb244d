"""Rows of a segment as tables of texts, in a DuckDB of each thread."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import io
import itertools
import json
import os
import sys
import threading
import typing as t
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tap_csv import sql
from tap_csv.config import MAX_FIELD_BYTES
from tap_csv.errors import InputError
from tap_csv.readable import readable
from tap_csv.reader import Reader
from tap_csv.source import line_ends

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tap_csv.form import Form
    from tap_csv.reader import ConversionErrors, Rejected
    from tap_csv.source import Segment

DUCKDB_REFUSALS = (
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


class Texts:
    """Tables of texts; each thread has an engine of its own, as they wait for nothing that they share."""

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
            source = nulled(sql.read_csv(file, read, form.dialect, form.shape.max_field_bytes), form)
            try:
                self._engine().execute(f"create or replace temp table texts as select {chosen} from {source}{limit}")
            except DUCKDB_REFUSALS:
                return None
        return few

    @contextmanager
    def _as_text(
        self, segment: Segment, form: Form, rows: int | None = None, failed: ConversionErrors | None = None
    ) -> Iterator[tuple[str, Sequence[Rejected]]]:
        """Return the rows as Python reads them: a table of the columns `line` and `row`, a list of texts.

        Args:
            segment: whole rows without the header.
            form: how they are written.
            rows: how many rows; none for all.
            failed: rows of which it is known that they do not fit.

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
        found = reader.rows(form.header, form.keys, failed or {}, ends_empty=form.ends_empty)
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


def nulled(table: str, form: Form) -> str:
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
