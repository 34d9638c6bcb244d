"""Send alerts by Slack and by e-mail when a task or a run of a DAG has failed.

A channel is used when its connection exists in Airflow, `slack_alerts` or `smtp_alerts`; without any, nothing is
sent. `task_failed` runs in the task's own process, or in the DAG processor when the worker was killed; `run_failed`
always runs in the DAG processor. Neither ever raises, and neither takes longer than
`TIMEOUT_SECONDS`.

This module imports nothing of Airflow until something failed, since every DAG imports it at every parse.
"""

from __future__ import annotations

import contextlib
import functools
import html
import itertools
import json
import logging
import os
import re
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from elt import layout

if t.TYPE_CHECKING:
    from airflow.sdk import Connection, Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    Deliver = t.Callable[[], None]

SLACK = "slack_alerts"
SMTP = "smtp_alerts"
TIMEOUT_SECONDS = 10
"""Seconds that all channels together may take: a failed task must end, and the DAG processor must go on parsing."""
DAY_SECONDS = 24 * 3600
MAX_ERROR_CHARACTERS = 500
"""Characters of an error that an alert shows."""
NOT_DELIVERED = "%s: alert not delivered: %s"

log = logging.getLogger(__name__)


def task_failed(context: Context) -> None:
    """Alert that a task failed at its last try: the `on_failure_callback` of tasks."""
    ti = context["ti"]
    mark = layout.ALERTED / f"{ti.id}-{ti.try_number}"
    if mark.exists():
        log.info("alert already sent: the scheduler calls twice when a worker was killed")
        return
    _send(context, about_task)
    _remember(mark)


def run_failed(context: Context) -> None:
    """Alert that a run failed, and which of its tasks: the `on_failure_callback` of a DAG."""
    _send(context, about_run)


def _remember(mark: Path) -> None:
    """Remember for a day that an alert was sent; without the mark the worst is a second message."""
    with contextlib.suppress(OSError):
        mark.parent.mkdir(exist_ok=True)
        for old in mark.parent.iterdir():
            if old.stat().st_mtime < time.time() - DAY_SECONDS:
                old.unlink(missing_ok=True)
        mark.touch()


# Messages ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """Describe what happened, free of secrets, in plain text.

    Args:
        title: one line.
        facts: what a person wants to know next, by name.
        place: name and address of the page that shows more.
    """

    title: str
    facts: dict[str, str]
    place: tuple[str, str]

    def for_slack(self) -> str:
        """Format the message in Slack's markup."""
        escape = functools.partial(html.escape, quote=False)  # Slack asks for the same three characters
        facts = [f"{name}: {escape(value)}" for name, value in self.facts.items()]
        name, url = self.place
        return "\n".join([f"*{escape(self.title)}*", *facts, f"<{escape(url)}|{name}>"])

    def for_mail(self) -> str:
        """Format the message as HTML."""
        rows = "".join(
            f"<tr><td>{name}</td><td>{html.escape(value)}</td></tr>\n" for name, value in self.facts.items()
        )
        name, url = self.place
        title = html.escape(self.title)
        return f'<h3>{title}</h3>\n<table>\n{rows}</table>\n<p><a href="{html.escape(url)}">{name}</a></p>\n'


def about_task(context: Context) -> Message:
    """Describe the failure of a task."""
    ti = context["ti"]
    environment = _environment(context)
    index = f"[{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    facts = {
        "run": ti.run_id,
        "environment": environment,
        "try": f"{ti.try_number} of {ti.max_tries + 1}",
        "error": _of_command(ti, context.get("exception")) or _last_line(context.get("exception")),
    }
    title = f"Task {ti.task_id}{index} of {ti.dag_id} failed ({environment})"
    return Message(title, facts, ("log of the task", ti.log_url))


