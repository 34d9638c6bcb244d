"""Make the DAGs: one for each schedule of meltano.yml, by its name.

Of Meltano and dbt nothing is imported, here or at a parse: a task starts them as programs.
"""

from __future__ import annotations

import os
import typing as t
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import (
    DAG,
    Asset,
    AssetAll,
    AssetOrTimeSchedule,
    BaseOperator,
    CronTriggerTimetable,
    Param,
    chain,
    task,
)

from elt import layout
from elt.config.environments import ENVIRONMENTS
from elt.errors import ConfigError
from elt.orchestration import POOL, alerts
from elt.orchestration.operators import MeltanoOperator, no_retry
from elt.sources import csv_files, jobs, meltano_yml

MELTANO = "meltano --environment {{ params.environment }} run --force"
SECONDS = {"s": 1, "m": 60, "h": 3600}
WAIT_SECONDS = 3600
"""Seconds that a run waits for a file."""

Step = t.Callable[[str], t.Any]
Files = t.Sequence[csv_files.Extract]


def dags() -> dict[str, DAG]:
    """Make the DAG of each schedule of meltano.yml.

    Raises:
        ConfigError: a schedule cannot be used; the message says in which line of which file.
    """
    found = jobs.schedules()
    awaited = {name for one in found for name in one.elt.after}
    files = meltano_yml.listed()
    return {one.name: _dag(one, files, is_awaited=one.name in awaited) for one in found}


def _doc(schedule: jobs.Schedule) -> str:
    rows = "".join(f"| `{name}` | {does} | {fails} |\n" for name, (does, fails) in jobs.steps(schedule).items())
    return (
        f"{schedule.elt.description or f'The schedule `{schedule.name}` of meltano.yml.'}\n\n"
        f"| step | what it does | when it fails |\n|---|---|---|\n{rows}\n"
        f"One task at a time writes to the warehouse (pool `{POOL}`). A failed step leaves what was published before "
        "untouched.\n"
    )


def _when(schedule: jobs.Schedule) -> t.Any:  # noqa: ANN401 - a timetable, assets, or both
    elt, timetable = schedule.elt, None
    if schedule.interval and (not elt.environments or os.environ["ELT_ENVIRONMENT"] in elt.environments):
        # Without a start_date and with no grace, the first run waits for the next time. "@daily", and even
        # run_immediately=False, would run at once on a stack that is started for the first time before 02:24.
        timetable = CronTriggerTimetable(schedule.interval, timezone=elt.timezone, run_immediately=timedelta())
    if not elt.after:
        return timetable
    assets = AssetAll(*map(_done, elt.after))
    return AssetOrTimeSchedule(timetable=timetable, assets=assets) if timetable else assets


def _done(name: str) -> Asset:
    """Return the asset that a run of a schedule updates at its end."""
    return Asset(name=f"{name}-done", uri=f"elt://schedules/{name}")


def _dag(schedule: jobs.Schedule, files: Files, *, is_awaited: bool) -> DAG:
    elt = schedule.elt
    defaults: dict[str, t.Any] = {"owner": elt.owner, "on_failure_callback": alerts.task_failed}
    defaults |= {} if elt.retries is None else {"retries": elt.retries}
    defaults |= {"queue": elt.queue} if elt.queue else {}
    # What has begun goes first, then what goes on with another schedule's work, then the oldest run: by Airflow's own
    # rule all loads would go before the first build, and one of each minute could keep others for ever.
    defaults |= {"weight_rule": "upstream", "priority_weight": 2 if elt.after else 1}
    with DAG(
        schedule.name,
        schedule=_when(schedule),
        start_date=schedule.begin if elt.catchup else None,
        catchup=elt.catchup,
        max_active_runs=1,
        is_paused_upon_creation=elt.paused or None,
        tags=["elt", *elt.tags],
        doc_md=_doc(schedule),
        default_args=defaults,
        on_failure_callback=alerts.run_failed,
        dagrun_timeout=timedelta(seconds=int(elt.deadline[:-1]) * SECONDS[elt.deadline[-1]])
        if elt.deadline
        else None,
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
            "uncommitted": Param(default=False, type="boolean", description="Let prod take what is not committed."),
        },
    ) as made:
        tasks = [*_waiting(elt, files), *_loading(schedule, files), *_building(schedule), *_publishing(elt)]
        chain(*tasks)
        if is_awaited:
            last = tasks[-1]  # what a decorated function gives has its operator
            getattr(last, "operator", last).outlets.append(_done(schedule.name))
    return made


