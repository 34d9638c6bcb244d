"""The catalog: what discovery says of tables, and what a catalog chose of them."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass, replace

from elt_singer.json_schema import nullable
from elt_singer.selection import is_chosen, is_selected, marks_of

from tap_sql.errors import SettingsError, SourceError

if t.TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Sequence

    from tap_sql.model import Column, Table

    Json = dict[str, t.Any]

FULL_TABLE, INCREMENTAL = "FULL_TABLE", "INCREMENTAL"


@dataclass(frozen=True)
class Choice:
    """A stream of a catalog that is selected, before its table is looked at."""

    stream: str
    schema: str
    table: str
    properties: frozenset[str]
    """Columns that the catalog names."""
    left_out: frozenset[str]
    keys: tuple[str, ...]
    """Those of a view, which the catalog alone can know."""
    key: str | None
    """The replication key, if the method is INCREMENTAL."""


@dataclass(frozen=True)
class Stream:
    """A selected stream with its table."""

    name: str
    table: Table
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    key: Column | None

    def schema(self) -> Json:
        """Return the JSON schema of its records."""
        return schema_of(self.columns, self.keys)


def schema_of(columns: Iterable[Column], keys: Sequence[str]) -> Json:
    """Return the JSON schema of records of these columns."""
    return {"type": "object", "properties": {one.name: _property(one, one.name in keys) for one in columns}}


def _property(column: Column, is_key: bool) -> Json:  # noqa: FBT001
    schema = column.kind.schema
    if is_key:
        return dict(schema)
    types = schema["type"]
    return {**schema, "type": [*types, "null"]} if isinstance(types, list) else nullable(schema)


def entry(table: Table, database: str) -> Json:
    """Return a table's entry in the catalog."""
    keys = list(table.keys)
    marks: Json = {"inclusion": "available", "schema-name": table.schema, "is-view": table.is_view}
    if database:
        marks["database-name"] = database
    if table.rows is not None and table.rows >= 0:
        marks["row-count"] = table.rows
    marks |= {
        "view-key-properties" if table.is_view else "table-key-properties": keys,
        "selected-by-default": True,
        "valid-replication-keys": [one.name for one in table.columns.values() if one.kind.bound],
    }
    metadata: list[Json] = [{"breadcrumb": [], "metadata": marks}]
    for column in table.columns.values():
        inclusion = "automatic" if column.name in keys else "available"
        if column.name in table.unreadable:
            inclusion = "unsupported"
        own = {"inclusion": inclusion, "selected-by-default": inclusion != "unsupported"}
        metadata.append({"breadcrumb": ["properties", column.name], "metadata": own})
    return {
        "tap_stream_id": table.stream,
        "stream": table.stream,
        "table_name": table.name,
        "key_properties": keys,
        "schema": schema_of(table.columns.values(), keys),
        "replication_method": FULL_TABLE,
        "metadata": metadata,
    }


def choices(catalog: Json) -> list[Choice]:
    """Return the streams that a catalog selects.

    Raises:
        SettingsError: it is not of the form that discovery prints, or asks for what there is not.
    """
    try:
        return [_choice(one) for one in catalog["streams"] if is_selected(one)]
    except (AttributeError, KeyError, TypeError) as error:
        raise SettingsError(f"the catalog is not of the form that --discover prints: {error!r}") from None


def _choice(stream: Json) -> Choice:
    marks = marks_of(stream)
    own, name = marks.get((), {}), stream["tap_stream_id"]
    properties = frozenset(stream["schema"]["properties"])
    method = own.get("replication-method") or stream.get("replication_method") or FULL_TABLE
    key = own.get("replication-key") or stream.get("replication_key")
    if method not in {FULL_TABLE, INCREMENTAL}:
        raise SettingsError(
            f"stream {name!r}: replication-method {method!r}: there are {FULL_TABLE} and {INCREMENTAL}"
        )
    if method == INCREMENTAL and not key:
        raise SettingsError(f"stream {name!r}: {INCREMENTAL} needs a replication-key")
    left_out = frozenset(one for one in properties if not is_chosen(marks.get(("properties", one), {})))
    return Choice(
        stream=stream.get("stream") or name,
        schema=own["schema-name"],
        table=stream.get("table_name") or own["table-name"],
        properties=properties,
        left_out=left_out,
        keys=tuple(own.get("view-key-properties") or ()),
        key=key if method == INCREMENTAL else None,
    )


def resolve(choice: Choice, table: Table | None, logger: logging.Logger) -> Stream:
    """Find a chosen stream's columns in its table as it is now.

    Raises:
        SourceError: the table or one of its columns is gone, or a column cannot be carried.
    """
    label = f"{choice.schema}.{choice.table}"
    if table is None:
        raise SourceError("is gone, or may not be read; discover anew or deselect it", table=label)
    if choice.keys:
        table = replace(table, keys=choice.keys)
    for name in sorted(choice.properties - table.columns.keys()):
        if name not in choice.left_out or name == choice.key:
            raise SourceError("is gone since the discovery; discover anew or deselect it", table=label, column=name)
    if choice.key is not None and choice.key not in table.columns:
        raise SourceError("the replication key is no column of the table", table=label, column=choice.key)
    if added := sorted(table.columns.keys() - choice.properties):
        logger.warning(
            "%s: the catalog does not name %s; discover anew to send it", label, ", ".join(map(repr, added))
        )
    automatic = {*table.keys, choice.key}
    kept = [one for one in table.columns if one in automatic or one in choice.properties - choice.left_out]
    return checked(
        Stream(choice.stream, table, tuple(table.columns[one] for one in kept), table.keys, None), choice.key
    )


def checked(stream: Stream, key: str | None) -> Stream:
    """Refuse what cannot be carried, before anything is sent.

    Raises:
        SourceError: names the table and the column.
    """
    label, names = stream.table.label, [one.name for one in stream.columns]
    if not names:
        raise SourceError("no column is selected", table=label)
    for name in names:
        if why := stream.table.unreadable.get(name):
            raise SourceError(why, table=label, column=name)
    lower = Counter(name.lower() for name in names)
    if same := [name for name in names if lower[name.lower()] > 1]:
        what = f"{' and '.join(map(repr, same))} differ only in case, and DuckDB cannot tell them apart; deselect one"
        raise SourceError(what, table=label)
    for name in stream.keys:
        if name not in names:
            raise SourceError("view-key-properties names it, but it is no column", table=label, column=name)
    if key is None:
        return stream
    column = stream.table.columns[key]
    if not column.kind.bound:
        what = "its type has no order that a bookmark could follow: choose another replication key, or FULL_TABLE"
        raise SourceError(what, table=label, column=key)
    return replace(stream, key=column)
