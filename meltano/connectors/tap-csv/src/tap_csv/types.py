"""Types of columns: their names, their JSON schemas, and how DuckDB makes a value of each out of text.

A type that was found in a sample, or that a catalog says, is strict: it takes only texts that its values give back,
and so whatever rules a type out in the sample is refused after it. A type that `columns` names takes more.
"""

from __future__ import annotations

import json
import math
import re
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal

NAMES = ("integer", "number", "decimal(P,S)", "boolean", "date", "time", "date-time", "string")
"""What the setting `columns` takes."""

_SHOWS_FRACTION = 2**52
"""From it on, a DOUBLE made of a text is whole whatever fraction the text had."""
_BIGINT = range(-(2**63), 2**63)
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_MOST_DIGITS = 38
_LEAST_WHOLE = 15
_EXPONENT = "(contains({v}, 'e') or contains({v}, 'E'))"


@dataclass(frozen=True)
class Type:
    """A type of a column.

    Expressions stand for a value `{v}` that is no null, and give null where it does not fit the type.
    """

    name: str
    schema: dict[str, t.Any] = field(compare=False)
    """JSON schema of a value, without null."""
    sql: str
    """The type that values have in DuckDB and in parquet files."""
    from_text: str
    """The expression that makes a value of its text."""
    read: str = "VARCHAR"
    """The type to let the CSV reader make. It takes more than a strict type does, and says not what it read."""
    fast: str = ""
    """A condition under which `quick` makes the value of what was read, which spares most values what costs time."""
    quick: str = "{v}"
    sure: str = "true"
    """Whether a text is meant so, where the type is not known; for a text that fits."""
    narrower: Type | None = None
    """A type all of whose texts are of this one too, and which is found out faster."""

    def value(self, value: str, *, text: bool) -> str:
        """The expression that makes a value of what was read, and fails where it does not fit; null stays null."""
        if self.from_text == "{v}" or (self.fast == "true" and not text):
            return value
        refuse = f"error('misfit')::{self.sql}"
        slow = f"coalesce({self.from_text.format(v=value)}, {refuse})" if text or self.read == "VARCHAR" else refuse
        fast = f"when {self.fast.format(v=value)} then {self.quick.format(v=value)}" if self.fast and not text else ""
        return f"case {fast} when {value} is null then null else {slow} end"

    def with_leading_zero(self) -> str:
        """The type whose values DuckDB writes as `0.5`, for one whose it writes as `.5`, which is no JSON."""
        found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.sql)
        return f"DECIMAL({int(found[1]) + 1},{found[2]})" if found and found[1] == found[2] else ""

    def misfit(self, value: str) -> str:
        """Whether a text is no such value."""
        return f"({value} is not null and {self.from_text.format(v=value)} is null)"

    def refusal(self, column: str) -> str:
        """What to say of a text that is no such value, with the way to have it."""
        other = "number" if self.name.startswith("decimal") else "string"
        way = f"`columns: {{{quoted(column)}: {other}}}` in the settings gives it another type"
        return f"the value is no {self.name}; {way}"

    def meant(self, value: str) -> str:
        """Whether a text shall be taken for one."""
        own = f"({self.from_text.format(v=value)} is not null and {self.sure.format(v=value)})"
        if self.narrower:
            return f"case when {self.narrower.meant(value)} then true else {own} end"
        return f"case when {self.fast.format(v=value)} then true else {own} end" if self.fast else own


def quoted(column: str) -> str:
    """A column's name, as it may stand in the settings in YAML."""
    return column if re.fullmatch(r"[^\W\d]\w*", column) else json.dumps(column, ensure_ascii=False)


def _if(condition: str, value: str) -> str:
    return f"case when {condition} then {value} end"


def _cast(kind: str) -> str:
    return f"try_cast({{v}} as {kind})"


def _is(pattern: str) -> str:
    """Whether a text is of this form as a whole, blanks around it aside."""
    doubled = pattern.replace("{", "{{").replace("}", "}}")
    return rf"regexp_full_match({{v}}, '\s*(?:{doubled})\s*')"


def _gives_back(kind: str) -> str:
    """Whether the value of a type that a text is cast to is written as this very text."""
    return f"{_cast(kind)}::VARCHAR = {{v}}"


def _gives_back_in(size: int, kind: str) -> str:
    """As `_gives_back`, of so many bytes.

    Two conditions that are compared stand for `and`: from within that, DuckDB (1.5.5) shares no cast with `quick`.
    """
    return f"({_gives_back(kind)}) > (strlen({{v}}) <> {size})"


