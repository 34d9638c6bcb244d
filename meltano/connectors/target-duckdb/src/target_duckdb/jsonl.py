"""Files of JSON lines: how DuckDB reads them, and how lines are rewritten whose numbers it would change."""

# ruff: noqa: S608 - names and values of the queries are quoted by sql.name and sql.literal

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass, replace
from decimal import Decimal

from target_duckdb import messages, sql
from target_duckdb.schema import members, struct
from target_duckdb.stream import EXTRACTED_AT, VERSION

if t.TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import duckdb

    from target_duckdb.schema import Column

_WIDE = 250
"""Columns from which on the members of a record cost more, each for itself, than to copy all records to a file."""
_MARK = "\x01"
_HEAD = ("type", "stream")
_NAMED_ONCE = " where type is not null and stream is not null"
"""Lets DuckDB read what a line begins with, so that it refuses one that says later that it is of another stream."""
_LONG_NUMBER = rb"-?[0-9][0-9.eE+-]{15,}"
"""Shorter ones survive the way through DOUBLE unchanged, but for how they are written."""
_NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9.eE+-])"
_LONG_FRACTION = re.compile(
    rb"\.(?:(?=[0-9]{8})|(?<=[0-9]{8}\.))(?:[0-9]{15}|"
    + rb"|".join(rb"(?<=[0-9]{%d}\.)[0-9]{%d}" % (one, 16 - one) for one in range(2, 16))
    + rb")"
)
"""The point of a number of 16 digits or more: a pattern that begins with a letter is searched for faster."""
_EXPONENTS = tuple(
    map(re.compile, (rb"-(?<=[0-9][eE]-)[0-9]{3}(?![0-9a-fA-F-])", rb"e(?<=[0-9]{16}.)", rb"E(?<=[0-9]{16}.)"))
)
"""The same of one that may be too small for a DOUBLE, or has so many digits without a point."""
_ANY = r"[0-9.]+(?:[eE][+-]?[0-9]+)?"
_ANY_NUMBERS, _LONG_NUMBERS = re.compile(_ANY), re.compile(r"[0-9][0-9.eE+-]{15,}")
_IS_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BLANKS = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")|\s+')
_NULL_LINE = re.compile(rb"null[ \t\r]*(?:\n|\Z)")
_KEYS = re.compile(rb'"((?:[^"\\]++|\\.)*+)"\s*:')
_TOKEN = rb'"[^"\\]*(?:\\.[^"\\]*)*"(?:\s*:)?|[{}\[\]]|'


@dataclass
class Reader:
    """How a file of JSON lines becomes columns."""

    columns: Sequence[Column]
    whole: str
    """The member of each line that holds the record; empty if the line is the record."""
    metadata: bool = False
    versions: bool = False
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
        """Return the statement that reads the file into a temporary table."""
        types = {column: sql.json_type(column.read_as, exact=exact) for column in self.columns}
        read = members(self.columns, types)
        where = ""
        if self.whole:
            read = {self.whole: struct(self.columns, types)} if self.columns else {}
            read, where = read | dict.fromkeys(_HEAD, "VARCHAR"), _NAMED_ONCE
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
        file = sql.read_json(str(path), read, object_size)
        name = table.removeprefix("temp.")
        return f"create or replace temp table {name} as select {', '.join(values)} from {file}{where}"

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
            reader = replace(self, whole="", mark=_MARK)
            connection.execute(reader.create(table, flat, size, exact=exact))
        finally:
            flat.unlink(missing_ok=True)

    def _flatten(self, path: Path, flat: Path, object_size: int) -> str:
        """Return the statement that writes a file with a record a line, and what is beside it in the message."""
        beside = (["time_extracted"] if self.metadata else []) + (["version"] if self.versions else [])
        members = [f"""'{json.dumps(_MARK + one)}:' || coalesce({one}, 'null')""" for one in beside]
        record = self.whole
        if members:
            # Before the record's own, of which there may be none.
            first = " || ',' || ".join(members)
            record = f"'{{' || {first} || if({self.whole} = '{{}}', '}}', ',' || {self.whole}[2:])"
        file = sql.read_json(str(path), dict.fromkeys((self.whole, *beside, *_HEAD), "JSON"), object_size)
        plain = "format csv, header false, quote '', escape '', delimiter '\x01'"
        return f"copy (select {record} from {file}{_NAMED_ONCE}) to {sql.literal(str(flat))} ({plain})"


def blocks(path: Path) -> Iterator[bytes]:
    """Read a file in blocks of whole lines."""
    with path.open("rb") as lines:
        yield from messages.blocks(lines)


