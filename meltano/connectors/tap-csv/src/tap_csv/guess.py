"""Guess from the first and last lines of a file which settings it needs: what stands around rows, how values look."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import math
import re
import typing as t
from collections import Counter
from dataclasses import dataclass, field

DELIMITERS = ",;\t|"
COMMENTS = ("#", "--", "//", "%")
_LINES, _HEADER_LINES, _VALUES, _FOOTER_LINES = 2_000, 50, 1_000, 20
"""Lines that are looked at, in which the header is looked for, values of a column, and most lines of a footer."""
_ENOUGH = 0.8
"""Share of rows of one width from which a text is taken for a table."""
NULLS = (
    *(
        "\\N",
        "NULL",
        "null",
        "N/A",
        "n/a",
        "n.a.",
        "NA",
        "<NA>",
        "#N/A",
        "None",
        "nil",
        "NaN",
        "nan",
        "?",
        ".",
        "-",
        "--",
    ),
)
FORMATS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d %b %Y", "%b %d, %Y"),
    *("%d-%b-%Y", "%b-%d-%Y", "%d %B %Y", "%B %d, %Y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ":%H:%M:%S %z")
_FIELD = r"(?:^|[,;\t|]){quote}(?:[^{quote}\r\n]|{quote}{quote})*{quote}(?=[,;\t|\r\n]|$)"
_IN_QUOTES = {quote: re.compile(_FIELD.format(quote=quote), re.MULTILINE) for quote in "\"'"}
"""Fields that stand in such quotes."""
_OTHERWISE = re.compile(r'\\[^"\\\r\n]')
"""A backslash that takes no meaning from a quote or a backslash: to leave it out would change a value."""
_ESCAPED = re.compile(r'"[^"\r\n]*\\"[^",;\t|\r\n]')
"""A quote within quotes behind a backslash, which closes nothing."""
_SEPARATOR = re.compile(r'("?)sep=(.)\1$')
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_GERMAN = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")
_ENGLISH = re.compile(r"[-+]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
_SURELY_GERMAN = re.compile(r"[-+]?[\d.]+,(\d\d?|\d{4,})|[-+]?\d{1,3}(\.\d{3})+,\d+|[-+]?0,\d+")
_SURELY_ENGLISH = re.compile(r"[-+]?\d{1,3}(,\d{3})+\.\d+|[-+]?\d{1,3}(,\d{3}){2,}")
_SIGNS = "$€£¥"
_CODES = (
    "AED|ARS|AUD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KES|KRW|MAD|MXN|MYR|NGN|NOK|NZD|"
    "PEN|PHP|PKR|PLN|RON|RSD|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
"""Of currencies; other letters before digits are a code of something else."""
_AMOUNT = r"(?:0|[1-9][\d.,]*)?(?:[.,]?\d+)?"
_MONEY = re.compile(
    rf"\(?[-+]?\s?(?P<sign>[{_SIGNS}]|(?:{_CODES})\s)?\s?[-+]?(?=[\d.,])(?!0\d){_AMOUNT}\s?(?P<code>[{_SIGNS}]|(?<=\s)(?:{_CODES}))?\)?"
)
_DOUBLE = re.compile(r"[-+]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
"""What is a number, if no code: with a fraction, or an exponent below zero."""
_FRACTION = re.compile(r".*(\.|[eE]-).*")
_SHOWN = 60
"""Characters of a line that are shown."""
_EXACT_DIGITS, _MOST_DIGITS = 15, 17
"""Digits of a number that a DOUBLE keeps, and most of those that it is written with."""
_ENOUGH_ROWS = 2
"""More rows than this show what values a column has."""
_YEAR = re.compile(r"(19|20)\d\d")
_ISO = re.compile(r"\d{4}-\d\d?-\d\d?([ T].*)?")
_TOTAL = re.compile(
    r"\W*(grand |sub)?(total|totals|totaux|sum|summe|gesamt|gesamtsumme|insgesamt)\b.*", re.IGNORECASE
)
"""What a last row begins with that holds sums of the others."""


@dataclass
class Guess:
    """What a file needs.

    Attributes:
        delimiter: between fields.
        settings: of the entity, beside the delimiter.
        types: of columns that no sample would find.
        ragged: how many rows of the sample do not have as many fields as the header.
        rows: how many rows the sample has.
        hints: what a person should look at, since the file leaves it open.
    """

    delimiter: str
    settings: dict[str, t.Any] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    ragged: int = 0
    rows: int = 0
    hints: list[str] = field(default_factory=list)


_USUAL = {"quotechar": '"', "escapechar": None}


class _Marks(t.NamedTuple):
    """What stands between, around and within fields, by the names that Python's csv has for it."""

    delimiter: str = ""
    quotechar: str = '"'
    escapechar: str | None = None


