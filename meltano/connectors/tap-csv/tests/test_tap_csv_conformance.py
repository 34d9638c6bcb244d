"""The SDK's own suite for taps, on a file and on a folder whose files differ in form, with a look at the rows."""

# ruff: noqa: D102 - the names say it

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path
from types import SimpleNamespace

from singer_sdk.testing import get_tap_test_class
from singer_sdk.testing.suites import tap_stream_attribute_tests, tap_stream_tests, tap_tests
from tap_csv import cli
from tap_csv.config import Config
from tap_csv.tap import Tap
from tap_csv_harness import Synced

DATA = Path(__file__).parent / "data"
FILES = [
    {"entity": "customers", "path": str(DATA / "customers.csv"), "keys": ["customer_id"]},
    {"entity": "orders", "path": str(DATA / "orders"), "keys": ["order_id"], "delimiter": ";"},
]


class FittedTap:
    """Our tap as the SDK's runner wants it, which looks at streams before they are read."""

    name = "tap-csv"

    def __init__(self, config: dict[str, t.Any], catalog: dict[str, t.Any] | None = None, **_: t.Any) -> None:
        self.config = config
        self.catalog_dict = catalog or self._with(lambda tap: tap.discover())

    def _with(self, use: t.Callable[[Tap], t.Any]) -> t.Any:
        sys.stdout.flush()
        with Tap(Config.from_dict(self.config), sys.stdout.buffer) as tap:
            return use(tap)

    @property
    def streams(self) -> dict[str, SimpleNamespace]:
        return {
            one["stream"]: SimpleNamespace(
                name=one["stream"],
                schema=one["schema"],
                primary_keys=one["key_properties"],
                stream_maps=[SimpleNamespace(transformed_schema=one["schema"])],
            )
            for one in self.catalog_dict["streams"]
        }

    def run_discovery(self) -> str:
        return json.dumps(self.catalog_dict)

    def run_connection_test(self) -> bool:
        self._with(lambda tap: tap.sync(self.catalog_dict, rows=False))
        return True

    def run_sync_dry_run(self, dry_run_record_limit: int) -> bool:
        """It is what the suite reads the records from; the files hold fewer than its limit."""
        self.sync_all()
        return True

    def sync_all(self) -> None:
        self._with(lambda tap: tap.sync(self.catalog_dict))

    def print_version(self) -> None:
        assert cli.TAP.about()["version"]

    def print_about(self, output_format: str = "text") -> None:
        print(cli.TAP.about_text(output_format))  # noqa: T201 - what the test is about


EXPECTED: dict[str, list[dict[str, t.Any]]] = {
    "customers": [
        {"customer_id": 1, "name": "Ada", "note": "first"},
        {"customer_id": 2, "name": "Bob", "note": None},
        {"customer_id": 3, "name": "Chloé, Zoë", "note": "two\nlines"},
    ],
    "orders": [
        {"order_id": 10, "customer_id": 1, "total": "9.50"},
        {"order_id": 11, "customer_id": 2, "total": "1;5"},
        {"order_id": 12, "customer_id": 3, "total": "3.25"},
    ],
}
TYPES = {"id": "integer", "price": "number", "paid": "boolean", "on": "date", "at": "date-time", "note": "string"}
"""Every kind of column that a test of the suite is about."""

TestTap = get_tap_test_class(FittedTap, config={"files": FILES})
TestTapWithMetadata = get_tap_test_class(FittedTap, config={"files": FILES, "add_metadata_columns": True})
TestTapWithEveryType = get_tap_test_class(
    FittedTap,
    config={"files": [{"entity": "all", "path": str(DATA / "types.csv"), "keys": ["id"], "columns": TYPES}]},
)


def test_no_test_of_the_suite_is_missing() -> None:
    wanted = {
        f"test_{suite.kind}_{test.name}"
        for suite in (tap_tests, tap_stream_tests, tap_stream_attribute_tests)
        for test in suite.tests
    }
    # A CSV file has no objects, and no column that may not be empty but its keys, whose schemas permit null as well.
    wanted -= {"test_tap_stream_attribute_is_object", "test_tap_stream_attribute_not_null"}
    assert wanted <= set(dir(TestTapWithEveryType))


def test_the_rows_that_the_suite_was_shown(capsysbinary: t.Any) -> None:
    for settings in ({}, {"add_metadata_columns": True}):
        FittedTap({"files": FILES, **settings}).sync_all()
        got = Synced([json.loads(line) for line in capsysbinary.readouterr().out.splitlines()], None)
        for name, rows in EXPECTED.items():
            sent = [one["record"] for one in got.of_type("RECORD") if one["stream"] == name]
            assert [{k: v for k, v in row.items() if not k.startswith("_sdc")} for row in sent] == rows