def _finite(instant: str, condition: str = "true") -> str:
    """A time stamp in the years 1 to 9999, which is all that its text in JSON can say."""
    known = f"isfinite({instant}) and epoch_us({instant}) between -62135596800000000 and 253402300799999999"
    return _if(f"{known} and {condition}", f"make_timestamp(epoch_us({instant}))")


def _strict_integer(kind: str, schema: dict[str, t.Any], narrower: Type | None = None) -> Type:
    """Zeros behind a point may follow in a column of integers, but three of them may mean a thousand."""
    text = _if(_is(r"(0|-?[1-9]\d*)(\.(0{1,2}|0{4,}))?"), _cast(kind))
    sure = "not contains({v}, '.')"  # who writes a point has fractions
    fast, quick = _gives_back(kind), _cast(kind)
    return Type("integer", schema, kind, text, fast=fast, quick=quick, sure=sure, narrower=narrower)


_INTEGER: dict[str, t.Any] = {"type": "integer"}
_NUMBER: dict[str, t.Any] = {"type": "number"}
_BOOLEAN: dict[str, t.Any] = {"type": "boolean"}
_DATE: dict[str, t.Any] = {"type": "string", "format": "date"}
_TIME: dict[str, t.Any] = {"type": "string", "format": "time"}
_DATE_TIME: dict[str, t.Any] = {"type": "string", "format": "date-time"}

_DOUBLE = _cast("DOUBLE")
_FINITE_DOUBLE = f"isfinite({_DOUBLE})"
_MINUS_ZERO = r"-0(\.0*)?"  # only a DOUBLE keeps its sign
_PLAIN = r"-?(0|[1-9]\d*)(\.\d+)?"
_SHORT = r"regexp_full_match({v}, '-?(0|[1-9]\d{{0,6}})(\.\d{{1,8}})?')"
"""A number of at most 15 digits, each of which a DOUBLE gives back."""
_SIGNIFICANT = r"regexp_replace(trim({v}, E' \t\n\f\r'), '(\.\d*[1-9])0+$|\.0+$', '\1')"
"""A number without the zeros at the end of its fraction."""
_FEW_DIGITS = f"length({{v}}) < 300 and length(ltrim(replace({_SIGNIFICANT}, '.', ''), '-0')) <= 15"

_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_HOUR = r"([01]?\d|2[0-3])"
_SECOND = r":[0-5]\d(\.\d{1,6}0*)?"  # DuckDB would cut what is finer than a microsecond
_OFFSET = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)"  # DuckDB would take names of zones, and guess at what BST is
_MOMENT = rf"{_DAY}([ T]{_HOUR}:[0-5]\d({_SECOND}{_OFFSET}?)?)?"
_STAMP = _cast("TIMESTAMPTZ")
_MIDNIGHT = f"epoch_us({_STAMP}) % 86400000000 = 0"
_FAST_DATE = _gives_back_in(10, "DATE")  # then the year has four digits

INTEGER = _strict_integer("BIGINT", _INTEGER)
# Parquet has no HUGEINT; DuckDB would write a DOUBLE.
HUGE = _strict_integer(
    "DECIMAL(38,0)",
    _INTEGER | {"minimum": -(10**_MOST_DIGITS) + 1, "maximum": 10**_MOST_DIGITS - 1},
    narrower=INTEGER,
)
_SAME_DOUBLE = f"regexp_replace({_DOUBLE}::VARCHAR, '\\.0$', '') = {_SIGNIFICANT}"
NUMBER = Type(
    "number",
    _NUMBER,
    "DOUBLE",
    _if(f"{_FINITE_DOUBLE} and (({_is(_PLAIN)} and {_FEW_DIGITS}) or {_SAME_DOUBLE})", _DOUBLE),
    fast=_SHORT,
    quick=_DOUBLE,
)
BOOLEAN = Type(
    "boolean",
    _BOOLEAN,
    "BOOLEAN",
    "case when {v} = 'false' then false when lower({v}) in ('true', 'false') then lower({v}) = 'true' end",
    fast="{v} = 'true'",
    quick="true",
)
DATE = Type(
    "date",
    _DATE,
    "DATE",
    _if(_is(_DAY), f"({_finite(_STAMP)})::DATE"),
    fast=_FAST_DATE,
    quick=_cast("DATE"),
)
TIME = Type("time", _TIME, "TIME", _if(_is(f"{_HOUR}:[0-5]\\d{_SECOND}"), _cast("TIME")))
DATE_TIME = Type(
    "date-time",
    _DATE_TIME,
    "TIMESTAMP",
    _if(_is(_MOMENT), _finite(_STAMP)),
    fast=_gives_back_in(19, "TIMESTAMP"),  # then there is no offset, which this cast would drop
    quick=_cast("TIMESTAMP"),
)
STRING = Type("string", {"type": "string"}, "VARCHAR", "{v}")
GROUPED = Type("string", STRING.schema, "VARCHAR", _if(_is(r"-?(0|[1-9]\d*)(\.\d{3})?"), "{v}"))
"""Whole numbers, or such whose point may as well stand between thousands; zeros in front make a text of its own."""
_STRICT = {one.name: one for one in (INTEGER, NUMBER, BOOLEAN, DATE, TIME, DATE_TIME, STRING)}


