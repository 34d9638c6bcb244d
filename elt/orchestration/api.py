"""Call Airflow's REST API: trigger a run, follow its tasks, read a log."""

from __future__ import annotations

import ast
import contextlib
import re
import time
import typing as t
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from elt import layout
from elt.config.settings import ADMIN, Settings
from elt.errors import StackError
from elt.supervisor.guard import Stopwatch

FINAL_STATES = ("success", "failed")
"""Final states of a run."""
SILENT_SECONDS = 2
"""Seconds of a wait for a DAG after which it is printed."""
LOGIN = "/auth/token"
ANSWER_SECONDS, REPEAT_SECONDS = 30, 10
"""Seconds that a request may take, and one that is repeated as long as the stack runs."""
ERROR_SECONDS = 60
"""Seconds for which server errors of the API are retried, as after a restart of its database."""
PARSE_SECONDS = 1
"""Seconds by which an import error must be newer than the last change of the file to concern its present content."""
ASK_SECONDS = 2
"""Seconds between two requests to parse a file."""
BACKFILL_SECONDS = 90
"""Seconds to wait for runs of past days that somebody asked for before."""
REPARSE_SECONDS = 10
"""Seconds to wait until a changed file of a DAG is parsed; then the DAG is used as it is."""


@dataclass(frozen=True)
class Task:
    """Hold the state of a task of a run; times in seconds since the epoch, None before they happened."""

    name: str
    state: str
    tries: int
    queued: float | None = None
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class ImportFailure:
    """Describe a file of DAGs that could not be imported: time (seconds since the epoch) and traceback."""

    path: Path
    moment: float
    trace: str

    def __str__(self) -> str:
        """Return file, line and reason."""
        line = self._line()
        return f"{self.path}{line and f', line {line}'}: {self.trace.strip().splitlines()[-1]}"

    def is_of(self, dag: str) -> bool:
        """Return whether the file defines the DAG: by its name, or by making those of all schedules."""
        return re.search(rf"\b(dag_factory|{re.escape(dag)})\b", self._text()) is not None

    def is_final(self) -> bool:
        """Return whether Airflow tried its present content: nothing that it reads was changed since."""
        return self.moment > _changed(self.path, *(path for path, _ in self._places())) + PARSE_SECONDS

    def _places(self) -> list[tuple[Path, str]]:
        """Find the lines of the clone's own files in the traceback."""
        found = [(Path(path), line) for path, line in re.findall(r'File "(.+?)", line (\d+)', self.trace)]
        return [
            (path, line) for path, line in found if path.is_relative_to(layout.ROOT) and ".venv" not in path.parts
        ]

    def _line(self) -> str:
        """Find the faulty line of the file: by the traceback, or by the value that the message quotes."""
        own = [line for path, line in self._places() if path == self.path]
        if own:
            return own[-1]
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(self._text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and f"[{node.value}]" in self.trace:
                    return str(node.lineno)
        return ""

    def _text(self) -> str:
        try:
            return self.path.read_text(errors="replace")
        except OSError:
            return ""


class AirflowApi:
    """Call the API of one Airflow, logged in.

    Args:
        settings: the checked settings.
        is_alive: whether to wait for an Airflow that does not answer, asked each time; without it, never.
    """

    def __init__(self, settings: Settings, is_alive: t.Callable[[], bool] | None = None) -> None:
        seconds = REPEAT_SECONDS if is_alive else ANSWER_SECONDS
        self._http = httpx.Client(base_url=settings.url(settings.airflow_port), timeout=seconds, trust_env=False)
        self._login = {"username": ADMIN, "password": settings.admin_password}
        self._is_alive = is_alive or (lambda: False)
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
        """Send an idempotent request, repeatedly until it is answered.

        Raises:
            StackError: there is no answer, and the stack does not run.
        """
        failing, is_printed, renewed = Stopwatch(), False, False
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
            if not is_printed:
                is_printed = True
                print(f"  waiting for Airflow's API, which {why}, as long as the stack runs", flush=True)
            time.sleep(1)

    def wait_for_dag(self, dag: str, seconds: float) -> None:
        """Have Airflow parse the present file of a DAG, and wait for it.

        Raises:
            StackError: the file cannot be imported, or the DAG does not appear in time.
        """
        waited, asked = Stopwatch(), Stopwatch()
        is_printed = has_asked = False
        while (passed := waited.seconds(ANSWER_SECONDS)) < seconds:
            answer = self._answer("GET", f"/api/v2/dags/{dag}")
            known = answer.json() if answer.status_code == httpx.codes.OK else {}
            is_there = known and not known["is_stale"] and not known.get("has_import_errors")
            if is_there and (not _is_outdated(known) or passed > REPARSE_SECONDS):
                return
            self.refuse_broken(dag)
            token = known.get("file_token")
            if token and (not has_asked or asked.seconds(1) > ASK_SECONDS):
                has_asked, asked = True, Stopwatch()
                self._answer("PUT", f"/api/v2/parseDagFile/{token}")  # else it may take half a minute
            if not is_printed and passed > SILENT_SECONDS:
                is_printed = True
                why = "; ".join(map(str, self._import_errors()))
                errors = f"; import errors so far: {why}" if why else ""
                print(f"  waiting until Airflow has parsed {dag}, up to {seconds:.0f} s{errors}", flush=True)
            time.sleep(0.2)
        why = "; ".join(map(str, self._import_errors()))
        raise StackError(f"Airflow did not find the DAG {dag} within {seconds:.0f} s{why and f' ({why})'}")

    def refuse_broken(self, dag: str) -> None:
        """Refuse to go on if Airflow could not import the present file of a DAG.

        Raises:
            StackError: it could not; the message names file, line and reason.
        """
        for error in self._import_errors():
            if error.is_of(dag) and error.is_final():
                raise StackError(f"Airflow cannot import the file of {dag}: {error}")

    def _import_errors(self) -> list[ImportFailure]:
        """Return the files of DAGs that could not be imported."""
        errors = self._json("GET", "/api/v2/importErrors")["import_errors"]
        return [
            ImportFailure(layout.DAGS / one["filename"], _moment(one["timestamp"]) or 0.0, one["stack_trace"])
            for one in errors
        ]

    def trigger(self, dag: str, conf: dict[str, object] | None = None) -> str:
        """Start a run, also of a paused DAG, and return its id."""
        self._json("PATCH", f"/api/v2/dags/{dag}", json={"is_paused": False})
        now = datetime.now(UTC).isoformat()
        run = f"manual__{now}"  # as Airflow names it; ours, so that it is not made twice
        # Without a date it would wait for the pool behind the runs of all schedules, however young they are.
        body = {"dag_run_id": run, "logical_date": now, "conf": conf or {}}
        answer = self._answer("POST", f"/api/v2/dags/{dag}/dagRuns", json=body)
        if answer.is_error and answer.status_code != httpx.codes.CONFLICT:  # made by a request that got no answer
            raise StackError(f"Airflow starts no run of {dag}: {answer.status_code}: {answer.text[:300]}")
        return run

    def backfill(self, dag: str, first: datetime, last: datetime, conf: dict[str, object]) -> list[str]:
        """Start the runs of a time that is past, one after the other, and return their ids.

        Those that succeeded already are left alone.

        Raises:
            StackError: there are none, or Airflow refuses.
        """
        span = {"from_date": first.isoformat(), "to_date": last.isoformat(), "reprocess_behavior": "failed"}
        body = {"dag_id": dag, **span, "max_active_runs": 1, "dag_run_conf": conf}
        waited, is_printed = Stopwatch(), False
        # Airflow closes one only half a minute after its last run.
        while (answer := self._answer("POST", "/api/v2/backfills", json=body)).status_code == httpx.codes.CONFLICT:
            if waited.seconds(ANSWER_SECONDS) > BACKFILL_SECONDS:
                break
            if not is_printed:
                is_printed = True
                print(f"  waiting for an earlier call to end, up to {BACKFILL_SECONDS} s", flush=True)
            time.sleep(1)
        if answer.is_error:
            raise StackError(f"Airflow starts no runs of {dag}: {answer.status_code}: {answer.text[:300]}")
        which = {"run_type": "backfill", "logical_date_gte": first.isoformat(), "logical_date_lte": last.isoformat()}
        rows: list[dict[str, t.Any]] = []
        while True:  # Airflow answers with no more than a hundred
            page = which | {"order_by": "logical_date", "limit": "100", "offset": str(len(rows))}
            more = self._json("GET", f"/api/v2/dags/{dag}/dagRuns", params=page)["dag_runs"]
            rows += more
            if not more:
                return [row["dag_run_id"] for row in rows if row["state"] not in FINAL_STATES]

    def is_paused(self, dag: str) -> bool:
        """Return whether Airflow starts no run of a DAG."""
        return bool(self._json("GET", f"/api/v2/dags/{dag}")["is_paused"])

    def last_run(self, dag: str) -> tuple[str, str]:
        """Return id and state of the run that was created last.

        Raises:
            StackError: there was none yet.
        """
        rows = self._json("GET", f"/api/v2/dags/{dag}/dagRuns?order_by=-id&limit=1")["dag_runs"]
        if not rows:
            raise StackError(f"{dag} has not run yet")
        return rows[0]["dag_run_id"], rows[0]["state"]

    def clear(self, dag: str, run: str, task: str | None = None) -> None:
        """Clear tasks of a run that ended, so that they run again: one and all after it, else those that failed."""
        which = {"task_ids": [task], "include_downstream": True, "only_failed": False} if task else {}
        body = {"dag_run_id": run, "only_failed": True, "reset_dag_runs": True, "dry_run": False} | which
        self._json("POST", f"/api/v2/dags/{dag}/clearTaskInstances", json=body)

    def run_state(self, dag: str, run: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self._json("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"])

    def tasks(self, dag: str, run: str) -> list[Task]:
        """Return the tasks of a run, in the order in which they started."""
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
        """Return the lines of the log of a task's last try."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task.name}/logs/{max(task.tries, 1)}"
        content = self._json("GET", path, headers={"Accept": "application/json"})["content"]
        return [text for line in content for text in _texts(line)]


def _changed(*paths: Path) -> float:
    """Return when one of the files, or one of Meltano's, was changed last, in seconds since the epoch."""
    states = [path.stat() for path in (*layout.MELTANO_PROJECT.glob("*.yml"), *paths) if path.exists()]
    return max((max(state.st_mtime, state.st_ctime) for state in states), default=0.0)


def _is_outdated(dag: t.Mapping[str, t.Any]) -> bool:
    """Return whether the file of a DAG was changed since Airflow parsed it, by the API's answer."""
    parsed = _moment(dag.get("last_parsed_time"))
    return parsed is not None and parsed < _changed(Path(dag["fileloc"]))


def _moment(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _texts(line: str | dict[str, t.Any]) -> t.Iterator[str]:
    """Yield the text of one entry of a log, and the message of an exception in it."""
    if isinstance(line, str):
        yield line
        return
    yield str(line.get("event", ""))
    for error in line.get("error_detail") or ():
        yield f"{error['exc_type']}: {error['exc_value']}"
