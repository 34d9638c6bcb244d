"""Look at a database by the project's own tap, and describe what loads it: plugins, source and staging models.

The tap runs in a process of its own, which is given the password by a pipe.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import typing as t
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from elt import quoting
from elt.errors import ConfigError, DataError, last_line
from elt.sources import inspection

PORTS = {"postgres": 5432, "mysql": 3306}
"""Kinds of servers, with their usual ports."""
KINDS = (*PORTS, "sqlite")
CHANGED = (
    *("updated_at", "modified_at", "changed_at", "last_modified", "last_updated", "last_update", "updated_on"),
    *("modified_on", "modified", "updated", "updatedat", "modifiedat", "modifieddate", "update_time"),
)
"""Names of columns that hold the time of a row's last change, the best first."""
STAGING = """with

source as (select * from {source}),

final as (

select
{columns}

from source
where _sdc_deleted_at is null

)

select *
from final
"""
PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
SECONDS = 120
"""Seconds in which the tap must have found all tables."""


@dataclass(frozen=True)
class Column:
    """Hold a column: as raw calls it, as staging does, and its type in DuckDB."""

    name: str
    alias: str
    type: str


@dataclass(frozen=True)
class Table:
    """Hold a table of the database."""

    stream: str
    name: str
    """As raw calls it."""
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    changed: str
    """The replication key, in the spelling of the database; empty if the table is read whole."""

    @property
    def word(self) -> str:
        """Return its name as a part of a model's."""
        return _word(self.name)


def discover(kind: str, config: dict[str, t.Any], wanted: t.Sequence[str] = ()) -> list[Table]:
    """List the tables of a database, by its tap.

    Args:
        kind: one of KINDS.
        config: settings of the tap, secrets included.
        wanted: the tables to take, by name or as SCHEMA-TABLE; empty for all.

    Raises:
        DataError: the tap finds no way in; the message is its own.
        ConfigError: a table is not there, or two of them would become one.
    """
    program = Path(sys.executable).with_name(f"tap-{kind}")
    given = json.dumps(config | ({"retries": 0} if kind in PORTS else {}))
    try:
        done = subprocess.run(
            [str(program), "--config", "/dev/stdin", "--discover"],
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"source: tap-{kind} did not answer within {SECONDS} s: is the host right?") from None
    if done.returncode:
        raise DataError(f"source: {last_line(done.stderr)}")
    streams = [one for one in json.loads(done.stdout)["streams"] if not wanted or _names(one) & {*wanted}]
    if missing := [name for name in wanted if not any(name in _names(one) for one in streams)]:
        there = ", ".join(str(one["table_name"]) for one in json.loads(done.stdout)["streams"]) or "none"
        raise ConfigError(f"source: --tables: no table is called {missing[0]!r}; there are {there}")
    if not streams:
        raise ConfigError("source: that database has no tables that the user may read")
    if strange := [
        one["tap_stream_id"] for one in streams if re.search(r"[\[\]*?!$\x00-\x1f\"]", one["tap_stream_id"])
    ]:
        raise ConfigError(
            f"source: the name of {strange[0]!r} means a pattern or a variable to Meltano: leave it out by --tables"
        )
    tables = [_table(one) for one in streams]
    for word, number in Counter(one.word for one in tables).items():
        if number > 1:
            same = " and ".join(one.stream for one in tables if one.word == word)
            raise ConfigError(f"source: {same} would be one table, {word}: say by --tables which to take")
    return tables


def _names(stream: dict[str, t.Any]) -> set[str]:
    return {stream["table_name"], stream["tap_stream_id"]}


def _table(stream: dict[str, t.Any]) -> Table:
    data = next(one["metadata"] for one in stream["metadata"] if not one["breadcrumb"])
    properties: dict[str, dict[str, t.Any]] = stream["schema"]["properties"]
    keys = data.get("table-key-properties") or data.get("view-key-properties") or []
    times = {
        name.lower(): name
        for name in data.get("valid-replication-keys") or ()
        if properties[name].get("format") == "date-time"
    }
    parts = str(stream["tap_stream_id"]).split("-")
    # as target-duckdb reads it
    name = "_".join(parts[2:]) if len(parts) > 2 else parts[-1]
    taken: set[str] = set()
    columns = []
    for column, schema in properties.items():
        alias = _word(column.lower())
        alias = next(one for one in (alias, *(f"{alias}_{n}" for n in range(2, 9999))) if one not in taken)
        taken.add(alias)
        columns.append(Column(column.lower(), alias, _type(schema)))
    return Table(
        stream["tap_stream_id"],
        name.replace(".", "_").lower(),
        tuple(columns),
        tuple(str(one).lower() for one in keys),
        next((times[one] for one in CHANGED if one in times), "") if keys else "",
    )


