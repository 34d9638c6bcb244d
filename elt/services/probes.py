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

from elt.config import services
from elt.errors import ConfigError
from elt.supervisor import guard, health

TYPE_CHECKING = False  # importing typing costs as much as all the rest
if TYPE_CHECKING:
    from typing import Any

_LISTENING = "0A"
"""State of a socket that listens, in /proc/net/tcp."""
HEARTBEAT_SECONDS = 30
"""A job whose heartbeat is older is not alive."""


def main() -> None:
    """Exit with 0 when the process named on the command line is healthy."""
    try:
        sys.exit(0 if healthy(*sys.argv[1:2] or ("",)) else 1)
    except ConfigError as error:
        sys.exit(f"elt-probe: {error}")


def healthy(process: str) -> bool:
    """Whether the process runs and does its work.

    Raises:
        ConfigError: there is no record of a process of that name.
    """
    service = services.service(process)
    if service is None:
        known = ", ".join(sorted(one.process for one in services.SERVICES))
        raise ConfigError(f"no probe for {process!r}; there are {known}")
    path = guard.register_path(process)
    if health.is_fresh(path):
        return True
    asked = time.time()
    record = guard.read(process)
    if record is None or not _listens(service, record) or not _does_its_work(service, record.started_at):
        return False
    health.keep(path, asked)
    return True


def _does_its_work(service: services.Service, since: float) -> bool:
    """Whether all holds that the record of the service says; `since`: its start, in epoch seconds."""
    if service.process in SERVERS:
        return SERVERS[service.process](since)
    return (
        (not service.forks or guard.answers(service.process))
        and (not service.health or _serves(service))
        and (not service.job or _job_beats(service.job, since))
        and (not service.broker or _broker_has(service.process, service.broker, since))
    )


def _listens(service: services.Service, record: guard.Record) -> bool:
    """Whether the port of the process is held by the process itself, or one that descends from it or its guard.

    A stranger's server may answer there as well as ours would, and be sent what is for ours alone.
    """
    address = service.address(os.environ)
    if not address:
        return True
    port = os.environ[service.port]
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


def _serves(service: services.Service) -> bool:
    """Whether a server answers a request for the path of its record with 200."""
    address = service.address(os.environ)
    host = os.environ["CONNECT_ADDRESS"] if address == os.environ.get("BIND_ADDRESS") else address
    answer = _said((host, int(os.environ[service.port])), f"GET {service.health} HTTP/1.0\r\nHost: {host}\r\n\r\n")
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


SERVERS = {"postgres": _postgres_answers, "redis": _redis_answers}
"""Processes that are asked in a language of their own."""
