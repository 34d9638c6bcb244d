"""The bytes of one file as UTF-8, cut at ends of rows into segments that are worked on at the same time."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import itertools
import re
import typing as t
from dataclasses import dataclass
from pathlib import Path

from tap_csv.config import MAX_FIELD_BYTES
from tap_csv.errors import InputError
from tap_csv.files import opened
from tap_csv.packed import MARK, packing_of, unpacked

if t.TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tap_csv.config import Entity
    from tap_csv.files import File

    _Taken = tuple[bytes, int, bool]
    """Whole rows, how many quotes they have, and whether they are the last."""
    _Take = Callable[[int], _Taken]
    """Takes about so many bytes; none if a row is longer, unless they are the last."""

SEGMENT = 48 << 20
"""Bytes of a segment, near enough."""
FIRST = SEGMENT // 3
"""Of the first one, so that soon there is something to do for whoever waits for it."""
MOST_FIELDS = 8
"""So many of the longest values may stand in a row."""
_CHUNK = 1 << 24
"""Bytes that are read at once; in pieces this large Linux reads a fifth faster than in smaller ones."""
_TAIL = 1 << 16
"""Bytes at the end of a segment in which the end of a line is looked for, so as to read no more."""
_END_OF_FILE = b"\x1a"
"""What programs of DOS write behind a text."""
_LINE_END = re.compile(rb"\r\n?|\n")
_MOST_CUTS = 64
"""So many ends of lines are tried for one that is no part of a quoted value."""


@dataclass(frozen=True)
class Segment:
    """Whole rows of a file, unless a quote stands where nobody expects it; then the next segment goes on."""

    data: bytes
    line: int
    """Number of its first line, from 1."""
    offset: int
    """Where it begins in the file, or in what the file was before it was compressed."""
    last: bool
    quotes: int
    """How many quotes it has."""

    def joined(self, after: Segment) -> Segment:
        """Return this segment and the one after it."""
        return Segment(self.data + after.data, self.line, self.offset, after.last, self.quotes + after.quotes)

    def divided(self, size: int, quote: bytes) -> tuple[Segment, Segment]:
        """Its first bytes, which are whole rows, and the rest; arguments as of `without`."""
        rest = self.without(size, quote)
        return Segment(self.data[:size], self.line, self.offset, last=False, quotes=self.quotes - rest.quotes), rest

    def size_before(self, line: int) -> int:
        """How many bytes stand before a line of it."""
        if line == self.line:
            return 0
        return next(itertools.islice(_LINE_END.finditer(self.data), line - self.line - 1, None)).end()

    def without(self, size: int, quote: bytes) -> Segment:
        """Return the rest of it after so many bytes.

        Args:
            size: how many bytes are left out.
            quote: the character that `quotes` counts.
        """
        gone, rest = self.data[:size], self.data[size:]
        line, quotes = self.line + line_ends(gone), self.quotes - gone.count(quote)
        return Segment(rest, line, self.offset + size, self.last, quotes)


def line_ends(data: bytes) -> int:
    """How many lines end here: by LF, CRLF or a lone CR."""
    if b"\r" not in data:
        return data.count(b"\n")
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def end_of_row(data: bytes, quotes: int, quote: bytes) -> tuple[int, int]:
    """Where a row ends, as late as possible: at an end of a line before which quotes come in pairs; 0 if nowhere.

    Args:
        data: what is to be cut.
        quotes: how many stand before it.
        quote: the character that stands around values.

    Returns:
        The place, and how many quotes stand before that.
    """
    mark = b"\n"
    end = data.rfind(mark) + 1
    if not end:
        mark = b"\r"
        end = data.rfind(mark, 0, -1) + 1  # its last byte may be half of a CRLF
    quotes += data.count(quote, 0, end)
    latest = end, quotes
    for _ in range(_MOST_CUTS):
        if not quotes % 2 or not end:
            break
        before = data.rfind(mark, 0, data.rfind(quote, 0, end)) + 1
        quotes -= data.count(quote, before, end)
        end = before
    return (end, quotes) if end else latest


def size_of_lines(data: bytes, lines: int) -> int:
    """How many bytes so many lines at the beginning have; 0 if nothing follows that says so for sure."""
    found = next(itertools.islice(_LINE_END.finditer(data), lines - 1, None), None)
    return found.end() if found and found.end() < len(data) else 0


def begin_of_last(data: bytes, lines: int) -> int:
    """Where the last lines begin, be the very last one ended or not."""
    end = len(data)
    for _ in range(lines + (data[-1:] in {b"\n", b"\r"})):
        start = data.rfind(b"\n", 0, end)
        start = max(start, data.rfind(b"\r", max(0, start), end))
        if start < 0:
            return 0
        end = start - (data[start - 1 : start + 1] == b"\r\n")
    return start + 1


def _without_last(chunks: Iterator[bytes], lines: int) -> Iterator[bytes]:
    """Return the chunks without the last lines, nor what marks the end of the file behind them."""
    held = b""
    for chunk in chunks:
        held += chunk
        end = begin_of_last(held, lines + 2)  # a mark, and half of a CRLF, may look like lines
        yield held[:end]
        held = held[end:]
    held = held.removesuffix(_END_OF_FILE)
    yield held[: begin_of_last(held, lines)]


class Recut:
    """Segments of a file; those behind a stray quote, which made all of them end within a value, are cut anew."""

    def __init__(self, segments: Iterator[Segment], quote: bytes) -> None:
        """Begin.

        Args:
            segments: as they were cut at first.
            quote: the character that was counted for it.
        """
        self._segments = segments
        self._quote = quote
        self._before: Segment | None = None

    def __iter__(self) -> Iterator[Segment]:
        """Itself."""
        return self

    def __next__(self) -> Segment:
        """Return the next segment."""
        segment = next(self._segments)
        while self._before:
            segment, self._before = self._before.joined(segment), None
            if segment.last:
                break
            end, quotes = end_of_row(segment.data, 0, self._quote)
            if end and (quotes % 2 == 0 or len(segment.data) > SEGMENT):
                segment, self._before = segment.divided(end, self._quote)
                break
            self._before, segment = segment, next(self._segments)
        return segment

    def again(self, *segments: Segment) -> None:
        """Go on with these, of which the first begins with a row, and then with those that follow."""
        first, *others = segments
        behind = [*others, self._before] if self._before else others
        self._before, self._segments = first, itertools.chain(behind, self._segments)


class Source:
    """One file; it is read once, from its beginning to its end."""

    def __init__(self, path: File, entity: Entity, *, hashed: bool = False) -> None:
        """Begin.

        Args:
            path: the file.
            entity: how it is written.
            hashed: whether its hash will be asked for.
        """
        self.path = path
        self._encoding = entity.encoding
        self._shape = entity.shape
        self._quote = entity.dialect.quote
        self._most = MOST_FIELDS * max(entity.shape.max_field_bytes, MAX_FIELD_BYTES)
        self._hash = hashlib.sha256() if hashed else None
        self._chunk = _CHUNK

    @property
    def sha256(self) -> str:
        """Hash of the file as it lies there; of what was read so far; empty if it is not hashed."""
        return self._hash.hexdigest() if self._hash else ""

    def drain(self) -> str:
        """Hash of the whole file, for which it is read without looking at it; empty if it is not hashed."""
        self._begin()
        for _ in self._raw() if self._hash else ():
            pass
        return self.sha256

    def text(self) -> Iterator[bytes]:
        """Return the whole file in UTF-8, from its beginning, even if some of it was read before."""
        self._begin()
        return self._utf8()

    def _begin(self) -> None:
        self._chunk = _CHUNK
        self._hash = hashlib.sha256() if self._hash else None

    def segments(self, first: int = FIRST, size: int = SEGMENT) -> Iterator[Segment]:
        """Segments of about so many bytes; the last one may be empty.

        Args:
            first: of the first one; the next ones double it.
            size: until they are of this.

        Raises:
            InputError: the file cannot be read, or holds what its encoding does not know.
        """
        self._chunk = min(first, _CHUNK) if first < FIRST else _CHUNK
        with contextlib.ExitStack() as stack:
            take, offset = self._taken_at_once(stack) or self._taken_by_chunks(stack)
            line, now = 1 + self._shape.skip, first
            while True:
                data, quotes, last = take(now)
                if last:
                    data = data.removesuffix(_END_OF_FILE)
                if data or last:
                    yield Segment(data, line, offset, last=last, quotes=quotes)
                if last:
                    return
                now = min(size, 2 * now) if data else 2 * now  # a row may be longer than a segment
                line += line_ends(data)
                if now > self._most:
                    what = f"a row of more than {self._most:,} bytes; raise `max_field_bytes`"
                    raise InputError(what, self.path, line=line)
                offset += len(data)

    def _taken_at_once(self, stack: contextlib.ExitStack) -> tuple[_Take, int] | None:
        """How to take rows out of a file that is as it shall be: each byte is copied once where lines are rows.

        Returns:
            What takes rows, and how many bytes stand before them; nothing if the file is to be unpacked or decoded,
            or if lines around the rows are to be left out.
        """
        if self._encoding != "utf-8" or self._shape.skip or self._shape.skip_footer:
            return None
        if not isinstance(self.path, Path):
            return None
        with self._readable():
            file = stack.enter_context(self.path.open("rb"))
            mark = file.read(MARK)
        if packing_of(mark):
            return None
        begin = len(codecs.BOM_UTF8) if mark.startswith(codecs.BOM_UTF8) else 0
        if self._hash:
            self._hash.update(mark[:begin])

        def take(size: int) -> _Taken:
            nonlocal begin
            with self._readable():
                file.seek(begin + max(0, size - _TAIL))
                tail = file.read(min(size, _TAIL))
                if len(tail) == min(size, _TAIL) and (end := tail.rfind(b"\n") + 1):
                    size -= len(tail) - end
                file.seek(begin)
                data = file.read(size)
            last = len(data) < size
            end, quotes = (len(data), data.count(self._quote)) if last else end_of_row(data, 0, self._quote)
            if end < len(data):
                data = data[:end]
            begin += end
            if self._hash:
                self._hash.update(data)
            return data, quotes, last

        return take, begin

    def _taken_by_chunks(self, stack: contextlib.ExitStack) -> tuple[_Take, int]:
        """As `_taken_at_once`, of what can be read once only."""
        chunks: Iterator[bytes] = stack.enter_context(contextlib.closing(self._utf8()))
        begin = b""
        while len(begin) < len(codecs.BOM_UTF8) and (chunk := next(chunks, None)) is not None:
            begin += chunk
        offset = len(codecs.BOM_UTF8) if begin.startswith(codecs.BOM_UTF8) else 0
        begin = begin[offset:]
        if skip := self._shape.skip:
            while not (size := size_of_lines(begin, skip)) and (chunk := next(chunks, None)) is not None:
                begin += chunk
            size = size or len(begin)
            begin, offset = begin[size:], offset + size
        pieces = [begin]
        if footer := self._shape.skip_footer:
            chunks, pieces = _without_last(itertools.chain([begin], chunks), footer), []

        def take(size: int) -> _Taken:
            length = sum(map(len, pieces))
            while length < size and (chunk := next(chunks, None)) is not None:
                pieces.append(chunk)
                length += len(chunk)
            if length < size:
                data = b"".join(pieces)
                return data, data.count(self._quote), True
            rest, quotes = self._cut(pieces)
            data = b"".join(pieces)
            pieces[:] = [rest]
            return data, quotes, False

        return take, offset

    def _cut(self, pieces: list[bytes]) -> tuple[bytes, int]:
        """Take from the pieces what follows the last end of a row; returns that, and how many quotes are left."""
        before = sum(piece.count(self._quote) for piece in pieces[:-1])
        end, quotes = end_of_row(pieces[-1], before, self._quote)
        if not end and len(pieces) > 1:
            pieces[:] = [b"".join(pieces)]
            end, quotes = end_of_row(pieces[0], 0, self._quote)
        pieces[-1], rest = pieces[-1][:end], pieces[-1][end:]
        return rest, quotes

    def _raw(self) -> Iterator[bytes]:
        with self._readable(), opened(self.path) as file:
            while chunk := file.read(self._chunk):
                if self._hash:
                    self._hash.update(chunk)
                yield chunk

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Say of a failure which file it is about.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", self.path) from None

    def head(self, size: int) -> bytes:
        """Return the first bytes, uncompressed, at most so many."""
        self._chunk = size
        found = b""
        for chunk in self._plain():
            found += chunk
            if len(found) >= size:
                break
        return found[:size]

    def _plain(self) -> Iterator[bytes]:
        """Return the bytes, uncompressed if they are compressed."""
        chunks = self._raw()
        first = next(chunks, b"")
        packing = packing_of(first)
        together = itertools.chain([first], chunks)
        yield from unpacked(packing, together, self._chunk, self.path) if packing else together

    def _utf8(self) -> Generator[bytes]:
        """Return the bytes in UTF-8; what is UTF-8 already is left as it is, whoever reads it finds what is wrong."""
        if self._encoding == "utf-8":
            yield from self._plain()
            return
        decoder = codecs.getincrementaldecoder(self._encoding)()
        line, read, last = 1, 0, ""
        for chunk in self._plain_and_end():
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                raise undecodable(error, self.path, self._encoding, read + len(chunk), line) from None
            read += len(chunk)
            line += line_ends((last + text).encode()) - line_ends(last.encode())
            last = text[-1:] or last
            yield text.encode()

    def _plain_and_end(self) -> Iterator[bytes]:
        """Return the bytes in small chunks, so that a byte that cannot be decoded is found, then nothing."""
        for chunk in self._plain():
            for start in range(0, len(chunk), 1 << 16):
                yield chunk[start : start + (1 << 16)]
        yield b""


def undecodable(error: UnicodeError, path: File, encoding: str, read: int, line: int) -> InputError:
    """Where a byte stands that the encoding does not know.

    Args:
        error: what the decoder raised.
        path: the file.
        encoding: its encoding.
        read: bytes of the file up to the end of what was to be decoded.
        line: the line on which that began.
    """
    what = str(error)
    if isinstance(error, UnicodeDecodeError):  # not so when UTF-16 lacks its byte order mark
        good = error.object[: error.start].decode(encoding, "replace")
        line += line_ends(good.encode())
        offset = read - len(error.object) + error.start
        what = f"byte {error.object[error.start]:#04x} at offset {offset}: {error.reason}"
    return InputError(f"is not {encoding}, set its encoding: {what}", path, line=line)
