"""Names, literals and conversions, as DuckDB's SQL writes them."""

from __future__ import annotations

import json
import re
import secrets
import typing as t

from elt_singer.sql import literal, name, names, path, text_of_double, to_json

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "DECIMAL",
    "INTEGERS",
    "KEY_DOUBLE",
    "MARK",
    "WHOLE",
    "convert",
    "from_json",
    "json_type",
    "literal",
    "may_be_rewritten",
    "name",
    "names",
    "path",
    "read_json",
    "unmarked",
]

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
WHOLE = (*INTEGERS, *_UNSIGNED)
_SMALL = (*INTEGERS[:3], *_UNSIGNED[:3])
_WITH_ZONE = ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
_EXACT_IN_DOUBLE = 2**53
"""Integers below it are the same as DOUBLE and as text."""
_SHOWS_FRACTION = 2**52
"""From it on, a DOUBLE made of a text is whole whatever fraction the text had."""
_DIGITS_IN_DOUBLE = 15
"""No two numbers of so many digits are the same DOUBLE."""
_DIGITS_BEFORE_NOISE = 12
DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
MARK = f"\x01{secrets.token_hex(8)}="
"""Begins a text that is the JSON of a value, as it was written; no record can know it."""
KEY_DOUBLE = "DOUBLE(key)"
"""A DOUBLE that must be the only one of its text, whatever its size, since two keys shall not become one."""
_TIMES = ("DATE", "TIME", "TIMESTAMP")
_LONG_IN_JSON = "[0-9]{16}[.eE]|[eE]-[0-9]{3}|" + "|".join(
    rf"[0-9]{{{one}}}\.[0-9]{{{16 - one}}}" for one in range(1, 16)
)
"""Numbers that DuckDB may write with fewer digits: those with a fraction or an exponent."""
_BYTES = re.compile(r'\bBLOB\b(?!")')


def read_json(file: str, members: Mapping[str, str], longest: int) -> str:
    """Lines of a file, of which each is an object.

    Args:
        file: its path.
        members: types of the members to read, by their names.
        longest: bytes of the longest line.
    """
    described = ", ".join(f"{name(member)}: {literal(kind)}" for member, kind in members.items())
    return (
        # DuckDB would read all lines to find out whether they are objects, were there but one member.
        f"read_json({path(file)}, format = 'newline_delimited', records = 'true', columns = {{{described}}}, "
        f"maximum_object_size = {longest}, compression = 'uncompressed', "
        "hive_partitioning = false)"
    )


def json_type(target: str, *, exact: bool) -> str:
    """Return the type to let the JSON reader make of a value that becomes a `target`.

    Args:
        target: type of the column.
        exact: numbers are read as text, which is slower and shows every digit, and tells a number that is too large
            from an infinity that was meant. DuckDB rounds a fraction when it reads one as integer, and would not say
            so.
    """
    if target == "BOOLEAN":  # as which any number would be true
        return "VARCHAR" if exact else "DOUBLE"
    if target.partition("(")[0] in {"BIGINT", "DOUBLE", "DECIMAL"}:
        return "JSON" if exact else "DOUBLE"  # where true is 1, and a text of it is none
    if target == "HUGEINT":
        return "JSON"
    # DuckDB takes dates with anything behind them, and passes over offsets.
    return "VARCHAR" if target in _TIMES else target


