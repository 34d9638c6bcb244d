"""The client of Airflow's API waits for a DAG that is parsed anew, and says why one does not come."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from elt import airflow_api, settings
from elt.airflow_api import AirflowApi
from elt.errors import StackError

ERROR = {"filename": "dags/a.py", "stack_trace": "Traceback ...\nConfigError: meltano.yml, line 4\n"}


@pytest.fixture
def airflow(monkeypatch):
    """A client, and what its Airflow says of the DAG: the answers in their order, the last one from then on."""
    answers = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.answer(200, {"access_token": "none"})

        def do_GET(self) -> None:
            if self.path.endswith("importErrors"):
                self.answer(200, {"import_errors": [ERROR]})
            else:
                self.answer(*(answers.pop(0) if len(answers) > 1 else answers[0]))

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
        api = AirflowApi(settings.load())
        try:
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
        "  waits until Airflow has parsed a, up to 20 s; what it could not read so far: dags/a.py: "
    )
    assert said.endswith("meltano.yml, line 4\n")


def test_a_dag_that_does_not_come_is_told_with_the_reason(airflow):
    api, answers = airflow
    answers.append((200, {"is_stale": True}))
    with pytest.raises(
        StackError, match=r"not find the DAG a within 0 s \(dags/a.py: ConfigError: meltano.yml, line 4\)"
    ):
        api.wait_for_dag("a", 0.3)
