"""Alerts: what is sent, to whom, and that neither a server nor a text can do harm.

The servers are real ones on loopback, the task instances Airflow's own. What needs a scheduler is in e2e.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import ipaddress
import json
import logging
import os
import re
import ssl
import threading
import time
import uuid

import pytest
import receivers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from workspace import DEADLINE, ROOT

from elt import layout
from elt.config import airflow_names, process_env, settings
from elt.orchestration import alerts

FOR_SLACK, FOR_MAIL, FOR_DATABASE = "T0AAAA/B0BBBB/hidden-word", "other-hidden-word", "third-hidden-word"
"""What must not be told."""


@pytest.fixture(scope="module", autouse=True)
def airflow(tmp_path_factory):
    """What tasks find in their environment; Airflow reads it when it is imported."""
    home = tmp_path_factory.mktemp("airflow")
    env = process_env.build(settings.load()) | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
        "AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        # It sets up logging where it is imported first, which within a test would take caplog's handler away.
        importlib.import_module("airflow.providers.standard.operators.empty")
        yield


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Marks of the test's own, and no connection but its own."""
    monkeypatch.setattr(layout, "ALERTED", tmp_path / "alerted")
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_") or "PROXY" in name.upper()]:
        monkeypatch.delenv(name)


@pytest.fixture
def slack(monkeypatch):
    with receivers.slack() as server:
        connect(monkeypatch, alerts.SLACK, conn_type="slackwebhook", host=f"http://127.0.0.1:{server.port}/services")
        yield server


@pytest.fixture
def mail(monkeypatch):
    with receivers.smtp() as server:
        extra = {"disable_ssl": True, "disable_tls": True, "to": "team@example.com", "from_email": "elt@example.com"}
        connect(monkeypatch, alerts.SMTP, conn_type="smtp", host="127.0.0.1", port=server.port, extra=extra)
        yield server


def connect(monkeypatch, name, **fields):
    password = FOR_SLACK if name == alerts.SLACK else FOR_MAIL
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"password": password} | fields))


def context(error=None, tries=3, map_index=-1, environment="staging"):
    """What Airflow hands to a callback of a task."""
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG, Param
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    params = {"environment": Param(environment, type="string")} if environment else {}
    with DAG("a_dag", schedule=None, params=params):
        a_task = EmptyOperator(task_id="a_task", retries=2)
    ti = RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        task_id="a_task",
        dag_id="a_dag",
        run_id="manual__2026-11-24T12:00:00+00:00",
        try_number=tries,
        max_tries=2,
        map_index=map_index,
        task=a_task,
    )
    return ti.get_template_context() | {"exception": error}


def test_both_channels_hear_of_a_failed_task_once(slack, mail):
    alerts.task_failed(context(ValueError("first line\nlast line\n")))
    link = "http://127.0.0.1:8080/dags/a_dag/runs/manual__2026-11-24T12%3A00%3A00%2B00%3A00/tasks/a_task?try_number=3"
    assert slack.paths == [f"/services/{FOR_SLACK}"]
    assert slack.texts[0].splitlines() == [
        "*Task a_task of a_dag failed (staging)*",
        "run: manual__2026-11-24T12:00:00+00:00",
        "environment: staging",
        "try: 3 of 3",
        "error: ValueError: last line",
        f"<{link}|log of the task>",
    ]
    assert len(slack.texts) == 1
    (message,) = mail.messages
    assert message["Subject"] == "Task a_task of a_dag failed (staging)"
    assert message["From"] == "elt@example.com"
    assert mail.recipients == [["team@example.com"]]
    for word in ("manual__2026-11-24T12:00:00+00:00", "staging", "3 of 3", "ValueError: last line", f'href="{link}"'):
        assert word in mail.texts[0]
    assert "first line" not in slack.texts[0] + mail.texts[0]


def test_without_connections_nothing_is_sent_and_one_line_says_so(caplog):
    caplog.set_level(logging.DEBUG, "elt.orchestration.alerts")
    alerts.task_failed(context(ValueError("x")))
    lines = [record for record in caplog.records if record.name == "elt.orchestration.alerts"]
    assert [record.levelname for record in lines] == ["INFO"]
    assert "no connection slack_alerts or smtp_alerts" in caplog.text


def test_one_channel_is_enough(slack, caplog):
    alerts.task_failed(context(ValueError("x")))
    assert len(slack.texts) == 1
    assert "smtp_alerts" not in caplog.text


def test_a_killed_task_has_no_error_and_a_mapped_one_an_index(slack):
    alerts.task_failed(context(map_index=0, environment=None))
    assert "Task a_task[0] of a_dag failed (dev)" in slack.texts[0]
    assert "error: none known: the task's process or its worker was killed" in slack.texts[0]