def first_null(path: Path) -> int | None:
    """Find the first line that is `null`, counted from 0: DuckDB makes a row without a value of it."""
    before = 0
    for block in blocks(path):
        if _NULL_LINE.search(block):
            for number, line in enumerate(block.split(b"\n"), before):
                if line.strip() == b"null":
                    return number
        before += block.count(b"\n")
    return None


def rewrite(source: Path, goal: Path, transform: Callable[[bytes], bytes]) -> None:
    """Write a file of which each block of lines is transformed."""
    with goal.open("wb") as changed:
        changed.writelines(map(transform, blocks(source)))


def exact_numbers(columns: Sequence[Column], *, member: str) -> Callable[[bytes], bytes] | None:
    """Return what to do to lines so that numbers in columns show every digit, where something is to be done.

    The JSON reader makes a DOUBLE of a number with a fraction, which holds 15 digits. A text it leaves alone, so long
    numbers for DECIMAL and DOUBLE are put into quotes, and all numbers for texts.

    Args:
        columns: those of the stream.
        member: what holds the record in each line; empty if the line is the record.
    """
    texts = [column.path for column in columns if column.type == "VARCHAR"]
    long = [column.path for column in columns if column.type.startswith(("DECIMAL", "DOUBLE"))]
    if not (paths := texts + long):
        return None
    token = re.compile(_TOKEN + (_NUMBER if texts else _LONG_NUMBER))
    forms = ((texts, _NUMBER), (long, _LONG_NUMBER))
    known = (_keys(chosen) + rb"(?=" + form + rb")" for chosen, form in forms if chosen)
    number = re.compile(rb"(" + rb"|".join(known) + rb")(-?[0-9][0-9.eE+-]*)")
    flat = all(len(path) == 1 for path in paths)
    numbers = {(*([member] if member else []), *path) for path in paths}
    is_odd = _odd_keys(columns)

    def rewrite(block: bytes) -> bytes:
        odd = is_odd(block)
        if not odd and not number.search(block):
            return block
        # Where braces are those of records and messages alone, no object within a record may have the same key.
        own = 2 * block.count(b"\n") if member else block.count(b"\n{") + block.startswith(b"{")
        if not odd and flat and block.count(b"{") == own:
            return number.sub(rb'\1"\2"', block)
        return b"\n".join(
            _quoted(line, numbers, token) if odd or number.search(line) else line for line in block.split(b"\n")
        )

    return rewrite


def number_in_text(columns: Sequence[Column]) -> Callable[[bytes], bool]:
    """Return whether lines seem to hold a number, of which the JSON reader writes another spelling, for texts."""
    return _value_of_text(columns, rb"-?[0-9]+[.eE]")


def nested_would_change(columns: Sequence[Column]) -> Callable[[bytes], bool]:
    """Return whether lines seem to hold an object or array of which the JSON reader writes other numbers."""
    if any(column.type == "JSON" for column in columns):
        return would_change
    has_nested = _value_of_text(columns, rb"[\[{]")
    return lambda block: has_nested(block) and would_change(block)


def _value_of_text(columns: Sequence[Column], form: bytes) -> Callable[[bytes], bool]:
    """Return whether lines seem to hold a value that begins so for a column of texts."""
    texts = [column.path for column in columns if column.type == "VARCHAR"]
    if not texts:
        return lambda _: False
    value, is_odd = re.compile(_keys(texts) + form), _odd_keys(columns)
    return lambda block: value.search(block) is not None or is_odd(block)


def _odd_keys(columns: Sequence[Column]) -> Callable[[bytes], bool]:
    """Return whether lines have keys with escapes that may spell those of columns."""
    usual = {spelling[1:-1] for column in columns for key in column.path for spelling in _spellings(key)}
    return lambda block: b"\\u" in block and any(b"\\u" in key and key not in usual for key in _KEYS.findall(block))


def _keys(paths: Iterable[tuple[str, ...]]) -> bytes:
    """Return a pattern of the last keys of paths, with the colon behind them."""
    # The key first, then what must not stand before it: a pattern that begins with a letter is searched for faster.
    spellings = sorted({re.escape(name[1:]) for path in paths for name in _spellings(path[-1])})
    keys = b"|".join(rb'%b(?<!\\"%b)' % (name, name) for name in spellings)
    return rb'"(?:' + keys + rb")\s*:\s*"


