"""How numbers, money and dates are written where it is not as in JSON: such texts as types of columns."""

from __future__ import annotations

import dataclasses
import re
import typing as t

import duckdb

from tap_csv import sql, types

NAMES = (*types.NAMES, "money(P,S)", "date(FORMAT)", "date-time(FORMAT)", "date-time(FORMAT, ZONE)")
"""What the setting `columns` takes."""
DECIMAL_SEPARATORS, THOUSANDS_SEPARATORS = ".,", ".,'\u2019 _"
_SPACES = " \u00a0\u202f"
"""A space between thousands may be one at which no line is broken."""

_CURRENCY = r"(?:\p{Sc}|[A-Z]{3})"
_PARTS = {
    "%d": r"\d{1,2}",
    "%m": r"\d{1,2}",
    "%Y": r"\d{4}",
    "%y": r"\d{2}",
    "%b": r"[A-Za-z]{3}",
    "%B": r"[A-Za-z]{3,9}",
    "%H": r"\d{1,2}",
    "%I": r"\d{1,2}",
    "%M": r"\d{2}",
    "%S": r"\d{2}",
    "%f": r"\d{1,6}",
    "%p": r"[AaPp][Mm]",
    "%z": r"[+-]\d{2}:?\d{2}",
    "%%": "%",
}
"""What a date's format may hold, and what that stands for. Days of the week are not: they might contradict."""
_FORMATTED = re.compile(r"(date|date-time)\((.+?)(?:,\s*([A-Za-z]+(?:[/_+-][A-Za-z0-9]+)*))?\)")
_MONEY = re.compile(r"money\(\s*(\d+\s*,\s*\d+)\s*\)", re.IGNORECASE)
_DAY, _CLOCK = ({"%d"}, {"%m", "%b", "%B"}, {"%Y", "%y"}), {"%H", "%I", "%M", "%S", "%f", "%p", "%z"}


class Notation(t.NamedTuple):
    """How numbers are written."""

    decimal: str = "."
    thousands: str | None = None


PLAIN = Notation()


class FormatError(ValueError):
    """A format of a date that cannot be read."""


def written(kind: types.Type, notation: Notation) -> types.Type:
    """Return the type of the same values in another notation; all but numbers are written in one way only."""
    if notation == PLAIN or kind.schema["type"] not in {"integer", "number"}:
        return kind
    whole, point = r"\d*", re.escape(notation.decimal)
    bare = "{v}"
    if notation.thousands:
        letters = _SPACES if notation.thousands == " " else notation.thousands
        whole = rf"(\d*|\d{{1,3}}([{re.escape(letters)}]\d{{3}})+)"
        bare = f"translate({{v}}, {_template(letters)}, '')"
    if notation.decimal != ".":
        bare = f"replace({bare}, {_template(notation.decimal)}, '.')"
    pattern = rf"\s*[-+]?{whole}({point}\d*)?([eE][-+]?\d+)?\s*"
    return _over(kind, f"case when regexp_full_match({{v}}, {_template(pattern)}) then {bare} else 'x' end")


def named(name: str, notation: Notation = PLAIN) -> types.Type:
    """Return the type of that name.

    Raises:
        FormatError: it is a date of a format that cannot be read.
        ValueError: there is none.
    """
    name = name.strip()
    if found := _MONEY.fullmatch(name):
        return _money(found[1], notation)
    if found := _FORMATTED.fullmatch(name):
        return _formatted(name, *found.groups())
    return written(types.named(name), notation)


def _template(text: str) -> str:
    """Return a literal within an expression that is formatted once more."""
    return sql.literal(text).replace("{", "{{").replace("}", "}}")


def _over(kind: types.Type, text: str) -> types.Type:
    """Return the type of values whose text an expression makes of another text."""

    def put(expression: str) -> str:
        return expression.replace("{v}", f"({text})")

    keeps = kind.read == "VARCHAR"
    return dataclasses.replace(
        kind,
        from_text=put(kind.from_text),
        read="VARCHAR",
        fast=put(kind.fast) if keeps else "",
        quick=put(kind.quick) if keeps else "{v}",
        sure=put(kind.sure),
        narrower=kind.narrower and _over(kind.narrower, text),
    )