def test_of_a_command_the_reason_is_told_that_its_log_holds(slack, monkeypatch, tmp_path):
    monkeypatch.setattr(layout, "LOGS", tmp_path)
    asked = context(RuntimeError("Bash command failed. The command returned a non-zero exit code 1."))
    log = tmp_path / "tasks/dag_id=a_dag/run_id=manual__2026-11-24T12:00:00+00:00/task_id=a_task/attempt=3.log"
    alerts.task_failed(asked)
    log.parent.mkdir(parents=True)
    words = ["Output:", "the reason", "Command exited with return code 1", "Task failed with exception"]
    log.write_text("".join(json.dumps({"event": word}) + "\n" for word in words))
    asked["ti"].id = uuid.uuid4()
    alerts.task_failed(asked)
    assert "error: RuntimeError: Bash command failed." in slack.texts[0]
    assert "error: the reason\n" in slack.texts[1]


def test_a_try_is_told_once_and_marks_do_not_pile_up(slack):
    layout.ALERTED.mkdir()
    old = layout.ALERTED / "old"
    old.touch()
    os.utime(old, (0, 0))
    asked = context(ValueError("x"))
    alerts.task_failed(asked)
    alerts.task_failed(asked)
    assert len(slack.texts) == 1
    asked["ti"].try_number += 1
    alerts.task_failed(asked)
    assert len(slack.texts) == 2
    assert not old.exists()
    assert len(list(layout.ALERTED.iterdir())) == 2


def test_a_run_is_told_even_when_its_tasks_cannot_be_asked_for(slack, mail):
    """There is no scheduler here to ask; what it answers is looked at in e2e."""
    alerts.run_failed(context())
    alerts.run_failed({"dag": context()["dag"], "run_id": "r+1", "reason": "all_tasks_deadlocked"})
    assert "*Run of a_dag failed (staging)*" in slack.texts[0]
    assert "failed tasks: not known: " in slack.texts[0]
    assert "*Run of a_dag failed (dev)*" in slack.texts[1]
    assert "failed tasks: none known (all_tasks_deadlocked)" in slack.texts[1]
    assert "<http://127.0.0.1:8080/dags/a_dag/runs/r%2B1|the run>" in slack.texts[1]
    assert [message["Subject"] for message in mail.messages] == [
        "Run of a_dag failed (staging)",
        "Run of a_dag failed (dev)",
    ]


def test_text_is_neither_template_nor_markup(slack, mail):
    alerts.task_failed(context(ValueError("{{ 1/0 }} {% raw <!channel> <b>bold</b> & more")))
    assert "error: ValueError: {{ 1/0 }} {% raw &lt;!channel&gt; &lt;b&gt;bold&lt;/b&gt; &amp; more" in slack.texts[0]
    assert "{{ 1/0 }} {% raw &lt;!channel&gt; &lt;b&gt;bold&lt;/b&gt; &amp; more" in mail.texts[0]


def test_secrets_are_not_told(slack, mail, monkeypatch):
    monkeypatch.setenv("POSTGRES_PASSWORD", FOR_DATABASE)
    monkeypatch.setenv("ADMIN_PASSWORD", settings.DEFAULT_PASSWORD)
    text = f"elt:{FOR_DATABASE}@h of admin with {FOR_SLACK} {FOR_MAIL} and {os.environ['AIRFLOW_FERNET_KEY']}"
    alerts.task_failed(context(ValueError(text + "." * 1000)))
    assert "error: ValueError: elt:***@h of admin with *** *** and ***.." in slack.texts[0]
    assert slack.texts[0].count(".") < alerts.MAX_ERROR_CHARACTERS
    assert "hidden" not in slack.texts[0] + mail.texts[0]


def test_secrets_of_connections_that_nobody_fetched_are_not_told(slack, mail, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"postgres://shop:{FOR_DATABASE}%2F@db/x")  # pragma: allowlist secret
    monkeypatch.setenv("AIRFLOW_CONN_CRM", json.dumps({"conn_type": "http", "password": f"{FOR_MAIL}-crm"}))
    monkeypatch.setenv("AIRFLOW_VAR_API_TOKEN", f"{FOR_SLACK}-token")
    text = f"{FOR_DATABASE}/ {FOR_DATABASE}%2F {FOR_MAIL}-crm {FOR_SLACK}-token"
    alerts.task_failed(context(ValueError(text)))
    assert "error: ValueError: *** *** *** ***" in slack.texts[0]


def test_a_webhook_with_a_blank_is_refused(slack, mail, monkeypatch, caplog):
    given = json.loads(os.environ["AIRFLOW_CONN_SLACK_ALERTS"])
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", json.dumps(given | {"password": f"{given['password']} "}))
    alerts.task_failed(context(ValueError("x")))
    assert slack.texts == []
    assert any("holds a blank" in line for line in warnings(caplog))


# A channel that does not work ---------------------------------------------------------------------


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_slack_that_refuses_does_not_keep_the_mail_back(slack, mail, caplog):
    slack.status = 404
    alerts.task_failed(context(ValueError("x")))
    assert len(mail.messages) == 1
    (line,) = warnings(caplog)
    assert line.startswith("slack_alerts: alert not delivered: ")
    assert "404" in line