def _word(text: str) -> str:
    plain = re.sub(r"\W+", "_", text).strip("_") or "x"
    return f"t_{plain}" if plain[0].isdigit() else plain


def _type(schema: dict[str, t.Any]) -> str:
    """Return the type of DuckDB that the loader gives a column."""
    kinds = {schema["type"]} if isinstance(schema.get("type"), str) else {*schema.get("type", ())} - {"null"}
    if kinds == {"integer"}:
        return "hugeint" if schema.get("maximum", 0) >= 2**63 else "bigint"
    if kinds == {"number"}:
        digits = schema.get("x-singer.decimal")
        return f"decimal({digits['precision']}, {digits['scale']})" if digits else "double"
    if kinds == {"boolean"}:
        return "boolean"
    if kinds == {"string"}:
        return {"date": "date", "date-time": "timestamp", "time": "time"}.get(schema.get("format", ""), "varchar")
    return "json"


# Meltano -----------------------------------------------------------------------------------------


def extractor(kind: str, name: str, config: dict[str, t.Any], tables: t.Sequence[Table]) -> dict[str, t.Any]:
    """Make the plugin that reads the database; a password is not among its settings."""
    ways = {
        _pattern(one.stream): (
            {"replication-method": "INCREMENTAL", "replication-key": one.changed}
            if one.changed
            else {"replication-method": "FULL_TABLE"}
        )
        for one in tables
    }
    return {
        "name": f"tap-{kind}--{name}",
        "inherit_from": f"tap-{kind}",
        "namespace": f"tap_{kind}__{name}",  # else it would take the password of another database
        "config": config,
        "select": [f"{_pattern(one.stream)}.*" for one in tables],
        "metadata": ways,
    }


def loader(name: str, tables: t.Sequence[Table]) -> dict[str, t.Any]:
    """Make the plugin that puts the tables into a schema of their own.

    A table without a key is appended, and its old rows retired: were they kept, it would grow by itself at each load.
    """
    growing = {} if all(one.keys for one in tables) else {"hard_delete": True}
    return {
        "name": f"target-duckdb--{name}",
        "inherit_from": "target-duckdb",
        "config": {"default_target_schema": f"raw_{name}", "load_method": "upsert", **growing},
    }


def _pattern(stream: str) -> str:
    return stream.replace(".", "\\.")


# dbt ---------------------------------------------------------------------------------------------


def dbt_source(kind: str, name: str, tables: t.Sequence[Table]) -> str:
    """Write the source of dbt: tables, columns, types, keys, and how fresh they must be."""
    source = {
        "name": name,
        "description": f"What tap-{kind}--{name} loads. A row seen to be gone has a time in _sdc_deleted_at.",
        "schema": f"raw_{name}",
        "config": {
            "tags": [name],
            "loaded_at_field": "_sdc_batched_at",
            "freshness": {
                "warn_after": {"count": 36, "period": "hour"},
                "error_after": {"count": 7, "period": "day"},
            },
        },
        "tables": [
            {"name": one.word}
            | ({"identifier": one.name} if one.word != one.name else {})
            | {"description": f"The table {one.stream} of the database."}
            | ({"config": {"meta": {"primary_key": [*one.keys]}}} if one.keys else {})
            | {
                "columns": [
                    {"name": column.name, "data_type": column.type}
                    | ({} if PLAIN.fullmatch(column.name) else {"quote": True})
                    for column in one.columns
                ]
            }
            for one in tables
        ],
    }
    return inspection.dumped(quoting.templates({"sources": [source]}))