def nested_numbers(columns: Sequence[Column], *, member: str) -> Callable[[bytes], bytes]:
    """Return what to do to lines so that objects and arrays keep the digits of their numbers.

    The JSON reader writes fractions anew, with 17 digits. A value in which one would change becomes a text that
    begins with `sql.MARK`; so does such a number for a column of JSON.

    Args:
        columns: those of the stream.
        member: what holds the record in each line; empty if the line is the record.
    """
    token = re.compile(_TOKEN + rb"-?" + _ANY.encode())
    values: dict[tuple[str | None, ...], bool] = {
        (*([member] if member else []), *column.path): column.type == "VARCHAR"
        for column in columns
        if column.type in {"JSON", "VARCHAR"}
    }

    def rewrite(block: bytes) -> bytes:
        if not would_change(block):
            return block
        return b"\n".join(_marked(line, values, token) if would_change(line) else line for line in block.split(b"\n"))

    return rewrite


def would_change(text: bytes) -> bool:
    """Whether a number with a fraction or an exponent seems to be another one as a DOUBLE.

    Those beyond the DOUBLEs, and all integers, stay as they are written.
    """
    has_exponent = any(one.search(text) for one in _EXPONENTS)
    if not has_exponent and not _LONG_FRACTION.search(text):
        return False
    found = (_ANY_NUMBERS if has_exponent else _LONG_NUMBERS).findall(text.decode("latin-1"))
    try:
        doubles = list(map(repr, map(float, found)))
    except ValueError:  # such as 1.2.3 in a text
        doubles = [repr(float(one)) if _IS_NUMBER.fullmatch(one) else one for one in found]
    others = ((one, double) for one, double in zip(found, doubles, strict=True) if one != double != "inf")
    return any(not one.isdigit() and Decimal(one) != Decimal(double) for one, double in others)


def _marked(line: bytes, values: Mapping[tuple[str | None, ...], bool], token_form: re.Pattern[bytes]) -> bytes:
    """One line in which values are texts that JSON would change.

    Args:
        line: an object.
        values: the keys that lead to them, and whether a number there stays as it is anyway.
        token_form: the texts, brackets and numbers of a line.
    """
    pieces, copied = [], 0
    keys: list[str | None] = []
    begun: tuple[int, int] | None = None  # where the value stands that is looked at, and how deep
    for found in token_form.finditer(line):
        token = found[0]
        if token in b"{[":
            if begun is None and tuple(keys) in values:
                begun = found.start(), len(keys)
            keys.append(None)
            continue
        start = found.start()
        if token in b"}]":
            del keys[-1:]
            if begun is None or begun[1] != len(keys):
                continue
            start, begun = begun[0], None
        elif token.endswith(b":"):
            try:
                keys[-1:] = [json.loads(token[:-1])]
            except ValueError:
                return line  # DuckDB refuses it, with its place
            continue
        elif begun or token.startswith(b'"') or values.get(tuple(keys), True):
            continue
        if would_change(value := line[start : found.end()]):
            text = sql.MARK + _BLANKS.sub(rb"\1", value).decode(errors="surrogateescape")
            escaped = json.dumps(text, ensure_ascii=False).encode(errors="surrogateescape")
            pieces += [line[copied:start], escaped]
            copied = found.end()
    return b"".join([*pieces, line[copied:]])


def _spellings(key: str) -> set[bytes]:
    """How JSON may spell a key, but for letters that nobody escapes."""
    escaped = json.dumps(key)
    upper = re.sub(r"\\u[0-9a-f]{4}", lambda found: r"\u" + found[0][2:].upper(), escaped)
    forms = {escaped, upper, json.dumps(key, ensure_ascii=False)}
    return {one.encode() for form in forms for one in (form, form.replace("/", r"\/"))}


def _quoted(line: bytes, numbers: Container[tuple[str | None, ...]], token_form: re.Pattern[bytes]) -> bytes:
    """One line with its numbers as texts; another value may hold the same key and keeps its own.

    Args:
        line: an object.
        numbers: the keys that lead to them.
        token_form: the texts, brackets and numbers of a line.
    """
    pieces, copied = [], 0
    keys: list[str | None] = []  # of the objects around; none for an array
    for found in token_form.finditer(line):
        token = found[0]
        if token in b"{[":
            keys.append(None)
        elif token in b"}]":
            del keys[-1:]
        elif token.endswith(b":"):
            try:
                keys[-1:] = [json.loads(token[:-1])]
            except ValueError:
                return line  # DuckDB refuses it, with its place
        elif not token.endswith(b'"') and tuple(keys) in numbers:
            pieces += [line[copied : found.start()], b'"', token, b'"']
            copied = found.end()
    return b"".join([*pieces, line[copied:]])
