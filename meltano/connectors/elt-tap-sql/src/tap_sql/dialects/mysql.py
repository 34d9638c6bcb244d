"""MySQL and MariaDB: their catalog, their types, and dates that are none."""

# ruff: noqa: S608 - names and values of the queries are quoted

from __future__ import annotations

import typing as t
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from elt_singer import sql
from elt_singer.settings import Setting

from tap_sql import kinds
from tap_sql.certificates import file_of
from tap_sql.dialects import base
from tap_sql.dialects.base import SOURCE, Dialect, Listed, Server
from tap_sql.errors import LostError, SourceError
from tap_sql.model import Column, Horizon, Kind, Table

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tap_sql.config import Config
    from tap_sql.dialects.base import Ask

_OWN = "('information_schema', 'mysql', 'performance_schema', 'sys')"
_TABLES = """
select c.table_schema, c.table_name, b.table_type = 'VIEW', b.table_rows, c.column_name, c.is_nullable = 'YES',
    lower(c.data_type), lower(c.column_type), c.numeric_precision, c.numeric_scale, w.n is null, k.ordinal_position
from information_schema.columns c
join information_schema.tables b on b.table_schema = c.table_schema and b.table_name = c.table_name
left join (
    select lower(table_schema) as s, lower(table_name) as t, count(*) as n
    from information_schema.tables group by lower(table_schema), lower(table_name) having count(*) > 1
) as w on w.s = lower(c.table_schema) and w.t = lower(c.table_name)
left join information_schema.key_column_usage k on k.constraint_name = 'PRIMARY'
    and k.table_schema = c.table_schema and k.table_name = c.table_name and k.column_name = c.column_name
where {schemas} and {tables} and b.table_type in ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')
order by c.table_schema, c.table_name, c.ordinal_position
"""
_AGE = (
    "select timestampdiff(second, min(trx_started), convert_tz(now(), @@session.time_zone, 'SYSTEM')) "
    "from information_schema.innodb_trx where trx_mysql_thread_id <> connection_id()"
)
_NOW = "select cast(utc_timestamp(6) as char), cast(convert_tz(utc_timestamp(6), '+00:00', 'SYSTEM') as char)"
_SLACK = timedelta(seconds=2)
"""A statement's time is earlier than the start of the transaction that it begins, which is told in whole seconds."""
_ISOLATION = ("tx_isolation", "transaction_isolation")
"""The variable, as MariaDB calls it and as MySQL 8 does."""
_METHODS = "default-auth=mysql_native_password;restricted-auth=mysql_native_password,client_ed25519,parsec"
"""Ways to log in that do not give the password away; the others hand it over, if the server says that it needs it."""
_TEXT = replace(kinds.TEXT, remote="cast({} as char)", is_scanned=False)
_BYTES = replace(kinds.BYTES, bound="")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), kinds.INTEGER),
    "year": replace(kinds.INTEGER, remote="cast({} as unsigned)"),
    "bit": replace(kinds.UNSIGNED, remote="cast({} as unsigned)", is_scanned=False),
    **dict.fromkeys(("float", "double"), kinds.DOUBLE),
    "date": kinds.DATE,
    "datetime": kinds.TIMESTAMP,
    "timestamp": replace(kinds.TIMESTAMP, bound="timestamptz"),
    **dict.fromkeys(
        ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"),
        # As they are, those of a binary collation (JSON of MariaDB, too) come out of a query as bytes.
        replace(kinds.TEXT, remote="cast({} as char)"),
    ),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), _BYTES),
    "json": replace(kinds.JSON, remote="cast({} as char)", is_scanned=False),
    **dict.fromkeys(
        (
            "geometry",
            "point",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geometrycollection",
        ),
        replace(kinds.TEXT, remote="st_astext({})", is_scanned=False, bound=""),
    ),
}
"""By names of types; what is not among them (time, uuid, inet6) is sent as the server writes it."""


def kind_of(name: str, written: str, precision: int | None, scale: int | None) -> Kind:
    """Return how values of a type are read.

    Args:
        name: `data_type` of information_schema.
        written: its `column_type`, which says whether numbers have a sign.
        precision: digits of a number.
        scale: digits behind its point.
    """
    if name == "decimal":
        digits = precision or 0, scale or 0
        return kinds.decimal(*digits) if kinds.is_decimal(*digits) else replace(_TEXT, bound="")
    if name == "bigint" and "unsigned" in written:
        return kinds.UNSIGNED
    return _KINDS.get(name, _TEXT)


