"""Trigger runs of the pipeline on Airflow, follow them, resume them, and report why they failed."""

from __future__ import annotations

import contextlib
import re
import time
import typing as t

from elt import disk, layout
from elt.config import meltano_plugins
from elt.errors import ConfigError, EltError, StackError
from elt.orchestration.api import FINAL_STATES, AirflowApi, Task
from elt.pipeline import meltano_log, quality, revision
from elt.services import stack
from elt.sources import jobs, meltano_yml, seed

if t.TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from elt.config.settings import Settings

DAG = "meltano_elt_pipeline"
PARSED_SECONDS = 60
QUEUED_SECONDS = 5
"""Seconds without news of a run after which the cause is printed."""
ACTIVE_STATES = {"running", "deferred", "up_for_retry"}
"""States of a task that may last long."""
LOG_LINES = 30


def trigger(
    settings: Settings,
    environment: str | None,
    *,
    full_refresh: bool,
    source: str | None = None,
    uncommitted: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
) -> None:
    """Run the pipeline of the files, or that of another source, on the running stack and follow it to its end.

    With `since` and `until` its runs of that time are made up for, one after the other.

    Raises:
        StackError: there is no stack, the pipeline is paused, or a run failed.
        ConfigError: something is not committed, and the environment is prod; or no pipeline has that name.
    """
    environment = environment or settings.elt_environment
    if warning := revision.refuse_uncommitted(environment, forced=uncommitted):
        print(f"  {warning}", flush=True)
    dag = _dag_of(source) if source else DAG
    if not stack.is_running():
        raise StackError("the stack is not running: scripts/up.sh starts it")
    disk.refuse_full()
    if source is None:
        seed.ensure()
    conf: dict[str, object] = {"environment": environment, "full_refresh": full_refresh}
    conf |= {"uncommitted": True} if uncommitted else {}
    with contextlib.closing(client(settings)) as api, _announcing_continuation():
        if source or since:
            api.wait_for_dag(dag, PARSED_SECONDS)
            if api.is_paused(dag):  # else the run would wait without end
                raise StackError(
                    f"{dag} is paused: `.venv/bin/elt exec airflow dags unpause {dag} --yes` lets it run"
                )
        if since:
            _backfill(api, dag, since, until or since, conf)
        else:
            run_pipeline(api, None, conf, dag=dag)


def _backfill(api: AirflowApi, dag: str, since: datetime, until: datetime, conf: dict[str, object]) -> None:
    """Make up for the runs of a time, and follow them all, also when some fail.

    Raises:
        ConfigError: meltano.yml has no such schedule, or the end is before the beginning.
        StackError: some failed; the message says why the first one did.
    """
    schedule = next((one for one in jobs.schedules() if one.name == dag), None)
    if schedule is None or schedule.interval is None:
        raise ConfigError(
            f"--from: {dag} is no schedule of meltano.yml with an interval, so no time has a run of its own"
        )
    first, last = schedule.moments(since, until)
    if last < first:
        raise ConfigError(f"--to: {until:%Y-%m-%d %H:%M} is before {since:%Y-%m-%d %H:%M}")
    runs = api.backfill(dag, first, last, conf)
    if not runs:
        print(f"  nothing to make up for: {dag} had succeeded for all of that time", flush=True)
    failed = []
    for number, run in enumerate(runs, 1):
        print(f"  {number} of {len(runs)}", flush=True)
        try:
            follow(api, run, None, dag=dag)
        except StackError as error:
            failed.append(str(error))
    if failed:
        raise StackError(f"{len(failed)} of {len(runs)} runs of {dag} failed; the first: {failed[0]}")


def _dag_of(source: str) -> str:
    """Return the DAG of that name, or of that job.

    Raises:
        ConfigError: neither meltano.yml nor a file of airflow/dags has one.
    """
    scheduled = [one.name for one in jobs.schedules()]
    names = (source, f"{source}_elt_pipeline")
    texts = [path.read_text("utf-8", "replace") for path in layout.DAGS.rglob("*.py")]
    by_hand = [name for name in names if any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts)]
    for name in (*(name for name in names if name in scheduled), *by_hand):
        return name
    raise ConfigError(f"pipeline: no schedule is called {names[1]}; there are {', '.join(scheduled)}")


def client(settings: Settings) -> AirflowApi:
    """Return a client that waits for its Airflow as long as the stack runs."""
    return AirflowApi(settings, stack.is_running)


def resume(settings: Settings) -> None:
    """Resume the last run, which failed, at the task that failed, and follow it to its end.

    If input of an earlier task was changed since, the run is resumed there.

    Raises:
        StackError: there is no stack, the last run did not fail, or it failed again.
    """
    if not stack.is_running():
        raise StackError("the stack is not running: scripts/up.sh starts it")
    disk.refuse_full()
    with contextlib.closing(client(settings)) as api, _announcing_continuation():
        api.wait_for_dag(DAG, PARSED_SECONDS)
        run, state = api.last_run(DAG)
        if state != "failed":
            raise StackError(f"the last run of {DAG}, {run}, did not fail but is {state}: nothing to go on with")
        outdated = _outdated(api.tasks(DAG, run))
        if outdated:
            print(f"  {outdated[1]} changed since: goes on with {outdated[0]}", flush=True)
        api.clear(DAG, run, outdated and outdated[0])
        follow(api, run, None)


