"""Load methods, versions, deletions, schema changes, STATE."""

from __future__ import annotations

import itertools
import typing as t

import duckdb
import pytest
from target_duckdb_harness import record, schema, state

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb_harness import Warehouse

INTEGER = {"type": ["null", "integer"]}
TEXT = {"type": ["null", "string"]}


@pytest.mark.parametrize("batch_size_rows", [1, 2, 3, 1000])
def test_the_last_record_of_a_key_wins(warehouse: Warehouse, batch_size_rows: int) -> None:
    records = [record({"id": number % 5, "a": f"{number}"}) for number in range(23)]
    assert warehouse.load(schema(), *records, batch_size_rows=batch_size_rows).error is None
    expected = [(0, "20"), (1, "21"), (2, "22"), (3, "18"), (4, "19")]
    assert warehouse.rows("from things order by id") == expected
    warehouse.load(schema(), record({"id": 3, "a": None}), record({"id": 9}))
    assert warehouse.rows("from things order by id") == [*expected[:3], (3, None), expected[4], (9, None)]


@pytest.mark.parametrize("keys", [(1, 2, 3), (3, 2, 1), (1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 1), (7,)])
def test_keys_may_come_in_any_order(warehouse: Warehouse, keys: tuple[int, ...]) -> None:
    records = [record({"id": key, "a": f"{number}"}) for number, key in enumerate(keys)]
    assert warehouse.load(schema(), *records).error is None
    last = {key: f"{number}" for number, key in enumerate(keys)}
    assert warehouse.rows("from things order by id") == sorted(last.items())


def test_a_first_key_that_does_not_grow_is_no_duplicate(warehouse: Warehouse) -> None:
    of = {"a": INTEGER, "b": TEXT}
    rows = [(1, "x"), (1, "y"), (0, "x"), (2, "x")]
    warehouse.load(schema(of, keys=["a", "b"]), *(record({"a": a, "b": b}) for a, b in rows))
    assert warehouse.rows("from things order by all") == sorted(rows)


def test_keys_of_several_columns(warehouse: Warehouse) -> None:
    of = {"a": TEXT, "b": {"type": "string", "format": "date-time"}, "c": INTEGER}
    same = ["2020-01-01T00:00:00Z", "2020-01-01T01:00:00+01:00"]
    records = [
        record({"a": a, "b": b, "c": number}) for number, (a, b) in enumerate(itertools.product(("", "x"), same))
    ]
    warehouse.load(schema(of, keys=["b", "a"]), *records)
    assert warehouse.rows("select a, c from things order by a") == [("", 1), ("x", 3)]


def test_a_table_that_is_only_its_key(warehouse: Warehouse) -> None:
    messages = [schema({"id": INTEGER}), record({"id": 1}), record({"id": 1}), record({"id": 2})]
    for _ in range(2):
        warehouse.load(*messages)
        assert warehouse.rows("from things order by id") == [(1,), (2,)]


@pytest.mark.parametrize("keys", [[], ["id"]])
def test_append_only(warehouse: Warehouse, keys: list[str]) -> None:
    messages = [schema(keys=keys), record({"id": 1, "a": "x"}), record({"id": 1, "a": "y"})]
    for _ in range(2):
        warehouse.load(*messages, load_method="append-only")
    assert warehouse.rows("from things") == [(1, "x"), (1, "y")] * 2


def test_streams_without_keys_are_appended(warehouse: Warehouse) -> None:
    for _ in range(2):
        warehouse.load(schema(keys=[]), record({"id": 1}))
    assert warehouse.rows("select id from things") == [(1,), (1,)]


def test_streams_without_keys_are_refused_unless_told(warehouse: Warehouse) -> None:
    got = warehouse.load(schema(keys=[]), primary_key_required=True)
    assert str(got.error).startswith("stream 'things', line 1: no key_properties")