class MySQL(Dialect):
    """MySQL and MariaDB, as a dialect."""

    name = "mysql"
    executable = "tap-mysql"
    count = "signed"
    duckdb_settings: t.ClassVar[t.Mapping[str, str]] = {
        "mysql_tinyint1_as_boolean": "false",  # it may hold 2
        "mysql_bit1_as_boolean": "false",
        "mysql_incomplete_dates_as_nulls": "true",
        "mysql_session_time_zone": "+00:00",
        "mysql_sql_buffer_result": "false",
        "mysql_query_timeout_enabled": "false",
    }
    speaks_first = True
    query_options = ", stream_results = false"
    """A result that is streamed comes over another connection, and so out of another snapshot."""
    settings = (
        Setting("host", "string", "The server", "localhost"),
        Setting("port", "integer", "Its port", 3306),
        Setting("user", "string", "As whom to connect"),
        Setting("password", "string", "The user's password"),
        Setting("database", "string", "The database; all that the user may see without it"),
        Setting("sqlalchemy_url", "string", "a URL such as mysql://USER@HOST:PORT/DATABASE, in place of these"),
        Setting("filter_dbs", "string", "Databases to read, with commas between them"),
        Setting("ssl", "boolean", "Whether the connection must be encrypted", default=False),
        Setting("ssl_ca", "string", "The authority's certificate: a file, or its text"),
        Setting("ssl_cert", "string", "The client's certificate: a file, or its text"),
        Setting("ssl_key", "string", "The client's key: a file, or its text"),
        Setting("verify_mode", "boolean", "Whether the server's certificate is checked", default=True),
        Setting("check_hostname", "boolean", "Whether its name is", default=True),
        base.CLEARTEXT,
    )

    def attach(self, config: Config, folder: str) -> list[str]:
        """Attach by a secret, which no message shows."""
        server, given = self.server(config), config.given
        shown: dict[str, str] = {}
        if given.get("ssl"):
            mode = "required"
            if given["verify_mode"]:
                mode = "verify_identity" if given["check_hostname"] else "verify_ca"
            shown = {name: file_of(given, name, folder) or "" for name in ("ssl_ca", "ssl_cert", "ssl_key")}
            shown["ssl_mode"] = mode
        where, host = sql.literal(base.options(shown).replace("'", '"')), server.host
        if not (given["cleartext_password"] or shown.get("ssl_mode", "").startswith("verify")):
            host = f"host={{{host.replace('}', '}}')}}};{_METHODS}"
        return [
            base.secret(self.name, server, server.database, host),
            f"attach {where} as {SOURCE} (type mysql, read_only)",
        ]

    def server(self, config: Config) -> Server:
        """Return where the server listens."""
        return config.server(3306)

    def check(self, ask: Ask) -> None:
        """Refuse a server whose sessions begin with another isolation level, which an attachment cannot set."""
        for variable in _ISOLATION:
            try:
                ((level,),) = ask(f"select @@{variable}")
            except LostError:
                raise
            except SourceError:
                continue
            if level not in {"REPEATABLE-READ", "SERIALIZABLE"}:
                what = f"its isolation level is {level}, so that the tables of a run would be of several moments"
                raise SourceError(
                    f"{what}; run `set global transaction isolation level repeatable read` on the server"
                )
            return
        raise SourceError("the server does not say its isolation level")

    def tables(self, ask: Ask, config: Config, only: Iterable[tuple[str, str]] | None = None) -> list[Table]:
        """Return the tables and views."""
        listed = str(config.given.get("filter_dbs") or self.server(config).database or "")
        wanted = [one.strip() for one in listed.split(",") if one.strip()]
        names = ", ".join(map(self._text, wanted))
        schemas = f"c.table_schema in ({names})" if wanted else f"lower(c.table_schema) not in {_OWN}"
        pairs = None if only is None else ", ".join(f"({self._text(s)}, {self._text(t)})" for s, t in only)
        tables = "1" if pairs is None else f"(c.table_schema, c.table_name) in ({pairs})"
        found = Listed()
        for row in ask(_TABLES.format(schemas=schemas, tables=tables)):
            schema, name, is_view, rows, column, nullable, *kind, is_plain, place = row
            read = Column(column, kind_of(*kind), bool(nullable))
            table = Table(schema, name, {}, is_view=bool(is_view), is_plain=bool(is_plain), rows=rows)
            found.add(table, read, place)
        return found.tables()

    def horizon(self, ask: Ask, overlap_seconds: int) -> Horizon:
        """Return the start of the oldest open transaction of InnoDB."""
        ((utc, local),) = ask(_NOW)
        try:
            ((age,),) = ask(_AGE)
            back, seen = timedelta(seconds=age or 0) + _SLACK, True
        except LostError:
            raise
        except SourceError:
            back, seen = timedelta(seconds=overlap_seconds), False
        times = (datetime.fromisoformat(one).replace(tzinfo=UTC) - back for one in (utc, local))
        at, here = (one.strftime("%Y-%m-%dT%H:%M:%S.%f") for one in times)
        return Horizon(at, here, is_seen=seen)

    def quote(self, name: str) -> str:
        """Quote an identifier."""
        return "`" + name.replace("`", "``") + "`"

    def literal(self, value: str, bound: str) -> str:
        """Write a bound."""
        if bound == "integer":
            return str(int(value))
        return self._text(value.replace("T", " ") if bound.startswith("timestamp") else value)

    def text(self, expression: str, bound: str) -> str:
        """Write a key as text."""
        if bound.startswith("timestamp"):
            return f"date_format({expression}, '%Y-%m-%dT%H:%i:%s.%f')"
        return f"cast({expression} as char)"

    def rows(self, table: Table, columns: Sequence[Column], where: str) -> str:
        """Scan, which streams; what the scanner reads inexactly, and parts of tables, come as one result."""
        if not where and table.is_scanned and all(one.kind.is_scanned for one in columns):
            return base.scan(table)
        return super().rows(table, columns, where)

    def zeros(self, table: Table, columns: Sequence[Column], where: str) -> str | None:
        """Count dates without a month or a day."""
        dates = [self.quote(one.name) for one in columns if one.kind.duckdb in {"DATE", "TIMESTAMP"}]
        if not dates:
            return None
        zero = " + ".join(f"coalesce(month({one}) = 0 or dayofmonth({one}) = 0, 0)" for one in dates)
        return f"select cast(coalesce(sum({zero}), 0) as signed) from {self.place(table)}{where}"

    @staticmethod
    def _text(value: str) -> str:
        return sql.literal(value.replace("\\", "\\\\"))
