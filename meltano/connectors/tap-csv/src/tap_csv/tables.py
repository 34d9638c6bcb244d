"""Files whose rows are no lines of text: JSON, a row an object, and parquet, whose types are kept."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import re
import typing as t
from dataclasses import dataclass, replace
from decimal import Decimal

import duckdb
from elt_singer.errors import one_line
from elt_singer.parquet import cut

from tap_csv import sql, types
from tap_csv.config import Dialect
from tap_csv.errors import InputError
from tap_csv.source import SEGMENT, Segment, undecodable

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tap_csv.config import Entity
    from tap_csv.files import File
    from tap_csv.source import Source

_BEGINS_JSON = re.compile(rb"\s*(?:\[\s*(?:\{|\])|\{\s*[\"}])")
_PARQUET = b"PAR1"
_BLANK = re.compile(r"[ \t\r\n]*")
_NEAR = 20
"""Characters before the end of what was read in which an error may mean no more than that it ends."""
_MEANT = {"null_values", "max_field_bytes"}
"""What of the shape of a file has a meaning in any format."""
_ROWS_AT_LEAST = 2048


def format_of(begin: bytes) -> str:
    """Return the format of a file that begins so."""
    if begin.startswith(_PARQUET):
        return "parquet"
    if begin.startswith(b"PK\3\4"):
        return "xlsx"
    return "json" if _BEGINS_JSON.match(begin) else "csv"


def refuse_settings(entity: Entity, kind: str, file: File) -> None:
    """Check that no setting is given that only a CSV file can have.

    Raises:
        InputError: there is one.
    """
    for name in [*entity.shape.given(), *(["dialect"] if entity.dialect != Dialect() else [])]:
        if name not in _MEANT and not (kind == "xlsx" and name == "unnamed_columns"):
            what = "delimiter, quotechar and their like mean" if name == "dialect" else f"`{name}` means"
            raise InputError(f"is a {kind} file, in which {what} nothing: leave that out", file)


# JSON


class _Number(str):
    """A number of JSON, as it is written."""

    __slots__ = ()


class _TwiceError(ValueError):
    """An object names a key twice, or a value is none of JSON."""


def _object(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError("an object names a key twice")
    return found


def _refused(word: str) -> t.NoReturn:
    raise _TwiceError(f"{word} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_Number, parse_int=_Number, parse_constant=_refused
)


def _objects(chunks: Iterable[bytes], file: File, most: int) -> Iterator[tuple[int, dict[str, t.Any]]]:
    """Each object of a file, and the line on which it begins.

    Args:
        chunks: the file, an array of objects or one object after the other.
        file: for messages.
        most: characters of one object.

    Raises:
        InputError: it is no JSON.
    """
    texts = _texts(chunks, file)
    text, place, line, state = next(texts, ""), 0, 1, "begin"
    while True:
        blank = _BLANK.match(text, place)
        assert blank
        line += text.count("\n", place, blank.end())
        place = blank.end()
        if place == len(text):
            if (more := next(texts, None)) is None:
                break
            text, place = more, 0
        elif after := _MARKS.get((state, text[place])):
            state, place = after, place + 1
        elif state in _MISPLACED:
            raise InputError(_MISPLACED[state], file, line=line)
        elif found := _decoded(text, place, file, line, is_all=len(text) - place > most):
            row, end = found
            yield line, row
            line += text.count("\n", place, end)
            place, state = end, "comma" if state in {"first", "value"} else "lines"
        else:
            more = next(texts, None)
            most = 0 if more is None else most
            text, place = text[place:] + (more or ""), 0
    if state in {"first", "comma", "value"}:
        raise InputError("is cut off: the array lacks its end", file, line=line)


_MARKS = {("begin", "["): "first", ("first", "]"): "end", ("comma", "]"): "end", ("comma", ","): "value"}
"""What follows marks of an array; `lines` is one object after the other."""
_MISPLACED = {
    "end": "something stands behind the end of the array",
    "comma": "is no JSON: a comma is missing between the elements of the array",
}


def _decoded(text: str, place: int, file: File, line: int, *, is_all: bool) -> tuple[dict[str, t.Any], int] | None:
    """Return the object that begins at a place, and where it ends; none if it may go on behind the text."""
    try:
        found, end = _DECODER.raw_decode(text, place)
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated") or error.pos > len(text) - _NEAR
        if is_cut and not is_all:
            return None
        what = "is no JSON, or cut off" if is_cut else "is no JSON"
        raise InputError(f"{what}: {error.msg}", file, line=line + text.count("\n", place, error.pos)) from None
    except (_TwiceError, RecursionError) as error:
        raise InputError(f"is no JSON that is read here: {error}", file, line=line) from None
    if not isinstance(found, dict):
        raise InputError("each row must be an object of JSON", file, line=line)
    return found, end


def _texts(chunks: Iterable[bytes], file: File) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read, line = 0, 1
    try:
        for chunk in chunks:
            read += len(chunk)
            text = decoder.decode(chunk)
            yield text
            line += text.count("\n")
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise undecodable(error, file, "utf-8", read, line) from None


def _text(value: t.Any) -> str | None:  # noqa: ANN401 - what JSON holds
    """Return a value as text; what is nested, as JSON of the same digits."""
    if isinstance(value, _Number):
        return plain_number(value) if "e" in value or "E" in value else str(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return _nested(value)


def plain_number(number: str) -> str:
    """Return a number without its exponent if it is short then, else as the same DOUBLE is written."""
    exact = Decimal(number)
    if -20 < exact.adjusted() < 38:
        return format(exact, "f")
    near = repr(float(number))
    return near if near not in {"inf", "-inf"} and Decimal(near) == exact else number


def _nested(value: t.Any) -> str:  # noqa: ANN401 - what JSON holds
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_nested(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_nested, value))}]"
    return str(value) if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)


def json_columns(source: Source, entity: Entity, rows: int | None) -> dict[str, set[str]]:
    """Names of the columns of the first rows, and what kinds of values each has there.

    Raises:
        InputError: the file is no JSON, holds no row, or two names differ only in case.
    """
    found: dict[str, set[str]] = {}
    for _, one in itertools.islice(_objects(source.text(), source.path, 4 * entity.shape.max_field_bytes), rows):
        for name, value in one.items():
            kinds = found.setdefault(name, set())
            if value is not None:
                kinds.add(type(value).__name__)
    if not found:
        raise InputError("the file holds no object with a key", source.path)
    if any(not name.strip() for name in found):
        raise InputError("an object has a key without a name, which no column can have", source.path)
    spelt: dict[str, str] = {}
    for name in found:
        if spelt.setdefault(name.lower(), name) != name:
            raise InputError("another column's name differs only in case", source.path, column=name)
    return found


def kinds_of(kinds: set[str], candidates: Sequence[types.Type]) -> list[types.Type]:
    """Those of the types that values of JSON of these kinds may be taken for: texts for times only."""
    names = {
        frozenset({"_Number"}): {"integer", "number", "decimal"},
        frozenset({"bool"}): {"boolean"},
        frozenset({"str"}): {"date", "time", "date-time"},
    }.get(frozenset(kinds), set())
    return [kind for kind in candidates if kind.name.partition("(")[0] in names]


def json_segments(
    source: Source, entity: Entity, columns: Sequence[str], known: t.Container[str]
) -> Iterator[Segment]:
    """Return the rows, as lines that DuckDB reads: a line number, and the texts of the columns.

    Args:
        source: the file.
        entity: how it is written.
        columns: what is taken of each object.
        known: further keys that may be there, and are left out.

    Raises:
        InputError: the file is no JSON, or a row does not fit.
    """
    wanted = frozenset(columns)

    def rows() -> Iterator[tuple[int, list[str | None]]]:
        for line, row in _objects(source.text(), source.path, 4 * entity.shape.max_field_bytes):
            if not row.keys() <= wanted and (added := [one for one in row if one not in wanted and one not in known]):
                what = "the sample has no such key: `infer_rows: -1` looks at all rows, `columns` gives it a type"
                raise InputError(what, source.path, line=line, column=added[0])
            yield line, [_text(row.get(name)) for name in columns]

    return row_segments(rows(), source.path, entity, columns)


def row_segments(
    rows: Iterable[tuple[int, list[str | None]]], file: File | str, entity: Entity, columns: Sequence[str]
) -> Iterator[Segment]:
    """Rows, as lines that DuckDB reads: a line number, and the texts of the columns.

    Args:
        rows: line numbers and texts.
        file: for messages.
        entity: how they are written.
        columns: their names.

    Raises:
        InputError: a row does not fit.
    """
    nulls, most = frozenset(entity.shape.null_values), entity.shape.max_field_bytes
    keys = [(key, columns.index(key)) for key in entity.keys]
    lines: list[str] = []
    size, first = 0, 1
    for line, row in rows:
        texts = [None if one in nulls else one for one in row] if nulls else row
        text = json.dumps({"line": line, "row": texts}, ensure_ascii=False)
        for name, one in zip(columns, texts, strict=True) if len(text) * 4 > most or "\\u0000" in text else ():
            if one and "\0" in one:
                raise InputError("a value holds a NUL", file, line=line, column=name)
            if one and len(one.encode(errors="replace")) > most:
                raise InputError(f"a value of more than {most:,} bytes", file, line=line, column=name)
        if empty := [key for key, place in keys if not texts[place]]:
            raise InputError("a key must not be empty", file, line=line, column=empty[0])
        lines.append(text)
        size += len(text)
        if size > SEGMENT // 3:
            yield _packed(lines, first, file, last=False)
            lines, size, first = [], 0, line + 1
    yield _packed(lines, first, file, last=True)


def _packed(lines: list[str], first: int, file: File | str, *, last: bool) -> Segment:
    try:
        data = "\n".join([*lines, ""]).encode()
    except UnicodeEncodeError:
        raise InputError("holds half of a surrogate pair, which is no letter", file, line=first) from None
    return Segment(data, first, 0, last=last, quotes=0)


# Parquet


@dataclass(frozen=True)
class Native:
    """A column of a parquet file, as DuckDB reads it.

    Expressions stand for a value `{v}` that is no null.
    """

    type: types.Type
    """What it becomes, unless the settings say otherwise."""
    expression: str
    fits: str = "true"
    text: str = ""
    """What it is as text, if not the text of the expression."""
    cut: str = ""
    """What to do where DuckDB would not read all its digits."""

    def value(self, column: str, kind: types.Type) -> str:
        """Return the expression that makes a value of that type, and fails where it does not fit."""
        name = sql.name(column)
        if not self._is(kind):
            return kind.value(self._text(name), text=True)
        if self.fits == "true":
            return self.expression.format(v=name)
        made, fits = self.expression.format(v=name), self.fits.format(v=name)
        refuse = f"error('conversion error')::{kind.sql}"
        return f"case when {name} is null then null when {fits} then {made} else {refuse} end"

    def fails(self, column: str, kind: types.Type) -> str:
        """Whether a value is none of that type."""
        name = sql.name(column)
        if not self._is(kind):
            return kind.fails(self._text(name))
        return f"({name} is not null and not coalesce({self.fits.format(v=name)}, false))"

    def _is(self, kind: types.Type) -> bool:
        return kind.sql == self.type.sql

    def _text(self, name: str) -> str:
        return (self.text or f"({self.expression})::VARCHAR").format(v=name)


_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_LARGE = {"UBIGINT", "HUGEINT", "UHUGEINT"}
_STAMPS = {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP WITH TIME ZONE"}
_STAMP = "make_timestamp(epoch_us({v}))"
_YEARS = "isfinite({v}) and year({v}) between 1 and 9999"
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


_NATIVES = {
    **dict.fromkeys(_WHOLE, Native(types.INTEGER, "{v}::BIGINT")),
    **dict.fromkeys(_LARGE, Native(types.HUGE, "{v}::DECIMAL(38,0)", "try_cast({v} as DECIMAL(38,0)) is not null")),
    **dict.fromkeys(
        ("FLOAT", "DOUBLE"),
        Native(types.NUMBER, "{v}::DOUBLE", "isfinite({v})", sql.text_of_double("{v}::DOUBLE")),
    ),
    **dict.fromkeys(_STAMPS, Native(types.DATE_TIME, _STAMP, _YEARS)),
    "TIMESTAMP_NS": Native(types.DATE_TIME, _STAMP, f"{_YEARS} and epoch_ns({{v}}) % 1000 = 0", "{v}::VARCHAR"),
    "BOOLEAN": Native(types.BOOLEAN, "{v}"),
    "DATE": Native(types.DATE, "{v}", _YEARS),
    "TIME": Native(types.TIME, "{v}"),
    "BLOB": Native(types.STRING, "to_base64({v})"),
}


def native(kind: str) -> Native:
    """How a column of a type of DuckDB is sent: exactly, and as text if no type of ours holds it."""
    if found := _DECIMAL.fullmatch(kind):
        with contextlib.suppress(ValueError):
            return Native(types.decimal(int(found[1]), int(found[2]), strict=True), "{v}")
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        nested = sql.to_json("\0", kind).replace("{", "{{").replace("}", "}}").replace("\0", "{v}")
        return Native(types.STRING, f"{nested}::VARCHAR")
    return _NATIVES.get(kind) or Native(types.STRING, "{v}::VARCHAR")


def parquet_columns(path: Path, file: File) -> tuple[dict[str, Native], int, int]:
    """Columns of a parquet file, how many rows it has, and how many of them make a segment.

    Raises:
        InputError: it is damaged, or two names differ only in case.
    """
    with duckdb.connect(config={"threads": 1}) as engine:
        try:
            described = engine.execute(f"describe from {_table(path)}").fetchall()
            digits = cut(engine, path, {name: kind for name, kind, *_ in described})
            query = "select sum(row_group_num_rows), sum(total_uncompressed_size) from parquet_metadata(?)"
            counted = engine.execute(f"{query} where column_id = 0", [str(path)]).fetchone()
            sizes = engine.execute("select sum(total_uncompressed_size) from parquet_metadata(?)", [str(path)])
            size = sizes.fetchone()
        except duckdb.Error as error:
            raise InputError(f"is a damaged parquet file: {one_line(error)}", file) from None
    rows, total = int((counted or (0,))[0] or 0), int((size or (0,))[0] or 0)
    columns = {name: replace(native(kind), cut=digits.get(name, "")) for name, kind, *_ in described if name != _ROW}
    spelt = {name.lower() for name in columns}
    if len(spelt) < len(columns):
        raise InputError("two columns' names differ only in case", file)
    return columns, rows, max(_ROWS_AT_LEAST, rows * SEGMENT // max(1, total))


_ROW = "file_row_number"


def _table(path: Path) -> str:
    return f"read_parquet({sql.path(path)}, {_ROW} = true, hive_partitioning = false)"


def parquet_segments(rows: int, size: int) -> Iterator[Segment]:
    """Ranges of rows: `line` is the number of the first one, from 1, `offset` how many there are."""
    for first in range(0, rows, size):
        count = min(size, rows - first)
        yield Segment(b"", first + 1, count, last=first + count == rows, quotes=0)


def range_of(segment: Segment, path: Path) -> str:
    """Return a table of the rows of a segment, with `line`."""
    last = segment.line - 1 + segment.offset
    which = f"{_ROW} >= {segment.line - 1} and {_ROW} < {last}"
    return f"(select *, {_ROW} + 1 as __line from {_table(path)} where {which})"  # noqa: S608 - quoted by sql.path


def natives_of(columns: Mapping[str, Native]) -> dict[str, types.Type]:
    """Return the types of the columns."""
    return {name: one.type for name, one in columns.items()}
