"""What Meltano and dbt print becomes one line that says why."""

from __future__ import annotations

import pytest

from elt import inner

FAILURES = {
    "contract": (
        [
            "dbt-duckdb  12:00:00  Failure in model daily_sales (models/marts/daily_sales.sql)",
            "dbt-duckdb  12:00:00    This model has an enforced contract that failed.",
            "dbt-duckdb   Please ensure the name, data_type, and number of columns in your contract match.",
            "dbt-duckdb   | column_name | definition_type | contract_type | mismatch_reason       |",
            "dbt-duckdb   | ----------- | --------------- | ------------- | --------------------- |",
            "dbt-duckdb   | revenue     | DOUBLE          | DECIMAL(18,2) | data type mismatch    |",
            "dbt-duckdb   | units       |                 | BIGINT        | missing in definition |",
        ],
        (
            "dbt: model daily_sales: This model has an enforced contract that failed."
            " revenue: data type mismatch, model DOUBLE, contract DECIMAL(18,2)."
            " units: missing in definition, model nothing, contract BIGINT."
        ),
    ),
    "test": (
        [
            "dbt-duckdb  12:00:00  Failure in test not_null_daily_sales_revenue (models/marts/daily_sales.yml)",
            "dbt-duckdb  12:00:00    Got 3 results, configured to fail if != 0",
            "dbt-duckdb  12:00:00  Failure in test unique_daily_sales_sales_date (models/marts/daily_sales.yml)",
            "dbt-duckdb  12:00:00    Got 1 result, configured to fail if != 0",
        ],
        "dbt: test not_null_daily_sales_revenue: Got 3 results, configured to fail if != 0 (and 1 more)",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_reason_of_a_failure(name):
    lines, reason = FAILURES[name]
    assert inner.reason(f"2026-11-24T12:00:00Z [info     ] {line}" for line in lines) == reason
