"""Types of columns: their names, their JSON schemas, and how DuckDB makes a value of each out of text.

A type that was found in a sample, or that a catalog says, is strict: it takes only texts that its values give back,
and so whatever rules a type out in the sample is refused after it. A type that `columns` names takes more.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from dataclasses import dataclass, field

from elt_singer import json_schema
from elt_singer.errors import SchemaError
from elt_singer.json_schema import MOST_DIGITS, SCHEMAS

NAMES = ("integer", "number", "decimal(P,S)", "boolean", "date", "time", "date-time", "string")
"""What the setting `columns` takes."""

_SHOWS_FRACTION = 2**52
"""From it on, a DOUBLE made of a text is whole whatever fraction the text had."""
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
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
        """Return the expression that converts what was read, and fails where it does not fit; null stays null."""
        if self.from_text == "{v}" or (self.fast == "true" and not text):
            return value
        refuse = f"error('conversion error')::{self.sql}"
        slow = f"coalesce({self.from_text.format(v=value)}, {refuse})" if text or self.read == "VARCHAR" else refuse
        fast = f"when {self.fast.format(v=value)} then {self.quick.format(v=value)}" if self.fast and not text else ""
        return f"case {fast} when {value} is null then null else {slow} end"

    def with_leading_zero(self) -> str:
        """Return the type whose values DuckDB writes as `0.5`, for one whose it writes as `.5`, which is no JSON."""
        found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", self.sql)
        return f"DECIMAL({int(found[1]) + 1},{found[2]})" if found and found[1] == found[2] else ""

    def fails(self, value: str) -> str:
        """Whether a text is no such value."""
        return f"({value} is not null and {self.from_text.format(v=value)} is null)"

    def refusal(self, column: str) -> str:
        """Return what to say of a text that is no such value, with the way to have it."""
        other = "number" if self.name.startswith("decimal") else "string"
        way = f"`columns: {{{quoted(column)}: {other}}}` in the settings gives it another type"
        return f"the value is no {self.name}; {way}"

    def meant(self, value: str) -> str:
        """Whether a text shall be taken for one."""
        own = f"({self.from_text.format(v=value)} is not null and {self.sure.format(v=value)})"
        if self.narrower:
            return f"case when {self.narrower.meant(value)} then true else {own} end"
        is_text = self.read == "VARCHAR"  # `fast` is one of what was read
        return f"case when {self.fast.format(v=value)} then true else {own} end" if self.fast and is_text else own


def quoted(column: str) -> str:
    """Return a column's name, as it may stand in the settings in YAML."""
    return column if re.fullmatch(r"[^\W\d]\w*", column) else json.dumps(column, ensure_ascii=False)


def _if(condition: str, value: str) -> str:
    return f"case when {condition} then {value} end"


def _cast(kind: str) -> str:
    return _cast_of("{v}", kind)


def _cast_of(text: str, kind: str) -> str:
    return f"try_cast({text} as {kind})"


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
    """Return a time stamp in the years 1 to 9999, which is all that its text in JSON can say."""
    known = f"isfinite({instant}) and epoch_us({instant}) between -62135596800000000 and 253402300799999999"
    return _if(f"{known} and {condition}", f"make_timestamp(epoch_us({instant}))")


def _strict_integer(kind: str, schema: dict[str, t.Any], narrower: Type | None = None) -> Type:
    """Zeros behind a point may follow in a column of integers, but three of them may mean a thousand."""
    text = _if(_is(r"(0|-?[1-9]\d*)(\.(0{1,2}|0{4,}))?"), _cast(kind))
    sure = "not contains({v}, '.')"  # who writes a point has fractions
    fast, quick = _gives_back(kind), _cast(kind)
    return Type("integer", schema, kind, text, fast=fast, quick=quick, sure=sure, narrower=narrower)


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
_MIDNIGHT = rf"{_DAY}([ T]0?0:00(:00(\.0{{1,6}}0*)?{_OFFSET}?)?)?"  # as it is written, wherever it was
_WRITTEN_DAY = rf"regexp_extract({{v}}, '{_DAY.replace('{', '{{').replace('}', '}}')}')"
_FAST_DATE = _gives_back_in(10, "DATE")  # then the year has four digits