def from_json(value: str, target: str, *, exact: bool) -> str:
    """Return an expression that makes `target` of a value read as `json_type`, and fails where it does not fit."""
    read = json_type(target, exact=exact)
    if target in {"BIGINT", KEY_DOUBLE} and not exact:
        kind = target.partition("(")[0]
        return _unless(f"{value}::BIGINT::DOUBLE <> {value} or abs({value}) >= {_SHOWS_FRACTION}", value, kind)
    if target == "BOOLEAN" and not exact:
        return _unless(f"{value} <> 0 and {value} <> 1", value, target)
    if target == "DOUBLE" and not exact:
        return _unless(f"abs({value}) >= {_EXACT_IN_DOUBLE}", value, "DOUBLE")
    if read == "DOUBLE":  # a DECIMAL that is the same DOUBLE is the only one of 15 digits
        most = f"1e{_DIGITS_IN_DOUBLE - _scale(target)}"
        return _unless(f"{value}::{target}::DOUBLE <> {value} or abs({value}) >= {most}", value, target)
    if read == "JSON" != target:
        text = f"json_extract_string({value}, '$')"
        truth = "when 'true' then '1' when 'false' then '0'"
        return convert(f"(case {value}::VARCHAR {truth} else {text} end)", "VARCHAR", target)
    return value if read == target else convert(value, read, target)


def may_be_rewritten(value: str) -> str:
    """Return the condition that a text may be of a number, object or array, as the JSON reader writes one anew."""
    number = rf"regexp_full_match({value}, '-?\d+(\.\d+(e[+-]\d+)?|e[+-]\d+)')"
    # By the first byte, since to compare is quick.
    early = f"case when {value} < ':' then {number} else {value} >= '[' end"
    return rf"case when {value} < '\' then {early} when {value} >= '{{' then {value} < '|' end"


def _unless(inexact: str, value: str, target: str) -> str:
    """Return an expression of the value as `target` that fails on a condition."""
    return f"case when {inexact} then error('inexact')::{target} else {value}::{target} end"


def unmarked(value: str, target: str) -> str:
    """Return an expression that takes `MARK` from a value of type JSON or VARCHAR, and leaves others as they are."""
    if target == "JSON":
        begins = f"starts_with({value}::VARCHAR, {literal(json.dumps(MARK)[:-1])})"
        return f"case when {begins} then json_extract_string({value}, '$')[{len(MARK) + 1}:]::JSON else {value} end"
    begins = f"starts_with({value}, {literal(MARK)})"
    return f"case when {begins} then {value}[{len(MARK) + 1}:] else {value} end"


def convert(value: str, source: str, target: str) -> str:
    """Return an expression that makes `target` of a `source`, and fails where a value does not fit."""
    if source == "BLOB":
        value, source = f"decode({value})", "VARCHAR"  # fails where it is no UTF-8
    if target == "JSON":
        return _to_json(value, source)
    if source == target:
        return value
    if source == "JSON":
        kinds = f"when 'VARCHAR' then json_extract_string({value}, '$') when 'NULL' then null"
        value, source = f"(case json_type({value}) {kinds} else {value}::VARCHAR end)", "VARCHAR"
        return convert(value, source, target)
    for types, made in _EXACTLY.items():
        if target.partition("(")[0] in types:
            return made(value, source, target)
    return f"{value}::{target}"


def _scale(decimal: str) -> int:
    return int(decimal[decimal.index(",") + 1 : -1])


def _checked(value: str, condition: str, result: str, target: str) -> str:
    return f"case when {value} is null then null when {condition} then {result} else error('unfit')::{target} end"


def _to_json(value: str, source: str) -> str:
    """Return JSON without blanks, as from a RECORD. Only a text of an object or array is JSON; `1` becomes `"1"`."""
    text = f"{value}::VARCHAR"
    plain = rf"""regexp_replace({text}, '("(?:[^"\\]|\\.)*")|\s+', '\1', 'g')::JSON"""
    as_it_is = f"case when regexp_matches({text}, '{_LONG_IN_JSON}') then {plain} else json({text}) end"
    if source == "JSON":
        return f"case when json_type({value}) <> 'NULL' then {as_it_is} end"
    if source == "VARCHAR":
        is_nested = rf"regexp_matches({value}, '^\s*[\[{{]') and json_valid({value})"
        return f"case when {is_nested} then {as_it_is} else to_json({value}) end"
    if _BYTES.search(source):  # as JSON they would be written `\xFF`
        return f"case when {value} is not null then error('bytes')::JSON end"
    return f"case when {value} is not null then {to_json(value, source)} end"


