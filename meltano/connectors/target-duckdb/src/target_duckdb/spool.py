"""Lines of records that wait for the next transaction, in a file per stream, so that memory stays flat."""

from __future__ import annotations

import json
import re
import typing as t
from bisect import bisect_right
from decimal import Decimal

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from target_duckdb.schema import Column

_LONG_NUMBER = re.compile(rb":\s*-?[0-9][0-9.eE+-]{15,}")
"""Shorter ones survive the way through DOUBLE unchanged."""


class Spool:
    """Lines of one stream, and where in the input each one stood."""

    def __init__(self, path: Path, transform: Callable[[bytes], bytes] | None = None) -> None:
        self.path = path
        self._transform = transform
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
        if self._transform:
            block = self._transform(block)
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


def exact_decimals(columns: Sequence[Column], *, member: str = "record") -> Callable[[bytes], bytes] | None:
    """What to do to lines so that DECIMAL columns get every digit, where something is to be done.

    The JSON reader makes a DOUBLE of a number with a fraction, which holds 15 digits. A text it leaves alone, so long
    numbers are put into quotes.

    Args:
        columns: those of the stream.
        member: what holds the record in each line; empty if the line is the record.
    """
    paths = [column.path for column in columns if column.type.startswith("DECIMAL")]
    if not paths:
        return None
    if all(len(column.path) == 1 and column.type != "JSON" for column in columns):
        forms = {json.dumps(path[0], ensure_ascii=only_ascii) for path in paths for only_ascii in (False, True)}
        keys = b"|".join(re.escape(form.encode()) for form in forms)
        number = re.compile(rb"(?<!\\)(" + keys + rb")(\s*:\s*)(-?[0-9][0-9.eE+-]{15,})")
        return lambda block: number.sub(rb'\1\2"\3"', block)

    def rewrite(block: bytes) -> bytes:
        if not _LONG_NUMBER.search(block):
            return block
        return b"\n".join(_quoted(line, paths, member) if line else line for line in block.split(b"\n"))

    return rewrite


def _quoted(line: bytes, paths: Sequence[Sequence[str]], member: str) -> bytes:
    """One line with its decimals as texts; a nested value may hold the same key and keeps its numbers."""
    try:
        message = json.loads(line, parse_float=Decimal)
    except ValueError:
        return line  # DuckDB refuses it, with its place
    record = message.get(member) if member and isinstance(message, dict) else message
    for path in paths:
        node = record
        for key in path[:-1]:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and isinstance(node.get(path[-1]), (int, Decimal)):
            node[path[-1]] = str(node[path[-1]])
    return json.dumps(message, default=float).encode()
