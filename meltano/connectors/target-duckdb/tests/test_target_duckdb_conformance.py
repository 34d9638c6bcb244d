"""The SDK's own suite for targets, with a look at the rows that arrived."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import io
import json
import sys
import typing as t

import duckdb
import pytest
from singer_sdk.exceptions import MissingKeyPropertiesError, RecordsWithoutSchemaException
from singer_sdk.testing import get_target_test_class
from singer_sdk.testing.runners import TargetTestRunner
from singer_sdk.testing.suites import SingerTestSuite, target_tests
from target_duckdb import cli
from target_duckdb.config import Config
from target_duckdb.errors import MissingKeyError, RecordBeforeSchemaError
from target_duckdb.target import Target

if t.TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class FittedTarget:
    """Our target as the SDK's runner wants it: the runner ends the input, and looks for errors of its own."""

    name = "target-duckdb"

    def __init__(self, config: dict[str, t.Any], **_: t.Any) -> None:
        self.config = config
        self._lines: list[str] = []

    def process_lines(self, file: Iterable[str]) -> None:
        self._lines += file

    def process_endofpipe(self) -> None:
        try:
            with Target(Config.from_dict(self.config), sys.stdout) as target:
                target.run(io.BytesIO("".join(self._lines).encode()))
        except RecordBeforeSchemaError as error:
            raise RecordsWithoutSchemaException(str(error)) from error
        except MissingKeyError as error:
            raise MissingKeyPropertiesError(str(error)) from error

    def print_version(self) -> None:
        assert cli.TARGET.about()["version"]

    def print_about(self, output_format: str = "text") -> None:
        print(cli.TARGET.about_text(output_format))  # noqa: T201 - what the test is about


def _things(number: int) -> list[dict[str, t.Any]]:
    return [{"id": one, "metric": one * 11} for one in range(1, number + 1)]


STRINGS = [
    "simple string 2837",
    "απλή συμβολοσειρά",
    "简单的字串",
    "chaîne simple",
    'quoted "string"',
    'various " \\ / \n escape sequences',
    "m",
    "ā",
    "ƙ",
    "Double quoting: \\u0000 \\u0041 \\u0001",
    "Control Characters in string: \0 A \1",
]
FRUITS = [["apple", "orange", "pear"], ["banana", "apple"], ["pear"], ["orange", "banana", "apple", "pear"]]
EXPECTED: dict[str, dict[str, list[dict[str, t.Any]]]] = {
    "array_data": {"test_array_data": [{"id": n, "fruits": one} for n, one in enumerate(FRUITS, 1)]},
    "camelcase": {
        "testcamelcase": [
            {"id": "1", "clientname": "Gitter Windows Desktop App"},
            {"id": "2", "clientname": "Gitter iOS App"},
        ]
    },
    "duplicate_records": {"test_duplicate_records": [{"id": 1, "metric": 100}, {"id": 2, "metric": 20}]},
    "no_primary_keys": {"test_no_pk": _things(3)},
    "optional_attributes": {
        "test_optional_attributes": [
            {"id": 1, "optional": "This is optional"},
            {"id": 2, "optional": None},
            {"id": 3, "optional": "Also optional"},
            {"id": 4, "optional": None},
        ]
    },
    "pk_updates": {
        "example_stream": [
            {"id": 1, "name": "Alice", "email": "alice@example.com"},
            {"id": 2, "name": "Bob", "email": "bob@example.com"},
        ]
    },
    "record_missing_fields": {
        "record_missing_fields": [{"id": 1, "optional": "now you see me"}, {"id": 2, "optional": None}]
    },
    "schema_no_properties": {
        "test_object_schema_with_properties": [
            {"object_store": {"id": 1, "metric": 187}},
            {"object_store": {"id": 2, "metric": 203}},
        ],
        "test_object_schema_no_properties": [
            {"object_store": {"id": 1, "metric": 1}},
            {"object_store": {"id": 2, "metric": 2}},
        ],
    },
    "special_chars_in_attributes": {
        "test:specialchars!in?attributes": [
            {"_id": "a2e98886", "d": {"env": "prod", "agent:type": "desktop", "agent:os:version": "10.13.1"}}
            | {"_sdc_table_version": 1541199424491}
        ]
    },
    "record_before_schema": {},
    "record_missing_key_property": {},
    "invalid_schema": {},
    "cli_prints": {},
}