def guess(
    head: str, tail: str, delimiter: str | None = None, *, is_whole: bool, nulls: t.Collection[str] = ()
) -> Guess:
    """Guess what a file needs.

    Args:
        head: its beginning.
        tail: its end.
        delimiter: where it is known.
        is_whole: whether the beginning is all of it.
        nulls: texts of which is known that they stand for no value.
    """
    lines = _lines(head.removeprefix("\ufeff"), is_whole=is_whole)
    named = _SEPARATOR.match(lines[0].rstrip("\r\n")) if lines else None
    if named:
        lines, delimiter = lines[1:], delimiter or named[2]
    marks = _quoting("".join(lines))._replace(delimiter=delimiter or "")
    comment = _comment(lines, marks)
    others = [line for line in lines if not _is_comment(line, comment)]
    marks, width = _table(others, _unquoted(others, marks) or marks)
    found = Guess(marks.delimiter)
    if width < 2:  # a column alone shows little
        _look_at_lines([line.strip() for line in lines if line.strip()], found)
        return found
    found.settings |= {
        name: value for name, value in marks._asdict().items() if name in _USUAL and value != _USUAL[name]
    }
    if comment:
        found.settings["comment"] = comment
        found.hints.append(f"`comment` leaves out {_left_out([one for one in lines if _is_comment(one, comment)])}")
    skip, names, width = _beginning(lines, marks, width, comment)
    if skip and not named:
        found.settings["skip"] = skip
        follows = "" if names else f"; the header is {lines[skip].strip()[:_SHOWN]!r}"
        found.hints.append(f"`skip` leaves out {_left_out(lines[:skip])}{follows}")
    rows = [row for row in _rows([one for one in lines[skip:] if not _is_comment(one, comment)], marks) if row]
    ends_in_comment = comment and _is_comment(tail.rstrip().rpartition("\n")[2], comment)
    if not ends_in_comment and _look_behind(tail, marks, width, found):
        while is_whole and rows and len(rows[-1]) != width:
            rows.pop()
    if text := _behind_quotes(lines[skip:], marks):
        found.hints.append(f"quotes within quotes are not doubled, and lose some: {text!r}; `strict` refuses them")
    if names:
        found.settings |= {"header": False, "names": names}
        rows = [names, *rows]
    if rows:
        _look_at_rows(rows, width, found, nulls)
    return found


def _look_at_lines(values: list[str], found: Guess) -> None:
    """Of a file of one column: whether the first line is a header, and whether blanks seem to be delimiters."""
    if len(values) > 1 and all(map(_is_typed, values)):
        found.settings |= {"header": False, "names": ["column_1"]}
    if len({len(value.split()) for value in values} - {1}) == 1:
        what = "blanks seem to stand between fields: write it with one delimiter, or fields are not told apart"
        found.hints.append(what)


def _lines(text: str, *, is_whole: bool) -> list[str]:
    """Cut a text at the ends of lines that a CSV file has; str.splitlines knows many more."""
    lines = [*itertools.islice(io.StringIO(text, newline=""), _LINES)]
    if (not is_whole or len(lines) == _LINES) and len(lines) > 1:
        lines.pop()  # it may be cut
    return lines


def _left_out(lines: list[str]) -> str:
    """Say what becomes of lines: how many are left out, and the last that is not blank."""
    last = next((line for line in reversed(lines) if line.strip(" ,;\t|\r\n")), "")
    return f"{len(lines)} line{'s' if len(lines) > 1 else ''}, such as {last.strip()[:_SHOWN]!r}"


def _is_comment(line: str, comment: str | None) -> bool:
    return comment is not None and line.startswith(comment)