def test_overwrite_replaces_the_table_at_the_end(warehouse: Warehouse) -> None:
    warehouse.load(schema(), record({"id": 1, "a": "old"}), record({"id": 2}))
    warehouse.rows("create view seen as from things")
    new = [record({"id": number % 4 + 5, "a": "new"}) for number in range(9)]
    got = warehouse.load(schema(), *new, state(1), *new, state(2), load_method="overwrite", batch_size_rows=3)
    assert got.states == [2]
    assert warehouse.rows("select distinct a, count(*) from seen group by all") == [("new", 4)]
    assert warehouse.rows("select table_name from duckdb_tables()") == [("things",)]


def test_overwrite_that_fails_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.load(schema(), record({"id": 1, "a": "old"}))
    new = [record({"id": number, "a": "new"}) for number in range(9)]
    got = warehouse.load(schema(), *new, state(1), "no", load_method="overwrite", batch_size_rows=2)
    assert got.error
    assert got.states == []
    assert warehouse.rows("from things") == [(1, "old")]
    assert warehouse.load(schema(), record({"id": 2, "a": "new"}), state(1), load_method="overwrite").error is None
    assert warehouse.rows("from things") == [(2, "new")]


@pytest.mark.parametrize("sent", [3, 0], ids=["in the middle of a stream", "before the first record"])
def test_a_tap_that_dies_overwrites_nothing(warehouse: Warehouse, sent: int) -> None:
    """Another stream, complete by then, stays as it was as well: all or nothing."""
    old = [schema(), record({"id": 1, "a": "old"}), schema(stream="others"), record({"id": 1}, stream="others")]
    warehouse.load(*old)
    new = [record({"id": number, "a": "new"}) for number in range(9)]
    others = [schema(stream="others"), *[record({"id": number}, stream="others") for number in range(sent)]]
    messages = [schema(), *new, state(1), *others]
    got = warehouse.load(*messages, load_method="overwrite", batch_size_rows=2)
    assert str(got.error).startswith("the input ends without a STATE after its last record")
    assert got.states == []
    assert warehouse.rows("from things") == [(1, "old")]
    assert warehouse.rows("from others") == [(1, None)]
    assert warehouse.rows("select table_name from duckdb_tables() order by all") == [("others",), ("things",)]


def test_overwrite_with_nothing_empties_and_takes_the_new_columns(warehouse: Warehouse) -> None:
    warehouse.load(schema(), record({"id": 1}))
    warehouse.load(schema({"id": TEXT}), state(1), load_method="overwrite")
    assert warehouse.rows("from things") == []
    assert warehouse.types() == {"id": "VARCHAR"}


def test_metadata_columns(warehouse: Warehouse) -> None:
    messages = [
        schema(),
        record({"id": 1, "a": "x"}, time_extracted="2020-01-01T12:00:00+02:00"),
        record({"id": 2, "_sdc_deleted_at": "2021-01-01T00:00:00Z"}, time_extracted="2020-01-01T10:00:00Z"),
    ]
    warehouse.load(*messages, add_metadata_columns=True)
    assert list(warehouse.types().items())[2:] == [
        (name, "TIMESTAMP") for name in ("_sdc_deleted_at", "_sdc_extracted_at", "_sdc_batched_at")
    ]
    assert warehouse.rows(
        "select id, _sdc_extracted_at::varchar, _sdc_deleted_at::varchar, "
        "abs(epoch(now()) - epoch(_sdc_batched_at)) < 60 from things order by id"
    ) == [(1, "2020-01-01 10:00:00", None, True), (2, "2020-01-01 10:00:00", "2021-01-01 00:00:00", True)]


def test_hard_delete(warehouse: Warehouse) -> None:
    gone = record({"id": 1, "_sdc_deleted_at": "2021-01-01T00:00:00Z"})
    warehouse.load(schema(), record({"id": 1}), record({"id": 2}), hard_delete=True)
    warehouse.load(schema(), gone, hard_delete=True)
    assert warehouse.rows("select id from things") == [(2,)]
    warehouse.load(schema(), record({"id": 3}), gone, record({"id": 1, "a": "again"}), hard_delete=True)
    assert warehouse.rows("select id from things order by id") == [(1,), (2,), (3,)]