def _tables(path: Path) -> dict[str, list[dict[str, t.Any]]]:
    with duckdb.connect(str(path)) as connection:
        tables = connection.execute("select table_name from duckdb_tables()").fetchall()
        found = {}
        for (name,) in tables:
            columns = connection.execute(f'describe "{name}"').fetchall()
            json_columns = {column for column, kind, *_ in columns if kind == "JSON"}
            cursor = connection.execute(f'from "{name}" order by all')
            rows = [dict(zip((one[0] for one in columns), row, strict=True)) for row in cursor.fetchall()]
            for row in rows:
                row |= {one: json.loads(row[one]) for one in json_columns if row[one] is not None}
            found[name] = rows
        return found


def _look_at_strings(tables: dict[str, list[dict[str, t.Any]]]) -> None:
    assert [row["info"] for row in tables["test_strings"]] == STRINGS
    values = [row["info"]["value"] for row in tables["test_strings_in_objects"]]
    assert values[:9] == STRINGS[:9]
    assert values[9:] == [" \\u0000 \\u0041 \\u0001", "\0 A \1"]
    arrays = [row["strings"] for row in tables["test_strings_in_arrays"]]
    assert arrays[1] == ["chaîne simple", 'quoted "string"']
    assert arrays[5] == ["bbb", STRINGS[10]]


def _look_at_schema_updates(tables: dict[str, list[dict[str, t.Any]]]) -> None:
    rows = tables["test_schema_updates"]
    later = dict.fromkeys(("a3", "a4", "a5", "a6"))
    assert rows[0] == {"id": 1, "a1": 101.0, "a2": "string1", **later}
    assert rows[2] == {"id": 3, "a1": 103.0, "a2": "string3", "a3": False, "a4": {"id": 1, "value": 1}} | {
        "a5": ["banana", "apple"],
        "a6": None,
    }
    assert rows[5] == {"id": 6, "a1": 106.0, "a2": "string6", "a3": True, "a4": {"id": 4, "value": 444}} | {
        "a5": ["banana", "orange"],
        "a6": 341,
    }
    assert len(rows) == 6


def _look_at_complex_schema(tables: dict[str, list[dict[str, t.Any]]]) -> None:
    assert tables == {"forecastingtypetocategory": []}


LOOKS = {
    "encoded_string_data": _look_at_strings,
    "schema_updates": _look_at_schema_updates,
    "camelcase_complex_schema": _look_at_complex_schema,
}


def _checked(test: type[t.Any]) -> type[t.Any]:
    """The SDK's test, with a look at the tables after it."""

    def run(self: t.Any, config: t.Any, resource: t.Any, runner: t.Any) -> None:
        test.run(self, config, resource, runner)
        tables = _tables(runner.config["path"])
        if self.name in LOOKS:
            LOOKS[self.name](tables)
        else:
            assert tables == EXPECTED[self.name]

    return type(test.__name__, (test,), {"run": run})


Suite = get_target_test_class(
    t.cast("t.Any", FittedTarget),
    include_target_tests=False,
    custom_suites=[SingerTestSuite(kind="target", tests=[_checked(test) for test in target_tests.tests])],
)


class TestTargetDuckDB(Suite):
    """The SDK's class, each test with a database of its own."""

    @pytest.fixture
    def runner(self, tmp_path: Path) -> TargetTestRunner:
        config = {"path": str(tmp_path / "warehouse.duckdb"), "primary_key_required": False}
        return TargetTestRunner(target_class=t.cast("t.Any", FittedTarget), config=config)


del Suite  # pytest would run it without a database


def test_every_test_of_the_suite_is_looked_at() -> None:
    names = {test.name for test in target_tests.tests}
    assert names == EXPECTED.keys() | LOOKS.keys()