def _named_integer() -> Type:
    """DuckDB would round a fraction, and make an integer of a text that is longer than a DOUBLE is exact."""
    short = f"abs({_DOUBLE}) < {_SHOWS_FRACTION}"
    text = _if(f"{_DOUBLE} = floor({_DOUBLE}) and (not contains({{v}}, '.') or {short})", _cast("BIGINT"))
    fast = f"{{v}} = floor({{v}}) and abs({{v}}) < {_SHOWS_FRACTION}"
    return Type("integer", _INTEGER, "BIGINT", text, "DOUBLE", fast, "{v}::BIGINT")


_NAMED = {
    one.name: one
    for one in (
        _named_integer(),
        Type("number", _NUMBER, "DOUBLE", _if(_FINITE_DOUBLE, _DOUBLE), "DOUBLE", "isfinite({v})"),
        Type("boolean", _BOOLEAN, "BOOLEAN", _cast("BOOLEAN"), "BOOLEAN", "true"),
        Type(
            "date",
            _DATE,
            "DATE",
            _if(_is(_MOMENT), f"({_finite(_STAMP, _MIDNIGHT)})::DATE"),
            fast=_FAST_DATE,
            quick=_cast("DATE"),
        ),
        Type("time", _TIME, "TIME", _if(_is(f"{_HOUR}:[0-5]\\d({_SECOND})?"), _cast("TIME"))),
        DATE_TIME,
        STRING,
    )
}


def decimal(precision: int, scale: int, *, strict: bool = False) -> Type:
    """A number of exactly so many digits; more are refused, where DuckDB would round.

    Raises:
        ValueError: there is no such type.
    """
    if not 0 < precision <= _MOST_DIGITS or not 0 <= scale <= precision or scale == _MOST_DIGITS:
        raise ValueError(f"decimal({precision},{scale})")
    kind = f"DECIMAL({precision},{scale})"
    widest = f"DECIMAL({_MOST_DIGITS},{_MOST_DIGITS - precision + scale})"
    schema: dict[str, t.Any] = {"type": "number", "multipleOf": float(Decimal(1).scaleb(-scale)) if scale else 1}
    schema |= {"x-singer.decimal": {"precision": precision, "scale": scale}}
    name = f"decimal({precision},{scale})"
    if strict:
        fraction = rf"\.\d{{1,{scale}}}0*" if scale else r"\.0+"
        plain = _is(rf"-?(0|[1-9]\d*)({fraction})?")
        text = _if(f"{plain} and not {_is(_MINUS_ZERO)}", _cast(kind))
        fast = _gives_back(kind) if scale < precision else ""  # else DuckDB writes .5, which is no such text
        return Type(name, schema, kind, text, fast=fast, quick=_cast(kind))
    # Without an exponent the digits after the point tell. The cast lets a number with one be too large for its type
    # (DuckDB 1.5.5), which the first comparison finds; the second one finds digits too small for either.
    digits = rf"regexp_matches({{v}}, '^[^.]*(\.\d{{{{0,{scale}}}}}0*\s*)?$')"
    same = f"try({_cast(kind)} = {_cast(widest)}) and {_cast('DOUBLE')} = {_cast(kind)}::DOUBLE"
    text = _if(f"case when {_EXPONENT} then {same} else {digits} end", _cast(kind))
    few = f"(not contains({{v}}, '.') or length({{v}}) - instr({{v}}, '.') <= {scale}) and not {_EXPONENT}"
    return Type(name, schema, kind, text, fast=few, quick=f"{{v}}::{kind}")


