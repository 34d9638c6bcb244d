"""One stream: what its SCHEMA message said, and what waits to be loaded."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from target_duckdb.errors import SchemaError
from target_duckdb.schema import SEPARATOR, Column, columns
from target_duckdb.table import Table

if t.TYPE_CHECKING:
    from target_duckdb.config import Config
    from target_duckdb.spool import Spool

EXTRACTED_AT = "_sdc_extracted_at"
BATCHED_AT = "_sdc_batched_at"
DELETED_AT = "_sdc_deleted_at"
VERSION = "_sdc_table_version"


@dataclass
class Stream:
    """One stream, from a SCHEMA message to the next one."""

    name: str
    columns: list[Column]
    keys: list[str]
    goal: Table
    spool: Spool
    metadata: bool = False
    versions: bool = True
    overwrite: bool = False
    upsert: bool = True
    continues: bool = False
    """Whether its rows follow on those of an earlier run."""
    there: dict[str, str] = field(default_factory=dict)
    """Types of the columns of its table, once that is fitted."""
    fitted: bool = False
    """Whether its table is known to hold its columns."""
    begun: bool = False
    """Whether the table aside is of this run."""
    versioned: bool = False
    """Whether its records bear versions."""
    unversioned: bool = False
    """Whether this run loaded rows without a version."""
    activate: int | None = None
    """Version that waits to be activated."""
    validator: t.Any = None
    loaded: int = 0
    replaced: int = 0
    """Rows of this run in whose place another of this run came, as far as that is counted."""

    @property
    def table(self) -> Table:
        """The table that rows go to."""
        return self.goal.aside if self.overwrite else self.goal

    def table_columns(self) -> dict[str, str]:
        """Types of all columns that the table needs, by their names."""
        wanted = {column.name: column.type for column in self.columns}
        if self.metadata:
            wanted |= dict.fromkeys((EXTRACTED_AT, BATCHED_AT, DELETED_AT), "TIMESTAMP")
        if self.versioned:
            wanted[VERSION] = "BIGINT"
        return wanted


def read_schema(message: t.Mapping[str, t.Any], config: Config) -> tuple[list[Column], list[str]]:
    """Return the columns and the keys of a SCHEMA message.

    Raises:
        SchemaError: it cannot become a table.
    """
    schema = message.get("schema")
    if not isinstance(schema, dict):
        raise SchemaError("the message holds no schema")
    found = columns(schema, flatten=config.flatten)
    if config.metadata:  # these are filled here, as target-duckdb always did
        found = [column for column in found if column.name not in {EXTRACTED_AT, BATCHED_AT, DELETED_AT}]
        found.append(Column(DELETED_AT, (DELETED_AT,), "TIMESTAMP"))
    named = message.get("key_properties") or []
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise SchemaError("key_properties is no list of names")
    keys = [_key(key, found) for key in named]
    if not keys and config.primary_key_required:
        raise SchemaError("no key_properties; set primary_key_required to false to load it without")
    return [replace(column, is_key=column.name in keys) for column in found], keys


def _key(key: str, found: list[Column]) -> str:
    for column in found:
        if key == SEPARATOR.join(column.path) or key.lower() == column.name:
            return column.name
    raise SchemaError("the key is no property of the schema", column=key)


def table_of(stream: str, catalog: str, config: Config) -> Table:
    """Return the table of a stream: of SCHEMA-TABLE, the mapped schema and the table; in lower case."""
    parts = stream.split("-")
    schema, name = config.default_target_schema, stream
    if len(parts) == 2:
        schema_part, name = parts
    elif len(parts) > 2:
        schema_part, name = parts[1], "_".join(parts[2:])
    else:
        schema_part = None
    if schema_part in config.schema_mapping:
        schema = config.schema_mapping[schema_part]["target_schema"]
    return Table(catalog, schema, name.replace(".", "_").lower())
