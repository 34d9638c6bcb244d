"""JSON schema of a stream, as columns of a table."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass

from elt_singer.json_schema import FORMATS, Schema, digits, integer, permitted, step

from target_duckdb import sql
from target_duckdb.errors import SchemaError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEPARATOR = "__"
"""Stands between the names of an object and of its property, when objects are flattened."""
_NESTED = {"object", "array"}
_DECIMAL_FORMATS = {"singer.decimal", "x-singer.decimal"}


@dataclass(frozen=True)
class Column:
    """One column: its name in the table, where its value stands in a record, and its type."""

    name: str
    path: tuple[str, ...]
    type: str
    is_key: bool = False

    @property
    def read_as(self) -> str:
        """What to read its value as."""
        return sql.KEY_DOUBLE if self.is_key and self.type == "DOUBLE" else self.type

    def within(self, whole: str) -> str:
        """Return the expression of its value within a structure."""
        return ".".join([whole, *map(sql.name, self.path)]) if whole else ".".join(map(sql.name, self.path))


def columns(schema: Schema, *, flatten: int = 0) -> list[Column]:
    """Return the columns of a stream, in the order of its schema.

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
        try:
            branches = list(_branches(schema))
            nested = branches[0].get("properties") if len(branches) == 1 else None
            is_flattened = levels > 0 and isinstance(nested, dict) and nested and "object" in permitted(branches[0])
            kind = "" if is_flattened else column_type(schema)
        except SchemaError as error:
            raise SchemaError(error.what, column=SEPARATOR.join(path)) from None
        if is_flattened:
            yield from _columns(t.cast("Schema", nested), path, levels - 1)
        else:
            yield Column(SEPARATOR.join(path).lower(), path, kind)


def _branches(schema: object) -> Iterator[Schema]:
    """Return the schema, or those of which one must fit; what is only null is left out.

    Raises:
        SchemaError: the choices are no list.
    """
    if not isinstance(schema, dict):
        yield {}
        return
    several = schema.get("anyOf") or schema.get("oneOf")
    if not several:
        yield schema
        return
    if not isinstance(several, list):
        raise SchemaError("anyOf or oneOf of its schema is no list")
    for one in several:
        for branch in _branches(one):
            if permitted(branch) or branch.get("type") is None:
                yield branch


def column_type(schema: object) -> str:
    """Return the type of DuckDB that holds what the schema permits.

    Raises:
        SchemaError: the schema is none.
    """
    found = [_simple_type(branch) for branch in _branches(schema)]
    kinds = set(found)
    if len(kinds) == 1:
        return found[0]
    if "JSON" in kinds:
        return "JSON"
    if kinds and kinds <= {"BIGINT", "HUGEINT"}:
        return "HUGEINT"
    return "DOUBLE" if kinds and kinds <= {"BIGINT", "HUGEINT", "DOUBLE"} else "VARCHAR"


def _simple_type(schema: Schema) -> str:
    types = permitted(schema)
    form = schema.get("format")
    if form is not None and not isinstance(form, str):
        raise SchemaError("format of its schema is no text")
    if types & _NESTED:
        return "JSON"
    if form in _DECIMAL_FORMATS:
        return _decimal(schema)
    if types == {"string"} and form in FORMATS:
        return FORMATS[form]
    if types == {"integer"}:
        return integer(schema)
    if types and types <= {"integer", "number"}:
        return _decimal(schema) if step(schema) or "x-singer.decimal" in schema else "DOUBLE"
    return "BOOLEAN" if types == {"boolean"} else "VARCHAR"


def _decimal(schema: Schema) -> str:
    found = digits(schema)
    return f"DECIMAL({found[0]},{found[1]})" if found else "DOUBLE"


def struct(found: Sequence[Column], types: t.Mapping[Column, str]) -> str:
    """Return the type of a whole record, in which each column's value is read as `types` says."""
    return _struct(_tree(found, types))


def members(found: Sequence[Column], types: t.Mapping[Column, str]) -> dict[str, str]:
    """Return the types of a record's own members."""
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