def staging(name: str, table: Table) -> tuple[str, str]:
    """Write the staging model of a table, SQL and YAML."""
    aliases = {one.name: one.alias for one in table.columns}
    keys = [aliases[one] for one in table.keys if one in aliases]
    tests: dict[str, t.Any] = {}
    if len(keys) > 1:
        tests = {"data_tests": [{"unique_combination": {"arguments": {"columns": keys}}}]}
    columns: list[dict[str, t.Any]] = [
        {"name": one.alias, "description": "Key." if [one.alias] == keys else f"{one.name} ({one.type})."}
        | ({"data_tests": ["not_null", "unique"][: 2 if len(keys) == 1 else 1]} if one.alias in keys else {})
        | ({"quote": True} if _quoted(one.alias) != one.alias else {})
        for one in table.columns
    ]
    if "loaded_at" not in aliases.values():
        columns.append({"name": "loaded_at", "description": "Moment of the load, UTC."})
    seen = "a run with `reconcile: keys` saw to be gone" if table.changed else "are gone"
    model = {
        "name": f"stg_{name}__{table.word}",
        "description": f"The table {table.stream}. Rows that {seen} from the source are left out.",
        "config": {"tags": [name]},
        **tests,
        "columns": columns,
    }
    return _sql(name, table), inspection.dumped(quoting.templates({"models": [model]}))


def _sql(name: str, table: Table) -> str:
    groups: dict[str, list[str]] = {}
    for one in table.columns:
        line = f"cast({_quoted(one.name)} as {one.type}) as {_quoted(one.alias)}"
        groups.setdefault(_group(one), []).append(line)
    if not any(one.alias == "loaded_at" for one in table.columns):
        groups.setdefault("timestamps", []).append("_sdc_batched_at as loaded_at")
    order = ("ids", "strings", "numerics", "booleans", "dates", "timestamps")
    chosen = ",\n\n".join(f"-- {group}\n" + ",\n".join(groups[group]) for group in order if group in groups)
    text = STAGING.format(source=f'{{{{ source("{name}", "{table.word}") }}}}', columns=chosen)
    return _formatted(text, table)


def _formatted(text: str, table: Table) -> str:
    """Format SQL, now and as the hook of git will once more.

    To sqlfmt a backslash hides the quote behind it, and a brace of Jinja ends within texts: it might take a part of a
    name for a comment, and move it out of its quotes, where it would run.

    Raises:
        ConfigError: a name would not stay as it is.
    """
    from jinja2 import TemplateError  # noqa: PLC0415
    from sqlfmt.api import format_string  # noqa: PLC0415 - half a second that only this needs
    from sqlfmt.exception import SqlfmtError  # noqa: PLC0415
    from sqlfmt.mode import Mode  # noqa: PLC0415

    names = [one for column in table.columns if "{{" not in (one := _quoted(column.name))]
    try:
        once = format_string(text, Mode())
        twice = format_string(once, Mode())
    except (SqlfmtError, TemplateError):
        once = twice = ""
    for made in (once, twice):
        # In expressions of Jinja it chooses other quotes, and puts a comma at the end of a line.
        said, meant = (re.sub(r"""[\s,'"\\]""", "", one) for one in (made, text))
        if said != meant or any(one not in made for one in names):
            break
    else:
        return once
    what = f"source: the table {table.stream} has a column whose name sqlfmt and DuckDB read in different ways"
    raise ConfigError(f"{what}: leave it out by --tables, or read a view that names the column otherwise")


def _group(column: Column) -> str:
    if re.search(r"(^|_)id$", column.alias) and column.type in {"bigint", "hugeint", "varchar"}:
        return "ids"
    kind = column.type.partition("(")[0]
    groups = {"varchar": "strings", "json": "strings", "boolean": "booleans", "date": "dates"}
    return groups.get(kind, "timestamps" if kind in {"timestamp", "time"} else "numerics")


def _quoted(name: str) -> str:
    if PLAIN.fullmatch(name) and name not in _keywords():
        return name
    return quoting.template(quoting.name(name))


@functools.cache
def _keywords() -> frozenset[str]:
    import duckdb  # noqa: PLC0415 - other kinds of sources do without

    with duckdb.connect() as connection:
        found = connection.execute(
            "select keyword_name from duckdb_keywords() where keyword_category <> 'unreserved'"
        )
        return frozenset(str(name) for (name,) in found.fetchall())
