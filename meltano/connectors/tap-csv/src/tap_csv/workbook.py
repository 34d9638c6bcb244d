"""Sheets of workbooks of Excel: cells as texts, dates as dates, formulas as the values that Excel saved."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import re
import typing as t
import zipfile
from collections import Counter
from xml.etree import ElementTree as ET

from tap_csv.config import RANGE
from tap_csv.errors import InputError
from tap_csv.files import local
from tap_csv.tables import plain_number

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from python_calamine import CalamineSheet

    from tap_csv.config import Entity
    from tap_csv.files import File

LOGGER = logging.getLogger("tap-csv")

_MOST_BYTES = 1 << 30
"""Bytes of a sheet, unpacked; all of its cells are held in memory."""
_MOST_CELLS = 50_000_000
"""Cells up to the last row and column: calamine holds the empty ones too, 17 thousand million between two at most."""
_TAG = rb"<(?:\w+:)?"
_LETTERS, _DIGITS = re.compile(rb'<c r="([A-Za-z]+)\d{1,6}"'), re.compile(rb'<c r="[A-Za-z]+(\d+)"')
"""Column of a cell, be it filled or not, of the first million rows, and row; as all programs write them."""
_STARTS = (b"<c ", b"<c>", b"<c\t", b"<c\n", b"<c\r")
_MOST_ROWS = 10**6
_FILLED = re.compile(_TAG + rb"c\s[^<>]*?\br\s*=\s*[\"']([A-Za-z]+)(\d+)[\"'][^<>]*(?<!/)>")
_NAMELESS = re.compile(_TAG + rb"c(?=[\s>])(?![^<>]*\br\s*=)")
"""Start of a cell that does not say where it stands, but behind the one before it."""
_ROW = re.compile(_TAG + rb"row\b")
_ROW_NUMBER = re.compile(_ROW.pattern + rb"[^<>]*?\sr\s*=\s*[\"'](\d+)")
_OTHERS = {"content.xml", "xl/workbook.bin"}
"""Members by which calamine may take the file for another kind of workbook."""
_ERROR_CELL = re.compile(rb"<(?:\w+:)?c\s(?=[^>]*\bt=[\"']e[\"'])[^>]*?\br=[\"']([A-Z]+)(\d+)[\"']")
_ODD_NUMBER = re.compile(rb"v>(?:-[0-9.]|0?\.9{8}|9\.9{7}|60[.<])")
"""Start of a number as `_ODD_TIME` finds it, in a twentieth of the time."""
_ODD_TIME = re.compile(
    rb"<(?:\w+:)?c\s[^<>]*?\br=[\"']([A-Z]+)(\d+)[\"'][^<>]*>(?:<(?:\w+:)?f\b[^<>]*(?:/>|>[^<>]*</(?:\w+:)?f>))?"
    rb"<(?:\w+:)?v>(?:-[0-9.][^<>]*|0?\.9{8}[^<>]*|9\.9{7}[^<>]*[eE]-0?1|60(?:\.[^<>]*)?)<"
)
"""A number of which calamine makes another time, without the sign, a day off, or of another day than Excel shows."""
_SAMPLE_ROWS = 1000
_MOST_EXACT = 1 << 53
_NO_LEAP_DAY = dt.date(1900, 2, 28)
"""What calamine makes of the 29th, which Excel has and the calendar has not."""
ROUNDED = "a number of more than 15 digits is rounded, as Excel holds it: ids of that length belong there as texts"
_LONGEST_TAG = 1 << 10
_CHUNK = 1 << 20
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
Row = tuple[int, list[str | None]]


class Sheet:
    """A sheet of a workbook: its header, and its rows."""

    def __init__(self, file: File, entity: Entity) -> None:
        """Read it.

        Raises:
            InputError: it is no workbook, the settings do not fit it, or a cell holds an error.
        """
        self.path = local(file)
        self._sheet = _sheet(file, entity.sheet)
        self.name = f"{file}, sheet {self._sheet.name!r}"
        box = _box(entity.range)
        cells = self._sheet.to_python(skip_empty_area=False)
        top, left, bottom, right = box or (1, 1, len(cells), max(map(len, cells), default=0))
        rows = [(number, row[left - 1 : right]) for number, row in enumerate(cells[:bottom], 1) if number >= top]
        first = entity.header_row or next((number for number, row in rows if any(one != "" for one in row)), 0)
        self._rows = [(number, row) for number, row in rows if number > first]
        named = dict(rows).get(first, [])
        if not any(one != "" for one in named):
            raise InputError("no row of it holds a header; set `header_row`", self.name)
        self.line = first
        self._places = []
        self.header: list[str] = []
        for place, one in enumerate(named):
            name = _text(one)
            if name is not None and name.strip():
                self._places.append(place)
                self.header.append(name)
            elif not any(place < len(row) and row[place] != "" for _, row in self._rows):
                continue
            elif entity.shape.unnamed_columns == "keep":
                self._places.append(place)
                self.header.append(f"column_{left + place}")
            elif entity.shape.unnamed_columns != "drop":
                what = f"column {_letters(left + place)} has values, and no name in the header"
                raise InputError(f"{what}; set `unnamed_columns` or `range`", self.name, line=first)
        lower = [name.lower() for name in self.header]
        if twice := [name for name in self.header if lower.count(name.lower()) > 1]:
            raise InputError("the header names it twice, in whatever case", self.name, line=first, column=twice[0])
        if any(map(_is_rounded, itertools.chain.from_iterable(row for _, row in self._rows))):
            LOGGER.warning("%s: %s", self.name, ROUNDED)
        self._refuse_errors(cells, range(first, bottom + 1), range(left, right + 1))
        merged = sum((c - a + 1) * (d - b + 1) - 1 for (a, b), (c, d) in self._sheet.merged_cell_ranges or ())
        if merged:
            LOGGER.info("%s: %d cells are merged into others, and read as empty", self.name, merged)

    def rows(self) -> Iterator[Row]:
        """Yield number and texts of each row that is not empty."""
        for number, row in self._rows:
            texts = [_text(row[place]) if place < len(row) else None for place in self._places]
            if any(one is not None for one in texts):
                yield number, texts

    def _refuse_errors(self, cells: list[list[t.Any]], rows: range, columns: range) -> None:
        """Look for cells that calamine (0.9.1) reads as something else.

        Those that show an error such as #DIV/0! are empty, times that no calendar has are other times.

        Raises:
            InputError: there is one.
        """
        has_times = any(isinstance(one, (dt.date, dt.time)) for row in cells for one in row)
        with zipfile.ZipFile(self.path) as archive, archive.open(_part(archive, self._sheet.name)) as file:
            before = b""
            while chunk := file.read(_CHUNK):
                data = before + chunk
                times = _ODD_TIME.finditer(data) if has_times and _ODD_NUMBER.search(data) else ()
                for found in itertools.chain(_ERROR_CELL.finditer(data), times):
                    letters, number = found[1].decode(), int(found[2])
                    if number not in rows or _number(letters) not in columns:
                        continue
                    what = "an error of Excel"
                    if found.re is _ODD_TIME:
                        what = "a time that no calendar has: it is negative, 24:00, or the 29th of February 1900"
                        if not _is_odd_time(cells[number - 1][_number(letters) - 1], negative=b"v>-" in found[0]):
                            continue
                    raise InputError(f"cell {letters}{number} holds {what}", self.name, line=number)
                before = data[-_LONGEST_TAG:]


def _is_odd_time(value: object, *, negative: bool) -> bool:
    """Whether a cell became a time, and its number is negative, or so near to another day that the time is wrong."""
    if isinstance(value, dt.datetime):
        return negative or value.date() == _NO_LEAP_DAY
    return (negative and isinstance(value, (dt.date, dt.time))) or value in {dt.time(), _NO_LEAP_DAY}


def header_of(file: File, entity: Entity) -> tuple[int | None, bool, bool]:
    """Guess which row holds the header, whether a column with values has no name there, and whether digits are lost.

    Returns:
        The first row of more than half as many cells as most rows have; none if it is the first that is not empty.

    Raises:
        InputError: the sheet cannot be read.
    """
    cells = _sheet(file, entity.sheet).to_python(skip_empty_area=False, nrows=_SAMPLE_ROWS)
    widths = [sum(cell != "" for cell in row) for row in cells]
    filled = [width for width in widths if width]
    if not filled:
        return None, False, False
    (usual, _), *_ = Counter(filled).most_common(1)
    place = next(place for place, width in enumerate(widths) if 2 * width > usual)
    nameless = [column for column, cell in enumerate(cells[place]) if cell == ""]
    has_nameless = any(row[column] != "" for row in cells[place + 1 :] for column in nameless if column < len(row))
    is_rounded = any(map(_is_rounded, itertools.chain.from_iterable(cells)))
    return (place + 1 if any(widths[:place]) else None), has_nameless, is_rounded


def _sheet(file: File, wanted: str | None) -> CalamineSheet:
    try:
        import python_calamine as calamine  # noqa: PLC0415 - in an optional group, and only workbooks need it
    except ImportError:
        what = "is a workbook of Excel, and python-calamine is missing: install it"
        raise InputError(what, file) from None
    path = local(file)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > _MOST_BYTES:
                raise InputError(f"is larger than {_MOST_BYTES:,} bytes unpacked: save it as CSV", file)
            if _OTHERS & {*archive.namelist()}:
                raise InputError("is a workbook of another kind than .xlsx as well: save it anew", file)
        book = calamine.CalamineWorkbook.from_path(str(path))
        names = book.sheet_names
        if wanted is None and len(names) > 1:
            raise InputError(f"has {len(names)} sheets: set `sheet` to one of {', '.join(names)}", file)
        if wanted is not None and wanted not in names:
            raise InputError(f"has no sheet {wanted!r}: set `sheet` to one of {', '.join(names)}", file)
        name = wanted or names[0]
        _refuse_sparse(path, name, file)
        return book.get_sheet_by_name(name)
    except (calamine.CalamineError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"is no workbook that can be read: {error}", file) from None


def _refuse_sparse(path: Path, sheet: str, file: File) -> None:
    """Check how far a sheet reaches before calamine makes a cell of each place.

    Raises:
        InputError: too far.
    """
    with zipfile.ZipFile(path) as archive:
        part = _part(archive, sheet)
        columns = max((_number(one.decode().upper()) for one in _plain(_LETTERS, archive, part)), default=0)
        rows = _MOST_ROWS
        if rows * columns > _MOST_CELLS or not columns:
            rows = max(map(int, _plain(_DIGITS, archive, part)), default=0)
        if rows * columns > _MOST_CELLS or not columns:
            rows, columns = _reach(archive, part)
    if rows * columns > _MOST_CELLS:
        what = f"reaches to row {rows:,} and column {_letters(columns)}, empty cells between: save it as CSV"
        raise InputError(what, f"{file}, sheet {sheet!r}")


def _parts(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Read a sheet in pieces that are cut before a tag."""
    rest = b""
    with archive.open(part) as unpacked:
        while chunk := unpacked.read(_CHUNK):
            data = rest + chunk
            end = max(data.rfind(b"<"), 0)
            rest = data[end:]
            if len(rest) > _CHUNK:
                raise InputError(f"a cell of more than {_CHUNK:,} bytes", f"{archive.filename}!{part}")
            yield data[:end]


