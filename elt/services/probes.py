"""Cheap and truthful answers to "is this process healthy?", for the probes of process-compose.yaml.

A row or a connection that a dead predecessor left must not count, so each answer is compared with the moment
at which the process of this start was started (the record of its guard). Reads the environment and imports
as little as it can: six run every second. `airflow jobs check` and `celery inspect ping` cost 1.7 CPU seconds
a call; this costs 0.05, since it is a program of its own: `elt-probe PROCESS`, and 0.01 while its last yes is young.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from elt.errors import ConfigError
from elt.supervisor import guard

TYPE_CHECKING = False  # importing typing costs as much as all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOOPBACK = "127.0.0.1"
_LISTENING = "0A"
"""State of a socket that listens, in /proc/net/tcp."""
TRUST_SECONDS = 5
"""How long a yes holds for the process of the same start."""
HEARTBEAT_SECONDS = 30
"""A job whose heartbeat is older is not alive."""
JOBS = {
    "airflow-scheduler": "SchedulerJob",
    "airflow-dag-processor": "DagProcessorJob",
    "airflow-triggerer": "TriggererJob",
}
"""Process of process-compose.yaml -> type of its row in Airflow's table `job`."""
LISTENERS = {
    "postgres": ("POSTGRES_ADDRESS", "POSTGRES_PORT"),
    "redis": ("VALKEY_ADDRESS", "VALKEY_PORT"),
    "airflow-api-server": ("BIND_ADDRESS", "AIRFLOW_PORT"),
    "flower": ("BIND_ADDRESS", "FLOWER_PORT"),
    "streamlit": ("STREAMLIT_SERVER_ADDRESS", "STREAMLIT_PORT"),
}
"""Process -> variables of the address (empty: none) and the port that it listens on."""
PRELOADS = ("airflow-preload", "pipeline-preload")
"""Processes that others are forked from."""


def main() -> None:
    """Exit with 0 when the process named on the command line is healthy."""
    try:
        sys.exit(0 if healthy(*sys.argv[1:2] or ("",)) else 1)
    except ConfigError as error:
        sys.exit(f"elt-probe: {error}")


def healthy(process: str) -> bool:
    """Whether the process runs and does its work.

    Raises:
        ConfigError: there is no probe for a process of that name.
    """
    checks: dict[str, Callable[[float], bool]] = {
        "postgres": _postgres_answers,
        "redis": _redis_answers,
        **{name: lambda _, name=name: guard.answers(name) for name in PRELOADS},  # type: ignore[misc]
        "celery-worker": _worker_takes_tasks,
        "flower": _flower_listens,
        "airflow-api-server": lambda _: _serves("AIRFLOW_PORT", "/api/v2/version"),
        "streamlit": lambda _: _serves("STREAMLIT_PORT", "/_stcore/health"),
        **{name: lambda since, job=job: _job_beats(job, since) for name, job in JOBS.items()},  # type: ignore[misc]
    }
    if process not in checks:
        raise ConfigError(f"no probe for {process!r}; there are {', '.join(sorted(checks))}")
    path = guard.register_path(process)
    answer = path.removesuffix(".json") + ".healthy"
    if _holds(answer, path):
        return True
    asked = time.time()
    record = guard.read(process)
    if record is None or not _listens(process, record) or not checks[process](record.started_at):
        return False
    with contextlib.suppress(OSError):
        with open(answer, "w"):  # noqa: PTH123 - pathlib costs more than all the rest
            pass
        os.utime(answer, (asked, asked))  # the process may have been started anew since
    return True


def _holds(answer: str, record: str) -> bool:
    """Whether the last yes, kept as a file, is young, and of the start that the process's record tells of."""
    try:
        said, started = os.stat(answer).st_mtime, os.stat(record).st_mtime  # noqa: PTH116
    except OSError:
        return False
    return said > started and 0 <= time.time() - said < TRUST_SECONDS


