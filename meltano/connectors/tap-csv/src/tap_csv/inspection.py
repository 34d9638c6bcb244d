"""What would become of a file: how it is written, what types its columns have, and why.

`python -m tap_csv.inspection FILE` prints it as JSON. The types are found by the same code as in a load; what a load
would refuse further down is looked for in samples from the middle and the end of the file, or in all of it.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import dataclasses
import itertools
import json
import logging
import re
import sys
import tempfile
import typing as t
from collections import Counter
from pathlib import Path

import charset_normalizer
import duckdb
from elt_singer.errors import ConnectorError, one_line

from tap_csv import remote
from tap_csv.catalog import discover, possible, split
from tap_csv.config import SAMPLE_ROWS, Config, Entity
from tap_csv.errors import InputError
from tap_csv.examiner import Examiner
from tap_csv.files import Member, SeveralMembersError, find, local, piece, size_of
from tap_csv.guess import NULLS, Guess, guess, is_value
from tap_csv.packed import MARK, packing_of
from tap_csv.reader import OpenEndError
from tap_csv.source import Segment, Source, begin_of_last
from tap_csv.tables import format_of
from tap_csv.workbook import ROUNDED, header_of

if t.TYPE_CHECKING:
    from tap_csv import types
    from tap_csv.catalog import Stream
    from tap_csv.files import File
    from tap_csv.form import Form
    from tap_csv.remote import Remote

PIECE = 1 << 20
"""Bytes of a sample for encoding and delimiter, and of those from the middle and the end."""
UNPACKED = 24 << 20
"""Bytes of a compressed file, unpacked, in whose middle and end samples are taken."""
TAIL = 1 << 16
"""Bytes in which lines behind the rows are looked for."""
COMMON = ("cp1252", "latin_1")
"""Encodings that are taken before others by which a text reads alike."""
WESTERN = "\u20ac\u00a3\u00a7\u00b0\u00a0\u00ab\u00bb\u201c\u201d\u201e\u2018\u2019\u2013\u2014\u2026"
"""Signs beside letters: of currencies, sections and degrees, quotation marks and dashes."""
GUESSED = 0.5
"""How sure a guess by the frequency of letters is said to be."""
RARE = {"mac_cyrillic": "cp1251", "mac_greek": "cp1253", "mac_latin2": "cp1250", "mac_roman": "cp1252"}
"""Encodings that few texts tell from another, which nearly all files have."""
_WORDS = 5
_BEYOND = re.compile(r"[\w$]*[^\x00-\x7f]\w*")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""A character of UTF-8 beyond ASCII."""
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)\b", re.IGNORECASE)
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"
_MOST_NULLS = 3
"""So many texts that stand for no value are found one after the other, by the column that each spoils."""
GIVEN = ("encoding", "delimiter", "members", "sheet")
"""Settings of an entity that may be known."""


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
        is_named: whether `columns` must name the type, since no sample finds it.
    """

    name: str
    type: str
    line: int = 0
    value: str = ""
    doubt: str = ""
    where: str = ""
    is_named: bool = False


@dataclasses.dataclass
class Findings:
    """What was found of a file.

    Attributes:
        path: as it was named, without what must not be shown.
        examples: the file that was looked at, and another one, if the path stands for several.
        number: of files that the path stands for.
        format: of the file.
        encoding: a Python codec.
        confidence: from 0 to 1, how sure the encoding is.
        delimiter: between fields.
        rows: how many the sample has.
        is_whole: whether the sample is the whole file.
        columns: in the order of the header.
        keys: candidates: columns that hold a different value in each row of the sample.
        settings: of the entity that the file needs beside these, such as `skip`.
        ragged: how many rows of the beginning have too few or too many fields.
        rejected: why a row beyond the sample would be refused; empty if none was found.
        hints: what else should be known.
    """

    path: str
    examples: list[str]
    number: int
    format: str
    encoding: str = "utf-8"
    confidence: float = 1.0
    delimiter: str = ","
    rows: int = 0
    is_whole: bool = True
    columns: list[Column] = dataclasses.field(default_factory=list)
    keys: list[list[str]] = dataclasses.field(default_factory=list)
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    ragged: int = 0
    rejected: str = ""
    hints: list[str] = dataclasses.field(default_factory=list)


def inspect(named: str, rows: int | None = SAMPLE_ROWS, given: t.Mapping[str, str] | None = None) -> Findings:
    """Find out what would become of a file, or of several of one kind, of which the first is looked at.

    Args:
        named: a path, a glob or a URL.
        rows: how many rows the types are found from, as in a load; none for all of the file.
        given: settings of the entity that are known: `encoding`, `delimiter`, `members`, `sheet`.

    Raises:
        InputError: it cannot be read; the message says where.
    """
    known = dict(given or {})
    try:
        files = find(named, known.get("members"))
    except SeveralMembersError as error:
        if not error.pattern:
            raise
        known["members"] = error.pattern
        files = find(named, error.pattern)
    file = files[0]
    head = Source(file, Entity("head", named)).head(PIECE)
    _refuse_others(head, file)
    kept = {name: known[name] for name in ("members", "sheet") if name in known}
    shown = remote.name_of(named) if "://" in named else named
    findings = Findings(shown, [str(one) for one in files[:2]], len(files), format_of(head), settings=kept)
    guessed = Guess(",")
    entry: dict[str, t.Any] = {"entity": "inspected", "path": named, "keys": [], **kept}
    if findings.format == "csv":
        guessed = _guess(file, head, known, findings)
        entry |= {"encoding": findings.encoding, "delimiter": guessed.delimiter}
        entry |= {"columns": guessed.types, **guessed.settings}
    elif findings.format == "json":
        _refuse_one_object(head, file)
    elif findings.format == "xlsx":
        entry |= _of_sheet(file, named, kept, findings)
    config = Config.from_dict({"files": [entry], "infer_rows": -1 if rows is None else rows})
    (entity,) = config.entities
    with tempfile.TemporaryDirectory(prefix="tap-csv-") as folder, contextlib.closing(Examiner(Path(folder))) as own:
        stream = discover(entity, config, own)
        form = _look(file, stream, rows, own, findings)
        if findings.format == "csv" and not findings.is_whole:
            _look_further(file, form, stream.types, own, findings)
    if not findings.rows:
        findings.hints.append("no row follows the header")
    elif values := [one.name for one in findings.columns if one.type != "string" and is_value(one.name)]:
        findings.hints.append(f"the header holds {values[0]!r}: if that is a value, the first row lacks its header")
    nulls = known.get("null_values", "").split("\n")
    new = _spoiling(findings) - {*nulls}
    if new and len(nulls) <= _MOST_NULLS:
        return inspect(named, rows, {**known, "null_values": "\n".join(filter(None, [*nulls, *new]))})
    return findings


def _spoiling(findings: Findings) -> set[str]:
    """Texts that stand for no value, which alone make a text of a column, or would be refused."""
    found = {one.doubt for one in findings.columns if one.doubt}
    found |= {one.value for one in findings.columns if one.type == "string"}
    return found & {*NULLS} if findings.format == "csv" else set()


def _of_sheet(file: File, named: str, known: t.Mapping[str, str], findings: Findings) -> dict[str, t.Any]:
    """Find the settings that a sheet needs, and note them in the findings."""
    row, has_nameless, is_rounded = header_of(file, Entity("head", named, sheet=known.get("sheet")))
    needed = ({"header_row": row} if row else {}) | ({"unnamed_columns": "keep"} if has_nameless else {})
    findings.settings |= needed
    findings.hints += [ROUNDED] if is_rounded else []
    return needed


def _beyond_ascii(text: str) -> list[str]:
    """Return the first words that have a letter or a sign beyond ASCII."""
    return [*itertools.islice(dict.fromkeys(one[0] for one in _BEYOND.finditer(text)), _WORDS)]


def _refuse_others(head: bytes, file: File) -> None:
    """Check that a file that begins so may be of a format that is read.

    Raises:
        InputError: it is of another one, or empty.
    """
    if not head:
        raise InputError("the file is empty", file)
    if _PAGE.match(head):
        raise InputError("is a page of HTML or XML, which is not read", file)
    if head.startswith(_OLD_WORKBOOK):
        raise InputError("is a workbook of Excel 97 to 2003: save it as .xlsx, or as CSV", file)
    if head.lstrip().startswith(b"[") and format_of(head) == "csv":
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(head)
            raise InputError("is JSON whose elements are no objects, and so no rows", file)


def _refuse_one_object(head: bytes, file: File) -> None:
    """Check that rows are objects of their own.

    Raises:
        InputError: all of a large file is one.
    """
    text = head.decode("utf-8-sig", "ignore").lstrip().removeprefix("[").lstrip()
    with contextlib.suppress(json.JSONDecodeError):
        try:
            json.JSONDecoder().raw_decode(text)
        except RecursionError:
            raise InputError("is no JSON that is read here: its first object is nested too deep", file) from None
        return
    if len(head) == PIECE and text.startswith("{"):
        key = text[1:200].partition(":")[0].strip()
        what = f"its first object, which begins with {key}, is larger than {PIECE:,} bytes"
        raise InputError(f"{what}: rows must be objects of their own, one after the other or in an array", file)


def _guess(file: File, head: bytes, known: t.Mapping[str, str], findings: Findings) -> Guess:
    """Guess how a CSV file is written, and note it in the findings."""
    encoding, confidence = (known["encoding"], 1.0) if "encoding" in known else encoding_of(head)
    is_all = len(head) < PIECE
    text = head.decode(encoding, "replace")
    nulls = known.get("null_values", "").split("\n")
    tail = text if is_all else _tail(file, encoding)
    guessed = guess(text, tail, known.get("delimiter"), is_whole=is_all, nulls=nulls)
    findings.hints += guessed.hints
    if findings.number > 1 and (ends := [f"`{one}`" for one in ("skip", "skip_footer") if one in guessed.settings]):
        what = "look at others, which would lose rows if they lack those lines"
        findings.hints.append(f"{' and '.join(ends)} hold for all {findings.number:,} files: {what}")
    if confidence < 1 and (words := _beyond_ascii(text)):
        findings.hints.append(f"by that encoding it holds {', '.join(words)}: if that is wrong, set --encoding")
    findings.encoding, findings.confidence, findings.delimiter = encoding, confidence, guessed.delimiter
    findings.ragged = guessed.ragged
    findings.settings |= guessed.settings
    return guessed


def _look(file: File, stream: Stream, rows: int | None, own: Examiner, findings: Findings) -> Form:
    """Look at the first rows, or at all: what decided on types, what a load would refuse, which columns are keys."""
    entity, kinds = stream.entity, stream.types
    found = {name: Column(name, kind.name, is_named=name in entity.columns) for name, kind in kinds.items()}
    findings.columns = [*found.values()]
    opened = split(Source(file, entity), entity, rows=rows)
    form = opened.form(file, entity)
    if opened.natives:
        findings.keys, findings.rows = own.look_at_parquet(local(file), [*opened.natives], rows)
        findings.is_whole = rows is None or findings.rows < rows
        return form
    deciding = {
        name: narrower[: narrower.index(kinds[name]) if kinds[name] in narrower else None]
        for name, narrower in possible(opened.columns, {file: opened}, entity).items()
        if name in kinds and name not in entity.columns
    }
    named = {name: [kind] for name, kind in entity.columns.items()}
    errors, findings.keys, findings.is_whole = own.look(opened, form, rows, deciding | named)
    findings.rows = own.number
    for (name, _), (line, value) in errors.items():
        column = found[name]
        if name in named:
            column.doubt, column.where = value, f"line {line:,}"
        elif line > column.line:  # the last of the narrower types to fall
            column.line, column.value = line, value
    return form


def encoding_of(head: bytes) -> tuple[str, float]:
    """Return the encoding of a text, and from 0 to 1 how sure that is."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if head.startswith(mark):
            return name, 1.0
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < PIECE)  # else its end may be cut
    except UnicodeDecodeError:
        if _is_damaged_utf8(head):
            return "utf-8", GUESSED
        if _is_western(head):
            return COMMON[0], GUESSED
        best = charset_normalizer.from_bytes(head[: PIECE // 4]).best()
        if best is None:
            return "latin-1", 0.0
        same = (best.encoding, *best.could_be_from_charset)  # those by which the text reads alike
        return next((one for one in COMMON if one in same), RARE.get(best.encoding, best.encoding)), GUESSED
    return "utf-8", 1.0


def _is_damaged_utf8(head: bytes) -> bool:
    """Whether most bytes beyond ASCII are characters of UTF-8; a load says where it is not."""
    found = _MULTIBYTE.findall(head)
    beyond = len(head.translate(None, bytes(range(128))))
    return beyond < 2 * sum(map(len, found))


def _is_western(head: bytes) -> bool:
    """Whether it is mostly ASCII with letters and signs of western Europe; a guess by frequency needs more."""
    try:
        text = head.decode(COMMON[0])
    except UnicodeDecodeError:
        return False
    letters = Counter(letter.isascii() for letter in text if letter.isalpha())
    strange = {letter for letter in text if not letter.isascii()}
    return letters[False] * 3 < letters[True] and all(one.isalpha() or one in WESTERN for one in strange)


def _tail(file: File, encoding: str) -> str:
    """Read the last lines of a file; empty if it can be read from its beginning alone."""
    plain, size = _plain(file), size_of(file)
    if not plain or encoding.startswith("utf-16"):
        return ""
    return piece(plain, max(size - TAIL, 0), TAIL).partition(b"\n")[2].decode(encoding, "replace")


def _plain(file: File) -> Path | Remote | None:
    """Return a file of which pieces can be read; none if it is packed, or its size is not known."""
    if isinstance(file, Member) or not size_of(file) or packing_of(piece(file, 0, MARK)):
        return None
    return file


def _look_further(
    file: File, form: Form, kinds: t.Mapping[str, types.Type], own: Examiner, findings: Findings
) -> None:
    """Look at samples from the middle and the end of a file for what a load would refuse."""
    if findings.encoding not in ("utf-8", *COMMON):
        return
    plain, size = _plain(file), size_of(file)
    unpacked = b"" if plain else Source(file, Entity("head", str(file))).head(UNPACKED)
    if not plain:
        size = len(unpacked)
    columns = {column.name: column for column in findings.columns}
    wanted = {name: [kind] for name, kind in kinds.items() if kind.name != "string"}
    for begin in (size // 2, max(size - PIECE, 0)):
        data = piece(plain, begin, PIECE) if plain else unpacked[begin : begin + PIECE]
        is_last = begin + len(data) >= size and (plain is not None or size < UNPACKED)
        if form.shape.skip_footer and is_last:
            data = data[: begin_of_last(data, form.shape.skip_footer)]
        start = data.find(b"\n") + 1
        data = data[start : None if is_last else data.rfind(b"\n") + 1]
        text = data if findings.encoding == "utf-8" else data.decode(findings.encoding, "replace").encode()
        segment = Segment(text, 1, begin + start, last=True, quotes=0)
        try:
            errors = own.first_conversion_errors(segment, form, None, wanted)
        except (InputError, OpenEndError) as error:
            findings.rejected = findings.rejected or f"near byte {begin:,}: {getattr(error, 'what', error)}"
            continue
        for (name, _), (line, value) in errors.items():
            if not columns[name].doubt:
                columns[name].doubt = value
                columns[name].where = f"near byte {begin + start + segment.size_before(line):,}"


def main() -> None:
    """Print what was found as JSON; a failure is one line and exit code 1."""
    parser = argparse.ArgumentParser(prog="tap-csv-inspection", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", help="a path or a URL")
    parser.add_argument("--rows", type=int, default=SAMPLE_ROWS, help="rows that types are found from; -1 for all")
    for name in GIVEN:
        parser.add_argument(f"--{name}")
    arguments = parser.parse_args()
    logging.disable()
    given = {name: getattr(arguments, name) for name in GIVEN if getattr(arguments, name)}
    try:
        found = inspect(arguments.file, None if arguments.rows == -1 else arguments.rows, given)
    except (ConnectorError, OSError, duckdb.Error, LookupError) as error:
        sys.exit(one_line(error))
    json.dump(dataclasses.asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
