"""JSON schema of a stream, as columns of a table."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from target_duckdb import sql
from target_duckdb.errors import SchemaError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Schema = t.Mapping[str, t.Any]

SEPARATOR = "__"
"""Stands between the names of an object and of its property, when objects are flattened."""
_BIGINT = range(-(2**63), 2**63)
_PRECISION = 38
_NESTED = {"object", "array"}
_FORMATS = {"date": "DATE", "time": "TIME", "date-time": "TIMESTAMP"}
_DECIMAL_FORMATS = {"singer.decimal", "x-singer.decimal"}


@dataclass(frozen=True)
class Column:
    """One column: its name in the table, where its value stands in a record, and its type."""

    name: str
    path: tuple[str, ...]
    type: str

    def within(self, whole: str) -> str:
        """The expression of its value within a structure."""
        return ".".join([whole, *map(sql.name, self.path)]) if whole else ".".join(map(sql.name, self.path))


def columns(schema: Schema, *, flatten: int = 0) -> list[Column]:
    """The columns of a stream, in the order of its schema.

    Args:
        schema: the JSON schema of its records.
        flatten: depth to which objects become columns.

    Raises:
        SchemaError: there are no properties, or two names cannot be told apart.
    """
    if not isinstance(schema.get("properties"), dict) or not schema["properties"]:
        raise SchemaError("the schema names no properties")
    found = list(_columns(schema["properties"], (), flatten))
    name, times = Counter(column.name for column in found).most_common(1)[0]
    if times > 1:
        same = " and ".join(repr(SEPARATOR.join(one.path)) for one in found if one.name == name)
        raise SchemaError(f"{same} differ only in case or nesting, and DuckDB cannot tell them apart")
    return found


def _columns(properties: Schema, above: tuple[str, ...], levels: int) -> Iterator[Column]:
    lower = Counter(key.lower() for key in properties)
    for key, schema in properties.items():
        path = (*above, key)
        if not key or "\0" in key:
            raise SchemaError("a property's name is empty or holds a NUL")
        if lower[key.lower()] > 1:
            same = " and ".join(repr(one) for one in properties if one.lower() == key.lower())
            raise SchemaError(f"{same} differ only in case, and DuckDB cannot tell them apart")
        branches = list(_branches(schema))
        nested = branches[0].get("properties") if len(branches) == 1 else None
        if levels > 0 and nested and "object" in _types(branches[0]):
            yield from _columns(nested, path, levels - 1)
        else:
            yield Column(SEPARATOR.join(path).lower(), path, column_type(schema))


def _branches(schema: object) -> Iterator[Schema]:
    """The schema, or those of which one must fit; what is only null is left out."""
    if not isinstance(schema, dict):
        yield {}
        return
    several = schema.get("anyOf") or schema.get("oneOf")
    if not several:
        yield schema
        return
    for one in several:
        for branch in _branches(one):
            if _types(branch) or branch.get("type") is None:
                yield branch


def _types(schema: Schema) -> set[str]:
    types = schema.get("type")
    if types is None:
        return {"object"} if "properties" in schema else set()
    return {types} - {"null"} if isinstance(types, str) else set(types) - {"null"}


def column_type(schema: object) -> str:
    """The type of DuckDB that holds what the schema permits."""
    found = [_simple_type(branch) for branch in _branches(schema)]
    kinds = set(found)
    if len(kinds) == 1:
        return found[0]
    if "JSON" in kinds:
        return "JSON"
    if kinds <= {"BIGINT", "HUGEINT"}:
        return "HUGEINT"
    if kinds <= {"BIGINT", "HUGEINT", "DOUBLE"}:
        return "DOUBLE"
    # Taps write a date or nothing as a choice between a text with a format and one without.
    formats = kinds - {"VARCHAR"}
    return formats.pop() if len(formats) == 1 and formats <= set(_FORMATS.values()) else "VARCHAR"


def _simple_type(schema: Schema) -> str:
    types = _types(schema)
    form = schema.get("format")
    if types & _NESTED:
        return "JSON"
    if form in _DECIMAL_FORMATS:
        return _decimal(schema)
    if types == {"string"} and form in _FORMATS:
        return _FORMATS[form]
    if types == {"integer"}:
        return "BIGINT" if all(bound in _BIGINT for bound in _bounds(schema)) else "HUGEINT"
    if types and types <= {"integer", "number"}:
        return _decimal(schema) if schema.get("multipleOf") else "DOUBLE"
    return "BOOLEAN" if types == {"boolean"} else "VARCHAR"


def _bounds(schema: Schema) -> Iterator[int]:
    for key, step in (("minimum", 0), ("exclusiveMinimum", 1), ("maximum", 0), ("exclusiveMaximum", -1)):
        bound = schema.get(key)
        if isinstance(bound, (int, float)) and not isinstance(bound, bool):
            yield int(bound) + step


def _decimal(schema: Schema) -> str:
    """The DECIMAL with the precision and scale that the schema states, or as many digits as there are."""
    try:
        step = Decimal(str(schema["multipleOf"])).normalize() if schema.get("multipleOf") else Decimal("1e-10")
    except InvalidOperation:
        return "DOUBLE"
    extra = schema.get("x-singer.decimal") or schema
    scale = extra.get("scale")
    if not isinstance(scale, int):
        scale = max(0, -int(step.as_tuple().exponent))
    precision = extra.get("precision")
    if not isinstance(precision, int):
        precision = _PRECISION
    return f"DECIMAL({precision},{scale})" if 0 <= scale <= precision <= _PRECISION else "DOUBLE"


def struct(found: Sequence[Column], types: t.Mapping[Column, str]) -> str:
    """The type of a whole record, in which each column's value is read as `types` says."""
    return _struct(_tree(found, types))


def members(found: Sequence[Column], types: t.Mapping[Column, str]) -> dict[str, str]:
    """The types of a record's own members."""
    return {key: one if isinstance(one, str) else _struct(one) for key, one in _tree(found, types).items()}


def _tree(found: Sequence[Column], types: t.Mapping[Column, str]) -> dict[str, t.Any]:
    tree: dict[str, t.Any] = {}
    for column in found:
        node = tree
        for key in column.path[:-1]:
            node = node.setdefault(key, {})
        node[column.path[-1]] = types[column]
    return tree


def _struct(tree: dict[str, t.Any]) -> str:
    fields = (f"{sql.name(key)} {one if isinstance(one, str) else _struct(one)}" for key, one in tree.items())
    return f"STRUCT({', '.join(fields)})"