VERSIONED = [
    schema(),
    {"type": "ACTIVATE_VERSION", "stream": "things", "version": 1},
    record({"id": 1}, version=1),
    record({"id": 2}, version=1),
    {"type": "ACTIVATE_VERSION", "stream": "things", "version": 1},
]
NEXT = [
    schema(),
    record({"id": 2, "a": "new"}, version=2),
    record({"id": 3}, version=2),
    {"type": "ACTIVATE_VERSION", "stream": "things", "version": 2},
    state(2),
]


@pytest.mark.parametrize("batch_size_rows", [1, 1000])
def test_activate_version_deletes(warehouse: Warehouse, batch_size_rows: int) -> None:
    warehouse.load(schema(), record({"id": 0, "a": "of a time before versions"}))
    assert warehouse.load(*VERSIONED, hard_delete=True, batch_size_rows=batch_size_rows).error is None
    assert warehouse.rows("select id, _sdc_table_version from things order by id") == [(1, 1), (2, 1)]
    assert warehouse.load(*NEXT, hard_delete=True, batch_size_rows=batch_size_rows).states == [2]
    assert warehouse.rows("select id, _sdc_table_version from things order by id") == [(2, 2), (3, 2)]


def test_activate_version_marks(warehouse: Warehouse) -> None:
    warehouse.load(*VERSIONED)
    warehouse.load(*NEXT)
    expected = [(1, True), (2, False), (3, False)]
    assert warehouse.rows("select id, _sdc_deleted_at is not null from things order by id") == expected
    first = warehouse.rows("select _sdc_deleted_at from things where id = 1")
    warehouse.load(*NEXT)
    assert warehouse.rows("select _sdc_deleted_at from things where id = 1") == first


def test_activate_version_can_be_off(warehouse: Warehouse) -> None:
    warehouse.load(*VERSIONED, process_activate_version_messages=False)
    warehouse.load(*NEXT, process_activate_version_messages=False, hard_delete=True)
    assert warehouse.rows("select id from things order by id") == [(1,), (2,), (3,)]
    assert "_sdc_table_version" not in warehouse.types()


def test_activate_version_spares_rows_that_bear_none_in_this_run(warehouse: Warehouse) -> None:
    warehouse.load(
        schema(), record({"id": 1}), {"type": "ACTIVATE_VERSION", "stream": "things", "version": 5}, hard_delete=True
    )
    assert warehouse.rows("select id from things") == [(1,)]


