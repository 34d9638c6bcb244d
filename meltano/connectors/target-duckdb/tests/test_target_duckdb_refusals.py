"""Every kind of bad input and setting is refused in one line that says where, and what was committed stays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import typing as t

import pytest
from target_duckdb.config import Config
from target_duckdb.errors import MissingKeyError, RecordBeforeSchemaError, SettingsError
from target_duckdb_harness import lines, record, schema, state

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_duckdb_harness import Warehouse

GOOD = [schema(), record({"id": 1, "a": "x"}), state(1)]
TYPED = schema({"id": {"type": "integer"}, "n": {"type": "integer"}, "d": {"type": "string", "format": "date-time"}})
START = '{"type": "RECORD", "stream": "things", "record": '
BAD = {
    "no JSON": ("nonsense", "line 4: is not JSON: Expecting value at character 1"),
    "cut off": ('{"type": "RECORD", "stream": "thi', "line 4: is not JSON: Unterminated string"),
    "array": ("[1]", "line 4: is no Singer message: it lacks its type"),
    "no type": ("{}", "line 4: is no Singer message: it lacks its type"),
    "wrong encoding": (b'{"type": "STATE", "value": "\xff"}', "line 4: is not JSON: wrong encoding"),
    "type in lower case": ({"type": "record"}, "line 4: message type 'record' is to be written RECORD"),
    "no stream": ({"type": "RECORD", "record": {}}, "line 4: RECORD lacks its stream"),
    "before schema": (
        record({"id": 1}, stream="b"),
        "stream 'b', line 4: RECORD comes before the SCHEMA of its stream",
    ),
    "no record": ({"type": "RECORD", "stream": "things"}, "stream 'things', line 4: RECORD lacks its record"),
    "record of null": (START + "null}", "stream 'things', line 4: RECORD lacks its record"),
    "no value": ({"type": "STATE"}, "line 4: STATE lacks its value"),
    "no key": (record({"a": "x"}), "stream 'things', line 4, column 'id': the record lacks a key"),
    "null key": (record({"id": None}), "stream 'things', line 4, column 'id': the record lacks a key"),
    "no version": (
        {"type": "ACTIVATE_VERSION", "stream": "things"},
        "stream 'things', line 4: ACTIVATE_VERSION lacks",
    ),
    "no schema": ({"type": "SCHEMA", "stream": "b"}, "stream 'b', line 4: the message holds no schema"),
    "key not there": (schema(stream="b", keys=["x"]), "stream 'b', line 4, column 'x': the key is no property"),
    "keys are no list": (
        {**schema(stream="b"), "key_properties": "id"},
        "stream 'b', line 4: key_properties is no list of names",
    ),
    "version is no integer": (
        {"type": "ACTIVATE_VERSION", "stream": "b", "version": 2**64},
        "stream 'b', line 4: ACTIVATE_VERSION lacks its version",
    ),
    "no manifest": ({"type": "BATCH", "stream": "things"}, "stream 'things', line 4: BATCH lacks its encoding"),
    "cut record": (START + '{"id": 2', "stream 'things', line 4: is not JSON: Expecting ',' delimiter at character"),
    "two values": (START + '{"id": 2}} {}', "stream 'things', line 4: is not JSON: Extra data"),
    "record's encoding": (
        START.encode() + b'{"id": 2, "a": "\xff"}}',
        "stream 'things', line 4: is not JSON: wrong encoding",
    ),
    "half a surrogate": (
        START + '{"id": 2, "a": "\\ud83d"}}',
        "stream 'things', line 4: is not JSON: no low surrogate",
    ),
    "trailing comma": (START + '{"id": 2, "a": "y",}}', "stream 'things', line 4: is not JSON: "),
    "trailing comma and blank": (START + '{"id": 2, "a": "y" , }}', "stream 'things', line 4: is not JSON: "),
    "trailing comma of an array": (START + '{"id": 2, "a": [1, ]}}', "stream 'things', line 4: is not JSON: "),
    "trailing comma of a message": (START + '{"id": 2},}', "stream 'things', line 4: is not JSON: "),
    "key twice": (START + '{"id": 2, "a": "4111", "a": "y"}}', "stream 'things', line 4: the key 'a' stands twice"),
    "fraction of a version": (
        START + '{"id": 2}, "version": 4111.5}',
        "stream 'things', line 4: the version of the record does not fit BIGINT",
    ),
    "fraction that a DOUBLE loses": (
        START + '{"id": 9007199254740993.0}}',
        "stream 'things', line 4, column 'id': the value does not fit BIGINT",
    ),
    "small fraction": (
        START + '{"id": 1e-20}}',
        "stream 'things', line 4, column 'id': the value does not fit BIGINT",
    ),
    "text for a number": (
        record({"id": "no 4111"}),
        "stream 'things', line 4, column 'id': the value does not fit BIGINT",
    ),
    "fraction": (record({"id": 4111.5}), "stream 'things', line 4, column 'id': the value does not fit BIGINT"),
    "too large": (record({"id": 2**63}), "stream 'things', line 4, column 'id': the value does not fit BIGINT"),
    "object for a number": (
        record({"id": {"x": 4111}}),
        "stream 'things', line 4, column 'id': the value does not fit BIGINT",
    ),
}


ODD_SCHEMAS = {
    "type of the schema": {"type": 5},
    "a type within": {"type": ["null", {"type": "string"}]},
    "format": {"type": "string", "format": ["date"]},
    "step": {"type": "number", "multipleOf": float("nan")},
    "infinite step": {"type": "number", "multipleOf": float("inf")},
    "text for a step": {"type": "number", "multipleOf": "0.01"},
    "choices": {"anyOf": 5},
    "type of a choice": {"oneOf": [{"type": "string"}, {"type": {}}]},
    "decimal": {"type": "number", "multipleOf": 1, "x-singer.decimal": 5},
    "scale": {"type": "string", "format": "singer.decimal", "scale": "2"},
    "precision": {"type": "number", "multipleOf": 1, "precision": float("inf")},
}


@pytest.mark.parametrize("flatten", [0, 1])
@pytest.mark.parametrize("of", ODD_SCHEMAS.values(), ids=ODD_SCHEMAS)
def test_a_broken_schema_of_a_property(warehouse: Warehouse, of: t.Any, flatten: int) -> None:
    whole = {"type": "object", "properties": {"x": of}} if flatten else of
    got = warehouse.load(schema({"id": {"type": "integer"}, "x": whole}), data_flattening_max_level=flatten)
    assert re.fullmatch(
        rf"stream 'things', line 1, column 'x{'__x' * flatten}': .* of its schema is (no|neither) .*", str(got.error)
    )


@pytest.mark.parametrize("value", ["soon", 5.5, {}])
def test_time_extracted_that_is_none_is_named(warehouse: Warehouse, value: t.Any) -> None:
    good = [record({"id": number}, time_extracted="2020-01-01T00:00:00Z") for number in range(3)]
    got = warehouse.load(schema(), *good, record({"id": 7}, time_extracted=value), *good, add_metadata_columns=True)
    expected = "stream 'things', line 5: time_extracted of the record does not fit TIMESTAMP"
    assert str(got.error) == expected


def test_what_cannot_be_written_is_named_with_its_stream(warehouse: Warehouse) -> None:
    warehouse.rows("create view things as select 1 as id")
    got = warehouse.load(schema(stream="others"), record({"id": 1}, stream="others"), schema(), record({"id": 1}))
    assert str(got.error).startswith('stream \'things\': "warehouse"."main"."things" cannot be written: ')


@pytest.mark.parametrize("first", [True, False], ids=["first of its form", "like those before"])
@pytest.mark.parametrize("after", [0, 500], ids=["alone", "with others after it"])
@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_bad_input(warehouse: Warehouse, bad: t.Any, message: str, after: int, first: bool) -> None:
    begin = [schema(), state(0), ""] if first else GOOD
    got = warehouse.load(*begin, bad, *(record({"id": number, "a": "y"}) for number in range(after)), state(9))
    text = str(got.error)
    assert text.startswith(message)
    assert "\n" not in text
    assert "4111" not in text
    assert got.states in ([], [0])


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_what_was_committed_stays(warehouse: Warehouse, bad: t.Any, message: str) -> None:
    got = warehouse.load(*GOOD, bad, record({"id": 3}), state(9), batch_size_rows=1)
    assert got.error
    assert got.states == [1]
    assert warehouse.rows("from things") == [(1, "x")]


@pytest.mark.parametrize(
    ("bad", "message"),
    [BAD[kind] for kind in ("trailing comma", "trailing comma of an array", "key twice", "fraction of a version")],
)
def test_bad_input_in_a_block_of_records(warehouse: Warehouse, bad: str, message: str) -> None:
    """Most records come in blocks of one stream, which are not looked at line by line."""
    records = [record({"id": number, "a": "x" * 1000}) for number in range(2500)]
    got = warehouse.load(schema(), *records, bad, *records[:10])
    assert str(got.error).startswith(message.replace("line 4", "line 2502"))


def test_what_only_looks_like_a_trailing_comma_is_taken(warehouse: Warehouse) -> None:
    records = [record({"id": number, "a": "b,} c, ] \n,}" + "x" * 1000}) for number in range(2500)]
    assert warehouse.load(schema(), *records).error is None
    assert warehouse.rows("select count(*), min(a) = max(a), max(a)[:12] from things") == [
        (2500, True, "b,} c, ] \n,}")
    ]


@pytest.mark.parametrize("first", [True, False], ids=["first of its form", "like those before"])
@pytest.mark.parametrize("other", ["number", "object"])
@pytest.mark.parametrize("value", ["1e400", "-2E+308", '"1e400"'])
def test_number_beyond_double(warehouse: Warehouse, value: str, other: str, first: bool) -> None:
    of = {"id": {"type": "integer"}, "n": {"type": "number"}, "d": {"multipleOf": 0.1, "type": "number"}}
    before = [] if first else [record({"id": 1, "n": 1.5})]
    bad = START + f'{{"id": 2, "n": {value}, "d": 1234567890123456.7, "o": {{}}}}}}'
    got = warehouse.load(schema(of | {"o": {"type": other}} if other == "object" else of), *before, bad)
    expected = f"stream 'things', line {2 + len(before)}, column 'n': the value does not fit DOUBLE"
    assert str(got.error) == expected


@pytest.mark.parametrize("position", [0, 1, 2, 776, 998, 999])
def test_the_line_is_found_among_many(warehouse: Warehouse, position: int) -> None:
    records = [record({"id": number, "n": number, "d": "2020-01-01T00:00:00Z"}) for number in range(1000)]
    records[position]["record"]["d"] = "yesterday, 4111"
    mixed = [one for number, good in enumerate(records) for one in ([good] if number % 10 else [state(number), good])]
    line = mixed.index(records[position]) + 2
    expected = f"stream 'things', line {line}, column 'd': the value does not fit TIMESTAMP"
    assert str(warehouse.load(TYPED, *mixed).error) == expected
    records[position]["record"] = {"n": 1}
    assert str(warehouse.load(TYPED, *mixed).error).startswith(f"stream 'things', line {line}")
    records[position]["record"] = {"id": None}
    assert (
        str(warehouse.load(TYPED, *mixed).error)
        == f"stream 'things', line {line}, column 'id': the record lacks a key"
    )


def test_kinds_of_errors(warehouse: Warehouse) -> None:
    assert isinstance(warehouse.load(record({})).error, RecordBeforeSchemaError)
    assert isinstance(warehouse.load(schema(), record({})).error, MissingKeyError)
    assert isinstance(warehouse.load(*GOOD, record({})).error, MissingKeyError)


def test_as_a_program(warehouse: Warehouse) -> None:
    done = warehouse.run(*GOOD, record({"id": "no 4111"}), batch_size_rows=1)
    assert done.returncode == 1
    assert done.stdout == "1\n"
    assert done.stderr == "target-duckdb: stream 'things', line 4, column 'id': the value does not fit BIGINT\n"
    done = warehouse.run(*GOOD)
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_pandas_is_not_imported_where_it_is_installed(warehouse: Warehouse) -> None:
    """DuckDB would for a query with parameters, which costs a fifth of a second at every start."""
    pytest.importorskip("pandas", reason="the point is moot without it")
    program = (
        "import sys; from target_duckdb.cli import main; main(); print('pandas' in sys.modules, file=sys.stderr)"
    )
    done = warehouse.run(*GOOD, program=("-c", program))
    assert done.stderr.splitlines()[-1] == "False"


def test_validate_records(warehouse: Warehouse) -> None:
    pytest.importorskip("jsonschema", reason="only needed for validate_records")
    of = {"id": {"type": "integer"}, "a": {"type": "string", "maxLength": 3}}
    messages = [schema(of), record({"id": 1, "a": "abc"}), record({"id": 2, "a": "4111"})]
    assert warehouse.load(*messages).error is None
    got = warehouse.load(*messages, validate_records=True)
    assert str(got.error) == "stream 'things', line 3, column 'a': the record does not fit its schema: maxLength"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "set `path` (or `filepath`)"),
        ({"path": ""}, "set `path`"),
        ({"path": "x", "load_method": "merge"}, "load_method is one of append-only, upsert, overwrite"),
        ({"path": "x", "batch_size_rows": 0}, "batch_size_rows must be at least 1"),
        ({"path": "x", "batch_size_rows": "many"}, "batch_size_rows must be of type integer"),
        ({"path": "x", "hard_delete": 1}, "hard_delete must be of type boolean"),
        ({"path": "x", "temp_dir": "/none"}, "temp_dir /none is no folder"),
        ({"path": "x", "schema_mapping": {"a": "b"}}, "schema_mapping of 'a' must be an object with target_schema"),
    ],
)
def test_settings_that_do_not_fit(config: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Config.from_dict(config)
    assert message in str(caught.value)


def test_all_settings_of_080_are_accepted(
    warehouse: Warehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "path": None,
        "filepath": str(warehouse.path),
        "dbname": "warehouse",
        "database": None,
        "token": "secret",
        "delimiter": ";",
        "quotechar": "'",
        "batch_size_rows": "10",
        "flush_all_streams": True,
        "default_target_schema": "raw",
        "schema_mapping": {"s": {"target_schema": "t", "indices": {"u": ["id"]}}},
        "add_metadata_columns": "true",
        "hard_delete": False,
        "data_flattening_max_level": 0,
        "primary_key_required": True,
        "validate_records": False,
        "temp_dir": str(tmp_path),
        "settings": {"threads": 1, "memory_limit": "1GB"},
        "misspelt": 1,
    }
    assert warehouse.load(*GOOD, **settings).error is None
    assert warehouse.rows("select id from raw.things") == [(1,)]
    warned = [one.getMessage().partition(":")[0] for one in caplog.records if one.levelname == "WARNING"]
    assert warned == [
        *(f"setting {name} has no effect" for name in ("delimiter", "quotechar", "flush_all_streams")),
        "setting misspelt is unknown and has no effect",
        "schema_mapping of 's'",
        "setting token has no effect",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "/none/x.duckdb"}, "/none/x.duckdb cannot be opened: IO Error"),
        ({"dbname": "other"}, "dbname: there is no database 'other', only warehouse"),
        ({"settings": {"klingon": 1}}, "settings: klingon: Catalog Error: unrecognized configuration parameter"),
    ],
)
def test_database_that_cannot_be_opened(warehouse: Warehouse, settings: dict[str, t.Any], message: str) -> None:
    assert str(warehouse.load(*GOOD, **settings).error).startswith(message)


HOLD = """
import duckdb, sys, time
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("held", "wait", "code"), [(1.5, 30, 0), (30, 1, 1)])
def test_locked_database(warehouse: Warehouse, held: float, wait: int, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(warehouse.path), str(held)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        done = warehouse.run(*GOOD, lock_wait_seconds=wait)
        holder.kill()
    first, *rest = done.stderr.splitlines()
    assert done.returncode == code
    assert first.startswith(f"target-duckdb: {warehouse.path} is locked by ")
    assert first.endswith(f"(process {holder.pid}), waiting up to {wait} s")
    if code:
        assert done.stdout == ""
        assert rest == [first.replace("waiting up to 1 s", "gave up after 1 s")]
    else:
        assert warehouse.rows("from things") == [(1, "x")]


def test_command_line(tmp_path: Path) -> None:
    def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "target_duckdb.cli", *arguments]
        return subprocess.run(command, input=given, capture_output=True, cwd=tmp_path)

    about = json.loads(run("--about", "--format", "json").stdout)
    assert about["name"] == "target-duckdb"
    assert about["settings"]["properties"]["batch_size_rows"]["default"] == 245_760
    assert b"| `load_method` | upsert |" in run("--about", "--format=markdown").stdout
    assert run("--version").stdout.startswith(b"target-duckdb 0.")
    assert b"--config FILE" in run("--help").stdout
    assert run().stderr == b"target-duckdb: set `path` (or `filepath`) to the database file\n"
    assert run("--config", "none.json").stderr == b"target-duckdb: none.json: No such file or directory\n"
    (tmp_path / "bad.json").write_text("{")
    assert run("--config", "bad.json").stderr.startswith(b"target-duckdb: bad.json is not JSON: ")
    (tmp_path / "c.json").write_text('{"path": "w.duckdb"}')
    (tmp_path / "in.jsonl").write_bytes(lines(GOOD))
    assert run("--config", "c.json", "--input", "in.jsonl").stdout == b"1\n"
    assert run("--config", "c.json", "--input", "none").stderr == b"target-duckdb: none: No such file or directory\n"