def _quoting(text: str) -> _Marks:
    """Find what stands around and within values, where some leave no doubt of it."""
    double, single = (len(_IN_QUOTES[quote].findall(text)) for quote in "\"'")
    if single > double and single >= text.count("\n"):
        return _Marks(quotechar="'")
    is_escaped = _ESCAPED.search(text) and not _OTHERWISE.search(text)
    return _Marks(escapechar="\\") if is_escaped else _Marks()


def _unquoted(lines: list[str], marks: _Marks) -> _Marks | None:
    """Return the marks of a file whose quotes have no meaning, since they would join whole rows; else none."""
    if marks._replace(delimiter="") != _Marks() or not any('"' in line for line in lines):
        return None
    plain, width = _table(lines, marks._replace(quotechar=""))
    rows = [row for row in _rows(lines, plain) if row]
    is_table = width > 1 and all(len(row) == width for row in rows)
    return (
        plain if is_table and len(rows) > len([*filter(None, _rows(lines, plain._replace(quotechar='"')))]) else None
    )


def _reader(lines: t.Iterable[str], marks: _Marks) -> t.Any:  # noqa: ANN401 - typeshed's name for it is a private one
    options = marks._asdict() | ({} if marks.quotechar else {"quotechar": None, "quoting": csv.QUOTE_NONE})
    return csv.reader((line.replace("\0", "") for line in lines), **options)


def _rows(lines: t.Iterable[str], marks: _Marks) -> list[list[str]]:
    try:
        return [*_reader(lines, marks)]
    except csv.Error:
        return []


def _behind_quotes(lines: list[str], marks: _Marks) -> str:
    """Return the first line of which a text goes on behind its closing quote; empty if there is none."""
    if not marks.quotechar:
        return ""
    reader = csv.reader(lines, **marks._asdict(), strict=True)
    try:
        for _ in reader:
            pass
    except csv.Error as error:
        return lines[reader.line_num - 1].strip()[:_SHOWN] if "expected after" in str(error) else ""
    return ""


def _table(lines: list[str], marks: _Marks) -> tuple[_Marks, int]:
    """Find the delimiter by which most rows have most fields, unless it is known, and how many these are.

    One by which all rows have as many goes first: others stand within texts.
    """
    best = (False, 0, 0, 0, marks.delimiter or ",")
    for one in marks.delimiter or DELIMITERS:
        widths = Counter(len(row) for row in _rows(lines, marks._replace(delimiter=one)) if row)
        width = max(widths, key=lambda width: (widths[width] * (width - 1), width), default=0)
        if widths[width] == 1:
            width = next(iter(widths))
        is_even = len(widths) == 1 and width > 1
        best = max(best, (is_even, widths[width] * (width - 1), width, -DELIMITERS.find(one), one))
    return marks._replace(delimiter=best[4]), best[2]


def _comment(lines: list[str], marks: _Marks) -> str | None:
    """Find what lines begin with that are no rows; a header may begin so, too."""
    for mark in COMMENTS:
        marked = [line for line in lines if line.startswith(mark)]
        others = [line for line in lines if not line.startswith(mark)]
        if not marked or not others:
            continue
        found, width = _table(others, marks)
        if width > 1 and all(len(row) != width for row in _rows(marked, found)):
            return mark
    return None


def _skip(lines: list[str], marks: _Marks, width: int, comment: str | None) -> int:
    """How many lines stand before the header."""
    for place in range(min(len(lines), _HEADER_LINES)):
        if _is_comment(lines[place], comment):
            continue
        row = next(iter(_rows(itertools.islice(lines, place, place + _HEADER_LINES), marks)), [])
        if len(row) == width and _may_be_header(row, next(iter(_rows(lines[place + 1 : place + 2], marks)), [])):
            before = [line for line in lines[:place] if not _is_comment(line, comment)]
            return place if before else 0
    return 0


def _may_be_header(row: list[str], following: list[str]) -> bool:
    """Whether most columns have a name here, or some, and values follow; a title is followed by names."""
    names = [name for name in row if name.strip()]
    if 2 * len(names) > len(row):
        return True
    return len(names) > 1 and not any(map(_is_typed, names)) and any(map(_is_typed, following))


