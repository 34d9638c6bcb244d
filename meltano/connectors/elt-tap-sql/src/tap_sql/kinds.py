"""Kinds of values that more than one dialect has."""

from __future__ import annotations

from elt_singer.json_schema import MOST_DIGITS, SCHEMAS, of_decimal

from tap_sql.model import Kind

INTEGER = Kind(SCHEMAS["BIGINT"], "BIGINT", local="{}::BIGINT", bound="integer")
UNSIGNED = Kind(
    {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, "UBIGINT", local="{}::UBIGINT", bound="integer"
)
DOUBLE = Kind(SCHEMAS["DOUBLE"], "DOUBLE", local="{}::DOUBLE")
BOOLEAN = Kind(SCHEMAS["BOOLEAN"], "BOOLEAN")
DATE = Kind(SCHEMAS["DATE"], "DATE", bound="date")
TIME = Kind(SCHEMAS["TIME"], "TIME")
TIMESTAMP = Kind(SCHEMAS["TIMESTAMP"], "TIMESTAMP", bound="timestamp")
TEXT = Kind(SCHEMAS["VARCHAR"], "VARCHAR", bound="text")
BYTES = Kind({"type": "string", "contentEncoding": "base64"}, "VARCHAR", local="to_base64({})")
JSON = Kind(
    {"type": ["object", "array", "string", "number", "boolean"]}, "JSON", remote="({}::text)", local="{}::JSON"
)


def is_decimal(precision: int, scale: int) -> bool:
    """Say whether DuckDB has a DECIMAL of so many digits; JSON needs one before the point."""
    return 0 < precision <= MOST_DIGITS and 0 <= scale <= precision and scale < MOST_DIGITS


def decimal(precision: int, scale: int, remote: str = "{}", local: str = "{}") -> Kind:
    """Return the kind of a DECIMAL."""
    kind = f"DECIMAL({precision},{scale})"
    bound = "integer" if scale == 0 else ""
    return Kind(of_decimal(precision, scale), kind, remote, f"{local}::{kind}", bound)
