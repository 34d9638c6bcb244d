"""What becomes of names, types and values."""

from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal

import duckdb
import pytest
from elt_singer.json_schema import SCHEMAS, nullable
from target_duckdb.errors import SchemaError
from target_duckdb.schema import column_type, columns
from target_duckdb_harness import record, schema

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb_harness import Warehouse

EXCLUSIVE = {"exclusiveMinimum": True, "exclusiveMaximum": True}
UNBOUNDED = EXCLUSIVE | {"minimum": -(10**62), "maximum": 10**62}
"""What the common taps say of PostgreSQL's `numeric` without precision."""
TYPES = {
    "BIGINT": [
        {"type": "integer"},
        {"type": ["null", "integer"], "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "integer", "maximum": 2**63, "exclusiveMaximum": True},
        {"type": "integer", "maximum": float("inf")},
    ],
    "HUGEINT": [{"type": "integer", "maximum": 2**63}, {"type": "integer", "exclusiveMinimum": -(2**63) - 2}],
    "DOUBLE": [
        {"type": "number"},
        {"type": ["null", "integer", "number"]},
        {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        {"type": "number", "multipleOf": 0},
        # what no DECIMAL holds: too many digits behind the point, or fewer than 15 are left before it
        {"type": "number", "multipleOf": 1e-40},
        {"type": "number", "multipleOf": 1e-24},
        {"type": "number", "multipleOf": 1e-38} | UNBOUNDED,
        {"type": "number", "multipleOf": 1e-10, "minimum": -(10**29), "maximum": 10**29},
        {"type": "number", "format": "singer.decimal", "precision": 39, "scale": 2},
    ],
    "DECIMAL(38,2)": [
        *({"type": "number", "multipleOf": step} for step in (0.01, 0.25)),
        {"type": "number", "multipleOf": 0.01, "minimum": -1e36, "maximum": 1e36, **EXCLUSIVE},
        {"type": "number", "multipleOf": 0.01, "exclusiveMinimum": -1e36, "exclusiveMaximum": 1e36},
    ],
    "DECIMAL(37,2)": [{"type": "number", "x-singer.decimal": {"precision": 37, "scale": 2}}],
    "DECIMAL(38,23)": [{"type": "number", "multipleOf": 10**-23}, {"type": "number", "multipleOf": 1 / 10**23}],
    "DECIMAL(38,10)": [
        {"type": ["null", "string"], "format": "singer.decimal"},
        {"type": "number", "multipleOf": 1e-10, "minimum": 0},
        {"type": "number", "multipleOf": 1e-10, "minimum": 0, "maximum": float("inf")},
        {"type": "number", "multipleOf": 1e-10, "minimum": -(10**28), "maximum": 10**28, **EXCLUSIVE},
    ],
    "DECIMAL(10,2)": [
        {"type": "number", "multipleOf": 0.01, "minimum": -100000000, "maximum": 100000000, **EXCLUSIVE},
        {"type": "number", "multipleOf": 0.01, "exclusiveMinimum": -1e8, "exclusiveMaximum": 1e8},
        {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 99999999.99},
    ],
    "DECIMAL(3,2)": [{"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 1, **EXCLUSIVE}],
    "DECIMAL(12,4)": [{"type": "string", "format": "singer.decimal", "precision": 12, "scale": 4}],
    "DECIMAL(10,3)": [{"type": "string", "format": "x-singer.decimal", "precision": 10, "scale": 3}],
    "DATE": [{"type": ["string", "null"], "format": "date"}],
    "TIME": [{"type": "string", "format": "time"}],
    "TIMESTAMP": [
        {"type": "string", "format": "date-time"},
        {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
    ],
    "BOOLEAN": [{"type": ["null", "boolean"]}],
    "JSON": [{"type": "object"}, {"type": ["null", "array"]}, {"properties": {}}, {"type": ["object", "string"]}],
    "VARCHAR": [
        *({"type": "string"}, {}, {"type": "null"}, {"type": ["integer", "string"]}, {"format": "uuid"}, True),
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": ["string", "null"]}]},
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]},
    ],
}


@pytest.mark.parametrize(("kind", "of"), [(kind, of) for kind, all_of in TYPES.items() for of in all_of])
def test_type_of_a_schema(kind: str, of: dict[str, t.Any]) -> None:
    assert column_type(of) == kind


VALUES = [
    ("integer", {"type": "integer"}, [0, -1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1], None),
    ("whole number", {"type": "integer"}, [1.0, 1e3], [1, 1000]),
    ("hugeint", {"type": "integer", "maximum": 2**127 - 1}, [2**127 - 1, -(2**127), 5], None),
    ("number", {"type": "number"}, [0.1, -1e300, 5, 1 / 3], [0.1, -1e300, 5.0, 1 / 3]),
    (
        "decimal",
        {"type": "number", "multipleOf": 0.01},
        [0.1, 12, 1.25],
        [Decimal("0.10"), Decimal(12), Decimal("1.25")],
    ),
    ("text", {"type": "string"}, ["", " ", "NULL", "null", 'a "b"\n\\n\t', "\0", "naïve 😀", "a" * 100_000], None),
    ("date", {"type": "string", "format": "date"}, ["2020-02-29"], [dt.date(2020, 2, 29)]),
    (
        "date-time",
        {"type": "string", "format": "date-time"},
        ["2020-01-01T10:00:00Z", "2020-01-01T10:00:00.123456+02:00", "2020-01-01 10:00:00", "0001-01-01T00:00:00Z"],
        [
            dt.datetime(2020, 1, 1, 10),  # noqa: DTZ001 - UTC is what the column means
            dt.datetime(2020, 1, 1, 8, 0, 0, 123456),  # noqa: DTZ001
            dt.datetime(2020, 1, 1, 10),  # noqa: DTZ001
            dt.datetime(1, 1, 1),  # noqa: DTZ001
        ],
    ),
    (
        "time",
        {"type": "string", "format": "time"},
        ["12:30:00", "12:30:00.5+02:00"],
        [dt.time(12, 30), dt.time(10, 30, 0, 500000)],
    ),
    ("boolean", {"type": "boolean"}, [True, False], None),
    ("any", {}, ["a", 5, True], ["a", "5", "true"]),
]


def test_plain_numeric_of_postgresql(warehouse: Warehouse) -> None:
    of = {"id": {"type": "integer"}, "price": {"type": ["null", "number"], "multipleOf": 1e-38, **UNBOUNDED}}
    values = [1.5, 250000, 0.1, -(10**20), None]
    got = warehouse.load(schema(of), *(record({"id": number, "price": one}) for number, one in enumerate(values)))
    assert got.error is None
    assert warehouse.rows("select price from things order by id") == [(one,) for one in values]


def test_a_date_or_a_text_is_text(warehouse: Warehouse) -> None:
    either = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": ["string", "null"]}]}
    values = ["2024-01-31T10:00:00Z", "n/a", None]
    records = (record({"id": number, "a": one}) for number, one in enumerate(values))
    assert warehouse.load(schema({"id": {"type": "integer"}, "a": either}), *records).error is None
    assert warehouse.rows("select a from things order by id") == [(one,) for one in values]


@pytest.mark.parametrize(("of", "values", "expected"), [one[1:] for one in VALUES], ids=[one[0] for one in VALUES])
def test_values_arrive(
    warehouse: Warehouse, of: dict[str, t.Any], values: list[t.Any], expected: list[t.Any] | None
) -> None:
    records = [record({"id": number, "a": value}) for number, value in enumerate([*values, None])]
    messages = [schema({"id": {"type": "integer"}, "a": of}), *records, record({"id": len(records)})]
    assert warehouse.load(*messages).error is None
    got = [value for (value,) in warehouse.rows("select a from things order by id")]
    assert got == [*(values if expected is None else expected), None, None]


def test_infinite_time(warehouse: Warehouse) -> None:
    of = {"id": {"type": "integer"}, "a": {"type": "string", "format": "date-time"}}
    assert warehouse.load(schema(of), record({"id": 1, "a": "infinity"})).error is None
    assert warehouse.rows("select a = 'infinity' from things") == [(True,)]


def test_infinite_number(warehouse: Warehouse) -> None:
    """What is meant stays, and the other values are what they are without it."""
    of = {"id": {"type": "integer"}, "a": {"type": "number"}}
    values = ["Infinity", "-inf", "NaN", True, "1.5", 0.1, 1.7976931348623157e308, 2**53 + 2, None]
    records = [record({"id": number, "a": value}) for number, value in enumerate(values)]
    assert warehouse.load(schema(of), *records).error is None
    got = [value for (value,) in warehouse.rows("select a::varchar from things order by id")]
    assert got == ["inf", "-inf", "nan", "1.0", "1.5", "0.1", "1.7976931348623157e+308", "9007199254740994.0", None]


def test_json_arrives(warehouse: Warehouse) -> None:
    values = [{"b": [1, {"c": None}], "a": 'x"y'}, [], {}, [1.5, "é"], {"big": 2**70}]
    of = {"id": {"type": "integer"}, "a": {"type": ["object", "array"]}}
    warehouse.load(schema(of), *(record({"id": number, "a": value}) for number, value in enumerate(values)))
    assert [json.loads(value) for (value,) in warehouse.rows("select a from things order by id")] == values
    assert warehouse.types()["a"] == "JSON"


LONG = "12345678901234567890.0123456789"


@pytest.mark.parametrize("other", [{}, {"o": {"type": "object"}}], ids=["flat", "with an object"])
def test_decimals_keep_every_digit(warehouse: Warehouse, other: dict[str, t.Any]) -> None:
    of = {"id": {"type": "integer"}, "é": {"type": "number", "multipleOf": 1e-10}, "s": {"type": "string"}, **other}
    line = '{"type": "RECORD", "stream": "things", "record": {"id": 1, "é": %s, "s": "\\"é\\": %s", "o": {"é": %s}}}'
    assert warehouse.load(schema(of), line % (LONG, LONG, "0.5")).error is None
    assert warehouse.rows('select "é", s from things') == [(Decimal(LONG), f'"é": {LONG}')]
    if other:
        assert warehouse.rows("select o::varchar from things") == [('{"é":0.5}',)]


@pytest.mark.parametrize("first", [True, False], ids=["first of its form", "like those before"])
@pytest.mark.parametrize("other", [{}, {"o": {"type": "object"}}], ids=["flat", "with an object"])
@pytest.mark.parametrize("inner", ['{"d":1234567890123456.5}', '[{"a":[],"d":1234567890123456.5}]'])
def test_a_nested_number_is_none_of_the_column_of_its_name(
    warehouse: Warehouse, inner: str, other: dict[str, t.Any], first: bool
) -> None:
    of = {"id": {"type": "integer"}, "d": {"type": "number", "multipleOf": 1e-10}, "s": {"type": "string"}, **other}
    line = '{"type": "RECORD", "stream": "things", "record": {"id": %d, "s": %s, "d": %s, "o": %s}}'
    before = [] if first else [record({"id": 0, "d": 1})]
    lines = [line % (1, inner, LONG, inner), line % (2, "null", LONG, "{}")]
    assert warehouse.load(schema(of), *before, *lines).error is None
    assert warehouse.rows("select d, s from things where id > 0 order by id") == [
        (Decimal(LONG), inner),
        (Decimal(LONG), None),
    ]
    if other:
        assert warehouse.rows("select o::varchar from things where id = 1") == [(inner,)]


@pytest.mark.parametrize("spelling", ["é/x", "\\u00e9/x", "\\u00E9\\/x"])
def test_decimals_keep_every_digit_however_their_name_is_spelled(warehouse: Warehouse, spelling: str) -> None:
    of = {"id": {"type": "integer"}, "é/x": {"type": "number", "multipleOf": 1e-10}, "e": {"multipleOf": 1}}
    line = '{"type": "RECORD", "stream": "things", "record": {"id": 1, "%s" : %s}}'
    assert warehouse.load(schema(of), line % (spelling, LONG)).error is None
    assert warehouse.rows('select "é/x" from things') == [(Decimal(LONG),)]


def test_flattened_decimals_keep_every_digit(warehouse: Warehouse) -> None:
    inner = {"type": "object", "properties": {"d": {"type": "number", "multipleOf": 1e-10}, "s": {"type": "string"}}}
    line = '{"type": "RECORD", "stream": "things", "record": {"d": %s, "o": {"s": {"d": 0.5}, "d": %s}, "id": 1}}'
    of = {"id": {"type": "integer"}, "d": {"type": "string"}, "o": inner}
    assert warehouse.load(schema(of), line % (2**70, LONG), data_flattening_max_level=1).error is None
    assert warehouse.rows("select d, o__d, o__s from things") == [(str(2**70), Decimal(LONG), '{"d":0.5}')]


NAMES = ["select", "a b", 'quo"te', "ünï", "a.b", "a-b", "it's", "1st", "_", "$x", "a\nb", "x" * 300, "{", "%s"]


def test_odd_names(warehouse: Warehouse) -> None:
    properties = {name: {"type": ["null", "string"]} for name in NAMES}
    for stream in ("order by", 'q"u', "täble", "a{b"):
        messages = [
            schema({"id": {"type": "integer"}, **properties}, stream=stream),
            record({"id": 1, **{name: f"value of {name}" for name in NAMES}}, stream=stream),
        ]
        assert warehouse.load(*messages).error is None
        assert warehouse.load(*messages).error is None
        table = '"' + stream.replace('"', '""') + '"'
        assert warehouse.rows(f"from {table}") == [(1, *(f"value of {name}" for name in NAMES))]


def test_names_are_lower_case(warehouse: Warehouse) -> None:
    properties = {"Id": {"type": "integer"}, "clientName": {"type": "string"}}
    warehouse.load(
        schema(properties, stream="Users", keys=["Id"]), record({"Id": 1, "clientName": "x"}, stream="Users")
    )
    assert warehouse.types("users") == {"id": "BIGINT", "clientname": "VARCHAR"}
    assert warehouse.rows("from users") == [(1, "x")]


@pytest.mark.parametrize(
    ("properties", "flatten", "message"),
    [
        ({"id": {}, "ID": {}}, 0, "'id' and 'ID' differ only in case"),
        ({"a__b": {}, "a": {"type": "object", "properties": {"B": {}}}}, 1, "'a__b' and 'a__B' differ only in case"),
        ({"a": {"type": "object", "properties": {"b": {}, "B": {}}}}, 1, "'b' and 'B' differ only in case"),
        ({"": {}}, 0, "a property's name is empty or holds a NUL"),
        ({"a\0": {}}, 0, "a property's name is empty or holds a NUL"),
        ({}, 0, "the schema names no properties"),
    ],
)
def test_names_that_cannot_be_columns(properties: dict[str, t.Any], flatten: int, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        columns({"properties": properties}, flatten=flatten)
    assert message in str(caught.value)


def test_two_streams_of_one_table(warehouse: Warehouse) -> None:
    got = warehouse.load(schema(stream="Users"), schema(stream="users"))
    assert str(got.error) == (
        'stream \'users\', line 2: stream \'Users\' goes to the same table "warehouse"."main"."users"'
    )


@pytest.mark.parametrize(
    ("stream", "place"),
    [("shop-orders", "sales.orders"), ("db-shop-orders-x", "sales.orders_x"), ("orders", "raw.orders")],
)
def test_schema_mapping(warehouse: Warehouse, stream: str, place: str) -> None:
    mapping = {"shop": {"target_schema": "sales"}}
    warehouse.load(
        schema(stream=stream), record({"id": 1}, stream=stream), schema_mapping=mapping, default_target_schema="raw"
    )
    assert warehouse.rows(f"select id from {place}") == [(1,)]


def test_flattening(warehouse: Warehouse) -> None:
    inner = {"type": ["null", "object"], "properties": {"C": {"type": "integer"}, "d": {"type": "object"}}}
    of = {"id": {"type": "integer"}, "a": {"type": "object", "properties": {"B": inner, "e f": {"type": "string"}}}}
    messages = [
        schema(of),
        record({"id": 1, "a": {"B": {"C": 5, "d": {"x": 1}}, "e f": ""}}),
        record({"id": 2, "a": {"B": None}}),
        record({"id": 3}),
    ]
    assert warehouse.load(*messages, data_flattening_max_level=2).error is None
    assert list(warehouse.types()) == ["id", "a__b__c", "a__b__d", "a__e f"]
    assert warehouse.rows("from things order by id") == [(1, 5, '{"x":1}', ""), (2, *[None] * 3), (3, *[None] * 3)]


def test_what_the_schema_does_not_name_is_left_out(warehouse: Warehouse) -> None:
    warehouse.load(schema(), record({"id": 1, "a": "x", "extra": 5}))
    assert warehouse.rows("from things") == [(1, "x")]


def test_forms_of_record_lines(warehouse: Warehouse) -> None:
    forms = [
        '{"type":"RECORD","stream":"things","record":{"id":1,"a":"1"}}',
        '{"type": "RECORD", "stream": "things", "record": {"id": 2, "a": "2"}, "time_extracted": "2020-01-01"}',
        '{"record":{"id":3,"a":"3"},"stream":"things","type":"RECORD"}',
        '{"type":"RECORD","stream":"things","version":7,"record":{"id":4,"a":"4"}}',
        '  {"stream":"things","record":{"a":"5","id":5},"type":"RECORD"}\r',
        "",
        '{"type":"RECORD","record":{"id":6,"a":"{\\"type\\":\\"STATE\\"}"},"stream":"things"}',
    ]
    assert warehouse.load(schema(), *forms, *forms).error is None
    assert warehouse.rows("select id from things order by id") == [(number,) for number in range(1, 7)]


def test_records_across_blocks_and_a_last_line_without_end(warehouse: Warehouse, tmp_path: Path) -> None:
    big = "x" * 3_000_000
    got = warehouse.load(
        schema(), *(record({"id": number, "a": big if number % 7 == 0 else "y"}) for number in range(20))
    )
    assert got.error is None
    assert warehouse.rows("select sum(length(a)) from things") == [(3 * 3_000_000 + 17,)]


def test_decimal_survives_every_way(warehouse: Warehouse) -> None:
    of = {"id": {"type": "integer"}, "a": {"type": ["string", "number"], "format": "singer.decimal", "scale": 4}}
    warehouse.load(schema(of), record({"id": 1, "a": "1.2345"}), record({"id": 2, "a": 1.2345}))
    assert warehouse.rows("select distinct a from things") == [(Decimal("1.2345"),)]
    assert isinstance(duckdb.__version__, str)


def test_what_a_tap_describes_is_the_column_that_it_is_of() -> None:
    assert {kind: column_type(nullable(one)) for kind, one in SCHEMAS.items()} == {kind: kind for kind in SCHEMAS}
