"""Segments of a file as files of typed rows: by DuckDB where it reads as Python would, else by Python."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import itertools
import json
import typing as t
from contextlib import suppress
from datetime import UTC, datetime

import duckdb
from elt_singer.errors import one_line

from tap_csv import sql
from tap_csv.errors import InputError
from tap_csv.files import local
from tap_csv.form import FILE, LINE, MODIFIED, Made
from tap_csv.readable import readable
from tap_csv.tables import range_of
from tap_csv.texts import DUCKDB_REFUSALS, Texts, nulled
from tap_csv.types import SHORT, implied

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tap_csv.form import Form
    from tap_csv.reader import Rejected
    from tap_csv.source import Segment
    from tap_csv.types import Type

_PARQUET = "compression uncompressed, parquet_version v2, dictionary_size_limit 1, write_bloom_filter false"
"""What is written and read fastest; the files live for seconds."""


class _OtherwiseError(Exception):
    """DuckDB read something else than what stands there."""


class Converter(Texts):
    """Makes files of segments; each thread has an engine of its own, as they wait for nothing that they share."""

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
            except (*DUCKDB_REFUSALS, _OtherwiseError):
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

    def _by_duckdb(self, segment: Segment, quoted: bytes, form: Form, goal: Path) -> int:
        """Return the fast way, for what DuckDB reads as Python would.

        Raises:
            duckdb.Error: one of `DUCKDB_REFUSALS`, if DuckDB refuses something.
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
            source = nulled(sql.read_csv(file, read, form.dialect, form.shape.max_field_bytes), form)
            rows = self._copy(values, source, line, form, goal)
        delimiter = form.dialect.delimiter.encode()
        if segment.data.count(delimiter) - quoted.count(delimiter) != rows * (len(form.header) - 1):
            raise _OtherwiseError
        return rows

    def _by_python(self, segment: Segment, form: Form, goal: Path) -> Made:
        """Return the slow way, in which every text is read by Python first."""
        failed: dict[int, tuple[str, str]] = {}
        while True:
            with self._as_text(segment, form, failed=failed) as (table, rejected):
                try:
                    return self._made(self._copy_texts(table, form, goal), rejected, form, goal)
                except DUCKDB_REFUSALS:
                    found = self._conversion_errors(table, form)
                    if not found:
                        raise
            if not form.rejected:
                line, (column, what) = min(found.items())
                raise InputError(what, form.path, line=line, column=column)
            failed |= found

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

    def _conversion_errors(self, table: str, form: Form) -> dict[int, tuple[str, str]]:
        """Return what does not fit in a table of `_as_text`, by line: a column and why; all if rows are rejected."""
        found: list[tuple[int, str, str]] = []
        which = "list(line)" if form.rejected else "min(line)"
        for kind in set(form.types.values()):
            chosen = [column for column, one in form.types.items() if one == kind]

            def lines(text: str, kind: Type = kind) -> tuple[str]:
                return (f"{which} filter ({kind.fails(text)})",)

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
        for column in kinds:
            if what := form.natives[column].cut:
                raise InputError(what, form.path, column=column)
        values = {column: form.natives[column].value(column, kind) for column, kind in kinds.items()}
        wrong = {column: form.natives[column].fails(column, kind) for column, kind in kinds.items()}
        for key in form.keys:
            name = sql.name(key)
            values[key] = f"case when {name} is null then error('no key')::{kinds[key].sql} else {values[key]} end"
            wrong[key] = f"({name} is null or {name}::VARCHAR = '' or {wrong[key]})"
        try:
            return Made(goal, self._copy(values, table, "__line", form, goal))
        except duckdb.Error as error:
            found = []
            with suppress(duckdb.Error):  # it is damaged
                for column, fails in wrong.items():
                    row = self._engine().execute(f"select min(__line) from {table} where {fails}").fetchone()
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
