"""The proof that the platform works: start it, run the pipeline on Celery, check every result, stop it."""

from __future__ import annotations

import contextlib
import signal
import time
import typing as t
from dataclasses import dataclass, field

import httpx
import psycopg2
from rich.console import Console
from rich.table import Table

from elt import layout, publish, quality, seed, stack
from elt.airflow_api import FINAL, AirflowApi, Task
from elt.errors import DataError, EltError, StackError
from elt.settings import ADMIN, Settings

if t.TYPE_CHECKING:
    from pathlib import Path

DAG = "meltano_elt_pipeline"
RUN_SECONDS = 1800
"""How long a run may take."""
START_SECONDS = 180
NEWS_SECONDS = 20
LOG_LINES = 30


@dataclass
class Steps:
    """What was done and how long each step took, in seconds."""

    done: list[tuple[str, str, float]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str) -> t.Iterator[t.Callable[[str], None]]:
        """Time a step; the caller hands the result's one-line description to what is yielded."""
        said: list[str] = []
        begin = time.monotonic()
        yield said.append
        self.done.append((name, said[0] if said else "", time.monotonic() - begin))

    def show(self) -> None:
        """Print the table of steps."""
        table = Table("step", "result", "seconds", title="e2e", title_justify="left")
        table.columns[2].justify = "right"
        for name, result, seconds in self.done:
            table.add_row(name, result, f"{seconds:.1f}")
        table.add_row("all", "", f"{sum(seconds for _, _, seconds in self.done):.1f}", style="bold")
        Console(width=120).print(table)


def prove(settings: Settings, *, keep: bool, size: seed.Size | None) -> None:
    """Run the whole proof; stop the stack afterwards unless it was running before or is to be kept.

    Args:
        settings: the checked settings.
        keep: leave the stack running.
        size: which extract to write first; none keeps those that are there, and writes the sample if there are none.

    Raises:
        EltError: the first thing that is not as it should be.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal included, unless nohup says otherwise
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    steps = Steps()
    found_running = stack.is_running()
    try:
        with steps.step("seed") as said:
            kept = sorted(path.name for path in layout.EXTRACT.glob("*.csv"))
            if size or not kept:
                seed.seed(size or "sample")
                said(f"{size or 'sample'}")
            else:
                said(f"kept {', '.join(kept)}")
        with steps.step("start") as said:
            stack.up(settings, START_SECONDS)
            said("all processes healthy")
        begun = time.time()
        with steps.step("pipeline") as said, contextlib.closing(AirflowApi(settings)) as api:
            run = run_pipeline(api, RUN_SECONDS, {"environment": settings.elt_environment})
            said(run)
        for name, check in checks(settings, run, begun).items():
            with steps.step(name) as said:
                said(check())
    except BaseException:
        if not keep and not found_running:
            _stop_quietly()
        raise
    if not keep and not found_running:
        with steps.step("stop"):
            stack.down()
    steps.show()
    if keep or found_running:
        for name, url in stack.endpoints(settings).items():
            print(f"  {name:<12} {url}")


def _stop_quietly() -> None:
    """Stop the stack while another error is on its way to the user."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EltError):
        stack.down()


def trigger(settings: Settings, environment: str | None, *, full_refresh: bool) -> None:
    """Run the pipeline on the running stack and follow it to its end.

    Raises:
        StackError: there is no stack, or the run failed.
    """
    if not stack.is_running():
        raise StackError("the stack is not running: scripts/up.sh starts it")
    conf: dict[str, object] = {"environment": environment or settings.elt_environment, "full_refresh": full_refresh}
    with contextlib.closing(AirflowApi(settings)) as api:
        run_pipeline(api, RUN_SECONDS, conf)


# The run -----------------------------------------------------------------------------------------


def run_pipeline(api: AirflowApi, seconds: float, conf: dict[str, object] | None = None) -> str:
    """Trigger the pipeline and follow it to its end, a line for each change of a task's state.

    Raises:
        StackError: the run failed or did not end in time; the end of the task's log is part of the message.
    """
    api.wait_for_dag(DAG, 60)
    run = api.trigger(DAG, conf)
    print(f"  {DAG} {run}", flush=True)
    seen: dict[str, str] = {}
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        state = api.run_state(DAG, run)
        for task in api.tasks(DAG, run):
            if seen.get(task.name) != task.state and task.state != "none":
                seen[task.name] = task.state
                print(f"  {time.monotonic() - begin:6.1f} s  {task.name:<18} {task.state}", flush=True)
        if state in FINAL:
            break
        time.sleep(0.3)
    else:
        raise StackError(f"run {run} of {DAG} did not end within {seconds:.0f} s: {seen}")
    if state != "success":
        raise StackError(_why_failed(api, run))
    return run


