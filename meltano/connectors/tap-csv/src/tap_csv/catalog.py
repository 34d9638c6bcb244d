"""Streams: what discovery finds out about them, and what a catalog chose of them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
import typing as t
from dataclasses import dataclass

from elt_singer.selection import is_chosen, marks_of

from tap_csv import formats, types
from tap_csv.errors import InputError, SettingsError
from tap_csv.files import find, local
from tap_csv.form import FILE, LINE, MODIFIED, Form
from tap_csv.readable import number_of_rows
from tap_csv.reader import OpenEndError, Reader
from tap_csv.source import FIRST, Source, line_ends
from tap_csv.tables import (
    format_of,
    json_columns,
    json_segments,
    kinds_of,
    natives_of,
    parquet_columns,
    parquet_segments,
    refuse_settings,
    row_segments,
)
from tap_csv.workbook import Sheet

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_csv.config import Config, Dialect, Entity
    from tap_csv.convert import Converter
    from tap_csv.files import File
    from tap_csv.source import Segment
    from tap_csv.tables import Native

    Json = dict[str, t.Any]

LOGGER = logging.getLogger("tap-csv")

METADATA: dict[str, Json] = {
    FILE: {"type": ["string", "null"]},
    MODIFIED: {"type": ["string", "null"], "format": "date-time"},
    LINE: {"type": ["integer", "null"]},
}
"""JSON schemas of the columns that say where a row is from."""
_SEPARATOR = re.compile(rb"(\"?)sep=([!#-/:-@\[-`{-~\t])\1(?:\r\n?|\n|\Z)")
"""The first line of a file in which Excel looks for the delimiter."""
_MARK = 1 << 10
_HEADER, _SAMPLE = 1 << 16, 1 << 24
"""Bytes in which a header is looked for, and of which a sample of rows is taken."""


@dataclass(frozen=True)
class Stream:
    """One entity, its files, and the columns that are sent."""

    entity: Entity
    files: tuple[File, ...]
    types: Mapping[str, types.Type]
    metadata: bool
    known: t.Collection[str] = ()
    """Names of the columns that are left out, where objects of JSON may have them."""

    def schema(self) -> Json:
        """Return the JSON schema of a record."""
        properties = {name: types.property_of(kind) for name, kind in self.types.items()}
        return {"type": "object", "properties": properties | (METADATA if self.metadata else {})}

    def entry(self) -> Json:
        """Its entry in a catalog."""
        keys = list(self.entity.keys)
        schema = self.schema()
        metadata = [
            {
                "breadcrumb": ["properties", name],
                "metadata": {"inclusion": "automatic" if name in keys else "available"},
            }
            for name in schema["properties"]
        ]
        own = {"inclusion": "available", "selected": True, "table-key-properties": keys}
        return {
            "tap_stream_id": self.entity.name,
            "stream": self.entity.name,
            "key_properties": keys,
            "schema": schema,
            "replication_method": "FULL_TABLE",
            "metadata": [*metadata, {"breadcrumb": [], "metadata": own}],
        }


REJECTED: Json = {
    "type": "object",
    "properties": {
        "file": {"type": ["string"]},
        "line": {"type": ["integer"]},
        "reason": {"type": ["string"]},
        "raw": {"type": ["string"]},
    },
}
"""JSON schema of a row that does not fit, whose key are its file and its first line."""


def discover(entity: Entity, config: Config, converter: Converter) -> Stream:
    """Find the files of an entity, check their headers, and find out the types of their columns.

    Raises:
        InputError: there is no file, or one does not fit.
    """
    files = tuple(find(entity.path, entity.members))
    opened = {file: split(Source(file, entity), entity, _HEADER, rows=config.infer_rows) for file in files}
    begin = opened[files[0]]
    if begin.kinds:
        columns = [*dict.fromkeys(name for one in opened.values() for name in one.columns)]
        entity = entity.spelt_as(columns)
        columns += [name for name in entity.columns if name not in columns]  # a key that comes later
    else:
        columns = begin.columns
        entity = entity.spelt_as(columns)
    _check_columns(columns, opened, entity, config)
    found: dict[str, types.Type] = dict.fromkeys(columns, types.STRING)
    if config.infer_types and begin.natives:
        found |= natives_of(begin.natives)
    elif config.infer_types and set(columns) - set(entity.columns):
        found |= _infer(entity, files, possible(columns, opened, entity), config.infer_rows, converter)
    found |= {key: types.exact(found[key]) for key in entity.keys}
    return Stream(entity, files, found | entity.columns, config.metadata)


def _check_columns(columns: t.Sequence[str], opened: Mapping[File, Opened], entity: Entity, config: Config) -> None:
    """Check that the files of an entity have the same columns, and what the settings say of these.

    Raises:
        InputError: they have not.
    """
    (first, begin), *_ = opened.items()
    for file, one in opened.items():
        if (one.is_rows, bool(one.kinds), bool(one.natives)) != (
            begin.is_rows,
            bool(begin.kinds),
            bool(begin.natives),
        ):
            raise InputError(f"is of another format than {first}: make it an entity of its own", file)
        if not begin.kinds:
            refuse_missing(columns, one, file, f"{first} has")
        if added := set(one.columns).difference(columns):
            what = f"the header has this column, which {first} has not"
            raise InputError(what, file, line=one.line, column=min(added))
        if config.metadata and (taken := METADATA.keys() & set(one.columns)):
            what = "the file has this column, and add_metadata_columns adds it"
            raise InputError(what, file, line=one.line, column=min(taken))
    for what, names in (("`columns` gives it a type, but it", entity.columns), ("the key", entity.keys)):
        for column in names:
            if column not in columns:
                where = f"is no column of the header ({', '.join(columns)})"
                raise InputError(f"{what} {where}", first, line=begin.line, column=column)


def possible(columns: t.Sequence[str], opened: Mapping[File, Opened], entity: Entity) -> dict[str, list[types.Type]]:
    """Return the types that come into question, by column, the narrowest first."""
    is_plain = entity.shape.notation() == formats.PLAIN
    delimiters = {one.dialect.delimiter for one in opened.values()} if is_plain else set()
    found = {column: candidates(entity, delimiters, key=column in entity.keys) for column in columns}
    if not next(iter(opened.values())).kinds:
        return found
    seen = {name: {kind for one in opened.values() for kind in one.kinds.get(name, ())} for name in columns}
    return {name: kinds_of(seen[name], those) for name, those in found.items()}


def chosen(stream: Json, entity: Entity, config: Config) -> Stream:
    """Return a stream as a catalog has it.

    Raises:
        InputError: there is no file.
        SettingsError: the catalog chooses no column, or leaves out a key.
    """
    marks = marks_of(stream)
    properties = {name: one for name, one in stream["schema"]["properties"].items() if name not in METADATA}
    entity = entity.spelt_as(properties)
    kept = {
        name: entity.columns.get(name) or _of_catalog(one, entity, key=name in entity.keys)
        for name, one in properties.items()
        if name in entity.keys or is_chosen(marks.get(("properties", name), {}))
    }
    if left_out := [key for key in entity.keys if key not in kept]:
        raise SettingsError(f"the catalog's stream {entity.name!r} lacks the column {left_out[0]}, which is a key")
    if not kept:
        raise SettingsError(f"the catalog's stream {entity.name!r} has no column that is selected")
    files = tuple(find(entity.path, entity.members))
    return Stream(entity, files, kept, config.metadata, frozenset(properties) - frozenset(kept))


def _of_catalog(schema: Json, entity: Entity, *, key: bool) -> types.Type:
    kind = formats.written(types.of_schema(schema), entity.shape.notation(key=key))
    return types.exact(kind) if key else kind


class Opened(t.NamedTuple):
    """A file of which the header was read."""

    header: list[str]
    """A name for each field of a row."""
    segments: Iterator[Segment]
    """All its rows."""
    dialect: Dialect
    line: int | None
    """Where the header stands, if the file has one."""
    unsent: t.Collection[str] = ()
    """Those of the header that are no names of columns."""
    is_rows: bool = False
    """Whether segments hold rows as texts, as those of JSON and of workbooks do."""
    kinds: Mapping[str, set[str]] = {}
    """Of a file of JSON: kinds of the values of each column."""
    natives: Mapping[str, Native] = {}
    """Of a parquet file: its columns."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [name for name in self.header if name not in self.unsent]

    def form(self, file: File, entity: Entity) -> Form:
        """How its rows are read; what they become is left to whoever sends them."""
        ends_empty = bool(self.unsent) and not entity.shape.unnamed_columns
        how: Json = {
            "ends_empty": ends_empty,
            "rejected": entity.rejected,
            "is_rows": self.is_rows,
            "natives": self.natives,
        }
        form = Form(file, self.dialect, tuple(self.header), entity.keys, {}, entity.shape)
        return dataclasses.replace(form, **how)


