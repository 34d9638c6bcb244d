"""PostgreSQL: its catalog, its types, and how rows that commit late are not lost."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from elt_singer import sql
from elt_singer.settings import Setting

from tap_sql import kinds
from tap_sql.certificates import file_of
from tap_sql.dialects import base
from tap_sql.dialects.base import Dialect, Listed
from tap_sql.model import Column, Horizon, Kind, Table

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tap_sql.config import Config
    from tap_sql.dialects.base import Ask, Server

_TABLES = """
with recursive base(oid, type, typmod) as (
    select oid, oid, -1 from pg_catalog.pg_type where typtype <> 'd'
    union all
    select d.oid, b.type, case when d.typtypmod >= 0 then d.typtypmod else b.typmod end
    from pg_catalog.pg_type d join base b on b.oid = d.typbasetype where d.typtype = 'd'
)
select n.nspname, c.relname, c.relkind in ('v', 'm') as is_view, c.reltuples::bigint as rows, a.attname,
    not a.attnotnull as is_nullable, y.typname::text, y.typtype::text, y.typcategory::text,
    coalesce(nullif(a.atttypmod, -1), b.typmod) as typmod,
    a.atttypid <> b.type as is_domain, c.relkind = 'r' and not c.relhassubclass and w.name is null as is_plain,
    array_position(i.indkey::int2[], a.attnum) as place
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join base b on b.oid = a.atttypid
join pg_catalog.pg_type y on y.oid = b.type
left join (
    select lower(n.nspname) as schema, lower(c.relname) as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    group by lower(n.nspname), lower(c.relname) having count(*) > 1
) as w on w.schema = lower(n.nspname) and w.name = lower(c.relname)
left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and {schemas} and {tables}
    and has_schema_privilege(n.oid, 'usage') and has_column_privilege(c.oid, a.attnum, 'select')
order by n.nspname, c.relname, a.attnum
"""
_HORIZON = """
select to_char(h at time zone 'UTC', {form}) as utc, to_char(h at time zone z, {form}) as local, seen from (
    select least(clock_timestamp(), case when seen then (
        select min(xact_start) from pg_catalog.pg_stat_activity
        where pid <> pg_backend_pid() and (datname = current_database() or datname is null)
    ) else clock_timestamp() - interval '{overlap} seconds' end,
    (select min(prepared) from pg_catalog.pg_prepared_xacts)) as h, seen,
    (select reset_val from pg_catalog.pg_settings where name = 'TimeZone') as z
    from (select pg_has_role('pg_read_all_stats', 'usage') and not pg_is_in_recovery() as seen) as privilege
) as horizon
"""
_FORM = "'YYYY-MM-DD\"T\"HH24:MI:SS.US'"
_LATEST = "'294246-12-31'"
"""DuckDB's years end here; later ones would come out as others, without an error."""
_SERIAL_LENGTH = 4
"""What a typmod of numeric is offset by."""


_LATE = f"{{0}} > {_LATEST} and isfinite({{0}})"
_TEXT = replace(kinds.TEXT, remote="({}::text)")
_NESTED = replace(kinds.JSON, remote="(to_json({})::text)")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("int2", "int4", "int8"), kinds.INTEGER),
    "oid": replace(kinds.INTEGER, remote="({}::int8)", bound=""),  # one below 0 would be a great one
    **dict.fromkeys(("float4", "float8"), kinds.DOUBLE),
    "bool": kinds.BOOLEAN,
    "date": kinds.DATE,
    "time": kinds.TIME,
    "timestamp": replace(kinds.TIMESTAMP, conversion_error=_LATE),
    "timestamptz": replace(
        kinds.TIMESTAMP, conversion_error=_LATE, local="({} at time zone 'UTC')", bound="timestamptz"
    ),
    **dict.fromkeys(("text", "varchar", "bpchar"), kinds.TEXT),
    "bytea": kinds.BYTES,
    **dict.fromkeys(("json", "jsonb"), kinds.JSON),
    "money": kinds.decimal(22, 4, "({}::numeric(22,4))"),
}
"""By names of types; what is not among them is sent as the server writes it."""


def kind_of(name: str, sort: str, category: str, modifier: int) -> Kind:
    """Return how values of a type are read.

    Args:
        name: of the type, as pg_type has it.
        sort: its `typtype`.
        category: its `typcategory`.
        modifier: its `typmod`, -1 for none.
    """
    if category == "A" or sort == "c":
        return _NESTED
    if name == "numeric" and modifier >= _SERIAL_LENGTH:
        precision, scale = (modifier - _SERIAL_LENGTH) >> 16 & 0xFFFF, (modifier - _SERIAL_LENGTH) & 0x7FF
        if kinds.is_decimal(precision, scale):
            return replace(kinds.decimal(precision, scale), conversion_error="{0} = 'NaN'")
    return _KINDS.get(name, _TEXT)