INTEGER = _strict_integer("BIGINT", SCHEMAS["BIGINT"])
# Parquet has no HUGEINT; DuckDB would write a DOUBLE.
HUGE = _strict_integer(
    "DECIMAL(38,0)",
    SCHEMAS["HUGEINT"],
    narrower=INTEGER,
)
_SAME_DOUBLE = f"regexp_replace({_DOUBLE}::VARCHAR, '\\.0$', '') = {_SIGNIFICANT}"
NUMBER = Type(
    "number",
    SCHEMAS["DOUBLE"],
    "DOUBLE",
    _if(f"{_FINITE_DOUBLE} and (({_is(_PLAIN)} and {_FEW_DIGITS}) or {_SAME_DOUBLE})", _DOUBLE),
    fast=_SHORT,
    quick=_DOUBLE,
)
BOOLEAN = Type(
    "boolean",
    SCHEMAS["BOOLEAN"],
    "BOOLEAN",
    "case when {v} = 'false' then false when lower({v}) in ('true', 'false') then lower({v}) = 'true' end",
    fast="{v} = 'true'",
    quick="true",
)
DATE = Type(
    "date",
    SCHEMAS["DATE"],
    "DATE",
    _if(_is(_DAY), f"({_finite(_STAMP)})::DATE"),
    fast=_FAST_DATE,
    quick=_cast("DATE"),
)
TIME = Type("time", SCHEMAS["TIME"], "TIME", _if(_is(f"{_HOUR}:[0-5]\\d{_SECOND}"), _cast("TIME")))
DATE_TIME = Type(
    "date-time",
    SCHEMAS["TIMESTAMP"],
    "TIMESTAMP",
    _if(_is(_MOMENT), _finite(_STAMP)),
    fast=_gives_back_in(19, "TIMESTAMP"),  # then there is no offset, which this cast would drop
    quick=_cast("TIMESTAMP"),
)
STRING = Type("string", SCHEMAS["VARCHAR"], "VARCHAR", "{v}")
GROUPED = Type("string", STRING.schema, "VARCHAR", _if(_is(r"-?(0|[1-9]\d*)(\.\d{3})?"), "{v}"))
"""Whole numbers, or such whose point may as well stand between thousands; zeros in front make a text of its own."""
_STRICT = {one.name: one for one in (INTEGER, NUMBER, BOOLEAN, DATE, TIME, DATE_TIME, STRING)}


def _named_integer() -> Type:
    """DuckDB would round a fraction, and make an integer of a text that is longer than a DOUBLE is exact."""
    short = f"abs({_DOUBLE}) < {_SHOWS_FRACTION}"
    text = _if(f"{_DOUBLE} = floor({_DOUBLE}) and (not contains({{v}}, '.') or {short})", _cast("BIGINT"))
    fast = f"{{v}} = floor({{v}}) and abs({{v}}) < {_SHOWS_FRACTION}"
    return Type("integer", SCHEMAS["BIGINT"], "BIGINT", text, "DOUBLE", fast, "{v}::BIGINT")


_NAMED = {
    one.name: one
    for one in (
        _named_integer(),
        Type("number", SCHEMAS["DOUBLE"], "DOUBLE", _if(_FINITE_DOUBLE, _DOUBLE), "DOUBLE", "isfinite({v})"),
        Type("boolean", SCHEMAS["BOOLEAN"], "BOOLEAN", _cast("BOOLEAN"), "BOOLEAN", "true"),
        Type(
            "date",
            SCHEMAS["DATE"],
            "DATE",
            _if(f"{_is(_MIDNIGHT)} and {_finite(_STAMP)} is not null", _cast_of(_WRITTEN_DAY, "DATE")),
            fast=_FAST_DATE,
            quick=_cast("DATE"),
        ),
        Type("time", SCHEMAS["TIME"], "TIME", _if(_is(f"{_HOUR}:[0-5]\\d({_SECOND})?"), _cast("TIME"))),
        DATE_TIME,
        STRING,
    )
}