def split(
    source: Source,
    entity: Entity,
    first_bytes: int = FIRST,
    *,
    rows: int | None = None,
    columns: t.Sequence[str] = (),
    known: t.Collection[str] = (),
) -> Opened:
    """Return the header of a file, and all its rows.

    Args:
        source: the file.
        entity: how it is written.
        first_bytes: size of the first segment, for those who need no other.
        rows: of how many objects of JSON the keys are the columns, none for all, unless
        columns: are given.
        known: keys that objects of JSON may have beside them.

    Raises:
        InputError: the file cannot be read, or its header does not fit.
    """
    if entity.format and entity.format != "csv":
        return _opened_as(entity.format, source, entity, rows, columns, known)
    segments = source.segments(first_bytes)
    first, dialect, shape = next(segments), entity.dialect, entity.shape
    if entity.format is None and (kind := format_of(first.data[:_MARK])) != "csv":
        return _opened_as(kind, source, entity, rows, columns, known)
    quote = dialect.quote
    if not first.data and first.last and first.offset == 0 and not shape.skip_footer:
        raise InputError("the file is empty", source.path)
    if not shape.skip and (found := _SEPARATOR.match(first.data)) and found[2] != quote:
        first = first.without(found.end(), quote)
        if not entity.own_delimiter:
            dialect = dataclasses.replace(dialect, delimiter=found[2].decode())
    if not shape.header:
        return Opened(list(shape.names), itertools.chain([first], segments), dialect, None)
    while True:
        reader = Reader(source.path, dialect, shape, first)
        try:
            header = reader.header(entity.keys)
        except OpenEndError:
            first = first.joined(next(segments))
            continue
        rest = first.without(reader.size_of_header, quote)
        if not rest.data and not rest.last:  # the first row is a long one
            rest = rest.joined(next(segments))
        return Opened(header, itertools.chain([rest], segments), dialect, reader.header_line, reader.unsent)


