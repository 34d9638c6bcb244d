"""Types with their extremes: what stands in the table of the README."""

from __future__ import annotations

import json
import logging
import typing as t
from decimal import Decimal

import pytest
from tap_sql_harness import Source, batched

if t.TYPE_CHECKING:
    from pathlib import Path

POSTGRES: list[tuple[str, str, dict[str, t.Any], t.Any, str]] = [
    # type, SQL of a value, what the schema says, the value of a RECORD, DuckDB's type
    ("int2", "-32768", {"type": "integer"}, -32768, "BIGINT"),
    ("int8", "9223372036854775807", {"type": "integer"}, 2**63 - 1, "BIGINT"),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", {"multipleOf": 1e-10}, None, "DECIMAL(38,10)"),
    ("numeric(2,2)", "0.05", {"multipleOf": 0.01}, 0.05, "DECIMAL(2,2)"),
    ("numeric", "'NaN'", {"type": "string"}, "NaN", "VARCHAR"),
    ("numeric", "1" * 50 + ".000000000001", {"type": "string"}, "1" * 50 + ".000000000001", "VARCHAR"),
    ("numeric(50,5)", "1.5", {"type": "string"}, "1.50000", "VARCHAR"),
    ("numeric(3,-2)", "12345", {"type": "string"}, "12300", "VARCHAR"),
    ("float8", "'NaN'", {"type": "number"}, "NaN", "DOUBLE"),
    ("float8", "'-Infinity'", {"type": "number"}, "-Infinity", "DOUBLE"),
    ("float8", "0.1", {"type": "number"}, 0.1, "DOUBLE"),
    ("float4", "0.5", {"type": "number"}, 0.5, "DOUBLE"),
    ("money", "'-92233720368547758.08'", {"multipleOf": 1e-4}, None, "DECIMAL(22,4)"),
    ("bool", "true", {"type": "boolean"}, True, "BOOLEAN"),
    ("date", "'infinity'", {"format": "date"}, "infinity", "DATE"),
    ("date", "'2024-02-29'", {"format": "date"}, "2024-02-29", "DATE"),
    ("time", "'23:59:59.999999'", {"format": "time"}, "23:59:59.999999", "TIME"),
    ("timetz", "'12:34:56+02'", {"type": "string"}, "12:34:56+02", "VARCHAR"),
    ("timestamp", "'-infinity'", {"format": "date-time"}, "-infinity", "TIMESTAMP"),
    (
        "timestamp",
        "'2024-01-01 00:00:00.123456'",
        {"format": "date-time"},
        "2024-01-01T00:00:00.123456Z",
        "TIMESTAMP",
    ),
    ("timestamptz", "'2024-01-01 00:00+02'", {"format": "date-time"}, "2023-12-31T22:00:00.000000Z", "TIMESTAMP"),
    ("timestamptz", "'infinity'", {"format": "date-time"}, "infinity", "TIMESTAMP"),
    ("interval", "'1 mon 2 days 03:04:05.6'", {"type": "string"}, "1 mon 2 days 03:04:05.6", "VARCHAR"),
    ("json", """'{"b": 1,  "a": [1.10]}'""", {}, {"b": 1, "a": [1.1]}, "JSON"),
    ("jsonb", "'null'", {}, None, "JSON"),
    ("int[]", "'{1,NULL,3}'", {}, [1, None, 3], "JSON"),
    ("int[]", "'{{1,2},{3,4}}'", {}, [[1, 2], [3, 4]], "JSON"),
    ("text[]", """'{"a,b", "q\\"x"}'""", {}, ["a,b", 'q"x'], "JSON"),
    (
        "uuid",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        {"type": "string"},
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "VARCHAR",
    ),
    ("mood", "'so so'", {"type": "string"}, "so so", "VARCHAR"),
    ("bytea", "'\\xdeadbeef00'", {"contentEncoding": "base64"}, "3q2+7wA=", "VARCHAR"),
    ("int4range", "'[1,5)'", {"type": "string"}, "[1,5)", "VARCHAR"),
    ("email", "'A@b.c'", {"type": "string"}, "A@b.c", "VARCHAR"),
    ("price", "19.99", {"multipleOf": 0.01}, 19.99, "DECIMAL(8,2)"),
    ("price2", "19.99", {"multipleOf": 0.01}, 19.99, "DECIMAL(8,2)"),
    ("country", "'DEU'", {"type": "string"}, "DEU", "VARCHAR"),
    ("code", "'AB-7'", {"type": "string"}, "AB-7", "VARCHAR"),
    ("pair", "'(1,x)'", {}, {"a": 1, "b": "x"}, "JSON"),
    ("point", "'(1,2)'", {"type": "string"}, "(1,2)", "VARCHAR"),
    ("char(5)", "'ab'", {"type": "string"}, "ab", "VARCHAR"),
    ("varchar(9)", "'🐘 é'", {"type": "string"}, "🐘 é", "VARCHAR"),
    ("text", "''", {"type": "string"}, "", "VARCHAR"),
    ("inet", "'10.0.0.1/24'", {"type": "string"}, "10.0.0.1/24", "VARCHAR"),
    ("bit(3)", "'101'", {"type": "string"}, "101", "VARCHAR"),
    ("oid", "4294967295", {"type": "integer"}, 2**32 - 1, "BIGINT"),
    ("tsvector", "'a b'", {"type": "string"}, "'a' 'b'", "VARCHAR"),
]