def _listens(process: str, record: guard.Record) -> bool:
    """Whether the port of the process is held by the process itself, or one that descends from it or its guard.

    A stranger's server may answer there as well as ours would, and be sent what is for ours alone.
    """
    address, port = (os.environ.get(name, "") for name in LISTENERS.get(process, ("", "")))
    if not address:
        return True
    pids = {record.main} | guard.process_tree({record.main, record.guard})
    if not guard.LINUX:  # who has lost his parent is known by the process group
        groups = {row.group for pid, row in guard.processes().items() if pid == record.main}
        pids |= {pid for pid, row in guard.processes().items() if row.group in groups}
        return _listens_elsewhere(pids, int(port))
    wanted = "".join(f"{int(byte):02X}" for byte in reversed(address.split(".")))
    ways = {f"{one}:{int(port):04X}" for one in (wanted, "00000000")}
    with open("/proc/net/tcp") as rows:  # noqa: PTH123
        listening = [row for row in map(str.split, rows) if row[1] in ways and row[3] == _LISTENING]
    sockets = {f"socket:[{row[9]}]" for row in listening}
    return bool(sockets) and sockets <= set().union(*map(_descriptors, pids))


def _descriptors(pid: int) -> set[str]:
    """What the descriptors of a process are, as Linux writes it."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115
    return found


def _listens_elsewhere(pids: set[int], port: int) -> bool:
    """The same where there is no /proc."""
    import psutil  # noqa: PLC0415

    for pid in pids:
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(pid).net_connections("tcp4"):
                if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,):
                    return True
    return False


def _postgres_answers(since: float) -> bool:
    row = _query("postgres", "select extract(epoch from pg_postmaster_start_time())")
    return row is not None and float(row[0]) >= since - 1


def _job_beats(job: str, since: float) -> bool:
    """The newest job of that type was begun in this start and has a fresh heartbeat."""
    row = _query(
        "airflow",
        "select count(*) from job where job_type = %s and state = 'running' and start_date >= to_timestamp(%s)"
        " and latest_heartbeat > now() - make_interval(secs => %s)",
        (job, since, HEARTBEAT_SECONDS),
    )
    return row is not None and row[0] > 0


def _query(database: str, statement: str, values: tuple[object, ...] = ()) -> tuple[Any, ...] | None:
    """The first row; None when the server or the table is not there yet."""
    import psycopg2  # noqa: PLC0415 - the probes of Valkey do without

    try:
        connection = psycopg2.connect(
            host=os.environ["POSTGRES_HOST"],
            port=os.environ["POSTGRES_PORT"],
            user=os.environ["POSTGRES_USER"],
            password=os.environ["POSTGRES_PASSWORD"],
            dbname=database,
            connect_timeout=2,
        )
    except psycopg2.OperationalError:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()
    except psycopg2.Error:
        return None
    finally:
        connection.close()


def _redis_answers(since: float) -> bool:
    del since  # only the server of this clone knows the password
    return b"+PONG" in _valkey("PING")


def _worker_takes_tasks(since: float) -> bool:
    """A client with the worker's name waits for tasks."""
    return _broker_has("celery-worker", "cmd=brpop", since)


def _flower_listens(since: float) -> bool:
    """Flower answers, and hears of tasks: what happens before it listens it never learns of."""
    return _serves("FLOWER_PORT", "/healthcheck") and _broker_has("flower", "psub=1", since)


def _serves(port: str, path: str) -> bool:
    """Whether a server answers a request with 200.

    Args:
        port: the variable of its port.
        path: what is asked for.
    """
    host = LOOPBACK if port == "STREAMLIT_PORT" else os.environ["CONNECT_ADDRESS"]
    answer = _said((host, int(os.environ[port])), f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")
    return answer.split()[1:2] == [b"200"]


def _broker_has(client: str, trait: str, since: float) -> bool:
    """Whether a client of that name, connected in this start, stands in the broker's list with that trait."""
    import re  # noqa: PLC0415

    pattern = rf" name={client} age=(\d+) .* {trait} ".encode()
    return any(int(age) <= time.time() - since + 1 for age in re.findall(pattern, _valkey("CLIENT LIST")))


def _valkey(command: str) -> bytes:
    """Everything that Valkey answers to one inline command; nothing when it is not there."""
    return _said(os.environ["VALKEY_SOCKET"], f"AUTH {os.environ['VALKEY_PASSWORD']}\r\n{command}\r\nQUIT\r\n")


def _said(address: str | tuple[str, int], words: str) -> bytes:
    """What a server says to that, up to its end; nothing when it is not there.

    Args:
        address: the path of its socket, or its address and port.
        words: what it is asked.
    """
    import socket  # noqa: PLC0415

    answer = b""
    try:
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as connection:
            connection.settimeout(2)
            connection.connect(address)
            connection.sendall(words.encode())
            while part := connection.recv(65536):
                answer += part
    except OSError:
        return b""
    return answer
