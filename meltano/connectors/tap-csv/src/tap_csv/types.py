"""Types of columns: their names, their JSON schemas, and how DuckDB makes a value of each out of text."""

from __future__ import annotations

import math
import re
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal

NAMES = ("integer", "number", "decimal(P,S)", "boolean", "date", "time", "date-time", "string")
"""What the setting `columns` takes."""

_EXACT_IN_DOUBLE = 2**53
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
    """The type to let the CSV reader make, which is faster than to make it of text.

    Not so for time stamps: the reader drops an offset, or makes null of what it does not know (DuckDB 1.5.5).
    """
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

    def meant(self, value: str) -> str:
        """Whether a text shall be taken for one."""
        own = f"({self.from_text.format(v=value)} is not null and {self.sure.format(v=value)})"
        return f"case when {self.narrower.meant(value)} then true else {own} end" if self.narrower else own


def _if(condition: str, value: str) -> str:
    return f"case when {condition} then {value} end"


def _cast(kind: str) -> str:
    return f"try_cast({{v}} as {kind})"


def _instant(value: str, condition: str = "true") -> str:
    """A finite time stamp in the years 1 to 9999, which is all that its text in JSON can say."""
    known = f"isfinite({value}) and epoch_us({value}) between -62135596800000000 and 253402300799999999"
    return _if(f"{known} and {condition}", f"make_timestamp(epoch_us({value}))")


def _integer(kind: str, schema: dict[str, t.Any], narrower: Type | None = None) -> Type:
    """DuckDB would round a fraction, and make an integer of a text that is longer than a DOUBLE is exact."""
    number, short = _cast("DOUBLE"), f"abs({_cast('DOUBLE')}) < {_EXACT_IN_DOUBLE}"
    text = _if(f"{number} = floor({number}) and (not contains({{v}}, '.') or {short})", _cast(kind))
    plain = r"regexp_matches({v}, '^\s*-?(0|[1-9]\d*)\s*$')"  # zeros and a plus before a number mean something
    if kind != "BIGINT":
        exact = f"case when not {_EXPONENT} then {text} end"
        return Type("integer", schema, kind, exact, sure=plain, narrower=narrower)
    fast = f"{{v}} = floor({{v}}) and abs({{v}}) < {_EXACT_IN_DOUBLE}"
    return Type("integer", schema, kind, text, "DOUBLE", fast, "{v}::BIGINT", plain)


_STAMP = _cast("TIMESTAMPTZ")
_TIME = "try_cast('2000-01-01 ' || {v} as TIMESTAMPTZ)"
_MIDNIGHT = "epoch_us({v}) % 86400000000 = 0"

INTEGER = _integer("BIGINT", {"type": "integer"})
# Parquet has no HUGEINT; DuckDB would write a DOUBLE.
HUGE = _integer(
    "DECIMAL(38,0)",
    {"type": "integer", "minimum": -(10**_MOST_DIGITS) + 1, "maximum": 10**_MOST_DIGITS - 1},
    narrower=INTEGER,
)
NUMBER = Type(
    "number",
    {"type": "number"},
    "DOUBLE",
    _if(f"isfinite({_cast('DOUBLE')})", _cast("DOUBLE")),
    "DOUBLE",
    "isfinite({v})",
    # More than 17 digits tell that it is no DOUBLE that was written.
    sure=r"not regexp_matches({v}, '^\s*(\+|-?0\d|-?\d{{16,}}\s*$)|_|[1-9](\.?\d){{17}}')",
)
BOOLEAN = Type(
    "boolean",
    {"type": "boolean"},
    "BOOLEAN",
    _cast("BOOLEAN"),
    "BOOLEAN",
    "true",
    sure="lower({v}) in ('true', 'false')",
)
DATE = Type(
    "date",
    {"type": "string", "format": "date"},
    "DATE",
    f"({_instant(_STAMP, _MIDNIGHT.format(v=_STAMP))})::DATE",
    fast="{v} like '____-__-__' and {v} >= '0001'",  # then nothing can follow but the day, and the year has 4 digits
    quick="{v}::DATE",
    sure=r"regexp_matches({v}, '^\s*\d{{4}}-\d{{1,2}}-\d{{1,2}}\s*$')",
)
TIME = Type(
    "time",
    {"type": "string", "format": "time"},
    "TIME",
    f"make_timestamp(epoch_us({_TIME}))::TIME",
    sure=r"regexp_matches({v}, '^\s*\d{{1,2}}:\d{{2}}:\d{{2}}(\.\d+)?\s*$')",
)
DATE_TIME = Type(
    "date-time",
    {"type": "string", "format": "date-time"},
    "TIMESTAMP",
    _instant(_STAMP),
    fast="{v} like '____-__-__ __:__:__' and {v} >= '0001'",  # then there is no offset, which this cast would drop
    quick="{v}::TIMESTAMP",
    sure=r"regexp_matches({v}, '^\s*\d{{4}}-\d{{1,2}}-\d{{1,2}}')",
)
STRING = Type("string", {"type": "string"}, "VARCHAR", "{v}")

CANDIDATES = (INTEGER, HUGE, NUMBER, BOOLEAN, DATE, TIME, DATE_TIME)
"""Types that a column may be found to be of, the narrowest first; text is what fits none."""
_NAMED = {one.name: one for one in (INTEGER, NUMBER, BOOLEAN, DATE, TIME, DATE_TIME, STRING)}


def decimal(precision: int, scale: int) -> Type:
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
    # Without an exponent the digits after the point tell. The cast lets a number with one be too large for its type
    # (DuckDB 1.5.5), which the first comparison finds; the second one finds digits too small for either.
    digits = rf"regexp_matches({{v}}, '^[^.]*(\.\d{{{{0,{scale}}}}}0*\s*)?$')"
    same = f"try({_cast(kind)} = {_cast(widest)}) and {_cast('DOUBLE')} = {_cast(kind)}::DOUBLE"
    text = _if(f"case when {_EXPONENT} then {same} else {digits} end", _cast(kind))
    few = f"(not contains({{v}}, '.') or length({{v}}) - instr({{v}}, '.') <= {scale}) and not {_EXPONENT}"
    return Type(f"decimal({precision},{scale})", schema, kind, text, fast=few, quick=f"{{v}}::{kind}")


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
    """The type that a catalog's JSON schema of a property asks for; text if it asks for none that we know."""
    kinds = schema.get("type")
    found = {kinds} if isinstance(kinds, str) else set(kinds or ())
    found.discard("null")
    if found == {"string"}:
        return _NAMED.get(schema.get("format") or "string", STRING)
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
        return decimal(digits.get("precision", whole + scale), scale)
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
    whole = int(bound)
    return whole + inwards if is_exclusive and whole == bound else whole


def _is_finite(number: object) -> t.TypeGuard[float]:
    if isinstance(number, float):
        return math.isfinite(number)
    return isinstance(number, int) and not isinstance(number, bool)


def property_of(kind: Type) -> dict[str, t.Any]:
    """The JSON schema of a column, whose values may be null."""
    return kind.schema | {"type": [kind.schema["type"], "null"]}