_PRICES = (decimal(16, 2, strict=True), decimal(18, 4, strict=True))
"""What numbers of few digits after the point are found to be, so that sums are exact; the latter holds the former."""
SHORT = 14
"""Bytes of a text that no wider type refuses for its length: none has more than 14 digits before the point."""
_IMPLIED = {
    INTEGER: (HUGE, GROUPED, *_PRICES, NUMBER),
    _PRICES[0]: (_PRICES[1], NUMBER),
    _PRICES[1]: (NUMBER,),
    DATE: (DATE_TIME,),
}


def candidates(delimiter: str, *, key: bool = False) -> tuple[Type, ...]:
    """Types that a column may be found to be of, the narrowest first; text is what fits none.

    Args:
        delimiter: of the file. Where a semicolon stands between fields, a point may stand between thousands.
        key: whether it tells rows apart, which `1.1` and `1.10` would not do as numbers.
    """
    whole = (INTEGER, HUGE, GROUPED) if delimiter == ";" else (INTEGER, HUGE)
    fractions = () if key else (*_PRICES, NUMBER)
    return (*whole, *fractions, BOOLEAN, DATE, TIME, DATE_TIME)


def implied(kind: Type) -> tuple[Type, ...]:
    """The types that a text of at most `SHORT` bytes may be taken for too if it may be taken for one of this type."""
    return _IMPLIED.get(kind, ())


def named(name: str) -> Type:
    """The type of that name.

    Raises:
        ValueError: there is none.
    """
    if found := _DECIMAL.fullmatch(name.strip().lower()):
        return decimal(int(found[1]), int(found[2]))
    try:
        return _NAMED[name.strip().lower()]
    except KeyError:
        raise ValueError(name) from None


def of_schema(schema: t.Mapping[str, t.Any]) -> Type:
    """The type that a catalog's JSON schema of a property asks for; text if it asks for none that we know.

    It is strict: most catalogs were written by discovery, from a sample.
    """
    kinds = schema.get("type")
    found = {kinds} if isinstance(kinds, str) else set(kinds or ())
    found.discard("null")
    if found == {"string"}:
        return _STRICT.get(schema.get("format") or "string", STRING)
    if found == {"integer"}:
        return INTEGER if all(one is None or one in _BIGINT for one in _bounds(schema)) else HUGE
    if found and found <= {"integer", "number"}:
        return _of_number(schema)
    return BOOLEAN if found == {"boolean"} else STRING


def _of_number(schema: t.Mapping[str, t.Any]) -> Type:
    """The decimal that `x-singer.decimal` states, or that step and bounds need; what none holds is a number.

    Without bounds a decimal leaves 15 digits before the point at least, as many as a DOUBLE shows.
    """
    step = schema.get("multipleOf")
    if not _is_finite(step) or step <= 0:
        return NUMBER
    digits = schema.get("x-singer.decimal") or {}
    # As far as a DOUBLE shows it: 10 ** -23 is 1e-23.
    exponent = Decimal(f"{step:.15g}" if isinstance(step, float) else step).normalize().as_tuple().exponent
    least, most = _bounds(schema)
    try:
        scale = digits.get("scale", max(0, -int(exponent)))
        whole = _MOST_DIGITS - scale
        if least is not None and most is not None:
            whole = len(str(max(abs(least), abs(most))))
        elif whole < _LEAST_WHOLE and "precision" not in digits:
            return NUMBER
        return decimal(digits.get("precision", whole + scale), scale, strict=True)
    except (ValueError, TypeError, AttributeError):
        return NUMBER


def _bounds(schema: t.Mapping[str, t.Any]) -> tuple[int | None, int | None]:
    """The smallest and the greatest whole part of a value, as far as the schema bounds it."""
    return _bound(schema, "minimum", "exclusiveMinimum", 1), _bound(schema, "maximum", "exclusiveMaximum", -1)


def _bound(schema: t.Mapping[str, t.Any], inclusive: str, exclusive: str, inwards: int) -> int | None:
    bound, beyond = schema.get(inclusive), schema.get(exclusive)
    is_exclusive = beyond is True  # as drafts 3 and 4 of JSON Schema say it
    if not _is_finite(bound):
        bound, is_exclusive = beyond, True
    if not _is_finite(bound):
        return None
    written = Decimal(str(bound))  # the DOUBLE 1e36 is greater than 10 ** 36
    whole = int(written)
    return whole + inwards if is_exclusive and whole == written else whole


def _is_finite(number: object) -> t.TypeGuard[float]:
    if isinstance(number, float):
        return math.isfinite(number)
    return isinstance(number, int) and not isinstance(number, bool)


def property_of(kind: Type) -> dict[str, t.Any]:
    """The JSON schema of a column, whose values may be null."""
    return kind.schema | {"type": [kind.schema["type"], "null"]}