@contextlib.contextmanager
def _announcing_continuation() -> t.Iterator[None]:
    """Say at Ctrl-C that the run goes on without being followed."""
    try:
        yield
    except KeyboardInterrupt:
        print("  the run, once it is there, goes on in Airflow: its page shows it, and stops it", flush=True)
        raise


def _outdated(tasks: list[Task]) -> tuple[str, Path] | None:
    """Return the first successful task whose input changed since it began, and what changed."""
    # The time of a folder tells that a file is gone.
    folders = [one.path for one in meltano_yml.listed() if one.path.is_dir()]
    files = [path for one in meltano_yml.listed() for path in one.files()]
    project = [path for path in layout.DBT_PROJECT.rglob("*") if not path.is_relative_to(quality.CHECKS)]
    inputs = {
        "extract_load": [
            *(path for path, _ in meltano_plugins.files()),
            *files,
            *folders,
            *(one for top in folders for one in top.rglob("*")),
        ],
        "dbt_run": project,
        "data_quality": list(quality.CHECKS.glob("*.py")),
    }
    began = {task.name: task.started for task in tasks if task.state == "success"}
    for name, paths in inputs.items():
        for path in paths:
            if path.stat().st_ctime > (began.get(name) or float("inf")):
                return name, path
    return None


def run_pipeline(
    api: AirflowApi,
    seconds: float | None,
    conf: dict[str, object] | None = None,
    on_task: t.Callable[[Task], None] = lambda _: None,
    dag: str = DAG,
) -> str:
    """Trigger the pipeline and follow it to its end, a line for each change of a task's state.

    Args:
        api: a client of the Airflow that runs it.
        seconds: how long it may take; None for as long as Airflow is there.
        conf: parameters of the run.
        on_task: called with each task at each poll, also when the run fails later.
        dag: its name.

    Returns:
        The id of the run.

    Raises:
        StackError: the run failed or did not end in time; the end of the task's log is part of the message.
    """
    api.wait_for_dag(dag, PARSED_SECONDS)
    run = api.trigger(dag, conf)
    follow(api, run, seconds, on_task, dag)
    return run


def follow(
    api: AirflowApi,
    run: str,
    seconds: float | None,
    on_task: t.Callable[[Task], None] = lambda _: None,
    dag: str = DAG,
) -> None:
    """Follow a run to its end, a line for each change of a task's state.

    Args:
        api: a client of the Airflow that runs it.
        run: its id.
        seconds: how long it may take; None for as long as Airflow is there.
        on_task: called with each task at each poll, also when the run fails later.
        dag: the name of the pipeline.

    Raises:
        StackError: the run failed or did not end in time; the end of the task's log is part of the message.
    """
    print(f"  {dag} {run}", flush=True)
    seen: dict[str, str] = {}
    is_printed = False
    begin = news = time.monotonic()
    while seconds is None or time.monotonic() < begin + seconds:
        state = api.run_state(dag, run)
        for task in api.tasks(dag, run):
            on_task(task)
            if seen.get(task.name) != task.state and task.state != "none":
                seen[task.name], news = task.state, time.monotonic()
                print(f"  {time.monotonic() - begin:6.1f} s  {task.name:<18} {task.state}", flush=True)
        if state in FINAL_STATES:
            break
        if time.monotonic() > news + QUEUED_SECONDS and not ACTIVE_STATES & set(seen.values()):
            api.refuse_broken(dag)
            if not seen and not is_printed:
                is_printed = True
                what = f"another run of {dag} to end" if state == "queued" else "the scheduler"
                print(f"  {time.monotonic() - begin:6.1f} s  waiting for {what}", flush=True)
        time.sleep(0.3)
    else:
        raise StackError(f"run {run} of {dag} did not end within {seconds:.0f} s: {seen}")
    if state != "success":
        raise StackError(_why_failed(api, run, dag))


def _why_failed(api: AirflowApi, run: str, dag: str = DAG) -> str:
    """Describe why a task failed by its log: in one line if Meltano or the workspace wrote it, else by its end."""
    failed: list[Task] = [task for task in api.tasks(dag, run) if task.state == "failed"]
    if not failed:
        return f"run {run} of {dag} failed, and no task of it"
    task = failed[0]
    what = f"task {task.name} of {dag} failed"
    lines = [line for line in api.log(dag, run, task) if line and not line.startswith("::")]
    ends = [place for place, line in enumerate(lines) if line.startswith(meltano_log.COMMAND_ENDED)]
    reported = [
        message for kind, _, message in (line.partition(": ") for line in lines) if kind in _names_of(EltError)
    ]
    if ends:
        why = [f"{what}: {meltano_log.reason(lines[: ends[0]])}"]
    elif reported:
        why = [f"{what}: {reported[-1]}"]
    else:
        why = [f"{what}; the end of its log:", *lines[-LOG_LINES:]]
    files = layout.LOGS.glob(f"tasks/*/run_id={run}/task_id={task.name}/attempt={task.tries}.log")
    where = [f"log: {file}" for file in files]
    hint = ["once that is fixed, `elt pipeline --resume` goes on"] if dag == DAG else []
    return "\n    ".join([*why, *where, *hint])


def _names_of(error: type[EltError]) -> set[str]:
    """Return the names of an error and its subclasses, whose messages are for a person to read."""
    return {error.__name__}.union(*map(_names_of, error.__subclasses__()))
