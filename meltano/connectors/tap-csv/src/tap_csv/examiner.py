"""A look at the rows of a sample, or of a whole file: which texts are not of a type, which columns may be the key."""

# ruff: noqa: S608 - the queries hold numbers of columns, and names that sql.name quotes

from __future__ import annotations

import itertools
import typing as t

from tap_csv import sql
from tap_csv.convert import Converter
from tap_csv.reader import OpenEndError

if t.TYPE_CHECKING:
    from pathlib import Path

    from tap_csv import types
    from tap_csv.catalog import Opened
    from tap_csv.form import Form
    from tap_csv.source import Segment

    Errors = dict[tuple[str, types.Type], tuple[int, str]]
    """Line and text by column and type, where there is a text that is not meant as one."""

KEYS_AT_ONCE = 50
"""Columns that are looked at at once for keys."""
MOST_KEYS = 8
"""Columns whose pairs are tried as keys, where no column alone is one; keys that a whole file is searched for."""


class Examiner(Converter):
    """Looks at texts in the way in which a load makes values of them."""

    number = 0
    """Rows that were looked at."""

    def first_conversion_errors(
        self, segment: Segment, form: Form, rows: int | None, wanted: t.Mapping[str, t.Sequence[types.Type]]
    ) -> Errors:
        """Find the first text of each column that is not meant as each of some types.

        Args:
            segment: whole rows without the header.
            form: how they are written.
            rows: how many rows; none for all.
            wanted: the types to look at, by column.

        Raises:
            InputError: a row does not fit.
            OpenEndError: the segment's last row goes on in the next one.
        """
        with self._as_text(segment, form, rows) as (table, _):
            return self._errors(table, form, wanted)

    def look(
        self, opened: Opened, form: Form, rows: int | None, wanted: t.Mapping[str, t.Sequence[types.Type]]
    ) -> tuple[Errors, list[list[str]], bool]:
        """Find the first conversion errors and the keys of the first rows of a file, or of all.

        Args:
            opened: the file.
            form: how it is written.
            rows: how many rows; none for all.
            wanted: the types to look at, by column.

        Returns:
            The errors; columns, or pairs of the first few, that hold another value in each row; whether that were all
            rows of the file.

        Raises:
            InputError: a row does not fit.
        """
        errors: Errors = {}
        keys: list[tuple[int, ...]] = []
        is_last = False
        for segment in opened.segments:
            whole, is_last, is_first = segment, segment.last, self.number == 0
            while True:
                try:
                    with self._as_text(whole, form, rows) as (table, _):
                        self.number += self._count(table)
                        errors = self._errors(table, form, wanted) | errors
                        if is_first:
                            keys = self._unique(table, len(form.header))
                        if rows is None and not (is_first and is_last):
                            self._remember(table, keys[:MOST_KEYS], is_first=is_first)
                    break
                except OpenEndError:
                    following = next(opened.segments)
                    whole, is_last = whole.joined(following), following.last
            if rows is not None:
                break
            if is_last and not is_first:
                keys = self._still_unique(keys[:MOST_KEYS])
        is_whole = is_last and (rows is None or self.number < rows)
        return errors, [[form.header[place] for place in some] for some in keys], is_whole

    def look_at_parquet(self, path: Path, columns: list[str], rows: int | None) -> tuple[list[list[str]], int]:
        """Find the keys of the first rows of a parquet file, or of all, and how many these are; see `look`."""
        texts = ", ".join(f"{sql.name(column)}::varchar" for column in columns)
        limit = "" if rows is None else f" limit {rows}"
        table = f"(select [{texts}] as row from read_parquet({sql.path(path)}){limit})"
        return [[columns[place] for place in some] for some in self._unique(table, len(columns))], self._count(table)

    def _errors(self, table: str, form: Form, wanted: t.Mapping[str, t.Sequence[types.Type]]) -> Errors:
        found: Errors = {}
        for kind in dict.fromkeys(itertools.chain.from_iterable(wanted.values())):

            def first(text: str, kind: types.Type = kind) -> tuple[str, str]:
                failing = f"filter (not coalesce({kind.meant(text)}, false))"
                return f"min(line) {failing}", f"arg_min({text}, line) {failing}"

            chosen = [column for column, those in wanted.items() if kind in those]
            for column, line, text in self._by_column(first, table, form.header, chosen, listed=True):
                if line is not None:
                    found[column, kind] = line, text
        return found

    def _count(self, table: str) -> int:
        row = self._engine().execute(f"select count(*) from {table}").fetchone()
        assert row
        return int(row[0])

    def _unique(self, table: str, columns: int) -> list[tuple[int, ...]]:
        """Find the columns, or pairs of the first few, that hold another value in each row; from 0."""
        for size, places in ((1, range(columns)), (2, range(min(MOST_KEYS, columns)))):
            combined = itertools.combinations(places, size)
            # Of a wide table not all at once, and no more than the first that are unique.
            while tried := [*itertools.islice(combined, KEYS_AT_ONCE)]:
                counts = [f"count(distinct [{_listed(some)}]) filter ({_filled(some)})" for some in tried]
                query = f"select count(*), {', '.join(counts)} from {table}"
                row = self._engine().execute(query).fetchone()
                assert row
                number, *distinct = row
                if unique := [some for some, count in zip(tried, distinct, strict=True) if count == number > 0]:
                    return unique
        return []

    def _remember(self, table: str, keys: list[tuple[int, ...]], *, is_first: bool) -> None:
        """Keep 64 bits of what stands in possible keys, in a table that goes to the disk where it grows large."""
        hashes = [
            f"case when {_filled(some)} then hash([{_listed(some)}]) end as key_{place}"
            for place, some in enumerate(keys)
        ]
        into = "create or replace temp table keys as" if is_first else "insert into keys"
        self._engine().execute(f"{into} select {', '.join(['line', *hashes])} from {table}")

    def _still_unique(self, keys: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Those that are unique in all rows; two different values of the same 64 bits rule one out wrongly."""
        found = []
        for place, some in enumerate(keys):
            query = f"select count(*), count(distinct key_{place}) from keys"
            number, distinct = t.cast("tuple[int, int]", self._engine().execute(query).fetchone())
            found += [some] if number == distinct else []
        return found


def _listed(places: tuple[int, ...]) -> str:
    return ", ".join(f"row[{place + 1}]" for place in places)


def _filled(places: tuple[int, ...]) -> str:
    return " and ".join(f"row[{place + 1}] <> ''" for place in places)
