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
    "indent": (
        [
            "dbt-duckdb   12:00:00  Encountered an error:",
            "dbt-duckdb   Parsing Error",
            "dbt-duckdb     Error reading elt_workspace: marts/daily_sales.yml - Runtime Error",
            "dbt-duckdb       Syntax error near line 8",
            "dbt-duckdb       ------------------------------",
            "dbt-duckdb       7  |         data_type: [date",
            "dbt-duckdb       8  |         constraints:",
            "dbt-duckdb       Raw Error:",
            "dbt-duckdb       ------------------------------",
            "dbt-duckdb       while parsing a flow sequence",
            'dbt-duckdb         in "<unicode string>", line 7, column 20',
            "dbt-duckdb       did not find expected ',' or ']'",
            'dbt-duckdb         in "<unicode string>", line 8, column 20',
        ],
        (
            "dbt: marts/daily_sales.yml, line 8, column 20:"
            " while parsing a flow sequence, did not find expected ',' or ']'"
        ),
    ),
    "the project itself": (
        [
            "dbt-duckdb   \x1b[0m12:00:00  Encountered an error:",
            "dbt-duckdb   Runtime Error",
            "dbt-duckdb     Syntax error near line 20",
            "dbt-duckdb     Raw Error:",
            "dbt-duckdb     ------------------------------",
            "dbt-duckdb     did not find expected key",
            'dbt-duckdb       in "<unicode string>", line 20, column 2',
        ],
        "dbt: line 20, column 2: did not find expected key",
    ),
    "a brace": (
        [
            "dbt-duckdb   12:00:00  Encountered an error:",
            "dbt-duckdb   Compilation Error in model daily_sales (models/marts/daily_sales.sql)",
            "dbt-duckdb     unexpected ')'",
            "dbt-duckdb       line 3",
            'dbt-duckdb         transactions as (select * from {{ ref("stg_completejourney__transactions")  ),',
        ],
        "dbt: model daily_sales (models/marts/daily_sales.sql), line 3: unexpected ')'",
    ),
    "a model that is not there": (
        [
            "dbt-duckdb   12:00:00  Encountered an error:",
            "dbt-duckdb   Compilation Error",
            "dbt-duckdb     Model 'model.a.b' (models/b.sql) depends on a node named 'c' which was not found",
        ],
        "dbt: Model 'model.a.b' (models/b.sql) depends on a node named 'c' which was not found",
    ),
    "a test that is not there": (
        [
            "dbt-duckdb   12:00:00  Failure in test at_leest_daily_sales_revenue__0_01 (models/marts/...)",
            "dbt-duckdb   12:00:00    Compilation Error in test at_leest_daily_sales_revenue__0_01 (models/...)",
            "dbt-duckdb     'test_at_leest' is undefined. This can happen when calling a macro that does not exist.",
        ],
        (
            "dbt: test at_leest_daily_sales_revenue__0_01: 'test_at_leest' is undefined."
            " This can happen when calling a macro that does not exist."
        ),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_reason_of_a_failure(name):
    lines, reason = FAILURES[name]
    assert inner.reason(f"2026-11-24T12:00:00Z [info     ] {line}" for line in lines) == reason


def test_a_line_that_is_only_quoted_is_stripped():
    assert inner.reason(["  tap-csv: a.csv: ragged row  "]) == "tap-csv: a.csv: ragged row"
