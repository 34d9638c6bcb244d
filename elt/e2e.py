"""The proof that the platform works: start it, run the pipeline on Celery, check every result, stop it."""

from __future__ import annotations

import contextlib
import signal
import time
import typing as t

import httpx
import psycopg2
from rich.console import Console
from rich.table import Table

from elt import disk, extracts, layout, meltano_output, publish, publish_postgres, quality, report, seed, stack
from elt.airflow_api import FINAL, AirflowApi, Task
from elt.errors import DataError, EltError, SetupError, StackError
from elt.guard import Stopwatch
from elt.settings import ADMIN, BI, OWNER, Settings

if t.TYPE_CHECKING:
    from pathlib import Path

DAG = "meltano_elt_pipeline"
START_SECONDS = 180
PARSED_SECONDS = 60
QUEUED_SECONDS = 5
"""Seconds without news of a run before its wait is told and looked into."""
AT_WORK = {"running", "deferred", "up_for_retry"}
"""States of a task that may last."""
NEWS_SECONDS = 20
FLOWER_SECONDS = 10
LOG_LINES = 30
NAMED = 3
"""How many extracts the table of steps names."""
STOP = "stop"


def prove(settings: Settings, *, keep: bool, size: seed.Size | None) -> None:
    """Run the whole proof; stop the stack afterwards unless it was running before or is to be kept; write the report.

    Args:
        settings: the checked settings.
        keep: leave the stack running.
        size: which extract to write first; none keeps those that are there, and writes all lines if there are none.

    Raises:
        EltError: the first thing that is not as it should be.
    """
    disk.refuse_full()
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal included, unless nohup says otherwise
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    found: report.Start = "again" if layout.POSTGRES_DATA.exists() else "first"
    proof = report.Proof(settings.elt_environment, "joined" if stack.is_running() else found, report.commit())
    stops = not keep and proof.start != "joined"
    try:
        _steps(proof, settings, size)
        if stops:
            with proof.step(STOP):
                stack.down()
    except BaseException as error:
        proof.fail(error)
        if stops and proof.failed_step != STOP:
            _stop_quietly(proof)
        with contextlib.suppress(SetupError, OSError):  # the first error is the one to tell
            print(f"report: {report.write(proof)}")
        raise
    show(proof)
    if not stops:
        stack.print_endpoints(settings)
    print(f"report: {report.write(proof)}")


def _steps(proof: report.Proof, settings: Settings, size: seed.Size | None) -> None:
    with proof.step("seed") as step:
        if size:
            seed.seed(size)
        files = [file for one in extracts.ensure() for file in one.files()]
        step.result = size or ", ".join(file.name for file in files[:NAMED]) + (" ..." if len(files) > NAMED else "")
        proof.extract_bytes = sum(file.stat().st_size for file in files)
    with proof.step(report.START) as step:
        try:
            stack.up(settings, START_SECONDS, proof.changes)
        finally:
            proof.supervisor = stack.supervisor()
        step.result = "all processes healthy"
    begun = time.time()
    with proof.step(report.PIPELINE) as step, contextlib.closing(_api(settings)) as api:
        run = run_pipeline(api, None, {"environment": settings.elt_environment}, proof.tries)
        step.result = run
    for name, check in checks(settings, run, begun, proof.figures).items():
        with proof.step(name) as step:
            step.result = check()


def show(proof: report.Proof) -> None:
    """Print the table of steps."""
    table = Table("step", "result", "seconds", title="e2e", title_justify="left")
    table.columns[2].justify = "right"
    for step in proof.steps:
        table.add_row(step.name, step.result, f"{step.seconds:.1f}")
    table.add_row("all", "", f"{proof.seconds:.1f}", style="bold")
    Console(width=120).print(table)


