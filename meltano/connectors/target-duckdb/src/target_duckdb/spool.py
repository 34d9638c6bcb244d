"""Lines of records that wait for the next transaction, in a file per stream, so that memory stays flat."""

from __future__ import annotations

import typing as t
from bisect import bisect_right

if t.TYPE_CHECKING:
    from pathlib import Path


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
        """Return the line of the input on which a row stood, counted from 0."""
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