def about_run(context: Context) -> Message:
    """Describe the failure of a run."""
    from airflow.sdk.configuration import conf  # noqa: PLC0415

    dag, run = context["dag"].dag_id, context["run_id"]
    environment = _environment(context)
    facts = {
        "run": run,
        "environment": environment,
        "failed tasks": _failed_tasks(context),
    }
    url = f"{conf.get('api', 'base_url').rstrip('/')}/dags/{dag}/runs/{quote(run)}"
    return Message(f"Run of {dag} failed ({environment})", facts, ("the run", url))


def _environment(context: Context) -> str:
    return str(context.get("params", {}).get("environment") or os.environ["ELT_ENVIRONMENT"])


def _of_command(ti: RuntimeTaskInstanceProtocol, error: BaseException | str | None) -> str:
    """Return why a command failed, by the task's log, since the exception holds no reason."""
    if not str(error).startswith("Bash command failed"):
        return ""
    from elt.pipeline import meltano_log  # noqa: PLC0415

    index = "" if ti.map_index is None or ti.map_index < 0 else f"map_index={ti.map_index}"
    folder = Path(f"dag_id={ti.dag_id}", f"run_id={ti.run_id}", f"task_id={ti.task_id}", index)
    try:
        lines = (layout.LOGS / "tasks" / folder / f"attempt={ti.try_number}.log").read_text().splitlines()
        events = [str(json.loads(line)["event"]) for line in lines]
    except (OSError, ValueError, KeyError):
        return ""
    ends = meltano_log.COMMAND_ENDED
    return _last_line(meltano_log.reason(itertools.takewhile(lambda line: not line.startswith(ends), events)))


def _last_line(error: BaseException | str | None) -> str:
    """Return the last line of an error, the most specific one, without secrets."""
    if error is None:  # the DAG processor knows nothing but that the task stopped reporting
        return "none known: the task's process or its worker was killed"
    from airflow.sdk.exceptions import AirflowException  # noqa: PLC0415

    is_worded = not isinstance(error, BaseException) or isinstance(error, AirflowException)  # for a person to read
    kind = "" if is_worded else f"{type(error).__name__}: "
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = _without_secrets(kind + (lines[-1] if lines else "")).removesuffix(": ")
    return line if len(line) <= MAX_ERROR_CHARACTERS else line[:MAX_ERROR_CHARACTERS] + " ..."


def _failed_tasks(context: Context) -> str:
    """Return the names of the tasks of a run that failed, or why none are known."""
    ti, run = context.get("ti"), context["run_id"]
    if ti is None:
        return f"none known ({context.get('reason')})"
    try:
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run]).get(run, {})
    except Exception as error:  # noqa: BLE001 - the alert is sent all the same
        return f"not known: {_last_line(error)}"
    return ", ".join(sorted(task for task, state in states.items() if state == "failed")) or "none"


def _without_secrets(text: str) -> str:
    """Hide what Airflow knows as secret (passwords of connections) and the secrets of `.env`."""
    from airflow.sdk import Connection  # noqa: PLC0415
    from airflow.sdk._shared.secrets_masker import redact  # noqa: PLC0415 - what masks logs; it has no public name

    from elt.config.airflow_names import CONNECTION, VARIABLE  # noqa: PLC0415
    from elt.config.settings import DEFAULT_PASSWORD, Settings  # noqa: PLC0415

    secrets = [os.environ.get(name.upper(), "") for name, field in Settings.model_fields.items() if not field.repr]
    secrets += [value for name, value in os.environ.items() if name.startswith(VARIABLE)]
    for name in [name for name in os.environ if name.startswith(CONNECTION)]:
        with contextlib.suppress(Exception):  # what Airflow cannot read, it cannot show either
            # redact knows the secrets, extras included, of a connection that was read
            password = Connection.get(name.removeprefix(CONNECTION).lower()).password or ""
            secrets += [password, quote(password, safe="")]
    for secret in sorted(secrets, key=len, reverse=True):
        if secret not in {"", DEFAULT_PASSWORD}:
            text = text.replace(secret, "***")
    return str(redact(text))


