"""Check the results of a run of the pipeline, each independently of what produced it."""

from __future__ import annotations

import time
import typing as t

import httpx

from elt import layout
from elt.config import services
from elt.config.settings import ADMIN, BI, Settings
from elt.errors import DataError, StackError
from elt.orchestration.runs import DAG
from elt.pipeline import quality
from elt.services import databases
from elt.serving import duckdb_copy, postgres
from elt.sources import meltano_yml
from elt.supervisor.guard import Stopwatch
from elt.warehouse import factory

if t.TYPE_CHECKING:
    from elt.warehouse.base import Warehouse

RESULTS_TIMEOUT_SECONDS = 20
FLOWER_TIMEOUT_SECONDS = 10


class Finding(t.NamedTuple):
    """Hold the result of a check: a line of text and compared figures."""

    text: str
    figures: tuple[quality.Figure, ...] = ()


def checks(settings: Settings, run: str, begun: float) -> dict[str, t.Callable[[], Finding]]:
    """Return the checks to make after a run by name; each returns its finding, or raises.

    Args:
        settings: the checked settings.
        run: id of the run.
        begun: time just before its begin, in seconds since the epoch.
    """
    warehouse = factory.stack_warehouse(settings.elt_environment)
    found = {
        "executed by Celery": lambda: Finding(executed_by_celery(settings, run)),
        "marts": lambda: marts_equal_totals(warehouse),
        "published": lambda: Finding(was_published(settings, begun)),
        "Meltano's state": lambda: Finding(meltano_state(settings, begun)),
        "Streamlit": lambda: Finding(streamlit_answers(settings)),
    }
    if "streamlit" in services.parts_off(settings.elt_parts):
        del found["Streamlit"]
    return found


def executed_by_celery(settings: Settings, run: str) -> str:
    """Check that a Celery worker executed every task of the run: the result backend and Flower know its id.

    Raises:
        StackError: a task of the run was executed otherwise.
    """
    waited = Stopwatch()  # the run may be over before both have the result of its last task
    while True:
        rows = databases.query(
            settings,
            "airflow",
            "select ti.task_id, ti.external_executor_id, ti.executor, c.status from task_instance ti left join"
            " celery_taskmeta c on c.task_id = ti.external_executor_id where ti.dag_id = %s and ti.run_id = %s",
            (DAG, run),
        )
        flower = _flower_tasks(settings)
        not_by_celery = [name for name, _, executor, status in rows if status != "SUCCESS" or executor]
        unknown = [name for name, identity, _, _ in rows if flower.get(identity) != "SUCCESS"]
        if rows and not not_by_celery and not unknown:
            return f"{len(rows)} tasks, each known to Flower and the result backend"
        if waited.seconds(FLOWER_TIMEOUT_SECONDS) > RESULTS_TIMEOUT_SECONDS:
            break
        time.sleep(0.2)
    if not_by_celery or not rows:
        raise StackError(f"not executed by a Celery worker: {', '.join(not_by_celery) or 'no task at all'}")
    raise StackError(f"Flower does not know these tasks as successful: {', '.join(unknown)}")


def _flower_tasks(settings: Settings) -> dict[str, str]:
    answer = httpx.get(
        settings.url(settings.flower_port) + "/api/tasks",
        auth=(ADMIN, settings.admin_password),
        timeout=FLOWER_TIMEOUT_SECONDS,
        trust_env=False,
    )
    if answer.is_error:
        raise StackError(f"Flower answers /api/tasks with {answer.status_code}")
    return {identity: task["state"] for identity, task in answer.json().items()}


def marts_equal_totals(warehouse: Warehouse) -> Finding:
    """Check that the marts equal the totals computed from the CSV files.

    Raises:
        DiffersError: a figure differs; it carries all of them.
    """
    figures = quality.check(layout.EXTRACT, warehouse)
    return Finding(f"{len(figures)} figures equal those of the CSV files", tuple(figures))


def was_published(settings: Settings, begun: float) -> str:
    """Check that readers see the marts of this run, in the file and, as the role of BI servers, in PostgreSQL.

    Raises:
        DataError: what is published is older than the run, or the two differ.
    """
    when, environment = duckdb_copy.latest(layout.published(settings.elt_environment))
    if when.timestamp() < begun:
        raise DataError(f"published marts are of {when}, before this run")
    rows = databases.query(settings, postgres.DATABASE, "select published_at, environment from published", role=BI)
    if rows != [(when, environment)]:
        raise DataError(f"PostgreSQL has {rows}, the file was published at {when} from {environment}")
    return f"at {when:%H:%M:%S} UTC from {environment}, as a file and in PostgreSQL"


def meltano_state(settings: Settings, begun: float) -> str:
    """Check that Meltano recorded this run and its state in PostgreSQL.

    Raises:
        DataError: it did not.
    """
    wanted = {f"{settings.elt_environment}:{state}" for state in meltano_yml.states()}
    found = {name for (name,) in databases.query(settings, "meltano", "select state_id from state")}
    runs = databases.query(
        settings,
        "meltano",
        "select count(*) from runs where state = 'SUCCESS' and started_at >= to_timestamp(%s) at time zone 'utc'",
        (begun,),
    )
    lacking = [one for one in sorted(wanted) if not any(name.startswith(one) for name in found)]
    if lacking or not runs[0][0]:
        what = f"state {lacking[0]}" if lacking else "successful run of Meltano since the start"
        raise DataError(f"PostgreSQL has no {what}")
    return f"{', '.join(sorted(wanted))} in PostgreSQL, completed runs: {runs[0][0]}"


def streamlit_answers(settings: Settings) -> str:
    """Check that the dashboard answers, and return its URL.

    Raises:
        StackError: it does not.
    """
    url = settings.streamlit_url()
    for path in ("/_stcore/health", "/"):
        answer = httpx.get(url + path, timeout=10, trust_env=False)
        if answer.is_error:
            raise StackError(f"Streamlit answers {path} with {answer.status_code}")
    return url
