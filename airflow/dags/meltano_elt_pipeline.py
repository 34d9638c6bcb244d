"""Define the customer segmentation pipeline: wait for the extract, load it, build the marts, test, check, publish.

The functions of the last two steps are in the package `elt`; this file only puts the steps in order.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import Asset, CronTriggerTimetable, Param, dag, task

from elt.config.environments import ENVIRONMENTS
from elt.orchestration import alerts
from elt.orchestration.operators import MeltanoOperator, no_retry
from elt.sources import meltano_yml

EXTRACTS = meltano_yml.listed()
RAW = [Asset(f"duckdb://warehouse/raw/{extract.table}") for extract in EXTRACTS]
MODELS = Path(os.environ["DBT_PROJECT_DIR"], "models", "marts")
MARTS = [Asset(f"duckdb://warehouse/marts/{model.stem}") for model in sorted(MODELS.glob("*.sql"))]
LOADS = " ".join(meltano_yml.loads())
MELTANO = "meltano --environment {{ params.environment }} run --force"


@dag(
    # Without a start_date and with no grace, the first run waits for the next midnight. "@daily", and even
    # run_immediately=False, would run at once on a stack that is started for the first time before 02:24.
    schedule=CronTriggerTimetable("@daily", timezone="UTC", run_immediately=timedelta()),
    catchup=False,
    max_active_runs=1,
    tags=["elt", "customers"],
    default_args={
        "owner": "data",
        "on_failure_callback": alerts.task_failed,
    },
    on_failure_callback=alerts.run_failed,
    params={
        "environment": Param(
            os.environ["ELT_ENVIRONMENT"],
            type="string",
            enum=[*ENVIRONMENTS],
            description="Which warehouse to fill.",
        ),
        "full_refresh": Param(
            default=False, type="boolean", description="Load everything and rebuild incremental models."
        ),
    },
)
def meltano_elt_pipeline() -> None:
    """Run the customer segmentation, from CSV files to published marts.

    | step | what it does | when it fails |
    |---|---|---|
    | `wait_for_extract` | waits, deferred, for the first file that meltano.yml lists | run `scripts/seed.sh` |
    | `extract_load` | `meltano run` of each tap, replaces in `raw` what it loads | its log names the line |
    | `dbt_run` | staging, intermediate and marts, through Meltano | its log names the model |
    | `dbt_test` | the tests of the dbt project, through Meltano | its log names the test |
    | `data_quality` | compares the marts with totals taken from the CSV files | its log shows both figures |
    | `publish` | gives readers the marts, as a file and in PostgreSQL | readers see what they saw before |

    One task at a time writes to the warehouse (pool `duckdb_writer`). A failed step leaves what was published
    before untouched.
    """
    extract_load = MeltanoOperator(
        task_id="extract_load",
        bash_command=f"{MELTANO} {{{{ '--full-refresh' if params.full_refresh else '' }}}} {LOADS}",
        cwd=os.environ["MELTANO_PROJECT_ROOT"],
        pool="duckdb_writer",
        outlets=RAW,
    )
    dbt_run = MeltanoOperator(
        task_id="dbt_run",
        bash_command=f"{MELTANO} dbt-duckdb:{{{{ 'run-full-refresh' if params.full_refresh else 'run' }}}}",
        cwd=os.environ["MELTANO_PROJECT_ROOT"],
        pool="duckdb_writer",
    )
    dbt_test = MeltanoOperator(
        task_id="dbt_test",
        bash_command=f"{MELTANO} dbt-duckdb:test",
        cwd=os.environ["MELTANO_PROJECT_ROOT"],
        pool="duckdb_writer",
    )

    @task(pool="duckdb_writer")
    def data_quality(environment: str) -> None:
        from elt import layout  # noqa: PLC0415 - not at every parse
        from elt.pipeline import quality  # noqa: PLC0415
        from elt.warehouse import factory  # noqa: PLC0415

        with no_retry():
            quality.check(layout.EXTRACT, factory.stack_warehouse(environment))

    @task(pool="duckdb_writer", outlets=MARTS)
    def publish(environment: str) -> None:
        from elt.config import settings  # noqa: PLC0415
        from elt.serving import duckdb_copy  # noqa: PLC0415

        with no_retry():
            duckdb_copy.to_all_readers(environment, settings.load())

    environment = "{{ params.environment }}"
    extract_load >> dbt_run >> dbt_test >> data_quality(environment) >> publish(environment)
    if EXTRACTS:
        (
            FileSensor(
                task_id="wait_for_extract",
                filepath=str(EXTRACTS[0].path),
                poke_interval=5,
                timeout=timedelta(hours=1).total_seconds(),
                deferrable=True,
            )
            >> extract_load
        )


meltano_elt_pipeline()