def _stop_quietly(proof: report.Proof) -> None:
    """Stop the stack while another error is on its way to the user."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EltError, OSError), proof.step(STOP):
        stack.down()


def trigger(settings: Settings, environment: str | None, *, full_refresh: bool) -> None:
    """Run the pipeline on the running stack and follow it to its end.

    Raises:
        StackError: there is no stack, or the run failed.
    """
    if not stack.is_running():
        raise StackError("the stack is not running: scripts/up.sh starts it")
    disk.refuse_full()
    extracts.ensure()
    conf: dict[str, object] = {"environment": environment or settings.elt_environment, "full_refresh": full_refresh}
    with contextlib.closing(_api(settings)) as api, _goes_on():
        run_pipeline(api, None, conf)


def _api(settings: Settings) -> AirflowApi:
    """A client that waits for its Airflow as long as the stack lives."""
    return AirflowApi(settings, stack.is_running)


def resume(settings: Settings) -> None:
    """Let the last run, which failed, go on at the task that failed, and follow it to its end.

    What the mending changed may be the input of an earlier task, and then that one is repeated as well.

    Raises:
        StackError: there is no stack, the last run did not fail, or it failed again.
    """
    if not stack.is_running():
        raise StackError("the stack is not running: scripts/up.sh starts it")
    disk.refuse_full()
    with contextlib.closing(_api(settings)) as api, _goes_on():
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
def _goes_on() -> t.Iterator[None]:
    """Ctrl-C ends the following, and not what is followed."""
    try:
        yield
    except KeyboardInterrupt:
        print("  the run, once it is there, goes on in Airflow: its page shows it, and stops it", flush=True)
        raise


def _outdated(tasks: list[Task]) -> tuple[str, Path] | None:
    """The first task that succeeded on input which changed since it began, and what changed."""
    # The time of a folder tells that a file is gone.
    folders = [one.path for one in extracts.listed() if one.path.is_dir()]
    files = [path for one in extracts.listed() for path in one.files()]
    project = [path for path in layout.DBT_PROJECT.rglob("*") if not path.is_relative_to(quality.CHECKS)]
    inputs = {
        "extract_load": [extracts.MELTANO_YML, *files, *folders, *(one for top in folders for one in top.rglob("*"))],
        "dbt_run": project,
        "data_quality": list(quality.CHECKS.glob("*.py")),
    }
    began = {task.name: task.started for task in tasks if task.state == "success"}
    for name, paths in inputs.items():
        for path in paths:
            if path.stat().st_ctime > (began.get(name) or float("inf")):
                return name, path
    return None


# The run -----------------------------------------------------------------------------------------


def run_pipeline(
    api: AirflowApi,
    seconds: float | None,
    conf: dict[str, object] | None = None,
    tries: dict[tuple[str, int], Task] | None = None,
) -> str:
    """Trigger the pipeline and follow it to its end, a line for each change of a task's state.

    Args:
        api: a client of the Airflow that runs it.
        seconds: how long it may take; None for as long as Airflow is there.
        conf: parameters of the run.
        tries: gets each try of each task by name and number, as it was seen last, also when this fails.

    Returns:
        The id of the run.

    Raises:
        StackError: the run failed or did not end in time; the end of the task's log is part of the message.
    """
    api.wait_for_dag(DAG, PARSED_SECONDS)
    run = api.trigger(DAG, conf)
    follow(api, run, seconds, tries)
    return run


def follow(
    api: AirflowApi, run: str, seconds: float | None, tries: dict[tuple[str, int], Task] | None = None
) -> None:
    """Follow a run to its end, a line for each change of a task's state.

    Args:
        api: a client of the Airflow that runs it.
        run: its id.
        seconds: how long it may take; None for as long as Airflow is there.
        tries: gets each try of each task by name and number, as it was seen last, also when this fails.

    Raises:
        StackError: the run failed or did not end in time; the end of the task's log is part of the message.
    """
    print(f"  {DAG} {run}", flush=True)
    seen: dict[str, str] = {}
    told = False
    begin = news = time.monotonic()
    while seconds is None or time.monotonic() < begin + seconds:
        state = api.run_state(DAG, run)
        for task in api.tasks(DAG, run):
            if tries is not None:
                tries[task.name, task.tries] = task
            if seen.get(task.name) != task.state and task.state != "none":
                seen[task.name], news = task.state, time.monotonic()
                print(f"  {time.monotonic() - begin:6.1f} s  {task.name:<18} {task.state}", flush=True)
        if state in FINAL:
            break
        if time.monotonic() > news + QUEUED_SECONDS and not AT_WORK & set(seen.values()):
            api.refuse_broken(DAG)
            if not seen and not told:
                told = True
                what = f"another run of {DAG} to end" if state == "queued" else "the scheduler"
                print(f"  {time.monotonic() - begin:6.1f} s  waits for {what}", flush=True)
        time.sleep(0.3)
    else:
        raise StackError(f"run {run} of {DAG} did not end within {seconds:.0f} s: {seen}")
    if state != "success":
        raise StackError(_why_failed(api, run))


def _why_failed(api: AirflowApi, run: str) -> str:
    """What the log of the task that failed says, in a line if Meltano or we wrote it, else its end; and its file."""
    failed: list[Task] = [task for task in api.tasks(DAG, run) if task.state == "failed"]
    if not failed:
        return f"run {run} of {DAG} failed, and no task of it"
    task = failed[0]
    what = f"task {task.name} of {DAG} failed"
    lines = [line for line in api.log(DAG, run, task) if line and not line.startswith("::")]
    ends = [place for place, line in enumerate(lines) if line.startswith(meltano_output.COMMAND_ENDED)]
    told = [message for kind, _, message in (line.partition(": ") for line in lines) if kind in _told_by(EltError)]
    if ends:
        why = [f"{what}: {meltano_output.reason(lines[: ends[0]])}"]
    elif told:
        why = [f"{what}: {told[-1]}"]
    else:
        why = [f"{what}; the end of its log:", *lines[-LOG_LINES:]]
    files = layout.LOGS.glob(f"tasks/*/run_id={run}/task_id={task.name}/attempt={task.tries}.log")
    where = [f"log: {file}" for file in files]
    return "\n    ".join([*why, *where, "once that is mended, `elt pipeline --resume` goes on"])


def _told_by(error: type[EltError]) -> set[str]:
    """Names of an error and of all that are made of it: their messages are for a person to read."""
    return {error.__name__}.union(*map(_told_by, error.__subclasses__()))


# The checks --------------------------------------------------------------------------------------


def checks(
    settings: Settings, run: str, begun: float, figures: list[quality.Figure]
) -> dict[str, t.Callable[[], str]]:
    """What must hold after a run; each check describes what it found, or raises.

    Args:
        settings: the checked settings.
        run: id of the run.
        begun: when it was about to begin, in seconds since the epoch.
        figures: gets every figure that is compared.
    """
    warehouse = layout.warehouse(settings.elt_environment)
    return {
        "executed by Celery": lambda: executed_by_celery(settings, run),
        "marts": lambda: marts_equal_totals(warehouse, figures),
        "published": lambda: was_published(settings, begun),
        "Meltano's state": lambda: meltano_state(settings, begun),
        "Streamlit": lambda: streamlit_answers(settings),
    }


def executed_by_celery(settings: Settings, run: str) -> str:
    """Every task of the run went through a Celery worker: the result backend and Flower know each by its id.

    Raises:
        StackError: a task of the run was executed otherwise.
    """
    waited = Stopwatch()  # the run may be over before both have heard of its last task
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
        if waited.seconds(FLOWER_SECONDS) > NEWS_SECONDS:
            break
        time.sleep(0.2)
    if strangers or not rows:
        raise StackError(f"not executed by a Celery worker: {', '.join(strangers) or 'no task at all'}")
    raise StackError(f"Flower does not know these tasks as successful: {', '.join(unknown)}")


def _flower_tasks(settings: Settings) -> dict[str, str]:
    answer = httpx.get(
        settings.url(settings.flower_port) + "/api/tasks",
        auth=(ADMIN, settings.admin_password),
        timeout=FLOWER_SECONDS,
        trust_env=False,
    )
    if answer.is_error:
        raise StackError(f"Flower answers /api/tasks with {answer.status_code}")
    return {identity: task["state"] for identity, task in answer.json().items()}


def marts_equal_totals(warehouse: Path, figures: list[quality.Figure]) -> str:
    """The marts equal the totals taken from the CSV files; `figures` gets each."""
    try:
        figures += quality.check(layout.EXTRACT, warehouse)
    except quality.DiffersError as error:
        figures += error.figures
        raise
    return f"{len(figures)} figures equal those of the CSV files"


def was_published(settings: Settings, begun: float) -> str:
    """Readers see the marts of this run, in the file and, as the role of BI servers, in PostgreSQL.

    Raises:
        DataError: what is published is older than the run, or the two differ.
    """
    when, environment = publish.latest(layout.published(settings.elt_environment))
    if when.timestamp() < begun:
        raise DataError(f"published marts are of {when}, before this run")
    rows = _query(settings, publish_postgres.DATABASE, "select published_at, environment from published", role=BI)
    if rows != [(when, environment)]:
        raise DataError(f"PostgreSQL has {rows}, the file was published at {when} from {environment}")
    return f"at {when:%H:%M:%S} UTC from {environment}, as a file and in PostgreSQL"


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
    return f"{state} in PostgreSQL, completed runs: {runs[0][0]}"


def streamlit_answers(settings: Settings) -> str:
    """The dashboard answers.

    Raises:
        StackError: it does not.
    """
    url = settings.streamlit_url()
    for path in ("/_stcore/health", "/"):
        answer = httpx.get(url + path, timeout=10, trust_env=False)
        if answer.is_error:
            raise StackError(f"Streamlit answers {path} with {answer.status_code}")
    return url


def _query(
    settings: Settings, database: str, statement: str, values: tuple[object, ...] = (), role: str = OWNER
) -> list[tuple[t.Any, ...]]:
    connection = psycopg2.connect(settings.postgres_url(database, scheme="postgresql", role=role), connect_timeout=5)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    finally:
        connection.close()
