"""Probe whether a process is healthy, for process-compose.yaml: `elt-probe PROCESS`.

A row or a connection of a dead predecessor must not count, so each answer is compared with the time at which the
present process was started (the record of its guard). Reads environment variables and imports as little as it can:
six run every second. `airflow jobs check` and `celery inspect ping` cost 1.7 CPU seconds a call; this costs 0.05, and
0.01 while the last success is recent.
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
"""State of a listening socket in /proc/net/tcp."""
HEARTBEAT_SECONDS = 30
"""Age in seconds beyond which a job's heartbeat counts as missing."""


def main() -> None:
    """Exit with 0 when the process named on the command line is healthy."""
    try:
        sys.exit(0 if healthy(*sys.argv[1:2] or ("",)) else 1)
    except ConfigError as error:
        sys.exit(f"elt-probe: {error}")


def healthy(process: str) -> bool:
    """Return whether the process runs and does its work.

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
    """Return whether all checks of the service's record succeed; `since` is its start, in seconds since the epoch."""
    if service.process in SERVERS:
        return SERVERS[service.process](since)
    return (
        (not service.forks or guard.answers(service.process))
        and (not service.health or _serves(service))
        and (not service.job or _job_beats(service.job, since))
        and (not service.broker or _broker_has(service.process, service.broker, since))
    )


def _listens(service: services.Service, record: guard.Record) -> bool:
    """Return whether the port of the process is held by the process itself or a descendant of it or its guard.

    Another user's server could answer there as well as ours, and receive what is meant for ours alone.
    """
    address = service.address(os.environ)
    if not address:
        return True
    port = os.environ[service.port]
    pids = {record.main} | guard.process_tree({record.main, record.guard})
    if not guard.LINUX:  # orphans are known by the process group
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
    """Return the targets of the descriptors of a process, as in /proc/PID/fd."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115
    return found


def _listens_elsewhere(pids: set[int], port: int) -> bool:
    """Return whether one of the processes listens on a port, where there is no /proc."""
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
    """Return whether a job of that type began in this start and has a recent heartbeat."""
    row = _query(
        "airflow",
        "select count(*) from job where job_type = %s and state = 'running' and start_date >= to_timestamp(%s)"
        " and latest_heartbeat > now() - make_interval(secs => %s)",
        (job, since, HEARTBEAT_SECONDS),
    )
    return row is not None and row[0] > 0


def _query(database: str, statement: str, values: tuple[object, ...] = ()) -> tuple[Any, ...] | None:
    """Return the first row of a query; None when the server or the table does not exist yet."""
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
    """Return whether a server answers a request for the health path of its record with 200."""
    address = service.address(os.environ)
    host = os.environ["CONNECT_ADDRESS"] if address == os.environ.get("BIND_ADDRESS") else address
    answer = _exchange(
        (host, int(os.environ[service.port])), f"GET {service.health} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    )
    return answer.split()[1:2] == [b"200"]


def _broker_has(client: str, trait: str, since: float) -> bool:
    """Return whether the broker lists a client of that name and trait that connected in this start."""
    import re  # noqa: PLC0415

    pattern = rf" name={client} age=(\d+) .* {trait} ".encode()
    return any(int(age) <= time.time() - since + 1 for age in re.findall(pattern, _valkey("CLIENT LIST")))


def _valkey(command: str) -> bytes:
    """Return all that Valkey answers to one inline command; nothing when it does not run."""
    return _exchange(os.environ["VALKEY_SOCKET"], f"AUTH {os.environ['VALKEY_PASSWORD']}\r\n{command}\r\nQUIT\r\n")


def _exchange(address: str | tuple[str, int], request: str) -> bytes:
    """Send a request and return the whole answer; nothing when the server does not run.

    Args:
        address: the path of its socket, or its address and port.
        request: the text to send.
    """
    import socket  # noqa: PLC0415

    answer = b""
    try:
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as connection:
            connection.settimeout(2)
            connection.connect(address)
            connection.sendall(request.encode())
            while part := connection.recv(65536):
                answer += part
    except OSError:
        return b""
    return answer


SERVERS = {"postgres": _postgres_answers, "redis": _redis_answers}
"""Probes of processes with a protocol of their own."""
