"""JSON schemas of properties, and the types of DuckDB that hold what they permit: one table for both directions."""

from __future__ import annotations

import math
import typing as t
from decimal import Decimal

from elt_singer.errors import SchemaError

Schema = t.Mapping[str, t.Any]

BIGINT = range(-(2**63), 2**63)
MOST_DIGITS = 38
"""Digits of the longest DECIMAL."""
_LEAST_WHOLE = 15
"""Digits that a DECIMAL leaves before the point, where no bounds say how many: as many as a DOUBLE shows."""
SCHEMAS: dict[str, dict[str, t.Any]] = {
    "BIGINT": {"type": "integer"},
    "HUGEINT": {"type": "integer", "minimum": -(10**MOST_DIGITS) + 1, "maximum": 10**MOST_DIGITS - 1},
    "DOUBLE": {"type": "number"},
    "BOOLEAN": {"type": "boolean"},
    "DATE": {"type": "string", "format": "date"},
    "TIME": {"type": "string", "format": "time"},
    "TIMESTAMP": {"type": "string", "format": "date-time"},
    "VARCHAR": {"type": "string"},
}
"""JSON schemas of values, without null, by the types of DuckDB; for DECIMAL there is `of_decimal`."""
FORMATS = {one["format"]: kind for kind, one in SCHEMAS.items() if "format" in one}
"""Types of DuckDB by the formats of texts."""


def of_decimal(precision: int, scale: int) -> dict[str, t.Any]:
    """Describe a DECIMAL: by its step, as JSON Schema has it, and by its digits."""
    step = float(Decimal(1).scaleb(-scale)) if scale else 1
    return {"type": "number", "multipleOf": step, "x-singer.decimal": {"precision": precision, "scale": scale}}


def nullable(schema: Schema) -> dict[str, t.Any]:
    """Permit null beside the one type of a schema."""
    return {**schema, "type": [schema["type"], "null"]}


def permitted(schema: Schema) -> set[str]:
    """Return the names of the types that are permitted, but for null.

    Raises:
        SchemaError: `type` is neither a name nor a list of names.
    """
    found = schema.get("type")
    if found is None:
        return {"object"} if "properties" in schema else set()
    names = found if isinstance(found, list) else [found]
    if not all(isinstance(one, str) for one in names):
        raise SchemaError("type of its schema is neither a name nor a list of names")
    return set(names) - {"null"}


def integer(schema: Schema) -> str:
    """Return the type of DuckDB that holds the integers of a schema: BIGINT, or HUGEINT if a bound lies beyond."""
    return "BIGINT" if all(one is None or one in BIGINT for one in bounds(schema)) else "HUGEINT"


def digits(schema: Schema) -> tuple[int, int] | None:
    """Return precision and scale of the DECIMAL that a schema states, or that follow from its step and bounds.

    What no DECIMAL holds gives none: more than 38 digits, or, without bounds, fewer than 15 left before the point.

    Raises:
        SchemaError: a member of the schema is of another type.
    """
    stated = schema.get("x-singer.decimal") or schema
    if not isinstance(stated, dict):
        raise SchemaError("x-singer.decimal of its schema is no object")
    scale, precision = _stated(stated, "scale"), _stated(stated, "precision")
    if scale is None:
        scale = max(0, -int((step(schema) or Decimal("1e-10")).as_tuple().exponent))
    least, most = bounds(schema)
    if precision is not None:
        fits = 0 <= scale <= precision
    elif least is None or most is None:
        precision, fits = MOST_DIGITS, 0 <= scale <= MOST_DIGITS - _LEAST_WHOLE
    else:
        precision, fits = scale + len(str(max(abs(least), abs(most)))), scale >= 0
    return (precision, scale) if fits and 0 < precision <= MOST_DIGITS else None


def _stated(schema: Schema, name: str) -> int | None:
    stated = schema.get(name)
    if stated is not None and (not isinstance(stated, int) or isinstance(stated, bool)):
        raise SchemaError(f"{name} of its schema is no whole number")
    return stated


def step(schema: Schema) -> Decimal | None:
    """Return what every value is a multiple of, if that is said; as far as a DOUBLE shows it: 10 ** -23 is 1e-23.

    Raises:
        SchemaError: `multipleOf` is no finite number.
    """
    found = schema.get("multipleOf")
    if found is None:
        return None
    if not _is_finite(found):
        raise SchemaError("multipleOf of its schema is no number")
    return Decimal(f"{found:.15g}" if isinstance(found, float) else found).normalize() if found > 0 else None


def bounds(schema: Schema) -> tuple[int | None, int | None]:
    """Return the smallest and the greatest whole part of a value, as far as the schema bounds it."""
    return _bound(schema, "minimum", "exclusiveMinimum", 1), _bound(schema, "maximum", "exclusiveMaximum", -1)


def _bound(schema: Schema, inclusive: str, exclusive: str, inwards: int) -> int | None:
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