def _opened_as(
    kind: str,
    source: Source,
    entity: Entity,
    rows: int | None,
    columns: t.Sequence[str],
    known: t.Collection[str],
) -> Opened:
    """As `split`, of a file of JSON or parquet."""
    refuse_settings(entity, kind, source.path)
    if kind == "json":
        kinds = {name: set[str]() for name in columns} or json_columns(source, entity, rows)
        segments = json_segments(source, entity, [*kinds], known)
        return Opened([*kinds], segments, entity.dialect, None, is_rows=True, kinds=kinds)
    if kind == "xlsx":
        sheet = Sheet(source.path, entity)
        source.drain()
        own = entity.spelt_as(sheet.header)
        for key in own.keys:
            if key not in sheet.header:
                what = f"the key is no column of the header ({', '.join(sheet.header)})"
                raise InputError(what, sheet.name, line=sheet.line, column=key)
        segments = row_segments(sheet.rows(), sheet.name, own, sheet.header)
        return Opened(sheet.header, segments, entity.dialect, sheet.line, is_rows=True)
    natives, number, size = parquet_columns(local(source.path), source.path)
    source.drain()
    return Opened([*natives], parquet_segments(number, size), entity.dialect, None, natives=natives)


def refuse_missing(wanted: t.Iterable[str], opened: Opened, file: File, where: str) -> None:
    """Check that a file has the columns it must have, in whatever order.

    Raises:
        InputError: it lacks one.
    """
    if missing := set(wanted).difference(opened.columns):
        where = f"the header lacks this column, which {where}"
        raise InputError(where, file, line=opened.line, column=min(missing))


def candidates(entity: Entity, delimiters: set[str], *, key: bool) -> list[types.Type]:
    """List the types that a column may be found to be of, the narrowest first, as the entity writes numbers."""
    kinds = types.candidates(";" if ";" in delimiters else ",", key=key)
    return [formats.written(kind, entity.shape.notation(key=key)) for kind in kinds]


def _infer(
    entity: Entity,
    files: tuple[File, ...],
    fitting: dict[str, list[types.Type]],
    rows: int | None,
    converter: Converter,
) -> dict[str, types.Type]:
    """Return the narrowest type of each column that all values of the samples fit; text where there is no value.

    Args:
        entity: how the files are written.
        files: the files.
        fitting: the types that come into question, by column.
        rows: how many rows of each file make a sample; none for all.
        converter: looks at values.
    """
    filled: set[str] = set()
    for file in files:
        opened = _sampled(file, entity, rows, [*fitting])
        form, segments = opened.form(file, entity), opened.segments
        for segment in segments:
            whole = segment
            while True:
                try:
                    fitting, now = converter.fits(whole, form, rows, fitting)
                    break
                except OpenEndError:
                    whole = whole.joined(next(segments))
            filled |= now
            if rows is not None:
                break
    found = {column: those[0] for column, those in fitting.items() if those and column in filled}
    for column, kind in found.items():
        if kind is types.GROUPED and column not in entity.columns:
            what = f"{files[0]}, column {column!r}: kept as text, since points before three digits may mark thousands"
            LOGGER.warning("%s; if they do not, set `columns: {%s: number}`", what, types.quoted(column))
    return {column: types.STRING if kind is types.GROUPED else kind for column, kind in found.items()}


def _sampled(file: File, entity: Entity, rows: int | None, columns: t.Sequence[str]) -> Opened:
    """As `split`; the first segment is as small as its lines let it be, if it surely holds so many rows."""
    if rows is None:
        return split(Source(file, entity), entity, columns=columns)
    opened = split(Source(file, entity), entity, _HEADER, columns=columns)
    if opened.is_rows:
        return opened
    first = next(opened.segments)
    size = rows * len(first.data) * 5 // 4 // max(1, line_ends(first.data))
    if not first.last and size < _SAMPLE:
        opened = split(Source(file, entity), entity, max(size, _HEADER))
        first = next(opened.segments)
    if first.last or number_of_rows(first, opened.form(file, entity)) >= rows:
        return opened._replace(segments=itertools.chain([first], opened.segments))
    return split(Source(file, entity), entity, _SAMPLE)