def _to_text(value: str, source: str, target: str) -> str:
    if source == "DOUBLE":
        return text_of_double(value)
    is_nested = source.startswith(("STRUCT", "MAP")) or source.endswith("]")
    return f"{_to_json(value, source) if is_nested else value}::{target}"


def _to_integer(value: str, source: str, target: str) -> str:
    """DuckDB would round a fraction, and has rounded a number that has one or an exponent to DOUBLE."""
    if source in WHOLE:
        return f"{value}::{target}"
    double = f"{value}::DOUBLE" if source == "VARCHAR" else value
    fraction = f"{double} <> floor({double})"
    if source in {"DOUBLE", "FLOAT", "VARCHAR"}:
        limit = _SHOWS_FRACTION if source == "VARCHAR" else _EXACT_IN_DOUBLE
        fraction += f" or abs({double}) >= {limit}"
    if source == "VARCHAR":
        has_exponent = f"(contains({value}, 'e') or contains({value}, 'E'))"
        long = f"length({_digits(value)}) > {_DIGITS_IN_DOUBLE} or ({double} = 0 and {_digits(value)} <> '')"
        digits = rf"regexp_matches({value}, '\..*[1-9]')"
        pointed = f"contains({value}, '.') and ({fraction} or {digits})"
        # A sign without a digit, `- `, is 0 to DuckDB (1.5.5), but no DOUBLE.
        fraction = f"case when {has_exponent} then {fraction} or {long} else {pointed} or not isfinite({double}) end"
    return f"case when {fraction} then error('fraction')::{target} else {value}::{target} end"


def _digits(text: str) -> str:
    """Return the digits of a number from the first to the last that is not 0."""
    return rf"trim(regexp_replace({text}, '[eE].*|[^0-9]', '', 'g'), '0')"


def _to_double(value: str, source: str, target: str) -> str:
    """Integers must be exact, and so large numbers and keys must be as some program writes a DOUBLE.

    Other numbers with a fraction become the nearest one, as everywhere.
    """
    double = f"{value}::DOUBLE"
    if source in {"FLOAT", *_SMALL}:
        return double
    if source in WHOLE or source.startswith("DECIMAL"):
        return _checked(value, f"try_cast({double} as {source}) = {value}", double, "DOUBLE")
    digits = _digits(f"{value}::VARCHAR")
    forms = (f"{double}::VARCHAR", f"printf('%.17g', {double})", f"printf('%.0f', {double})")
    same = f"isfinite({double}) and {digits} in ({', '.join(map(_digits, forms))})"
    small = "false" if target == KEY_DOUBLE else f"abs({double}) < {_EXACT_IN_DOUBLE}"
    return _checked(value, f"{small} or not regexp_matches({value}::VARCHAR, '[0-9]') or ({same})", double, "DOUBLE")


def _to_decimal(value: str, source: str, target: str) -> str:
    """Return an expression that refuses more digits than fit, but for what a DOUBLE adds behind its 15th digit."""
    scale, number = _scale(target), f"{value}::{target}"
    if source in WHOLE:
        return number
    if source.startswith("DECIMAL"):
        return _checked(value, f"{number} = {value}", number, target)
    text = value if source == "VARCHAR" else f"{value}::VARCHAR"
    number, double, digits = f"{text}::{target}", f"{text}::DOUBLE", _digits(text)
    # Without a digit, `- ` is 0 to DuckDB (1.5.5), but no DOUBLE; and `_` may stand between digits.
    short = rf"not regexp_matches({text}, '[eE_]|^[^0-9]*$|\.\d{{{scale}}}.*[1-9]')"
    near = f"length({digits}) <= {_DIGITS_IN_DOUBLE} and {number}::DOUBLE = {double}"
    near += f" and ({double} <> 0 or {digits} = '')"
    noise = f"abs({double}) < 1e{_DIGITS_BEFORE_NOISE - scale} and length({digits}) <= 17"
    noise += f" and abs({number}::DOUBLE - {double}) < 1e-15 * abs({double})"
    return _checked(value, f"{short} or ({near}) or ({noise})", number, target)