def test_servers_that_are_gone_are_two_warnings(monkeypatch, caplog):
    (port,) = receivers.free_ports(1)
    connect(monkeypatch, alerts.SLACK, conn_type="slackwebhook", host=f"http://127.0.0.1:{port}")
    extra = {"disable_ssl": True, "to": "a@example.com", "from_email": "b@example.com"}
    connect(monkeypatch, alerts.SMTP, conn_type="smtp", host="127.0.0.1", port=port, extra=extra)
    alerts.task_failed(context(ValueError("x")))
    assert [line.split(":")[0] for line in warnings(caplog)] == ["slack_alerts", "smtp_alerts"]
    assert FOR_SLACK not in caplog.text
    assert FOR_MAIL not in caplog.text


def test_a_server_that_hangs_does_not_hold_up_the_task(slack, mail, caplog, monkeypatch):
    assert alerts.TIMEOUT_SECONDS <= 10
    monkeypatch.setattr(alerts, "TIMEOUT_SECONDS", 1)
    slack.hangs = threading.Event()
    begin = time.monotonic()
    alerts.task_failed(context(ValueError("x")))
    assert time.monotonic() - begin < DEADLINE
    assert len(mail.messages) == 1
    assert warnings(caplog) == ["slack_alerts: alert not delivered: no answer within 1 s"]


def test_an_smtp_server_that_hangs_does_not_hold_up_the_task(slack, monkeypatch, caplog):
    monkeypatch.setattr(alerts, "TIMEOUT_SECONDS", 1)
    with contextlib.closing(receivers.silent()) as server:
        extra = {"disable_ssl": True, "to": "a@example.com", "from_email": "b@example.com"}
        port = server.getsockname()[1]
        connect(monkeypatch, alerts.SMTP, conn_type="smtp", host="127.0.0.1", port=port, extra=extra)
        begin = time.monotonic()
        alerts.task_failed(context(ValueError("x")))
        assert time.monotonic() - begin < DEADLINE
    assert len(slack.texts) == 1
    assert warnings(caplog) == ["smtp_alerts: alert not delivered: no answer within 1 s"]


@pytest.mark.parametrize(
    ("extra", "login", "word"), [({}, "me@example.com", '"to"'), ({"to": "a@example.com"}, "", '"from_email"')]
)
def test_a_connection_without_an_address_is_a_warning_that_names_it(slack, monkeypatch, caplog, extra, login, word):
    connect(monkeypatch, alerts.SMTP, conn_type="smtp", host="127.0.0.1", login=login, extra=extra)
    alerts.task_failed(context(ValueError("x")))
    (line,) = warnings(caplog)
    assert "smtp_alerts" in line
    assert word in line
    assert len(slack.texts) == 1


# The ways to reach a server -----------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate of 127.0.0.1 that this machine trusts for the length of a test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elt test")])
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """The lines that the cookbook has for `.env`, as the stack's processes find them."""
    page = (ROOT / "docs/cookbooks/alerts.md").read_text()
    lines = re.findall(r"(?m)^AIRFLOW_CONN_.+$", page)
    assert lines == re.findall(r"(?m)^# (AIRFLOW_CONN_.+)$", layout.ENV_EXAMPLE.read_text())
    monkeypatch.setattr(layout, "ENV_FILE", tmp_path / ".env")
    (tmp_path / ".env").write_text("\n".join(lines))
    names = {name.removeprefix("AIRFLOW_CONN_").lower(): line for name, line in airflow_names.airflow_names().items()}
    return {name: json.loads(line) for name, line in names.items()}


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # the test's server overlooks its TLS
@pytest.mark.parametrize("port", [587, 465])
def test_mail_goes_out_with_a_login_over_either_kind_of_tls(certificate, lines, monkeypatch, port):
    """Port 587 begins in the clear and turns to TLS, as in the cookbook's line; 465 is TLS from the start."""
    line = lines[alerts.SMTP]
    assert line["port"] == 587
    assert line["extra"].pop("disable_ssl") is True
    line["extra"]["disable_ssl" if port == 587 else "disable_tls"] = True
    with receivers.smtp((line["login"], line["password"]), tls=certificate, starttls=port == 587) as server:
        connect(monkeypatch, alerts.SMTP, **line | {"host": "127.0.0.1", "port": server.port})
        alerts.task_failed(context(ValueError("x")))
        assert server.recipients == [["team@example.com"]]
        assert server.messages[0]["From"] == line["login"]


def test_slack_is_reached_by_the_cookbooks_line(lines, monkeypatch):
    line = lines[alerts.SLACK]
    with receivers.slack() as server:
        line["password"] = line["password"].replace("https://hooks.slack.com", f"http://127.0.0.1:{server.port}")
        connect(monkeypatch, alerts.SLACK, **line)
        alerts.task_failed(context(ValueError("x")))
        assert server.paths == ["/services/..."]


@pytest.mark.parametrize("direct", ["", "127.0.0.1"])
def test_slack_is_reached_through_a_proxy_unless_no_proxy_says_otherwise(slack, monkeypatch, direct):
    with receivers.slack() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", direct)
        alerts.task_failed(context(ValueError("x")))
    address = f"/services/{FOR_SLACK}"
    assert slack.paths == ([address] if direct else [])
    assert proxy.paths == ([] if direct else [f"http://127.0.0.1:{slack.port}{address}"])