def _beginning(lines: list[str], marks: _Marks, width: int, comment: str | None) -> tuple[int, list[str], int]:
    """How many lines stand before the header, its names if it lacks a field, and how many fields rows shall have."""
    skip = _skip(lines, marks, width, comment)
    names = _names_above(lines, skip, marks, width)
    if skip and not names and _begins_with_header(lines, marks):
        return 0, [], len(_rows(lines[:1], marks)[0])  # rows do not fit it, and that shall be seen
    return skip, names, width


def _begins_with_header(lines: list[str], marks: _Marks) -> bool:
    """Whether the first line has names alone, and the next one begins with a number or a date, of several fields."""
    names, row = ((_rows(lines[place : place + 1], marks) or [[]])[0] for place in (0, 1))
    is_header = bool(names) and all(name.strip() and not _is_typed(name) for name in names)
    return is_header and max(len(names), len(row)) > 1 and bool(row) and _is_typed(row[0])


def _names_above(lines: list[str], skip: int, marks: _Marks, width: int) -> list[str]:
    """Names of a header that has a field less than the rows, as R writes it, or ends with a delimiter; else none."""
    above = next(iter(_rows(lines[skip - 1 : skip], marks)), []) if skip else []
    if len(above) == width + 1 and not above[-1]:
        names = above[:-1]
    elif len(above) == width - 1 and width > 2 and marks.delimiter == "\t":  # elsewhere a comma may lack its quotes
        names = ["column_1", *above]
    else:
        return []
    first = next(iter(_rows(lines[skip:], marks)), [])
    is_header = all(name.strip() for name in names) and len({name.lower() for name in names}) == width
    return names if is_header and not any(map(_is_typed, names)) and any(map(_is_typed, first)) else []


def _look_behind(tail: str, marks: _Marks, width: int, found: Guess) -> bool:
    """Say what stands behind the rows, and whether that are lines to leave out."""
    footer, last = _footer(tail, marks, width)
    if first := next((text for text in last if text and _TOTAL.fullmatch(text)), ""):
        found.hints.append(f"the last row holds {first!r}: if it sums up the others, leave it out by `skip_footer`")
    if footer:
        behind = [*io.StringIO(tail.removesuffix("\x1a"), newline="")][-footer:]
        found.settings["skip_footer"] = footer
        found.hints.append(f"`skip_footer` leaves out {_left_out(behind)}")
    return bool(footer)


def _footer(tail: str, marks: _Marks, width: int) -> tuple[int, list[str]]:
    """How many lines stand behind the last row, and that row; empty if there is none."""
    lines = [*io.StringIO(tail.removesuffix("\x1a"), newline="")]
    reader = _reader(lines, marks)
    fitting, last, found = 0, 0, []
    try:
        for row in reader:
            if len(row) == width:
                fitting, last, found = fitting + 1, reader.line_num, row
    except csv.Error:
        return 0, []
    behind = lines[last:]
    rows = [row for row in _rows(behind, marks) if row]
    # Lines of nearly as many fields are rows that lack one, or have one too many; after a number others are missing.
    is_footer = fitting > 2 * len(behind) and all(
        2 * len(row) <= max(width, 4) and not _is_typed(row[0]) for row in rows
    )
    return len(behind) if rows and is_footer and len(behind) <= _FOOTER_LINES else 0, found


def _look_at_rows(rows: list[list[str]], width: int, found: Guess, known: t.Collection[str]) -> None:
    header, values = rows[0], [row for row in rows[1:] if len(row) == width][:_VALUES]
    _look_at_widths(rows[1:], width, found)
    columns = [[*filter(None, column)] for column in zip(*values, strict=True)] if values else []
    nulls = _nulls(columns, known)
    columns = [[value for value in column if value not in nulls] for column in columns]
    if nulls:
        found.settings["null_values"] = nulls
    if "names" not in found.settings and _is_value_row(header, columns):
        if not all(map(_is_typed, header)):
            found.hints.append(
                f"the first row, with {header[0]!r}, is read as values: if it is the header, drop `names`"
            )
        header = [f"column_{place}" for place in range(1, width + 1)]
        found.settings |= {"header": False, "names": header}
    nameless = [place for place, name in enumerate(header) if not name.strip()]
    if nameless and nameless != [width - 1] and columns:
        found.settings["unnamed_columns"] = "keep"
    found.settings |= _separators(columns)
    for name, column in zip(header, columns, strict=False):
        kind = _kind(column, found.settings)
        if what := _left_open(column, found.settings):
            kind = "string"
            found.hints.append(f"column {name!r} stays text: {what}; `columns` says which")
        elif what := _read_as(column, kind, found.settings):
            found.hints.append(f"column {name!r}: {what}; if it is none, let `columns` say `string`")
        if kind and name.strip():
            found.types[name] = kind
    if values and (words := _words_above(values, nulls)):
        what = f"the first row holds {words[0]!r} where numbers or dates follow"
        found.hints.append(f"{what}: if it is the header, set `skip` to the lines before it; if units, load as text")


