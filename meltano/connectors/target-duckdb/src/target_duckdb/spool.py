"""Lines of records that wait for the next transaction, in a file per stream, so that memory stays flat."""

from __future__ import annotations

import json
import re
import typing as t
from bisect import bisect_right
from decimal import Decimal

from target_duckdb import sql

if t.TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from pathlib import Path

    from target_duckdb.schema import Column

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
_TOKEN = rb'"[^"\\]*(?:\\.[^"\\]*)*"(?:\s*:)?|[{}\[\]]|'


class Spool:
    """Lines of one stream, and where in the input each one stood."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: t.BinaryIO | None = None
        self._forget()

    def _forget(self) -> None:
        self.rows = self.longest = 0
        self._run_rows: list[int] = []
        self._run_lines: list[int] = []
        self._next_line = -1

    def add(self, block: bytes, line: int, rows: int) -> None:
        """Add whole lines that followed one another in the input.

        Args:
            block: the lines, each with its end.
            line: number of the first of them.
            rows: how many there are.
        """
        if line != self._next_line:
            self._run_rows.append(self.rows)
            self._run_lines.append(line)
        self._next_line = line + rows
        if self._file is None:  # only streams with records that wait have a file: there may be hundreds of streams
            self._file = self.path.open("wb", buffering=1 << 18)
        self._file.write(block)
        self.rows += rows
        self.longest = max(self.longest, len(block))

    def line(self, row: int) -> int:
        """The line of the input on which a row stood, counted from 0."""
        run = bisect_right(self._run_rows, row) - 1
        return self._run_lines[run] + row - self._run_rows[run]

    def ready(self) -> None:
        """Let others read the file."""
        if self._file is not None:
            self._file.flush()

    def clear(self) -> None:
        """Remove the file; begin anew."""
        if self._file is not None:
            self._file.close()
            self.path.unlink(missing_ok=True)
            self._file = None
        self._forget()


def exact_numbers(columns: Sequence[Column], *, member: str) -> Callable[[bytes], bytes] | None:
    """What to do to lines so that numbers in columns show every digit, where something is to be done.

    The JSON reader makes a DOUBLE of a number with a fraction, which holds 15 digits. A text it leaves alone, so long
    numbers for DECIMAL and DOUBLE are put into quotes, and all numbers where some are for a column of texts.

    Args:
        columns: those of the stream.
        member: what holds the record in each line; empty if the line is the record.
    """
    chosen = [column for column in columns if column.may_be_number or column.type.startswith(("DECIMAL", "DOUBLE"))]
    if not chosen:
        return None
    paths = [column.path for column in chosen]
    form = _NUMBER if any(column.may_be_number for column in chosen) else _LONG_NUMBER
    token = re.compile(_TOKEN + form)
    # The key first, then what must not stand before it: a pattern that begins with a letter is searched for faster.
    spellings = sorted({re.escape(name[1:]) for path in paths for name in _spellings(path[-1])})
    keys = b"|".join(rb'%b(?<!\\"%b)' % (name, name) for name in spellings)
    number = re.compile(rb'("(?:' + keys + rb"))(\s*:\s*)(" + form + rb")")
    flat = all(len(path) == 1 for path in paths)
    numbers = {(*([member] if member else []), *path) for path in paths}

    def rewrite(block: bytes) -> bytes:
        if not number.search(block):
            return block
        # Where braces are those of records and messages alone, no object within a record may have the same key.
        own = 2 * block.count(b"\n") if member else block.count(b"\n{") + block.startswith(b"{")
        if flat and block.count(b"{") == own:
            return number.sub(rb'\1\2"\3"', block)
        return b"\n".join(
            _quoted(line, numbers, token) if number.search(line) else line for line in block.split(b"\n")
        )

    return rewrite


def nested_numbers(columns: Sequence[Column], *, member: str) -> Callable[[bytes], bytes] | None:
    """What to do to lines so that JSON keeps the digits of its numbers, where there are columns of JSON.

    The JSON reader writes fractions anew, with 17 digits. A value in which one would change becomes a text that
    begins with `sql.MARK`; so does such a number for a column of texts.

    Args:
        columns: those of the stream.
        member: what holds the record in each line; empty if the line is the record.
    """
    if not any(column.type == "JSON" for column in columns):
        return None
    token = re.compile(_TOKEN + rb"-?" + _ANY.encode())
    chosen = [column for column in columns if column.type in {"JSON", "VARCHAR"}]
    values: dict[tuple[str | None, ...], bool] = {
        (*([member] if member else []), *column.path): column.may_be_number for column in chosen
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