def _why_failed(api: AirflowApi, run: str) -> str:
    failed: list[Task] = [task for task in api.tasks(DAG, run) if task.state == "failed"]
    if not failed:
        return f"run {run} of {DAG} failed, and no task of it"
    log = [line for line in api.log(DAG, run, failed[0]) if line and not line.startswith("::")][-LOG_LINES:]
    return "\n    ".join([f"task {failed[0].name} of {DAG} failed; the end of its log:", *log])


# The checks --------------------------------------------------------------------------------------


def checks(settings: Settings, run: str, begun: float) -> dict[str, t.Callable[[], str]]:
    """What must hold after a run; each check describes what it found, or raises."""
    warehouse = layout.warehouse(settings.elt_environment)
    return {
        "executed by Celery": lambda: executed_by_celery(settings, run),
        "marts": lambda: marts_equal_totals(warehouse),
        "published": lambda: was_published(settings, begun),
        "Meltano's state": lambda: meltano_state(settings, begun),
        "Streamlit": lambda: streamlit_answers(settings),
    }


def executed_by_celery(settings: Settings, run: str) -> str:
    """Every task of the run went through a Celery worker: the result backend and Flower know each by its id.

    Raises:
        StackError: a task of the run was executed otherwise.
    """
    deadline = time.monotonic() + NEWS_SECONDS  # the run may be over before both have heard of its last task
    while True:
        rows = _query(
            settings,
            "airflow",
            "select ti.task_id, ti.external_executor_id, ti.executor, c.status from task_instance ti left join"
            " celery_taskmeta c on c.task_id = ti.external_executor_id where ti.dag_id = %s and ti.run_id = %s",
            (DAG, run),
        )
        flower = _flower_tasks(settings)
        strangers = [name for name, _, executor, status in rows if status != "SUCCESS" or executor]
        unknown = [name for name, identity, _, _ in rows if flower.get(identity) != "SUCCESS"]
        if rows and not strangers and not unknown:
            return f"{len(rows)} tasks, each known to Flower and the result backend"
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if strangers or not rows:
        raise StackError(f"not executed by a Celery worker: {', '.join(strangers) or 'no task at all'}")
    raise StackError(f"Flower does not know these tasks as successful: {', '.join(unknown)}")


def _flower_tasks(settings: Settings) -> dict[str, str]:
    answer = httpx.get(
        settings.url(settings.flower_port) + "/api/tasks",
        auth=(ADMIN, settings.admin_password),
        timeout=10,
        trust_env=False,
    )
    if answer.is_error:
        raise StackError(f"Flower answers /api/tasks with {answer.status_code}")
    return {identity: task["state"] for identity, task in answer.json().items()}


def marts_equal_totals(warehouse: Path) -> str:
    """The marts equal the totals taken from the CSV files."""
    figures = quality.check(layout.EXTRACT, warehouse)
    return f"{len(figures)} figures equal those of the CSV files"


def was_published(settings: Settings, begun: float) -> str:
    """Readers see the marts of this run.

    Raises:
        DataError: what is published is older than the run.
    """
    when, environment = publish.latest(layout.published(settings.elt_environment))
    if when.timestamp() < begun:
        raise DataError(f"published marts are of {when}, before this run")
    return f"at {when:%H:%M:%S} UTC from {environment}"


def meltano_state(settings: Settings, begun: float) -> str:
    """Meltano recorded this run and its state in PostgreSQL.

    Raises:
        DataError: it did not.
    """
    state = f"{settings.elt_environment}:tap-csv-to-target-duckdb"
    rows = _query(
        settings, "meltano", "select count(*), max(updated_at) from state where state_id like %s", (state + "%",)
    )
    runs = _query(
        settings,
        "meltano",
        "select count(*) from runs where state = 'SUCCESS' and started_at >= to_timestamp(%s) at time zone 'utc'",
        (begun,),
    )
    if not rows[0][0] or not runs[0][0]:
        raise DataError(f"PostgreSQL has no state {state} or no successful run of Meltano since the start")
    return f"{state} in PostgreSQL, {runs[0][0]} successful runs"


def streamlit_answers(settings: Settings) -> str:
    """The dashboard answers.

    Raises:
        StackError: it does not.
    """
    url = settings.url(settings.streamlit_port)
    for path in ("/_stcore/health", "/"):
        answer = httpx.get(url + path, timeout=10, trust_env=False)
        if answer.is_error:
            raise StackError(f"Streamlit answers {path} with {answer.status_code}")
    return url


def _query(settings: Settings, database: str, statement: str, values: tuple[object, ...]) -> list[tuple[t.Any, ...]]:
    connection = psycopg2.connect(settings.postgres_url(database, scheme="postgresql"), connect_timeout=5)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    finally:
        connection.close()
