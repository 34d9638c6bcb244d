"""Define the pipeline of the shop: load its database, build and test what is made of it, check, publish.

It is paused until the database is there: docs/cookbooks/add-a-database.md.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import Asset, CronTriggerTimetable, Param, dag, task

from elt.config.environments import ENVIRONMENTS
from elt.orchestration import alerts
from elt.orchestration.operators import MeltanoOperator, no_retry

SOURCE = "shop"
"""Name of the job of meltano.yml, of the tag of its models, and of its folder in transform/checks."""
MODELS = Path(os.environ["DBT_PROJECT_DIR"], "models", "marts", SOURCE)
MARTS = [Asset(f"duckdb://warehouse/marts/{model.stem}") for model in sorted(MODELS.glob("*.sql"))]
MELTANO = "meltano --environment {{ params.environment }} run --force"


@dag(
    schedule=CronTriggerTimetable("30 * * * *", timezone="UTC", run_immediately=timedelta()),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=["elt", SOURCE],
    default_args={"owner": "data", "on_failure_callback": alerts.task_failed},
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
def shop_elt_pipeline() -> None:
    """Run the shop, from its database to published marts, each hour.

    | step | what it does | when it fails |
    |---|---|---|
    | `extract_load` | `meltano run` of the job `shop`, upserts in `raw_shop` what changed | its log names the table |
    | `dbt_build` | the models, snapshots and tests with the tag `shop`, through Meltano | its log names the model |
    | `data_quality` | compares the marts with figures of the database itself | its log shows both figures |
    | `publish` | gives readers the marts, as a file and in PostgreSQL | readers see what they saw before |

    One task at a time writes to the warehouse (pool `duckdb_writer`).
    """
    extract_load = MeltanoOperator(
        task_id="extract_load",
        bash_command=f"{MELTANO} {{{{ '--full-refresh' if params.full_refresh else '' }}}} {SOURCE}",
        cwd=os.environ["MELTANO_PROJECT_ROOT"],
        pool="duckdb_writer",
    )
    build = "build-selected{{ '-full-refresh' if params.full_refresh else '' }}"
    dbt_build = MeltanoOperator(
        task_id="dbt_build",
        bash_command=f"ELT_SELECT=tag:{SOURCE} {MELTANO} dbt-duckdb:{build}",
        cwd=os.environ["MELTANO_PROJECT_ROOT"],
        pool="duckdb_writer",
    )

    @task(pool="duckdb_writer")
    def data_quality(environment: str) -> None:
        from elt import layout  # noqa: PLC0415 - not at every parse
        from elt.pipeline import quality  # noqa: PLC0415
        from elt.warehouse import factory  # noqa: PLC0415

        with no_retry():
            quality.check(layout.EXTRACT, factory.stack_warehouse(environment), source=SOURCE)

    @task(pool="duckdb_writer", outlets=MARTS)
    def publish(environment: str) -> None:
        from elt.config import settings  # noqa: PLC0415
        from elt.serving import duckdb_copy  # noqa: PLC0415

        with no_retry():
            duckdb_copy.to_all_readers(environment, settings.load())

    environment = "{{ params.environment }}"
    extract_load >> dbt_build >> data_quality(environment) >> publish(environment)


shop_elt_pipeline()