def test_postgres_carries_every_type_with_its_extremes(pg: Source, tmp_path: Path) -> None:
    pg.execute("create type mood as enum ('so so'); create type pair as (a int, b text); create domain email as text")
    pg.execute("create domain price as numeric(8,2) check (value > 0); create domain price2 as price")
    pg.execute("create domain country as char(3); create domain code as bpchar")
    columns = ", ".join(f"c{place} {kind}" for place, (kind, *_) in enumerate(POSTGRES))
    pg.execute(f"create table types (id int primary key, {columns}, doubled int generated always as (id * 2) stored)")
    values = ", ".join(value for _, value, *_ in POSTGRES)
    pg.execute(f"insert into types values (1, {values}); insert into types (id) values (2)")
    ran = pg.run()
    assert ran.error is None
    first, second = sorted(ran.records, key=lambda one: one["id"])
    assert first["doubled"] == 2
    assert all(value is None for name, value in second.items() if name not in {"id", "doubled"})
    files = pg.run(**batched(tmp_path))
    names = [f"c{place}" for place in range(len(POSTGRES))]
    kinds = files.rows(", ".join(f"typeof({name})" for name in names))[0]
    for name, kind, (of, _, schema, value, duckdb_type) in zip(names, kinds, POSTGRES, strict=True):
        assert schema.items() <= {**ran.properties[name], **_without_null(ran.properties[name])}.items(), of
        assert kind == duckdb_type, of
        if value is not None:
            assert first[name] == value, of
    at = {of: name for name, (of, *_) in zip(names, POSTGRES, strict=True)}
    exact = [Decimal(one) for one in ("1234567890123456789012345678.0123456789", "-92233720368547758.0800")]
    assert min(files.rows(f"id, {at['numeric(38,10)']}, {at['money']}")) == (1, *exact)


def _without_null(schema: dict[str, t.Any]) -> dict[str, t.Any]:
    kinds = [one for one in schema["type"] if one != "null"] if isinstance(schema["type"], list) else [schema["type"]]
    return {"type": kinds[0]} if len(kinds) == 1 else {}


@pytest.mark.parametrize(("kind", "value"), [("numeric(10,2)", "'NaN'"), ("timestamp", "'294276-01-01'")])
def test_what_duckdb_would_read_as_another_value_is_refused(
    pg: Source, tmp_path: Path, kind: str, value: str
) -> None:
    pg.execute(f"create table t (id int, bad {kind}); insert into t values (1, {value})")
    for settings in ({}, batched(tmp_path)):
        ran = pg.run(**settings)
        assert str(ran.error).startswith("table public.t, column 'bad': a value is NaN, or a time after 294246")
        assert ran.messages == []
    assert not list(tmp_path.iterdir())


def test_names_that_differ_in_case_are_refused_before_anything_is_sent(pg: Source) -> None:
    pg.execute('create table a (id int); create table t (id int, "Name" text, name text)')
    ran = pg.run()
    assert "public.t: 'Name' and 'name' differ only in case" in str(ran.error)
    assert ran.messages == []