def _waiting(elt: jobs.Annotations, files: Files) -> list[t.Any]:
    if not elt.wait_for or not files or (elt.wait_for == meltano_yml.TAP and files[0].is_elsewhere):
        return []
    awaited = {one.table: one for one in files} | {meltano_yml.TAP: files[0]}
    if elt.wait_for not in awaited or awaited[elt.wait_for].is_elsewhere:
        there = ", ".join(name for name, one in awaited.items() if not one.is_elsewhere)
        what = f"wait_for: {elt.wait_for!r} is no entity whose file lies on this machine; there are {there}"
        raise ConfigError(f"{layout.MELTANO_YML}: {what}")
    path = str(awaited[elt.wait_for].path)
    return [
        FileSensor(task_id="wait_for_extract", filepath=path, poke_interval=5, timeout=WAIT_SECONDS, deferrable=True)
    ]


def _loading(schedule: jobs.Schedule, files: Files) -> list[BaseOperator]:
    refresh = "{{ '--full-refresh' if params.full_refresh else '' }}"
    raw = [Asset(f"duckdb://warehouse/raw/{extract.table}") for extract in files]
    return [
        _meltano(
            schedule,
            name,
            f"{MELTANO} {refresh} {' '.join(words)}",
            outlets=raw if words[0] == meltano_yml.TAP else [],
        )
        for name, words in zip(schedule.task_names(), schedule.tasks, strict=True)
    ]


def _building(schedule: jobs.Schedule) -> list[BaseOperator]:
    suffix = "{{ '-full-refresh' if params.full_refresh else '' }}"
    if schedule.elt.select:
        command = f"{MELTANO} {jobs.DBT}build-selected{suffix}"
        return [_meltano(schedule, "dbt_build", command)]
    if schedule.calls_dbt:
        return []
    return [
        _meltano(schedule, "dbt_run", f"{MELTANO} {jobs.DBT}run{suffix}"),
        _meltano(schedule, "dbt_test", f"{MELTANO} {jobs.DBT}test"),
    ]


def _meltano(schedule: jobs.Schedule, name: str, command: str, outlets: t.Sequence[Asset] = ()) -> BaseOperator:
    select = {"ELT_SELECT": schedule.elt.select} if schedule.elt.select else {}
    return MeltanoOperator(
        task_id=name,
        bash_command=command,
        cwd=os.environ["MELTANO_PROJECT_ROOT"],
        env={**schedule.env, **select},
        append_env=True,
        partition=schedule.partition,
        pool=POOL,
        outlets=outlets,
    )


def _publishing(elt: jobs.Annotations) -> list[t.Any]:
    models = Path(os.environ["DBT_PROJECT_DIR"], "models", "marts", elt.checks or "")
    marts = [Asset(f"duckdb://warehouse/marts/{model.stem}") for model in sorted(models.glob("*.sql"))]

    @task(pool=POOL)
    def data_quality(environment: str) -> None:
        from elt.pipeline import quality  # noqa: PLC0415 - not at every parse
        from elt.warehouse import factory  # noqa: PLC0415

        with no_retry():
            quality.check(layout.EXTRACT, factory.stack_warehouse(environment), source=elt.checks)

    @task(pool=POOL, outlets=marts)
    def publish(environment: str) -> None:
        from elt.config import settings  # noqa: PLC0415
        from elt.serving import duckdb_copy  # noqa: PLC0415

        with no_retry():
            duckdb_copy.to_all_readers(environment, settings.load(), may_be_none=elt.select is not None)

    environment = "{{ params.environment }}"
    return [data_quality(environment), *([publish(environment)] if elt.publish else [])]