def _plain(wanted: re.Pattern[bytes], archive: zipfile.ZipFile, part: str) -> set[bytes]:
    """Find something in the start of each cell, which takes a tenth of `_reach`; nothing if one is written oddly."""
    found = set[bytes]()
    for data in _parts(archive, part):
        cells = wanted.findall(data)
        if b":c" in data or len(cells) != sum(map(data.count, _STARTS)):
            return set()
        found.update(cells)
    return found


def _reach(archive: zipfile.ZipFile, part: str) -> tuple[int, int]:
    """Return the last row and column of a cell that holds something, or does not say where it stands."""
    rows = columns = numbered = nameless = most_nameless = 0
    for data in _parts(archive, part):
        cells = _FILLED.findall(data)
        rows = max([rows, *(int(row) for _, row in cells)])
        columns = max([columns, *(_number(one.decode().upper()) for one in {letters for letters, _ in cells})])
        numbered = max([numbered, *map(int, _ROW_NUMBER.findall(data))])
        if _NAMELESS.search(data):
            for place, row in enumerate(_ROW.split(data)):
                nameless = len(_NAMELESS.findall(row)) + (0 if place else nameless)
                most_nameless = max(most_nameless, nameless)
    return (max(rows, numbered), max(columns, most_nameless)) if most_nameless else (rows, columns)


def _part(archive: zipfile.ZipFile, sheet: str) -> str:
    """Return the name of the file in a workbook that holds a sheet."""
    book = ET.fromstring(archive.read("xl/workbook.xml"))  # noqa: S314 - expat of Python refuses bombs
    relations = ET.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314 - likewise
    key = next(one.get(_RELATION) for one in book.iter() if one.tag.endswith("}sheet") and one.get("name") == sheet)
    target = next(str(one.get("Target")) for one in relations if one.get("Id") == key)
    return target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _box(words: str | None) -> tuple[int, int, int, int] | None:
    """First row and column and last ones of a range such as `B2:F99`; it was checked with the settings."""
    found = RANGE.fullmatch(words or "")
    return (int(found[2]), _number(found[1]), int(found[4]), _number(found[3])) if found else None


def _number(letters: str) -> int:
    number = 0
    for one in letters:
        number = 26 * number + ord(one) - ord("A") + 1
    return number


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _is_rounded(value: object) -> bool:
    return isinstance(value, float) and value.is_integer() and abs(value) > _MOST_EXACT


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else plain_number(repr(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return None if value in {"", None} else str(value)
