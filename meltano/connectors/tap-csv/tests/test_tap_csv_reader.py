"""Whatever Python's csv module writes is read back, each row with the line on which it begins."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_csv import readable
from tap_csv.config import Entity
from tap_csv.errors import InputError
from tap_csv.form import Form
from tap_csv.source import Source
from tap_csv_harness import TEXT, run

# Many of the characters that matter to CSV among few others; NUL is refused and has tests of its own.
FIELDS = st.text(st.sampled_from("\r\n\",;' \u2028\x0bé") | st.characters(exclude_characters="\0", codec="utf-8"))


@settings(deadline=None)  # a busy machine is no failure
@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1)
    ),
    line_end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    metadata=st.booleans(),
)
def test_what_is_written_is_read(rows: list[list[str]], line_end: str, encoding: str, metadata: bool) -> None:
    header = [f"c{index}" for index in range(len(rows[0]))]
    text = io.StringIO(newline="")
    # With a line end of LF Python 3.11 leaves a CR unquoted, which then ends a line too.
    writer = csv.writer(
        text, lineterminator=line_end, quoting=csv.QUOTE_ALL if line_end == "\n" else csv.QUOTE_MINIMAL
    )
    writer.writerow(header)
    lines = []
    for row in rows:
        lines.append(1 + len(re.findall("\r\n|\r|\n", text.getvalue())))
        writer.writerow(row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(text.getvalue().encode(encoding))
        entry = {"entity": "e", "path": str(path), "keys": [], "encoding": encoding}
        got = run({"files": [entry], "add_metadata_columns": metadata} | TEXT)
    assert got.error is None
    sent = [(one.get("_sdc_source_lineno"), [one[name] for name in header]) for one in got.records]
    # A blank line is no row, also where a row of one empty field would look so.
    assert sent == [(line if metadata else None, row) for line, row in zip(lines, rows, strict=True)]


@settings(deadline=None, max_examples=50)
@given(
    before=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    padding=st.sampled_from([0, 1, 65_530, 65_536, 140_000]),
)
def test_an_undecodable_byte_is_found(before: str, padding: int) -> None:
    good = before.encode() + b"x" * padding
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(good + b"\xff")
        with pytest.raises(InputError) as caught:
            list(Source(path, Entity("e", str(path), encoding="utf-8-sig")).segments())
    error = caught.value
    assert f"byte 0xff at offset {len(good)}:" in str(error)
    line = 1 + len(re.findall("\r\n|\r|\n", before.removeprefix("\ufeff")))
    assert error.line == line


FIELD = st.sampled_from(["", "", "x", '"y"', '""', '"a,\nb"', '"c,,\n"'])


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=6),
    surplus=st.sampled_from(["", "", ",", ",,", ',""']),
    at=st.integers(0, 5),
    line_end=st.sampled_from(["\n", "\r\n"]),
    is_cut=st.booleans(),
)
def test_no_surplus_delimiter_is_passed_over(
    rows: list[tuple[str, ...]], surplus: str, at: int, line_end: str, is_cut: bool
) -> None:
    """DuckDB does, where nothing stands behind it; rows that end with empty fields look much the same."""
    lines = [",".join((f"{number}", *row)) for number, row in enumerate(rows)]
    lines[at % len(lines)] += surplus
    text = line_end.join(["id,a,b,c", *lines]) + ("" if is_cut else line_end)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_text(text, newline="")
        batch = {"encoding": {"format": "parquet"}, "storage": {"root": folder}}
        got = run({"files": [{"entity": "e", "path": str(path), "keys": ["id"]}], "batch_config": batch})
        found = None if got.error else [row[0] for row in got.rows()]
    assert (got.error is not None) == bool(surplus), got.error
    assert found is None or found == [*range(len(rows))]


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.sampled_from('a", \n\r'), max_size=40), size=st.integers(1, 60))
def test_quotes_that_are_found_to_be_simple_are(text: str, size: int) -> None:
    """What is found fast is at least what the slow way finds; test_segments_change_nothing looks at what is read."""
    entity = Entity("e", "in.csv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(text.encode())
        segments = list(Source(path, entity).segments(size, size))
    assert b"".join(segment.data for segment in segments) == text.encode()
    form = Form(path, entity.dialect, ("a", "b"), (), {})
    for segment in segments:
        assert segment.quotes == segment.data.count(b'"')
        simple = readable.quoted_text(segment, form)
        if simple is not None:
            slow = b"".join(re.findall(rb'"[^"]*"', segment.data))
            assert simple.count(b",") == slow.count(b",")
