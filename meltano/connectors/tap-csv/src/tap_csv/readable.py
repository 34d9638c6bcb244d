"""Which bytes DuckDB may read in place of Python's csv module, because both find the same rows in them."""

from __future__ import annotations

import codecs
import dataclasses
import re
import typing as t

from tap_csv.source import line_ends

if t.TYPE_CHECKING:
    from tap_csv.config import Dialect
    from tap_csv.form import Form
    from tap_csv.source import Segment


def number_of_rows(segment: Segment, form: Form) -> int:
    """How many rows a segment has, blank lines taken for such; 0 where DuckDB might read others than Python."""
    read = readable(segment, form)
    return line_ends(read[0].data) - line_ends(read[1]) if read else 0


def _simply_quoted(segment: Segment, dialect: Dialect) -> bytes | None:
    """All that stands within quotes, if each quote begins or ends a whole field or is doubled; else nothing."""
    if not dialect.plain:
        return None
    found = re.findall(_quoted_field(dialect), segment.data) if segment.quotes else []
    within = b"".join(found)
    return within if 2 * len(found) + within.count(dialect.quote) == segment.quotes else None


def _quoted_field(dialect: Dialect) -> bytes:
    """Return a pattern of a field in quotes, whose group is what stands within."""
    quote, end = re.escape(dialect.quote), b"[" + re.escape(dialect.delimiter.encode()) + b"\\r\\n]"
    others = b"[^" + quote + b"]*"
    # The quote first, and what must stand before it then: a pattern that begins with a letter is searched for faster.
    begins = quote + b"(?:(?<=" + end + quote + b")|(?<=\\A" + quote + b"))"
    return begins + b"(" + others + b"(?:" + quote * 2 + others + b")*)" + quote + b"(?=" + end + b"|\\Z)"


def readable(segment: Segment, form: Form) -> tuple[Segment, bytes] | None:
    """Return what DuckDB may read in place of a segment, and all that stands within quotes; see `quoted_text`."""
    blanked = segment if form.shape.comment is None else _without_comments(segment, form.dialect, form.shape.comment)
    quoted = None if blanked is None else quoted_text(blanked, form)
    return None if blanked is None or quoted is None else (blanked, quoted)


def _without_comments(segment: Segment, dialect: Dialect, comment: str) -> Segment | None:
    """Return the segment with blank lines for comments; nothing if only Python can tell which lines are such."""
    data, mark = segment.data, comment.encode()
    if not (data.startswith(mark) or b"\n" + mark in data or b"\r" + mark in data):
        return segment
    escaped = re.escape(mark)
    line = escaped + b"(?:(?<=[\\r\\n]" + escaped + b")|(?<=\\A" + escaped + b"))[^\\r\\n]*"
    if not segment.quotes:
        return dataclasses.replace(segment, data=re.sub(line, b"", data))
    if not dialect.plain:
        return None
    quote = dialect.quote
    quotes = 0

    def blank(found: re.Match[bytes]) -> bytes:
        nonlocal quotes
        if found[1] is None:
            return b""
        quotes += found[0].count(quote)
        return found[0]

    data = re.sub(_quoted_field(dialect) + b"|" + line, blank, data)
    # A quote that is none around a field might have made a comment of a line within quotes.
    return dataclasses.replace(segment, data=data, quotes=quotes) if data.count(quote) == quotes else None


def quoted_text(segment: Segment, form: Form) -> bytes | None:
    """All that stands within quotes, if DuckDB reads these rows as Python would or refuses them; else nothing.

    It may pass over surplus delimiters, which the caller counts. Where quotes stand elsewhere than around values, or
    one is open at the end, Python reads: DuckDB drops blanks before a quote, takes one within a value for more than a
    letter, and passes over a last row in which one is open.
    """
    data = segment.data
    if form.is_rows or len(form.header) == 1 or b"\0" in data or data.startswith(codecs.BOM_UTF8):
        return None
    if b"\r" in data and not data.count(b"\r") == data.count(b"\r\n") == data.count(b"\n"):
        return None
    # A row's line is known from its number if each row is a line.
    if form.modified is not None and (segment.quotes or re.search(rb"\n\r?\n|\A\r?\n", data)):
        return None
    return _simply_quoted(segment, form.dialect)