MYSQL: list[tuple[str, str, t.Any]] = [
    ("tinyint(1)", "2", 2),
    ("bigint unsigned", "18446744073709551615", 2**64 - 1),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("decimal(12,2)", "-1.25", -1.25),
    ("decimal(65,10)", "1" * 55 + ".1234567890", "1" * 55 + ".1234567890"),
    ("double", "0.1", 0.1),
    ("datetime(6)", "'2024-01-01 00:00:00.123456'", "2024-01-01T00:00:00.123456Z"),
    ("datetime", "'0000-00-00 00:00:00'", None),
    ("date", "'2024-00-10'", None),
    ("date", "'2024-02-29'", "2024-02-29"),
    ("time(3)", "'-838:59:59.125'", "-838:59:59.125"),
    ("year", "2024", 2024),
    ("bit(1)", "b'1'", 1),
    ("bit(64)", "b'" + "1" * 64 + "'", 2**64 - 1),
    ("set('x','y')", "'x,y'", "x,y"),
    ("enum('a','b')", "'b'", "b"),
    ("varchar(20)", "'🐘 é'", "🐘 é"),
    ("longtext", "''", ""),
    ("varchar(9) collate utf8mb4_bin", "'\"é  '", '"é  '),
    ("enum('\"é') character set latin1 collate latin1_bin", "1", '"é'),
    ("json", """'{"é": 1.10}'""", '{"é": 1.10}'),
    ("varbinary(9)", "x'deadbeef00'", "3q2+7wA="),
    ("point", "point(1,2)", "POINT(1 2)"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
]
SCANNED = [one for one in MYSQL if not one[0].startswith(("decimal(65", "time", "bit", "point", "uuid"))]


@pytest.mark.parametrize("types", [MYSQL, SCANNED], ids=["by-statement", "by-scan"])
def test_mariadb_carries_every_type_with_its_extremes(
    my: Source, caplog: pytest.LogCaptureFixture, types: list[tuple[str, str, t.Any]]
) -> None:
    columns = ", ".join(f"c{place} {kind} null" for place, (kind, *_) in enumerate(types))
    my.execute(f"create table shop.types (id int primary key, {columns}, doubled int as (id * 2) stored)")
    names = ", ".join(f"c{place}" for place in range(len(types)))
    my.execute(f"insert into shop.types (id, {names}) values (1, {', '.join(value for _, value, _ in types)})")
    with caplog.at_level(logging.WARNING):
        ran = my.run()
    assert ran.error is None
    (record,) = ran.records
    assert record == {"id": 1, "doubled": 2} | {f"c{place}": value for place, (*_, value) in enumerate(types)}
    assert "shop.types: 2 dates without a month or a day are null here" in caplog.text


def test_sqlite_takes_columns_whose_values_have_other_types(lite: Source) -> None:
    lite.execute(
        "create table t (id integer primary key, n integer, r real, d date, at datetime, b blob, x numeric(10,2),"
        " is_x boolean, anything, doubled integer generated always as (id * 2));"
        "insert into t values"
        "(1, 9223372036854775807, 0.1, '2024-02-29', '2024-01-01 10:00:00.5', x'ff00', 1.25, 1, 'q'),"
        "(2, 'abc', 1e300, null, null, null, 3, 0, 5)"
    )
    ran = lite.run()
    assert ran.error is None
    first, second = sorted(ran.records, key=lambda one: one["id"])
    assert first == {
        "id": 1,
        "n": "9223372036854775807",
        "r": 0.1,
        "d": "2024-02-29",
        "at": "2024-01-01T10:00:00.500000Z",
        "b": "/wA=",
        "x": 1.25,
        "is_x": True,
        "anything": "q",
        "doubled": 2,
    }
    assert (second["n"], second["r"], second["x"], second["is_x"], second["anything"]) == (
        "abc",
        1e300,
        3,
        False,
        "5",
    )
    lite.execute("delete from t where id = 2")
    assert json.dumps(lite.run().records[0]["n"]) == "9223372036854775807"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("numeric", 12345678901234567000.0, "1.2345678901234567e+19"),
        ("", 0.30000000000000004, "0.30000000000000004"),
        ("numeric(10,2)", 1.005, "1.005"),
        ("real", 1.0225533332926676e108, 1.0225533332926676e108),  # which SQLite shows with 18 digits
        ("numeric", 1.0225533332926676e108, 1.0225533332926676e108),
        ("datetime", "2024-02-29 10:00:00.123456789", "2024-02-29 10:00:00.123456789"),
        ("datetime", "2024-02-29 10:00:00.123456000", "2024-02-29T10:00:00.123456Z"),
        ("datetime", "2024-02-30 10:00:00", "2024-02-30 10:00:00"),
        ("datetime", "2024-02-29 10:00:00.1234560000001", "2024-02-29 10:00:00.1234560000001"),
        ("datetime", "2024-02-29 10:00:00.1234560+02:05", "2024-02-29T07:55:00.123456Z"),
        ("datetime", "2024-02-29 10:00:00.12+02:05", "2024-02-29T07:55:00.120000Z"),
        ("datetime", "2024-02-29 24:00:00", "2024-02-29 24:00:00"),
        ("datetime", "2024-02-29 10:00:00 +02:00", "2024-02-29 10:00:00 +02:00"),
        ("date", "2024-02-30", "2024-02-30"),
    ],
)
def test_sqlite_keeps_what_a_type_does_not_hold(lite: Source, kind: str, value: t.Any, expected: t.Any) -> None:
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    lite.execute(f"create table t (id integer primary key, v {kind}); insert into t values (1, {text})")
    ran = lite.run()
    assert ran.error is None
    (record,) = ran.records
    assert (float(record["v"]) if isinstance(expected, float) else record["v"]) == expected


def test_sqlite_refuses_bytes_in_a_column_of_text(lite: Source) -> None:
    lite.execute("create table t (id integer primary key, note text); insert into t values (1, x'ff')")
    catalog = lite.only("t")
    assert [one["metadata"]["inclusion"] for one in catalog["streams"][0]["metadata"]][2] == "unsupported"
    catalog["streams"][0]["metadata"][2]["metadata"] = {"selected": True}
    ran = lite.run(catalog)
    assert "table main.t, column 'note': declared as no BLOB" in str(ran.error)
    assert ran.messages == []
