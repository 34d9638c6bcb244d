"""What would become of a file: how it is written, what types its columns have, and why.

`python -m tap_csv.inspection FILE` prints it as JSON. The types are found by the same code as in a load; what a load
would refuse further down is looked for in samples from the middle and the end of the file, or in all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import sys
import tempfile
import typing as t
from collections import Counter
from pathlib import Path

import charset_normalizer
import duckdb
from elt_singer.errors import ConnectorError, one_line

from tap_csv import remote
from tap_csv.catalog import candidates, discover, split
from tap_csv.config import SAMPLE_ROWS, Config, Entity
from tap_csv.convert import Converter
from tap_csv.errors import InputError
from tap_csv.files import SUFFIXES
from tap_csv.guess import guess
from tap_csv.packed import MARK, packing_of
from tap_csv.reader import OpenEndError
from tap_csv.source import Segment, Source, begin_of_last
from tap_csv.tables import format_of

if t.TYPE_CHECKING:
    from tap_csv import types
    from tap_csv.form import Form

PIECE = 1 << 20
"""Bytes of a sample for encoding and delimiter, and of those from the middle and the end."""
TAIL = 1 << 16
"""Bytes in which lines behind the rows are looked for."""
COMMON = ("cp1252", "latin_1")
"""Encodings that are taken before others by which a text reads alike."""
WESTERN = "\u20ac\u00a3\u00a7\u00b0\u00a0\u00ab\u00bb\u201c\u201d\u201e\u2018\u2019\u2013\u2014\u2026"
"""Signs beside letters: of currencies, sections and degrees, quotation marks and dashes."""
GUESSED = 0.5
"""How sure a guess by the frequency of letters is said to be."""
KEYS_AT_ONCE = 50
"""Columns that are looked at at once for keys."""
MOST_KEYS = 8
"""Columns whose pairs are tried as keys, where no column alone is one."""


@dataclasses.dataclass
class Column:
    """What was found of a column.

    Attributes:
        name: as the header has it.
        type: as the setting `columns` would name it.
        line: of the value that decided on the type, or 0 where nothing else came into question.
        value: that value.
        doubt: the first value that a load would refuse, beyond the sample; empty if none was found.
        where: where that stands: a line, or about which byte.
    """

    name: str
    type: str
    line: int = 0
    value: str = ""
    doubt: str = ""
    where: str = ""


@dataclasses.dataclass
class Findings:
    """What was found of a file.

    Attributes:
        path: the file.
        encoding: a Python codec.
        confidence: from 0 to 1, how sure the encoding is.
        delimiter: between fields.
        quotechar: around fields.
        rows: how many the sample has.
        is_whole: whether the sample is the whole file.
        columns: in the order of the header.
        keys: candidates: columns that hold a different value in each row of the sample.
        settings: of the entity that the file needs beside these, such as `skip`.
        ragged: how many rows of the beginning have too few or too many fields.
        rejected: why a row beyond the sample would be refused; empty if none was found.
    """

    path: str
    encoding: str
    confidence: float
    delimiter: str
    quotechar: str
    rows: int
    is_whole: bool
    columns: list[Column]
    keys: list[list[str]]
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    ragged: int = 0
    rejected: str = ""


class Examiner(Converter):
    """Looks at texts of a sample in the way in which a load makes values of them."""

    def first_conversion_errors(
        self, segment: Segment, form: Form, rows: int | None, wanted: t.Mapping[str, t.Sequence[types.Type]]
    ) -> dict[tuple[str, types.Type], tuple[int, str]]:
        """Find the first text of each column that is not meant as each of some types.

        Args:
            segment: whole rows without the header.
            form: how they are written.
            rows: how many rows; none for all.
            wanted: the types to look at, by column.

        Returns:
            Line and text by column and type, where there is such a text.

        Raises:
            InputError: a row does not fit.
            OpenEndError: the segment's last row goes on in the next one.
        """
        found: dict[tuple[str, types.Type], tuple[int, str]] = {}
        with self._as_text(segment, form, rows) as (table, _):
            for kind in dict.fromkeys(itertools.chain.from_iterable(wanted.values())):

                def first(text: str, kind: types.Type = kind) -> tuple[str, str]:
                    failing = f"filter (not coalesce({kind.meant(text)}, false))"
                    return f"min(line) {failing}", f"arg_min({text}, line) {failing}"

                chosen = [column for column, those in wanted.items() if kind in those]
                for column, line, text in self._by_column(first, table, form.header, chosen, listed=True):
                    if line is not None:
                        found[column, kind] = line, text
        return found

    def keys(self, segment: Segment, form: Form, rows: int | None, most: int) -> tuple[list[list[str]], int]:
        """Find the columns, or pairs of the first few, that hold another value in each row.

        Args:
            segment: whole rows without the header.
            form: how they are written.
            rows: how many rows; none for all.
            most: of how many columns pairs are tried, where no column alone is one.

        Returns:
            The names, and how many rows there are.
        """
        found: list[list[str]] = []
        number = 0
        with self._as_text(segment, form, rows) as (table, _):
            for size, columns in ((1, range(len(form.header))), (2, range(min(most, len(form.header))))):
                combined = itertools.combinations(columns, size)
                # Of a wide table not all at once, and no more than the first that are unique.
                while not found and (tried := [*itertools.islice(combined, KEYS_AT_ONCE)]):
                    counts = ["count(*)"]
                    for some in tried:
                        texts = [f"row[{place + 1}]" for place in some]
                        filled = " and ".join(f"{text} <> ''" for text in texts)
                        counts.append(f"count(distinct [{', '.join(texts)}]) filter ({filled})")
                    query = f"select {', '.join(counts)} from {table}"  # noqa: S608 - of numbers of columns
                    row = self._engine().execute(query).fetchone()
                    assert row
                    number, *distinct = row
                    unique = [some for some, count in zip(tried, distinct, strict=True) if count == number > 0]
                    found = [[form.header[place] for place in some] for some in unique]
        return found, number


def inspect(path: Path, rows: int | None = SAMPLE_ROWS, given: t.Mapping[str, str] | None = None) -> Findings:
    """Find out what would become of a file.

    Args:
        path: the file.
        rows: how many rows the types are found from, as in a load; none for the whole file.
        given: `encoding` and `delimiter`, where they are known.

    Raises:
        InputError: it cannot be read as a CSV file; the message says where.
    """
    known = dict(given or {})
    if path.is_dir():
        raise InputError("is a folder: name one of its files", path)
    head = Source(path, Entity(path.stem, str(path))).head(PIECE)
    if not head:
        raise InputError("the file is empty", path)
    if format_of(head) != "csv":
        return _of_table(path, rows)
    encoding, confidence = (known["encoding"], 1.0) if "encoding" in known else encoding_of(head)
    is_all = len(head) < PIECE
    text = head.decode(encoding, "replace")
    guessed = guess(text, text if is_all else _tail(path, encoding), known.get("delimiter"), is_whole=is_all)
    entry = {"entity": path.stem, "path": str(path), "keys": [], "encoding": encoding, "columns": guessed.types}
    entry |= {"delimiter": guessed.delimiter, **guessed.settings}
    config = Config.from_dict({"files": [entry], "infer_rows": -1 if rows is None else rows})
    (entity,) = config.entities
    with tempfile.TemporaryDirectory(prefix="tap-csv-") as folder, contextlib.closing(Examiner(Path(folder))) as own:
        stream = discover(entity, config, own)
        found = {name: Column(name, kind.name) for name, kind in stream.types.items()}
        first, form = _sample(path, entity)
        narrower = candidates(entity, {guessed.delimiter}, key=False)
        deciding = {
            name: narrower[: narrower.index(kind) if kind in narrower else None]
            for name, kind in stream.types.items()
            if name not in guessed.types
        }
        named = {name: [stream.types[name]] for name in guessed.types}
        for (name, _), (line, value) in own.first_conversion_errors(first, form, rows, named).items():
            found[name].doubt, found[name].where = value, f"line {line:,}"
        for name, (line, value) in _last_to_fall(own.first_conversion_errors(first, form, rows, deciding)).items():
            found[name].line, found[name].value = line, value
        keys, number = own.keys(first, form, rows, MOST_KEYS)
        is_whole = rows is None or (first.last and number < rows)
        findings = Findings(
            str(path),
            encoding,
            confidence,
            guessed.delimiter,
            entity.dialect.quotechar,
            number,
            is_whole,
            [*found.values()],
            keys,
            guessed.settings,
            guessed.ragged,
        )
        if not is_whole:
            _look_further(path, form, stream.types, own, findings)
        return findings


def _of_table(path: Path, rows: int | None) -> Findings:
    """As `inspect`, of a file of JSON or parquet, whose values say their types."""
    entity = Entity(path.stem, str(path))
    with tempfile.TemporaryDirectory(prefix="tap-csv-") as folder, contextlib.closing(Examiner(Path(folder))) as own:
        stream = discover(entity, Config((entity,), infer_rows=rows), own)
        opened = split(Source(path, entity), entity, columns=[*stream.types])
        keys, number, is_whole = list[list[str]](), 0, True
        if opened.kinds:
            first = next(opened.segments)
            keys, number = own.keys(first, opened.form(path, entity), rows, MOST_KEYS)
            is_whole = first.last and (rows is None or number < rows)
        columns = [Column(name, kind.name) for name, kind in stream.types.items()]
        return Findings(str(path), "utf-8", 1.0, ",", '"', number, is_whole, columns, keys)


def encoding_of(head: bytes) -> tuple[str, float]:
    """Return the encoding of a text, and from 0 to 1 how sure that is."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if head.startswith(mark):
            return name, 1.0
    try:
        head[: max(len(head) - 4, 0) or None].decode()  # its last character may be cut
    except UnicodeDecodeError:
        if _is_western(head):
            return COMMON[0], GUESSED
        best = charset_normalizer.from_bytes(head[: PIECE // 4]).best()
        if best is None:
            return "latin-1", 0.0
        same = (best.encoding, *best.could_be_from_charset)  # those by which the text reads alike
        return next((one for one in COMMON if one in same), best.encoding), GUESSED
    return "utf-8", 1.0


def _is_western(head: bytes) -> bool:
    """Whether it is mostly ASCII with letters and signs of western Europe; a guess by frequency needs more."""
    try:
        text = head.decode(COMMON[0])
    except UnicodeDecodeError:
        return False
    letters = Counter(letter.isascii() for letter in text if letter.isalpha())
    strange = {letter for letter in text if not letter.isascii()}
    return letters[False] * 3 < letters[True] and all(one.isalpha() or one in WESTERN for one in strange)


def _tail(path: Path, encoding: str) -> str:
    """Read the last lines of a file; empty if it can be read from its beginning alone."""
    with path.open("rb") as file:
        begin = file.read(MARK)
        if encoding.startswith("utf-16") or packing_of(begin) or begin.startswith(b"PK"):
            return ""
        file.seek(-min(path.stat().st_size, TAIL), os.SEEK_END)
        return file.read().partition(b"\n")[2].decode(encoding, "replace")


def _sample(path: Path, entity: Entity) -> tuple[Segment, Form]:
    opened = split(Source(path, entity), entity)
    return next(opened.segments), opened.form(path, entity)


def _last_to_fall(
    errors: t.Mapping[tuple[str, types.Type], tuple[int, str]],
) -> dict[str, tuple[int, str]]:
    """Of each column the value that ruled out the last of the types that are narrower than its own."""
    found: dict[str, tuple[int, str]] = {}
    for (name, _), error in errors.items():
        found[name] = max(found.get(name, (0, "")), error)
    return found


def _look_further(
    path: Path, form: Form, kinds: t.Mapping[str, types.Type], own: Examiner, findings: Findings
) -> None:
    """Look at samples from the middle and the end of a file for what a load would refuse."""
    size = path.stat().st_size
    with path.open("rb") as file:
        mark = file.read(MARK)
        if packing_of(mark) or mark.startswith(b"PK") or findings.encoding != "utf-8":
            return  # such a file is read from its beginning alone
        for begin in (size // 2, max(size - PIECE, 0)):
            file.seek(begin)
            data = file.read(PIECE)
            if form.shape.skip_footer and begin + len(data) >= size:
                data = data[: begin_of_last(data, form.shape.skip_footer)]
                size = begin + len(data)
            start = data.find(b"\n") + 1
            end = len(data) if begin + len(data) >= size else data.rfind(b"\n") + 1
            segment = Segment(data[start:end], 1, begin + start, last=True, quotes=0)
            wanted = {name: [kind] for name, kind in kinds.items() if kind.name != "string"}
            try:
                errors = own.first_conversion_errors(segment, form, None, wanted)
            except (InputError, OpenEndError) as error:
                findings.rejected = findings.rejected or f"near byte {begin:,}: {getattr(error, 'what', error)}"
                continue
            columns = {column.name: column for column in findings.columns}
            for (name, _), (line, value) in errors.items():
                if not columns[name].doubt:
                    columns[name].doubt = value
                    columns[name].where = f"near byte {begin + start + segment.size_before(line):,}"


def inspect_named(named: str, rows: int | None = SAMPLE_ROWS, given: t.Mapping[str, str] | None = None) -> Findings:
    """As `inspect`, of a path or a URL of one file, which is copied first.

    Raises:
        InputError: it cannot be read, or the URL is one of several files.
    """
    if "://" not in named:
        return inspect(Path(named), rows, given)
    file, *others = remote.find(named, SUFFIXES)
    if others:
        raise InputError("stands for several files: name one of them", str(file))
    found = inspect(file.copy(), rows, given)
    return dataclasses.replace(found, path=str(file))


def main() -> None:
    """Print what was found as JSON; a failure is one line and exit code 1."""
    parser = argparse.ArgumentParser(prog="tap-csv-inspection", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", help="a path or a URL")
    parser.add_argument("--rows", type=int, default=SAMPLE_ROWS, help="rows that types are found from; -1 for all")
    parser.add_argument("--encoding")
    parser.add_argument("--delimiter")
    arguments = parser.parse_args()
    logging.disable()
    given = {name: getattr(arguments, name) for name in ("encoding", "delimiter") if getattr(arguments, name)}
    try:
        found = inspect_named(arguments.file, None if arguments.rows == -1 else arguments.rows, given)
    except (ConnectorError, OSError, duckdb.Error, LookupError) as error:
        sys.exit(one_line(error))
    json.dump(dataclasses.asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