def _look_at_widths(rows: list[list[str]], width: int, found: Guess) -> None:
    short = sum(len(row) < width for row in rows)
    found.rows, found.ragged = len(rows), sum(len(row) != width for row in rows)
    if 0 < found.ragged <= found.rows * (1 - _ENOUGH):
        found.settings["ragged"] = "pad" if found.ragged == short else "quarantine"
        share = math.ceil(200 * found.ragged / found.rows)
        if found.ragged != short and share > 1:
            found.settings["max_rejected"] = f"{min(share, 100)}%"


def _words_above(rows: list[list[str]], nulls: t.Collection[str]) -> list[str]:
    """Values of the first row that are words, each above numbers or dates alone; none if one fits what follows."""
    first, *others = ([None if value in nulls else value for value in row] for row in rows)
    typed = [
        value
        for value, column in zip(first, zip(*others, strict=True), strict=bool(others))
        if (known := [*filter(None, column)]) and all(map(_is_typed, known))
    ]
    words = [value for value in typed if value and not _is_typed(value)]
    return words if len(rows) > _ENOUGH_ROWS and words and len(words) == len(typed) else []


def _left_open(column: list[str], settings: t.Mapping[str, t.Any]) -> str:
    """Say what a number may be as well: 52.520 thousands or a fraction, 1.10 among 1.9 a version; else nothing."""
    pointed = [value for value in column if "." in value]
    if not pointed or not all(re.fullmatch(r"[-+]?\d{0,3}(\.\d{1,3})?", value) for value in column):
        return ""
    fractions = {len(value.partition(".")[2]) for value in pointed}
    if settings.get("thousands_separator") == "." and fractions == {3}:
        return f"{pointed[0]} may be {pointed[0].replace('.', '')}, a code or a place"
    versions = [value for value in pointed if re.fullmatch(r"\d{0,2}\.\d0", value)]
    return f"{versions[0]} may be a version or a section" if versions and fractions == {1, 2} else ""


def _read_as(column: list[str], kind: str, settings: t.Mapping[str, t.Any]) -> str:
    """Say how numbers are read that may be codes or notes: whole ones of groups, some in brackets."""
    mark = settings.get("thousands_separator", "\0")
    if all(re.fullmatch(rf"\d{{1,3}}({re.escape(mark)}\d{{3}})*|\d+", value) for value in column):
        grouped = next((value for value in column if mark in value), "")
        return grouped and f"{grouped} is read as {grouped.replace(mark, '')}"
    bracketed = next((value for value in column if kind.startswith("money") and "(" in value), "")
    return bracketed and f"{bracketed} is read as an amount below zero"


def _nulls(columns: list[list[str]], known: t.Collection[str]) -> list[str]:
    """Texts that stand for no value: in a column that has nothing else but numbers or dates."""
    found = {value for value in known if value in NULLS}
    values: set[str] = set()
    for column in columns:
        others = [value for value in column if value not in NULLS]
        is_typed = all(map(_is_typed, others))
        here = {*column} & {*NULLS}
        found |= here if is_typed else here & {NULLS[0]}
        values |= set() if is_typed else here - {NULLS[0]}
    return [value for value in NULLS if value in found - values]


def is_value(name: str) -> bool:
    """Whether the name of a column is a number or a date, and no year of a table that is spread out."""
    return _is_typed(name) and not _YEAR.fullmatch(name)


def _is_typed(value: str) -> bool:
    forms = (_NUMBER, _GERMAN, _ENGLISH, _ISO)
    return any(form.fullmatch(value) for form in forms) or bool(
        re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}.*", value)
    )