class Postgres(Dialect):
    """PostgreSQL, as a dialect."""

    name = "postgres"
    executable = "tap-postgres"
    count = "bigint"
    settings = (
        Setting("host", "string", "The server", "localhost"),
        Setting("port", "integer", "Its port", 5432),
        Setting("user", "string", "As whom to connect"),
        Setting("password", "string", "The user's password"),
        Setting("database", "string", "The database"),
        Setting("sqlalchemy_url", "string", "a URL such as postgresql://USER@HOST:PORT/DATABASE, in place of these"),
        Setting("filter_schemas", "array", "Schemas to read; all but the server's own without it"),
        Setting("ssl_enable", "boolean", "Whether the connection must be encrypted", default=False),
        Setting("ssl_mode", "string", "libpq's sslmode, with ssl_enable", "verify-full"),
        Setting("ssl_certificate_authority", "string", "The authority's certificate: a file, or its text"),
        Setting("ssl_client_certificate_enable", "boolean", "Whether to show a certificate", default=False),
        Setting("ssl_client_certificate", "string", "The client's certificate: a file, or its text"),
        Setting("ssl_client_private_key", "string", "The client's key: a file, or its text"),
        base.CLEARTEXT,
    )

    def attach(self, config: Config, folder: str) -> list[str]:
        """Attach by a secret, which no message shows."""
        server, given = self.server(config), config.given
        shown: dict[str, str | None] = {
            "connect_timeout": str(config.connect_timeout),
            "application_name": self.executable,
            "keepalives_idle": "30",
            "tcp_user_timeout": "60000",
        }
        if given.get("ssl_enable"):
            shown |= {
                "sslmode": given["ssl_mode"],
                "sslrootcert": file_of(given, "ssl_certificate_authority", folder),
            }
            if given.get("ssl_client_certificate_enable"):
                shown |= {
                    "sslcert": file_of(given, "ssl_client_certificate", folder),
                    "sslkey": file_of(given, "ssl_client_private_key", folder),
                }
        if not (given["cleartext_password"] or (shown.get("sslmode") or "").startswith("verify")):
            shown["require_auth"] = "!password"
        where = sql.literal(base.options(shown))
        return [
            base.secret(self.name, server, server.database),
            f"attach {where} as {base.SOURCE} (type postgres, read_only)",
        ]

    def server(self, config: Config) -> Server:
        """Return where the server listens."""
        return config.server(5432)

    def tables(self, ask: Ask, config: Config, only: Iterable[tuple[str, str]] | None = None) -> list[Table]:
        """Return the tables, views, materialised views and foreign tables, and partitioned tables as one each."""
        wanted = config.given.get("filter_schemas")
        schemas = (
            f"n.nspname in ({', '.join(map(sql.literal, wanted))})"
            if wanted
            else "n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"
        )
        pairs = None if only is None else ", ".join(f"({sql.literal(s)}, {sql.literal(t)})" for s, t in only)
        tables = "true" if pairs is None else f"(n.nspname, c.relname) in ({pairs})"
        found = Listed()
        for row in ask(_TABLES.format(schemas=schemas, tables=tables)):
            schema, name, is_view, rows, column, nullable, kind, sort, category, *rest = row
            modifier, is_domain, is_plain, place = rest
            read = kind_of(kind, sort, category, modifier)
            if is_domain and read.remote == "{}":  # by the name of pg_type: `character` would be of one letter
                read = replace(read, remote=f"({{}}::pg_catalog.{sql.name(kind)})")
            table = Table(schema, name, {}, is_view=is_view, is_plain=is_plain, rows=rows)
            found.add(table, Column(column, read, nullable), place)
        return found.tables()

    def horizon(self, ask: Ask, overlap_seconds: int) -> Horizon:
        """Return the start of the oldest open transaction, prepared ones among them."""
        ((utc, local, seen),) = ask(_HORIZON.format(form=_FORM, overlap=overlap_seconds))
        return Horizon(utc, local, seen)

    def literal(self, value: str, bound: str) -> str:
        """Write a bound; the server knows its type by the column."""
        if bound == "integer":  # it may lie below the least one of the type
            return str(int(value))
        return sql.literal(value + "Z" if bound == "timestamptz" and value[-1].isdigit() else value)

    def text(self, expression: str, bound: str) -> str:
        """Write a key as text."""
        if bound not in {"timestamp", "timestamptz"}:
            return f"{expression}::text"
        at = f"({expression} at time zone 'UTC')" if bound == "timestamptz" else expression
        ends = f"when {at} < '0001-01-01' then '-infinity' when {at} = 'infinity' then 'infinity'"
        return f"case {ends} else to_char({at}, {_FORM}) end"

    def rows(self, table: Table, columns: Sequence[Column], where: str) -> str:
        """Scan a whole table by several connections, unless a value needs the server's help."""
        if not where and table.is_scanned and all(one.kind.remote == "{}" for one in columns):
            return base.scan(table)
        return super().rows(table, columns, where)