def _to_boolean(value: str, source: str, target: str) -> str:
    """Return an expression that takes true and false as words or as 1 and 0."""
    number = f"try_cast({value} as DOUBLE)"
    if source != "VARCHAR":
        return _checked(value, f"{number} in (0, 1)", f"{value}::{target}", target)
    by_number = _checked(value, f"{number} in (0, 1)", f"{number} = 1", target)
    return f"case when lower({value}) in ('true', 'false') then {value}::{target} else {by_number} end"


_OFFSET = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d(:[0-5]\d)?)?)?"
_DAY = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
_YEARS = "-62135596800000000 and 253402300799999999"
"""Microseconds since 1970 in the years 1 to 9999, which is what Python and most others can read again."""
_FRACTION = r"(\.\d{0,6}0*)?"
"""As many digits as a column holds; zeros behind them are the same."""
_FORMS = {
    "DATE": rf"{_DAY}([T ]0{{1,2}}:00(:00(\.0*)?)?{_OFFSET})?",
    "TIME": rf"([01]?\d|2[0-3]):\d{{2}}(:\d{{1,2}}{_FRACTION})?{_OFFSET}",
    "TIMESTAMP": rf"{_DAY}([T ]\d{{1,2}}:\d{{2}}(:\d{{1,2}}{_FRACTION}{_OFFSET})?)?",
}
"""What is taken for a date or a time, in ISO 8601 as taps write it. DuckDB then says whether there is such a day."""
_QUICK = {
    "DATE": "strlen({v}) = 10 and strpos({v}, '-') = 5",
    "TIME": "{v} like '__:__:__'",
    "TIMESTAMP": " or ".join(
        f"{{v}} like '____-__-__T__:__:__{end}'"
        for end in (".______Z", "Z", "+00:00", ".______+00:00", ".___Z", ".___+00:00")
    ),
}
"""Texts that the cast to TIMESTAMP reads right or refuses, though it drops offsets; a pattern takes a third of it."""


def _to_time(value: str, source: str, target: str) -> str:
    if source == "VARCHAR":
        return _time_from_text(value, target)
    cast = f"{value}::{target}"
    if target == "TIMESTAMP" and source in _WITH_ZONE:
        return f"coalesce(make_timestamp(epoch_us({value})), {cast})"  # the cast asks for the zone of every value
    # DuckDB would drop the time of day, and what is shorter than a microsecond.
    return _checked(value, f"{cast}::{source} = {value}", cast, target)


def _time_from_text(value: str, target: str) -> str:
    whole, bound, end = value, f"{value} >= '0001'", ""  # a blank would hide digits of a year
    if target == "TIME":
        whole, bound, end = f"'2000-01-01 ' || {value}", f"{value} < '24'", "::TIME"
    moment = f"epoch_us(({whole})::TIMESTAMPTZ)"
    slow = f"make_timestamp(case when {moment} between {_YEARS} then {moment} else error('unfit')::BIGINT end){end}"
    if target == "DATE":
        slow, end = f"regexp_extract({value}, '^[^T ]*')::DATE", "::DATE"
    quick = _QUICK[target].format(v=value)
    form = literal(f"^({_FORMS[target]})$")
    return (
        f"case when ({quick}) and {bound} then ({whole})::TIMESTAMP{end} when {value} is null then null "
        f"when regexp_matches({value}, {form}) and {bound} then {slow} "
        f"when lower({value}) in ('infinity', '-infinity') then {value}::{target} else error('unfit')::{target} end"
    )


_EXACTLY: dict[tuple[str, ...], Callable[[str, str, str], str]] = {
    ("BIGINT", "HUGEINT"): _to_integer,
    ("BOOLEAN",): _to_boolean,
    ("DOUBLE",): _to_double,
    ("DECIMAL",): _to_decimal,
    ("VARCHAR",): _to_text,
    _TIMES: _to_time,
}
"""Conversions that DuckDB would make without a word where a value changes."""