def _is_value_row(header: list[str], columns: list[list[str]]) -> bool:
    """Whether the first row is one of values: where all others are numbers or dates, it has such, too."""
    typed = [place for place, column in enumerate(columns) if column and all(map(_is_typed, column))]
    years = all(_YEAR.fullmatch(header[place]) for place in typed)  # names of a table that is spread out
    return bool(typed) and not years and all(_is_typed(header[place]) for place in typed)


def _bare(value: str) -> str:
    return re.sub(rf"[{_SIGNS}()\sA-Z]", "", value)


def _separators(columns: list[list[str]]) -> dict[str, str]:
    """How numbers are written, where some value leaves no doubt of it."""
    german = english = grouped = 0
    for column in columns:
        bare = [_bare(value) for value in column if _NUMBER.fullmatch(value) or _MONEY.fullmatch(value)]
        if not column or len(bare) != len(column):
            continue
        if all(map(_GERMAN.fullmatch, bare)) and any(map(_SURELY_GERMAN.fullmatch, bare)):
            german += 1
            grouped += any("." in value for value in bare)
        elif all(map(_ENGLISH.fullmatch, bare)):
            english += any(map(_SURELY_ENGLISH.fullmatch, bare))
    if german and not english:
        return {"decimal_separator": ","} | ({"thousands_separator": "."} if grouped else {})
    return {"thousands_separator": ","} if english and not german else {}


def _kind(column: list[str], settings: t.Mapping[str, t.Any]) -> str:
    """Find the type that `columns` must name, since no sample finds it; empty if there is none."""
    if not column or all(_NUMBER.fullmatch(value) or _ISO.fullmatch(value) for value in column):
        return "number" if _is_double(column) else ""
    if _is_double(column):
        return "number"
    money = [_MONEY.fullmatch(value) for value in column]
    has_sign = any(one and (one["sign"] or one["code"]) for one in money)
    is_signed = has_sign or 0 < sum("(" in value for value in column) < len(column)
    if all(money) and is_signed and not any(_is_uncertain(value, settings) for value in column):
        codes = {one[part] for one in money if one for part in ("sign", "code") if one[part]}
        mark = settings.get("decimal_separator", ".")
        scale = max(2, *(len(_bare(value).partition(mark)[2]) for value in column))
        return f"money({scale + 14},{scale})" if len(codes) < 2 else ""
    kinds = []
    for form, clock in itertools.product(FORMATS, CLOCKS):
        if all(_is_date(value, form + clock) for value in column):
            kinds.append(f"date-time({form}{clock})" if clock else f"date({form})")
    kinds += [
        f"date-time(%d/%b/%Y{clock})" for clock in CLOCKS[-1:] if all(_is_date(v, f"%d/%b/%Y{clock}") for v in column)
    ]
    return kinds[0] if len(kinds) == 1 else ""


def _is_uncertain(value: str, settings: t.Mapping[str, t.Any]) -> bool:
    """Whether a mark of an amount may stand between thousands, or before a fraction: `1.500`."""
    plain = _bare(value).replace(settings.get("thousands_separator", "\0"), "")
    mark = re.escape(settings.get("decimal_separator", "."))
    return not re.fullmatch(rf"[-+]?\d*({mark}(\d{{1,2}}|\d{{4,}}))?", plain)


def _is_double(column: list[str]) -> bool:
    """Whether all are numbers, and some of a form that no sample takes for one: `.5`, `3e-04`, 17 digits."""
    if not all(map(_DOUBLE.fullmatch, column)) or not any(map(_FRACTION.fullmatch, column)):
        return False
    whole = [value for value in column if not _FRACTION.fullmatch(value)]
    if any("e" in value.lower() for value in whole) or any(_digits(value) > _MOST_DIGITS for value in column):
        return False  # 1E5 may be a code, and no DOUBLE has as many digits
    return any(not _NUMBER.fullmatch(value) or (_digits(value) > _EXACT_DIGITS and "." in value) for value in column)


def _digits(value: str) -> int:
    return len(re.sub(r"\D", "", value.lower().partition("e")[0]).strip("0"))


def _is_date(value: str, form: str) -> bool:
    try:
        dt.datetime.strptime(value, form)  # noqa: DTZ007 - only whether it is one
    except ValueError:
        return False
    return True