def _money(digits: str, notation: Notation) -> types.Type:
    """Return a decimal with signs or codes of currencies, and brackets for negatives."""
    kind = types.named(f"decimal({digits})")
    letters = "." + notation.decimal + (notation.thousands or "")
    number = rf"[\d{re.escape(letters)}{_SPACES}]*\d[\d{re.escape(letters)}{_SPACES}]*"
    space = rf"[\s{_SPACES}]*"
    currency = rf"({_CURRENCY}{space})?"
    signed = rf"([-+]?{space}{currency}|{currency}[-+]{space}){number}{currency}"
    pattern = rf"{space}({signed}|\({space}{currency}{number}{currency}\)){space}"
    others = _template(rf"[^\d{re.escape(letters)}{_SPACES}]")
    bare = f"trim(regexp_replace({{v}}, {others}, '', 'g'), '{_SPACES}')"
    sign = "case when contains({v}, '-') or contains({v}, '(') then '-' else '' end"
    text = f"case when regexp_full_match({{v}}, {_template(pattern)}) then {sign} || {bare} else 'x' end"
    name = re.sub(r"\s", "", f"money({digits})")
    return dataclasses.replace(_over(written(kind, notation), text), name=name)


def _formatted(name: str, kind: str, form: str, zone: str | None) -> types.Type:
    """Return a date, or a point in time, of a format."""
    if zone and not (kind == "date-time" and "%z" not in form and _is_zone(zone)):
        raise FormatError(f"{zone} is no zone that such a format may have")
    parts = re.findall(r"%.?|[^%]", form)
    for part in parts:
        if part.startswith("%") and part not in _PARTS:
            raise FormatError(f"{part} is none of {' '.join(_PARTS)}")
    given = {part for part in parts if part.startswith("%")}
    twice = {part for part in given if parts.count(part) > 1 and part != "%%"}
    if twice or any(len(given & some) != 1 for some in _DAY):
        raise FormatError("a format has day, month and year, each once")
    if ("%I" in given) != ("%p" in given) or {"%H", "%I"} <= given:
        raise FormatError("a format has %H, or %I with %p")
    if kind == "date" and given & _CLOCK:
        raise FormatError("a date has no time: `date-time(FORMAT)`")
    pattern = ""
    for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
        one = _PARTS.get(part) or re.escape(part)
        beside = [_PARTS.get(other, other) for other in (before, after)]
        # Where no other letter stands between, nobody could tell which of two numbers is the longer one.
        is_open = any(other.startswith(r"\d") or other.isdigit() for other in beside)
        pattern += one.replace("{1,2}", "{2}") if is_open else one
    pattern = rf"\s*{pattern}\s*"
    local = rf"try_strptime(trim({{v}}, E' \t\n\f\r'), {_template(form)})"
    fits = f"regexp_full_match({{v}}, {_template(pattern)})"
    base = types.DATE if kind == "date" else types.DATE_TIME
    moment = _instant(local, zone) if zone else f"make_timestamp(epoch_us({local}))"
    known = f"epoch_us({moment}) between -62135596800000000 and 253402300799999999"
    value = f"case when {fits} and {known} then {moment} end"
    return types.Type(name, base.schema, base.sql, f"({value})::DATE" if kind == "date" else value)


def _instant(local: str, zone: str) -> str:
    """Return the instant of a local time, in UTC; none where the zone's clocks show it never or twice."""
    where = sql.literal(zone)
    found = f"timezone({where}, {local})"

    def other(days: int) -> str:
        """Return the instant with the offset that holds before or after."""
        then = f"({found} + interval '{days} day')"
        return f"({local} - (timezone({where}, {then}) - timezone('UTC', {then})))"

    utc = f"timezone('UTC', {found})"
    shown = [f"timezone({where}, {found}) = {local}"]
    shown += [
        f"({one} = {utc} or timezone({where}, timezone('UTC', {one})) <> {local})" for one in map(other, (-1, 1))
    ]
    return f"case when {' and '.join(shown)} then {utc} end"


def _is_zone(name: str) -> bool:
    with duckdb.connect() as connection:
        query = "select count(*) from pg_timezone_names() where name = ?"
        found = connection.execute(query, [name]).fetchone()
    return bool(found and found[0])
