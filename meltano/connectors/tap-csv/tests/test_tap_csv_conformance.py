"""The SDK's own suite for taps, on a file, and on a folder whose files differ in form."""

from __future__ import annotations

from pathlib import Path

from singer_sdk.testing import get_tap_test_class
from tap_csv.tap import TapCSV

DATA = Path(__file__).parent / "data"
FILES = [
    {"entity": "customers", "path": str(DATA / "customers.csv"), "keys": ["customer_id"]},
    {"entity": "orders", "path": str(DATA / "orders"), "keys": ["order_id"], "delimiter": ";"},
]

TestTapCSV = get_tap_test_class(TapCSV, config={"files": FILES})
TestTapCSVWithMetadata = get_tap_test_class(TapCSV, config={"files": FILES, "add_metadata_columns": True})
