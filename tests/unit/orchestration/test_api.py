"""The client of Airflow's API waits for a DAG that is parsed anew, and for an API that answers late or not at all."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from elt import layout
from elt.config import settings
from elt.errors import ConfigError, StackError
from elt.orchestration import api as airflow_api
from elt.orchestration import runs
from elt.orchestration.api import AirflowApi
from elt.sources import jobs

ERROR = {
    "filename": "a.py",
    "timestamp": "2020-01-01T00:00:00Z",
    "stack_trace": "Traceback ...\nConfigError: meltano.yml, line 4\n",
}
"""Of long before the file's last change."""
LATE, TIMEOUT = 0, 2.0
"""Status of an answer that does not come in time, and the seconds that it has in the tests of that."""
LIVES = [True]
"""Whether the stack lives."""
POSTED = []
"""What was asked for by POST, the login aside."""


@pytest.fixture
def errors():
    """The import errors that Airflow knows."""
    return [ERROR]


@pytest.fixture
def dags(tmp_path, monkeypatch):
    """A folder of DAGs with one file."""
    monkeypatch.setattr(layout, "DAGS", tmp_path)
    monkeypatch.setattr(layout, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text('@dag(\n    schedule="61 * * * *",\n)\ndef a(): ...\na()\n')
    return tmp_path


@pytest.fixture
def airflow(monkeypatch, errors, dags):
    """A client, and what its Airflow says of the DAG: the answers in their order, the last one from then on."""
    answers, reparsed = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("token"):
                self.answer(200, {"access_token": "none"})
            else:
                POSTED.append(json.loads(body))
                self.do_GET()

        def do_PATCH(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(200, {})

        def do_GET(self) -> None:
            if self.path.endswith("importErrors"):
                self.answer(200, {"import_errors": errors})
                return
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == LATE:
                time.sleep(TIMEOUT + 1)
            else:
                self.answer(status, body)

        def do_PUT(self) -> None:
            reparsed.append(self.path)
            self.answer(201, {})

        def answer(self, status, body):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("AIRFLOW_PORT", str(server.server_port))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        POSTED.clear()
        LIVES[0] = True
        api = AirflowApi(settings.load(), lambda: LIVES[0])
        try:
            api.reparsed = reparsed
            yield api, answers
        finally:
            api.close()
            server.shutdown()
            thread.join()


def test_a_dag_that_is_not_there_or_stale_is_waited_for(airflow, monkeypatch, capsys):
    api, answers = airflow
    answers += [(404, {}), (200, {"is_stale": True}), (200, {"is_stale": False})]
    api.wait_for_dag("a", 20)
    assert answers == [(200, {"is_stale": False})]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(airflow_api, "SILENT_SECONDS", 0)
    answers.insert(0, (404, {}))
    api.wait_for_dag("a", 20)
    said = capsys.readouterr().out
    assert said.startswith(
        f"  waiting until Airflow has parsed a, up to 20 s; import errors so far: {layout.DAGS}/a.py: "
    )
    assert said.endswith("meltano.yml, line 4\n")


def test_a_dag_that_does_not_come_is_told_with_the_reason(airflow):
    api, answers = airflow
    answers.append((200, {"is_stale": True}))
    with pytest.raises(
        StackError, match=r"not find the DAG a within 0 s \(/.*/a.py: ConfigError: meltano.yml, line 4\)"
    ):
        api.wait_for_dag("a", 0.3)


@pytest.mark.parametrize("status", [LATE, 500, 503])
def test_an_api_that_is_delayed_is_waited_for_as_long_as_the_stack_runs(airflow, capsys, status):
    api, answers = airflow
    api._http.timeout = TIMEOUT
    answers += [(status, {})] * 2 + [(200, {"state": "running"})]
    assert api.run_state("a", "1") == "running"
    said = capsys.readouterr().out
    assert said.count("waiting for Airflow's API") == 1
    assert ("does not answer (timed out)" if status == LATE else f"answers with {status}") in said


@pytest.mark.parametrize("status", [LATE, 500])
def test_without_the_stack_it_is_not_waited_for(airflow, status):
    api, answers = airflow
    api._http.timeout = TIMEOUT if status == LATE else None
    answers += [(status, {})]
    LIVES[0] = False
    with pytest.raises(StackError, match="does not answer GET .*: timed out" if status == LATE else "with 500"):
        api.run_state("a", "1")


def test_errors_that_last_are_told(airflow, monkeypatch):
    api, answers = airflow
    monkeypatch.setattr(airflow_api, "ERROR_SECONDS", 0.5)
    answers += [(500, {"detail": "broken"})]
    with pytest.raises(StackError, match=r"with 500: .*broken"):
        api.run_state("a", "1")


def test_a_run_is_started_once_though_the_answer_is_lost(airflow):
    api, answers = airflow
    api._http.timeout = TIMEOUT
    answers += [(LATE, {}), (409, {})]
    run = api.trigger("a", {"environment": "dev"})
    assert len(POSTED) > 1
    assert all((one["dag_run_id"], one["conf"]) == (run, {"environment": "dev"}) for one in POSTED)


def test_a_run_that_is_refused_is_told(airflow):
    api, answers = airflow
    answers += [(422, {"detail": "no such parameter"})]
    with pytest.raises(StackError, match=r"starts no run of a: 422: .*no such parameter"):
        api.trigger("a")


def test_a_login_that_has_expired_is_renewed_once(airflow):
    api, answers = airflow
    answers += [(401, {}), (200, {"state": "running"})]
    assert api.run_state("a", "1") == "running"
    answers[:] = [(401, {})]
    with pytest.raises(StackError, match="with 401"):
        api.run_state("a", "1")


@pytest.mark.parametrize(
    "answer", [(404, {}), (200, {"is_stale": True}), (200, {"is_stale": False, "has_import_errors": True})]
)
@pytest.mark.parametrize(
    ("trace", "place"),
    [
        ("AirflowTimetableInvalid: [61 * * * *] is not acceptable, out of range", "line 2"),
        ('  File "{dags}/a.py", line 4, in <module>\n  File "/usr/lib/x.py", line 9, in y\nValueError: no', "line 4"),
        ("ValueError: no", "ValueError: no"),
    ],
)
def test_a_file_that_was_tried_as_it_stands_is_not_waited_for(airflow, errors, dags, answer, trace, place):
    api, answers = airflow
    answers.append(answer)
    later = dt.datetime.fromtimestamp(time.time() + 60, dt.UTC).isoformat()
    errors[:] = [ERROR | {"timestamp": later, "stack_trace": trace.replace("{dags}", str(dags))}]
    begin = time.monotonic()
    with pytest.raises(StackError, match=f"cannot import the file of a: {dags}/a.py.*{place}"):
        api.wait_for_dag("a", 20)
    assert time.monotonic() < begin + 10


def test_the_error_of_another_file_is_waited_out(airflow, errors):
    api, answers = airflow
    errors[:] = [ERROR | {"filename": "b.py", "timestamp": "2100-01-01T00:00:00Z"}]
    (layout.DAGS / "b.py").write_text("def another(): ...")
    answers += [(404, {}), (200, {"is_stale": False})]
    api.wait_for_dag("a", 20)


def test_a_run_that_cannot_go_on_is_not_followed(airflow, errors, monkeypatch):
    api, _ = airflow
    errors[:] = [ERROR | {"timestamp": "2100-01-01T00:00:00Z"}]
    monkeypatch.setattr(runs, "QUEUED_SECONDS", 0.1)
    monkeypatch.setattr(api, "run_state", lambda *_: "running")
    monkeypatch.setattr(api, "tasks", lambda *_: [])
    with pytest.raises(StackError, match=r"cannot import the file of a: .*meltano.yml, line 4"):
        runs.follow(api, "manual", 20, dag="a")


def test_a_file_that_was_changed_since_is_parsed_first(airflow, dags):
    api, answers = airflow
    known = {"is_stale": False, "fileloc": str(dags / "a.py"), "file_token": "xyz"}
    answers += [
        (200, known | {"last_parsed_time": "2020-01-01T00:00:00Z"}),
        (200, known | {"last_parsed_time": "2100-01-01T00:00:00Z"}),
    ]
    api.wait_for_dag("a", 20)
    assert api.reparsed == ["/api/v2/parseDagFile/xyz"]
    api.wait_for_dag("a", 20)
    assert len(api.reparsed) == 1


def test_runs_of_past_days_are_those_that_did_not_succeed(airflow, monkeypatch, capsys):
    api, answers = airflow
    monkeypatch.setattr(airflow_api, "time", types.SimpleNamespace(sleep=lambda _: None))
    first, last = (dt.datetime(2026, 11, day, tzinfo=dt.UTC) for day in (1, 3))
    states = {"backfill__1": "success", "backfill__2": "queued", "backfill__3": "running"}
    rows = [{"dag_run_id": run, "state": state} for run, state in states.items()]
    answers += [(409, {"detail": "already"}), (409, {"detail": "already"}), (200, {})]
    answers += [(200, {"dag_runs": page}) for page in (rows[:2], rows[2:], [])]  # Airflow has pages of a hundred
    assert api.backfill("a", first, last, {"environment": "dev"}) == ["backfill__2", "backfill__3"]
    assert capsys.readouterr().out.count("waiting for an earlier call to end") == 1
    assert POSTED[-1]["dag_run_conf"] == {"environment": "dev"}
    assert (POSTED[-1]["from_date"], POSTED[-1]["max_active_runs"]) == ("2026-11-01T00:00:00+00:00", 1)
    answers[:] = [(422, {"detail": "No runs to create for Dag a in the range"})]
    with pytest.raises(StackError, match=r"starts no runs of a: 422: .*No runs to create"):
        api.backfill("a", first, last, {})


def test_a_failed_run_of_the_past_does_not_hide_the_others(airflow, monkeypatch, capsys):
    api, _ = airflow
    schedule = jobs.Schedule("a", "@daily", (("tap", "target"),), jobs.Annotations(partition="day"))
    monkeypatch.setattr(jobs, "schedules", lambda: [schedule])
    asked, followed = [], []
    monkeypatch.setattr(api, "backfill", lambda *words: asked.append(words) or ["one", "two"])

    def follow(_: object, run: str, *__: object, dag: str) -> None:
        followed.append((run, dag))
        if run == "one":
            raise StackError("it broke")

    monkeypatch.setattr(runs, "follow", follow)
    day = dt.datetime.fromisoformat("2026-11-01")
    with pytest.raises(StackError, match="1 of 2 runs of a failed; the first: it broke"):
        runs._backfill(api, "a", day, day, {})
    assert followed == [("one", "a"), ("two", "a")]
    assert [moment.isoformat() for moment in asked[0][1:3]] == [
        "2026-11-02T00:00:00+00:00",
        "2026-11-02T23:59:59.999999+00:00",
    ]
    monkeypatch.setattr(api, "backfill", lambda *_: [])
    runs._backfill(api, "a", day, day, {})
    assert "nothing to make up for: a had succeeded" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"--to: 2026-10-31 00:00 is before 2026-11-01 00:00"):
        runs._backfill(api, "a", day, dt.datetime.fromisoformat("2026-10-31"), {})
    with pytest.raises(ConfigError, match=r"b is no schedule of meltano.yml with an interval"):
        runs._backfill(api, "b", day, day, {})