def decimal(precision: int, scale: int, *, strict: bool = False) -> Type:
    """Return a number of exactly so many digits; more are refused, where DuckDB would round.

    Raises:
        ValueError: there is no such type.
    """
    if not 0 < precision <= MOST_DIGITS or not 0 <= scale <= precision or scale == MOST_DIGITS:
        raise ValueError(f"decimal({precision},{scale})")
    kind = f"DECIMAL({precision},{scale})"
    widest = f"DECIMAL({MOST_DIGITS},{MOST_DIGITS - precision + scale})"
    schema = json_schema.of_decimal(precision, scale)
    name = f"decimal({precision},{scale})"
    if strict:
        fraction = rf"\.\d{{1,{scale}}}0*" if scale else r"\.0+"
        plain = _is(rf"-?(0|[1-9]\d*)({fraction})?")
        text = _if(f"{plain} and not {_is(_MINUS_ZERO)}", _cast(kind))
        fast = _gives_back(kind) if scale < precision else ""  # else DuckDB writes .5, which is no such text
        return Type(name, schema, kind, text, fast=fast, quick=_cast(kind))
    # Without an exponent the digits after the point tell. The cast lets a number with one be too large for its type
    # (DuckDB 1.5.5), which the first comparison finds; the second one finds digits too small for either.
    # A sign without a digit, `- `, is 0 to DuckDB (1.5.5), but no DOUBLE.
    digits = rf"regexp_matches({{v}}, '^[^.]*(\.\d{{{{0,{scale}}}}}0*\s*)?$') and {_DOUBLE} is not null"
    same = f"try({_cast(kind)} = {_cast(widest)}) and {_cast('DOUBLE')} = {_cast(kind)}::DOUBLE"
    same += f" and ({_DOUBLE} <> 0 or regexp_matches({{v}}, '^[^1-9eE]*[eE]'))"  # 1e-400 is 0 as a DOUBLE
    text = _if(f"case when {_EXPONENT} then {same} else {digits} end", _cast(kind))
    few = f"(not contains({{v}}, '.') or length({{v}}) - instr({{v}}, '.') <= {scale}) and not {_EXPONENT}"
    few += " and ({v} >= '.' or right({v}, 1) >= '.')"  # it begins with a digit or a point, or ends with no blank
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


def exact(kind: Type) -> Type:
    """Return the type for a column that tells rows apart: of a whole number not even a zero or a blank is left out.

    Else `12`, ` 12` and `12.0` would be one row.
    """
    if kind not in (INTEGER, HUGE):
        return kind
    return dataclasses.replace(kind, from_text=_if(_gives_back(kind.sql), _cast(kind.sql)))


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
    """Return the types that fit each text of at most `SHORT` bytes that fits this type."""
    return _IMPLIED.get(kind, ())


def named(name: str) -> Type:
    """Return the type of that name.

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
    """Return the type that a catalog's JSON schema of a property asks for; text if it asks for none that we know.

    It is strict: most catalogs were written by discovery, from a sample.
    """
    found = json_schema.permitted(schema)
    if found == {"string"}:
        return _STRICT.get(schema.get("format") or "string", STRING)
    if found == {"integer"}:
        return INTEGER if json_schema.integer(schema) == "BIGINT" else HUGE
    if found and found <= {"integer", "number"}:
        return _of_number(schema)
    return BOOLEAN if found == {"boolean"} else STRING


def _of_number(schema: t.Mapping[str, t.Any]) -> Type:
    """Return the decimal that step, bounds and `x-singer.decimal` say; what none holds is a number."""
    try:
        found = json_schema.digits(schema) if json_schema.step(schema) else None
        return decimal(*found, strict=True) if found else NUMBER
    except (SchemaError, ValueError):  # a DECIMAL without a digit before the point is none of our types
        return NUMBER


def property_of(kind: Type) -> dict[str, t.Any]:
    """Return the JSON schema of a column, whose values may be null."""
    return json_schema.nullable(kind.schema)
