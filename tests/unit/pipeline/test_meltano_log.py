"""What Meltano and dbt print becomes one line that says why."""

from __future__ import annotations

import pytest

from elt.pipeline import meltano_log

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


BINDER = [
    "dbt-duckdb   12:00:00  Failure in model daily_sales (models/marts/daily_sales.sql)",
    "dbt-duckdb   12:00:00    Runtime Error in model daily_sales (models/marts/daily_sales.sql)",
    'dbt-duckdb     Binder Error: Referenced column "sales_valu" not found in FROM clause!',
    'dbt-duckdb     Candidate bindings: "sales_value", "store_id"',
    "dbt-duckdb     LINE 11:             cast(sum(sales_valu) as decimal(18, 2)) as revenue,",
    "dbt-duckdb                                   ^",
    "dbt-duckdb   12:00:00",
    "dbt-duckdb   12:00:00    compiled code at /state/dbt/target/compiled/elt_workspace/models/marts/daily_sales.sql",
]


def test_an_error_of_duckdb_keeps_its_candidates_and_the_compiled_sql():
    assert meltano_log.reason(f"2026-11-24T12:00:00Z [info     ] {line}" for line in BINDER) == (
        'dbt: model daily_sales: Binder Error: Referenced column "sales_valu" not found in FROM clause!'
        ' Candidate bindings: "sales_value", "store_id"'
        " (its SQL: /state/dbt/target/compiled/elt_workspace/models/marts/daily_sales.sql)"
    )


def of_model(error: str) -> list[str]:
    return [*BINDER[:2], f"dbt-duckdb     {error}"]


def of_tap(error: str) -> list[str]:
    return [f"tap-csv      tap-csv: {error}", "meltano      Extractor failed"]


def of_target(error: str) -> list[str]:
    return [f"target-duckdb target-duckdb: {error}", "meltano      Loader failed"]


@pytest.mark.parametrize(
    "lines",
    [
        *(lines for lines, _ in FAILURES.values()),
        of_model("Parser Error: syntax error at or near"),
        of_model("Catalog Error: Table with name sale does not exist!"),
        of_model("Conversion Error: Could not convert string 'abc' to INT64"),
        of_tap("/x/products.csv, line 92333, column 'department': ragged row: 2 fields in the row, 7 in the header"),
        of_tap("/x/products.csv, line 21021: is not utf-8, set its encoding: byte 0xff"),
        of_target("stream 'products', line 3, column 'price': not a number"),
    ],
)
def test_what_a_second_try_would_meet_again_is_final(lines):
    assert outcome(lines).is_final()


@pytest.mark.parametrize(
    "lines",
    [
        of_model("IO Error: Could not set lock on file warehouse_dev.duckdb"),
        of_model("TransactionContext Error: Catalog write-write conflict"),
        of_model("Out of Memory Error: could not allocate block"),
        [BINDER[0]],
        ["dbt-duckdb   12:00:00  Encountered an error:", "dbt-duckdb   Runtime Error", "dbt-duckdb     IO Error: no"],
        of_tap("/x/products.csv: there is no such file"),
        of_target("/x/warehouse_dev.duckdb is locked by python (process 4711), gave up after 60 s"),
        of_target("stream 'products', line 3: cannot be written: IO Error: No space left on device"),
        ["meltano      psycopg2.OperationalError: connection refused"],
        [],
    ],
)
def test_what_may_pass_is_tried_again(lines):
    assert not outcome(lines).is_final()


def outcome(lines: list[str]) -> meltano_log.Outcome:
    result = meltano_log.Outcome()
    for line in lines:
        result.take(f"2026-11-24T12:00:00Z [info     ] {line}")
    return result


@pytest.mark.parametrize("name", FAILURES)
def test_the_reason_of_a_failure(name):
    lines, reason = FAILURES[name]
    assert meltano_log.reason(f"2026-11-24T12:00:00Z [info     ] {line}" for line in lines) == reason


def test_a_line_that_is_only_quoted_is_stripped():
    assert meltano_log.reason(["  tap-csv: a.csv: ragged row  "]) == "tap-csv: a.csv: ragged row"


def test_a_local_run_says_which_column_stays_text(capsys):
    warning = "extract/a.csv, column 'Kunden': kept as text, since points before three digits may mark thousands"
    progress = meltano_log.Outcome(started=0.0)
    progress.take(f"2026-11-24T12:00:00Z [info     ] tap-csv      tap-csv: {warning}; if they do not, set `columns`")
    assert f"load   {warning}; if they do not" in capsys.readouterr().out


@pytest.mark.parametrize(
    "warning",
    [
        "cities: 3 of these rows were replaced by later ones of the same key",
        "cities: 2 rows are gone from the source, 0 are there again",
        'cities: 1 rows of the source are not in "w"."raw"."cities": load it anew by `--full-refresh`',
    ],
)
def test_a_local_run_says_what_became_of_rows(capsys, warning):
    progress = meltano_log.Outcome(started=0.0)
    progress.take(f"2026-11-24T12:00:00Z [info     ] target-duckdb target-duckdb: {warning}")
    assert f"load   {warning}\n" in capsys.readouterr().out