def test_activate_version_before_its_schema(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """So full-table streams of the pipelinewise taps begin."""
    warehouse.load(*VERSIONED)
    early: list[t.Any] = [NEXT[-2], {"type": "ACTIVATE_VERSION", "stream": "never", "version": 1}]
    got = warehouse.load(schema(stream="others"), *early, *NEXT[:-2], state(3), hard_delete=True)
    assert (got.error, got.states) == (None, [3])
    assert warehouse.rows("select id from things order by id") == [(2,), (3,)]
    assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == [
        "never: ACTIVATE_VERSION had no effect: no SCHEMA of the stream came"
    ]


def test_the_family_of_messages(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    """STATE first, a repeated SCHEMA, nulls for no keys and no version, and types that nobody knows."""
    plain = {**schema(), "key_properties": None}
    messages = [
        state({"first": 1}),
        {"type": "PAUSE"},
        plain,
        record({"id": 1}, version=None),
        plain,
        {"type": "ACTIVATE_VERSION", "stream": "things", "version": None},
        {"type": "PAUSE", "stream": "things"},
        record({"id": 1}),
        {"type": "METRIC"},
        state({"last": 1}),
        {"type": "PAUSE"},
    ]
    for method in ("upsert", "overwrite"):
        assert warehouse.load(*messages, load_method=method).states == [{"last": 1}]
        assert warehouse.rows("select id from things") == [(1,), (1,)]
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warned[: len(warned) // 2] == [
        "line 2: messages of type 'PAUSE' are unknown and passed over",
        "line 6: ACTIVATE_VERSION of things has no effect: its version is null",
        "line 9: messages of type 'METRIC' are unknown and passed over",
    ]


@pytest.mark.parametrize("batch_size_rows", [1, 2, 1000])
def test_how_many_rows_an_overwrite_replaced_is_told(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture, batch_size_rows: int
) -> None:
    keys = [1, 2, 1, 3, 3, 1]
    messages = [schema(), *(record({"id": key, "a": f"{number}"}) for number, key in enumerate(keys)), state(1)]
    for method in ("upsert", "overwrite"):
        messages += [schema(stream="others"), record({"id": 1}, stream="others"), state(2)]
        assert warehouse.load(*messages, load_method=method, batch_size_rows=batch_size_rows).error is None
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warned[0] == "things: 3 of these rows were replaced by later ones of the same key"
    assert warehouse.rows("from things order by id") == [(1, "5"), (2, "1"), (3, "4")]


def test_new_and_dropped_columns(warehouse: Warehouse) -> None:
    warehouse.load(schema({"id": INTEGER, "old": TEXT}), record({"id": 1, "old": "x"}))
    warehouse.load(schema({"id": INTEGER, "new": TEXT}), record({"id": 2, "new": "y"}))
    assert warehouse.rows("select id, old, new from things order by id") == [(1, "x", None), (2, None, "y")]


def test_schema_that_changes_within_the_input(warehouse: Warehouse) -> None:
    first = schema({"id": INTEGER, "a": INTEGER})
    second = schema({"id": INTEGER, "a": {"type": "number"}, "b": TEXT})
    got = warehouse.load(
        first,
        record({"id": 1, "a": 1}),
        state(1),
        first,
        record({"id": 2, "a": 2}),
        second,
        record({"id": 3, "a": 1.5, "b": "x"}),
    )
    assert got == type(got)([1], None)
    assert warehouse.rows("from things order by id") == [(1, 1.0, None), (2, 2.0, None), (3, 1.5, "x")]


DATE = {"type": ["null", "string"], "format": "date"}
MOMENT = {"type": ["null", "string"], "format": "date-time"}
HUGE = {"type": "integer", "maximum": 2**100}
PRICE, RATE = (
    {"type": "number", "x-singer.decimal": {"precision": precision, "scale": scale}, "multipleOf": 0.1**scale}
    for precision, scale in ((16, 2), (10, 4))
)
IN_PLACE = [
    (INTEGER, 5, HUGE, 2**70, "HUGEINT", ["5", str(2**70)]),
    (HUGE, 5, INTEGER, 6, "HUGEINT", ["5", "6"]),
    (INTEGER, 5, {"type": "number"}, 1.5, "DOUBLE", ["5.0", "1.5"]),
    (INTEGER, 5, {"type": "number", "multipleOf": 0.1}, 1.5, "DECIMAL(38,1)", ["5.0", "1.5"]),
    (INTEGER, 5, TEXT, "x", "VARCHAR", ["5", "x"]),
    (DATE, "2020-01-01", MOMENT, "2020-01-02T03:00:00Z", "TIMESTAMP", ["2020-01-01 00:00:00", "2020-01-02 03:00:00"]),
    (TEXT, "2020-01-01", DATE, "2020-01-02", "DATE", ["2020-01-01", "2020-01-02"]),
    ({"type": "number"}, -0.0, INTEGER, 1, "DOUBLE", ["-0.0", "1.0"]),
    ({"type": "number"}, None, INTEGER, 2**53 + 1, "BIGINT", [None, str(2**53 + 1)]),
    ({"type": "number"}, 1.5, INTEGER, 2**53, "DOUBLE", ["1.5", "9007199254740992.0"]),
    ({"type": "number"}, 1.5, HUGE, 1, "DOUBLE", ["1.5", "1.0"]),
    (PRICE, 19.99, INTEGER, 7, "DECIMAL(16,2)", ["19.99", "7.00"]),
    (PRICE, 20, INTEGER, 7, "DECIMAL(16,2)", ["20.00", "7.00"]),
    (PRICE, 19.99, INTEGER, 2**63 - 1, "DECIMAL(21,2)", ["19.99", f"{2**63 - 1}.00"]),
    (PRICE, 19.99, HUGE, 2**70, "DECIMAL(38,2)", ["19.99", f"{2**70}.00"]),
    (PRICE, 12345678901.5, RATE, 0.1234, "DECIMAL(18,4)", ["12345678901.5000", "0.1234"]),
    (RATE, 0.1234, PRICE, 12345678901.5, "DECIMAL(18,4)", ["0.1234", "12345678901.5000"]),
    (INTEGER, 2**60, PRICE, 0.01, "DECIMAL(21,2)", [f"{2**60}.00", "0.01"]),
    (
        {"type": "number", "multipleOf": 0.001},
        0.125,
        {"multipleOf": 1, "type": "number"},
        7,
        "DECIMAL(38,3)",
        ["0.125", "7.000"],
    ),
    ({"type": "boolean"}, True, TEXT, "x", "VARCHAR", ["true", "x"]),
]


@pytest.mark.parametrize(("of", "value", "then", "next_value", "kind", "expected"), IN_PLACE)
def test_a_column_that_widens(
    warehouse: Warehouse, of: t.Any, value: t.Any, then: t.Any, next_value: t.Any, kind: str, expected: list[t.Any]
) -> None:
    warehouse.load(schema({"id": INTEGER, "a": of}), record({"id": 1, "a": value}))
    assert warehouse.load(schema({"id": INTEGER, "a": then}), record({"id": 2, "a": next_value})).error is None
    assert warehouse.types() == {"id": "BIGINT", "a": kind}
    assert [text for (text,) in warehouse.rows("select a::varchar from things order by id")] == expected


@pytest.mark.parametrize(
    ("of", "old", "same"),
    [
        ({"type": "number"}, 2, "2"),
        (PRICE, 2.5, "2.5"),
        (MOMENT, "2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        (DATE, "2024-01-31", "2024-1-31"),
    ],
    ids=["double", "decimal", "moment", "date"],
)
def test_a_key_that_becomes_text_is_refused_where_its_row_would_be_there_twice(
    warehouse: Warehouse, of: dict[str, t.Any], old: t.Any, same: str
) -> None:
    warehouse.load(schema({"id": of, "a": INTEGER}), record({"id": old, "a": 1}))
    got = warehouse.load(schema({"id": TEXT, "a": INTEGER}), record({"id": same, "a": 2}))
    assert "column 'id'" in str(got.error)
    assert "the key is text now" in str(got.error)
    assert warehouse.rows("select a from things") == [(1,)]


def test_texts_within_json_are_the_same_texts_once_the_column_is_one(warehouse: Warehouse) -> None:
    values = ["abc", 'a "b"', None, {"x": 1}, 5]
    of = {"id": {"type": "integer"}, "a": {"type": "object"}}
    warehouse.load(schema(of), *(record({"id": number, "a": one}) for number, one in enumerate(values)))
    assert warehouse.load(schema(), record({"id": 9, "a": "abc"})).error is None
    found = [one for (one,) in warehouse.rows("select a from things order by id")]
    assert found == ["abc", 'a "b"', None, '{"x":1}', "5", "abc"]


def test_a_key_of_integers_may_become_text(warehouse: Warehouse) -> None:
    warehouse.load(schema({"id": INTEGER, "a": INTEGER}), record({"id": 2, "a": 1}))
    assert warehouse.load(schema({"id": TEXT, "a": INTEGER}), record({"id": "2", "a": 2})).error is None
    assert warehouse.rows("select id, a from things") == [("2", 2)]


def test_integers_find_the_rows_of_a_key_of_text(warehouse: Warehouse) -> None:
    of = {"id": TEXT, "a": INTEGER}
    warehouse.load(schema(of), record({"id": "2", "a": 1}), record({"id": "A2", "a": 1}))
    assert warehouse.load(schema({"id": INTEGER, "a": INTEGER}), record({"id": 2, "a": 2})).error is None
    assert warehouse.rows("select id, a from things order by id") == [("2", 2), ("A2", 1)]


@pytest.mark.parametrize(
    ("old", "of", "same"),
    [
        ("2024-01-31T10:00:00Z", MOMENT, "2024-01-31T10:00:00Z"),
        ("2.50", PRICE, 2.5),
        ("2.50", {"type": "number"}, 2.5),
        ("yes", {"type": "boolean"}, True),
    ],
    ids=["moment", "decimal", "double", "boolean"],
)
def test_a_key_of_text_is_not_set_aside(warehouse: Warehouse, old: str, of: dict[str, t.Any], same: t.Any) -> None:
    warehouse.load(schema({"id": TEXT, "a": INTEGER}), record({"id": old, "a": 1}), record({"id": "x", "a": 1}))
    got = warehouse.load(schema({"id": of, "a": INTEGER}), record({"id": same, "a": 2}))
    assert "column 'id': the key is " in str(got.error)
    assert set(warehouse.rows("select id, a from things")) == {(old, 1), ("x", 1)}


def test_a_key_that_is_new_is_said(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    warehouse.load(schema({"id": INTEGER, "a": INTEGER}), record({"id": 2, "a": 1}))
    of = {"id": INTEGER, "b": INTEGER, "a": INTEGER}
    assert warehouse.load(schema(of, keys=["id", "b"]), record({"id": 2, "b": 1, "a": 2})).error is None
    assert "the key b is new: rows from before have none" in caplog.text


@pytest.mark.parametrize("of", [{"type": "number"}, PRICE], ids=["double", "decimal"])
def test_an_integer_that_the_number_column_of_a_table_does_not_hold_is_refused(
    warehouse: Warehouse, of: dict[str, t.Any]
) -> None:
    warehouse.load(schema({"id": INTEGER, "a": of}), record({"id": 1, "a": 0.5}))
    records = [record({"id": number, "a": one}) for number, one in enumerate((3, None, 10**37 + 1))]
    got = warehouse.load(schema({"id": INTEGER, "a": HUGE}), *records)
    there = warehouse.types()["a"]
    assert (
        str(got.error) == f"stream 'things', line 4, column 'a': the value does not fit {there}, which the table has"
    )
    assert warehouse.rows("select a::double from things") == [(0.5,)]


DATED = [
    (TEXT, "x", INTEGER, 5, "BIGINT"),
    (TEXT, "007", INTEGER, 5, "BIGINT"),
    ({"type": "boolean"}, True, INTEGER, 5, "BIGINT"),
    (INTEGER, 2**53 + 1, {"type": "number"}, 0.5, "DOUBLE"),
    (MOMENT, "2020-01-01T00:00:00Z", INTEGER, 5, "BIGINT"),
    ({"type": "object"}, {"x": 1}, {"type": "boolean"}, True, "BOOLEAN"),
]


@pytest.mark.parametrize(("of", "value", "then", "next_value", "kind"), DATED)
def test_a_column_of_another_meaning_is_kept_under_a_dated_name(
    warehouse: Warehouse, of: t.Any, value: t.Any, then: t.Any, next_value: t.Any, kind: str
) -> None:
    warehouse.load(schema({"id": INTEGER, "a": of}), record({"id": 1, "a": value}))
    before = warehouse.rows("select a from things")
    assert warehouse.load(schema({"id": INTEGER, "a": then}), record({"id": 2, "a": next_value})).error is None
    dated, *_ = (name for name in warehouse.types() if name.startswith("a_2"))
    assert warehouse.types()["a"] == kind
    assert warehouse.rows(f"select {dated}, a from things order by id") == [(*before[0], None), (None, next_value)]


def test_two_dated_columns_in_a_minute(warehouse: Warehouse) -> None:
    for of, value in ((TEXT, "x"), (INTEGER, 2**60 + 1), ({"type": "boolean"}, True), (INTEGER, 6)):
        assert warehouse.load(schema({"id": INTEGER, "a": of}), record({"id": 1, "a": value})).error is None
    assert len(warehouse.types()) == 5


def test_a_table_that_target_duckdb_080_made(warehouse: Warehouse) -> None:
    warehouse.rows(
        'create table things ("a" varchar, "day" varchar, "id" hugeint, "n" hugeint, "_sdc_deleted_at" varchar, '
        "_sdc_batched_at timestamp, _sdc_extracted_at timestamp, primary key (id))"
    )
    warehouse.rows(
        "insert into things values ('x', '2020-01-01', 1, 5, null, now(), now()), ('y', null, 2, 6, null, null, null)"
    )
    of = {"id": INTEGER, "a": TEXT, "day": DATE, "n": {"type": "number"}}
    got = warehouse.load(
        schema(of),
        record({"id": 1, "a": "z", "day": "2020-01-02", "n": 0.5}),
        record({"id": 3}),
        add_metadata_columns=True,
    )
    assert got.error is None
    rows = warehouse.rows("select id, a, day::varchar, n from things order by id")
    assert rows == [(1, "z", "2020-01-02", 0.5), (2, "y", None, 6.0), (3, None, None, None)]
    assert warehouse.types()["id"] == "HUGEINT"


def test_state_comes_after_each_commit_and_never_before(warehouse: Warehouse) -> None:
    messages = [schema()]
    for number in range(1, 8):
        messages += [record({"id": number}), state({"bookmarks": number})]
    got = warehouse.load(*messages, batch_size_rows=3)
    # The third record commits before its own STATE comes, which nothing waits for then.
    assert [one["bookmarks"] for one in got.states] == [2, 3, 5, 6, 7]


def test_state_covers_all_streams(warehouse: Warehouse) -> None:
    messages = [
        schema(stream="a"),
        schema(stream="b"),
        record({"id": 1}, stream="a"),
        state(1),
        *[record({"id": n}, stream="b") for n in range(5)],
    ]
    got = warehouse.load(*messages, "no", batch_size_rows=4)
    assert got.states == [1]
    assert warehouse.rows("select id from a") == [(1,)]


def test_state_without_records(warehouse: Warehouse) -> None:
    assert warehouse.load(schema(), state({"x": 1}), state({"x": 2})).states == [{"x": 2}]
    assert warehouse.rows("from things") == []
    assert warehouse.load(state(None)).states == [None]
    assert warehouse.load().states == []


def test_each_flush_is_one_transaction(warehouse: Warehouse) -> None:
    """Two streams in one flush, of which the second one fails."""
    messages = [
        schema(stream="a"),
        schema(stream="b"),
        record({"id": 1}, stream="a"),
        record({"id": "x"}, stream="b"),
    ]
    assert warehouse.load(*messages).error
    with pytest.raises(duckdb.CatalogException):
        warehouse.rows("from a")


def test_order_holds_when_several_threads_read(warehouse: Warehouse) -> None:
    text = "x" * 150
    records = [record({"id": number % 40_000, "a": f"{number} {text}"}) for number in range(200_000)]
    got = warehouse.load(schema(), *records, settings={"threads": 4, "preserve_insertion_order": "false"})
    assert got.error is None
    query = "select count(*), min(split_part(a, ' ', 1)::int - id), max(split_part(a, ' ', 1)::int - id) from things"
    assert warehouse.rows(query) == [(40_000, 160_000, 160_000)]
    records[123_456]["record"]["id"] = None
    got = warehouse.load(schema(), *records, settings={"threads": 4})
    assert str(got.error) == "stream 'things', line 123458, column 'id': the record lacks a key"


def test_more_streams_than_files_may_be_open(warehouse: Warehouse) -> None:
    resource = pytest.importorskip("resource", reason="not on Windows")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        names = [f"s{number}" for number in range(260)]
        got = warehouse.load(
            *(schema(stream=name) for name in names), *(record({"id": 1}, stream=name) for name in names)
        )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert got.error is None
    assert warehouse.rows("select count(*), sum(estimated_size) from duckdb_tables()") == [(260, 260)]


@pytest.mark.parametrize("name", ["rowid", "ROWID", "file_row_number", "0"])
def test_a_column_called_like_the_number_of_a_row_is_one_like_others(warehouse: Warehouse, name: str) -> None:
    properties = {"id": {"type": "integer"}, name: {"type": ["null", "integer"]}}
    values = [(1, None), (2, 6), (2, 5), (3, None)]
    got = warehouse.load(schema(properties), *[record({"id": one, name: other}) for one, other in values])
    assert got.error is None
    assert warehouse.rows("from things order by id") == [(1, None), (2, 5), (3, None)]


def test_a_folder_named_like_a_partition_changes_no_value(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "a=north"
    folder.mkdir()
    warehouse.load(schema(), record({"id": 1, "a": "south"}), temp_dir=str(folder))
    assert warehouse.rows("select a from things") == [("south",)]