# Delivery ----------------------------------------------------------------------------------------


class _Delivery(threading.Thread):
    """Deliver to one channel in a thread of its own: a server that hangs delays no other.

    A thread, since neither Slack's nor SMTP's own timeout bounds a whole delivery with its lookups and retries.
    """

    def __init__(self, channel: str, deliver: Deliver) -> None:
        super().__init__(name=channel, daemon=True)
        self.deliver = deliver
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.deliver()
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits reports it
            self.error = error

    def report(self) -> None:
        """Log the result, or that there was none in time."""
        if self.is_alive():
            log.warning(NOT_DELIVERED, self.name, f"no answer within {TIMEOUT_SECONDS} s")
        elif self.error:
            log.warning(NOT_DELIVERED, self.name, _last_line(self.error))
        else:
            log.info("%s: alert sent", self.name)


def _send(context: Context, describe: t.Callable[[Context], Message]) -> None:
    """Send a message through all channels at the same time, and log the results."""
    channels = _channels()
    if not channels:
        log.info("no alert sent: there is no connection %s", " or ".join(CHANNELS))
        return
    try:
        message = describe(context)
    except Exception as error:  # noqa: BLE001 - an alert never adds a failure of its own
        log.warning("no alert sent: %s", _last_line(error))
        return
    deliveries = []
    for name, connection in channels.items():
        try:
            delivery = _Delivery(name, CHANNELS[name](message, connection))
            delivery.start()
        except Exception as error:  # noqa: BLE001 - the other channel goes on
            log.warning(NOT_DELIVERED, name, _last_line(error))
        else:
            deliveries.append(delivery)
    limit = time.monotonic() + TIMEOUT_SECONDS  # from here on it is the servers that take the time
    for delivery in deliveries:
        delivery.join(max(0.0, limit - time.monotonic()))
        delivery.report()


def _channels() -> dict[str, Connection]:
    """Return the connections of the channels that have one."""
    from airflow.sdk import Connection  # noqa: PLC0415
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415

    found = {}
    for name in CHANNELS:
        try:
            found[name] = Connection.get(name)
        except AirflowNotFoundException:
            continue
        except Exception as error:  # noqa: BLE001 - the other channel goes on
            log.warning(NOT_DELIVERED, name, _last_line(error))
    return found


def _slack(message: Message, connection: Connection) -> Deliver:
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier  # noqa: PLC0415

    from elt.errors import ConfigError  # noqa: PLC0415

    if re.search(r"\s", f"{connection.host or ''}{connection.password or ''}"):
        # what masks logs knows the text with the blank, and the client would log the address without it
        raise ConfigError(f"the address of connection {SLACK} holds a blank: set it again, without")

    notifier = SlackWebhookNotifier(slack_webhook_conn_id=SLACK, text=message.for_slack())
    return functools.partial(notifier.notify, {})  # not the call, which would read the text as a Jinja template


def _mail(message: Message, connection: Connection) -> Deliver:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier  # noqa: PLC0415

    from elt.errors import ConfigError  # noqa: PLC0415

    extra = connection.extra_dejson
    to, sender = extra.get("to"), extra.get("from_email") or connection.login
    if not to:
        raise ConfigError(f'the extra of connection {SMTP} lacks "to", the address to write to')
    if not sender:
        raise ConfigError(f'the extra of connection {SMTP} lacks "from_email", the address to write from')
    notifier = SmtpNotifier(
        smtp_conn_id=SMTP, to=to, from_email=sender, subject=message.title, html_content=message.for_mail()
    )
    return functools.partial(notifier.notify, {})


CHANNELS: dict[str, t.Callable[[Message, Connection], Deliver]] = {SLACK: _slack, SMTP: _mail}
"""Functions that prepare the delivery of a message by each connection."""
