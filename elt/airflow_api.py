"""Airflow's REST API, as far as the workspace needs it: trigger a run, follow its tasks, read a log."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from elt.errors import StackError
from elt.guard import Stopwatch
from elt.settings import ADMIN, Settings

FINAL = ("success", "failed")
"""States in which a run stays."""
SILENT_SECONDS = 2
"""A wait for a DAG that takes longer is told."""
LOGIN = "/auth/token"
ANSWER_SECONDS = 10
"""How long one request may take; it is repeated as long as the stack lives."""
ERROR_SECONDS = 60
"""How long the API may answer with errors of its own, as it does when its database was restarted."""


@dataclass(frozen=True)
class Task:
    """One task of a run, as it stands now; moments in seconds since the epoch, None when it was not so far."""

    name: str
    state: str
    tries: int
    queued: float | None = None
    started: float | None = None
    ended: float | None = None


class AirflowApi:
    """A logged-in client of one Airflow.

    Args:
        settings: the checked settings.
        is_alive: whether an Airflow that does not answer is to be waited for, as it will.
    """

    def __init__(self, settings: Settings, is_alive: t.Callable[[], bool] = lambda: False) -> None:
        self._http = httpx.Client(
            base_url=settings.url(settings.airflow_port), timeout=ANSWER_SECONDS, trust_env=False
        )
        self._login = {"username": ADMIN, "password": settings.admin_password}
        self._is_alive = is_alive
        self._log_in()

    def _log_in(self) -> None:
        self._http.headers.pop("Authorization", None)
        token = self._json("POST", LOGIN, json=self._login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _json(self, method: str, path: str, **arguments: t.Any) -> t.Any:  # noqa: ANN401 - JSON
        answer = self._answer(method, path, **arguments)
        if answer.is_error:
            raise StackError(f"Airflow's API answers {method} {path} with {answer.status_code}: {answer.text[:300]}")
        return answer.json()

    def _answer(self, method: str, path: str, **arguments: t.Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Make a request that may be repeated, until it is answered.

        Raises:
            StackError: no answer came, and none is to be waited for.
        """
        failing, told, renewed = Stopwatch(), False, False
        while True:
            try:
                answer = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if not self._is_alive():
                    raise StackError(f"Airflow's API does not answer {method} {path}: {error}") from None
                failing, why = Stopwatch(), f"does not answer ({str(error) or type(error).__name__})"
            else:
                if answer.status_code == httpx.codes.UNAUTHORIZED and path != LOGIN and not renewed:
                    renewed = True
                    self._log_in()  # a login holds for a day
                    continue
                if not answer.is_server_error or not self._is_alive() or failing.seconds(1) > ERROR_SECONDS:
                    return answer
                why = f"answers with {answer.status_code}"
            if not told:
                told = True
                print(f"  waits for Airflow's API, which {why}, as long as the stack runs", flush=True)
            time.sleep(1)

    def wait_for_dag(self, dag: str, seconds: float) -> None:
        """Wait until the DAG is parsed. One whose file could not be imported is stale until it is parsed again.

        Raises:
            StackError: it does not appear in time; the message holds its import error if there is one.
        """
        waited = Stopwatch()
        told = False
        while (passed := waited.seconds(ANSWER_SECONDS)) < seconds:
            answer = self._answer("GET", f"/api/v2/dags/{dag}")
            if answer.status_code == httpx.codes.OK and not answer.json()["is_stale"]:
                return
            if not told and passed > SILENT_SECONDS:
                told = True
                why = self._import_errors()
                said = f"; what it could not read so far: {why}" if why else ""
                print(f"  waits until Airflow has parsed {dag}, up to {seconds:.0f} s{said}", flush=True)
            time.sleep(0.2)
        why = self._import_errors()
        raise StackError(f"Airflow did not find the DAG {dag} within {seconds:.0f} s{why and f' ({why})'}")

    def _import_errors(self) -> str:
        """The files of DAGs that could not be imported, each with the last line of the reason."""
        errors = self._json("GET", "/api/v2/importErrors")["import_errors"]
        return "; ".join(f"{e['filename']}: {e['stack_trace'].strip().splitlines()[-1]}" for e in errors)

    def trigger(self, dag: str, conf: dict[str, object] | None = None) -> str:
        """Start a run now, also of a paused DAG, and return its id."""
        self._json("PATCH", f"/api/v2/dags/{dag}", json={"is_paused": False})
        run = f"manual__{datetime.now(UTC).isoformat()}"  # as Airflow names it; ours, so that it is not made twice
        body = {"dag_run_id": run, "logical_date": None, "conf": conf or {}}
        answer = self._answer("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)
        if answer.is_error and answer.status_code != httpx.codes.CONFLICT:  # made by a request that got no answer
            raise StackError(f"Airflow starts no run of {dag}: {answer.status_code}: {answer.text[:300]}")
        return run

    def last_run(self, dag: str) -> tuple[str, str]:
        """Id and state of the run that was created last.

        Raises:
            StackError: there was none yet.
        """
        rows = self._json("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=-id&limit=1")["dag_runs"]
        if not rows:
            raise StackError(f"{dag} has not run yet")
        return rows[0]["dag_run_id"], rows[0]["state"]

    def clear(self, dag: str, run: str, task: str | None = None) -> None:
        """Let tasks of a run that ended run again: one and all after it, else those that failed and what waited."""
        which = {"task_ids": [task], "include_downstream": True, "only_failed": False} if task else {}
        body = {"dag_run_id": run, "only_failed": True, "reset_dag_runs": True, "dry_run": False} | which
        self._json("POST", f"/api/v2/dags/{dag}/clearTaskInstances", json=body)

    def run_state(self, dag: str, run: str) -> str:
        """State of a run: queued, running, success or failed."""
        return str(self._json("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> list[Task]:
        """The tasks of a run, in the order in which they started."""
        rows = self._json("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        rows.sort(key=lambda row: row["start_date"] or "9")
        return [
            Task(
                row["task_id"],
                row["state"] or "none",
                row["try_number"],
                *(_moment(row[field]) for field in ("queued_when", "start_date", "end_date")),
            )
            for row in rows
        ]

    def log(self, dag: str, run: str, task: Task) -> list[str]:
        """The log of a task's last try, a line each."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task.name}/logs/{max(task.tries, 1)}"
        content = self._json("GET", path, headers={"Accept": "application/json"})["content"]
        return [text for line in content for text in _texts(line)]


def _moment(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _texts(line: str | dict[str, t.Any]) -> t.Iterator[str]:
    """The text of one entry of a log, and what an exception in it says."""
    if isinstance(line, str):
        yield line
        return
    yield str(line.get("event", ""))
    for error in line.get("error_detail") or ():
        yield f"{error['exc_type']}: {error['exc_value']}"
