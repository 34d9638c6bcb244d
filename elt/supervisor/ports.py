"""Check that every port is free before anything starts: a health check can pass on another program's server."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import typing as t

from elt.errors import SetupError

if t.TYPE_CHECKING:
    from elt.supervisor.spec import Process

IPV6_LOOPBACK = "::1"


def wanted(
    listeners: t.Mapping[str, tuple[str, int]], processes: t.Mapping[str, Process]
) -> dict[tuple[str, int], str]:
    """Return all ports of the stack by address, each with the way to choose another one.

    Args:
        listeners: address and port of each server, by the name of the port's setting in .env.
        processes: their http probes may name more ports.
    """
    found = {
        at: f"set {name} in .env to another one, as scripts/bootstrap.sh --free-ports does"
        for name, at in listeners.items()
    }
    known = {port for _, port in found}
    for name, process in processes.items():
        if at := process.get("readiness_probe", {}).get("http_get"):
            where = f"processes.{name}.readiness_probe.http_get.port of process-compose.yaml says it"
            if at["port"] not in known:
                found.setdefault((at["host"], at["port"]), where)
    return found


def check(needed: t.Mapping[tuple[str, int], str]) -> None:
    """Refuse to start when a port is taken.

    Raises:
        SetupError: names each port that is taken, the program that holds it, and the way out.
    """
    taken = [
        f"port {port} is taken by {_holder(port)}: end it, or {remedy}"
        for (host, port), remedy in needed.items()
        if not is_free(host, port)
    ]
    if taken:
        raise SetupError("\n     ".join(taken))


def is_free(host: str, port: int) -> bool:
    """Return whether a port is free, also on ::1, which programs try first for `localhost` and names below it.

    Raises:
        SetupError: the address cannot be listened on at all.
    """
    try:
        for one in bind_ipv6_ports((port,)):
            one.close()
    except OSError:
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not count
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise SetupError(f"{host}:{port} cannot be listened on: {error.strerror}") from None
    return True


def bind_ipv6_ports(wanted: t.Iterable[int]) -> list[socket.socket]:
    """Bind ports of ::1 without listening, as long as the sockets are open; none on a machine without IPv6.

    The servers listen on IPv4 alone. For `localhost` and names below it browsers, psql and others try ::1 first:
    nobody else may answer there and be told passwords. So they are refused, and come by IPv4.

    Raises:
        OSError: somebody else has one.
    """
    with contextlib.ExitStack() as opened:
        taken = []
        for port in wanted:
            try:
                one = opened.enter_context(socket.socket(socket.AF_INET6))
                one.bind((IPV6_LOOPBACK, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
                return []
            taken.append(one)
        opened.pop_all()
        return taken


def hold(shared: t.Iterable[tuple[str, int]]) -> list[socket.socket]:
    """Bind ports without listening, so that no other user gets them before or between the servers that share them.

    Linux lets several sockets of one user have a port if all of them ask for it, and nobody else's.

    Raises:
        OSError: somebody else has one.
    """
    if sys.platform != "linux":
        return []
    with contextlib.ExitStack() as opened:
        taken = []
        for address in shared:
            one = opened.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            taken.append(one)
        opened.pop_all()
        return taken


def share() -> None:
    """Let this process listen on the port that `hold` has bound for it, as ELT_SHARED_PORTS says (NAME=PORT ...)."""
    ports = dict(word.split("=") for word in os.environ.get("ELT_SHARED_PORTS", "").split())
    own = int(ports.get(os.environ.get("PC_PROC_NAME", ""), 0))
    if not own or sys.platform != "linux":
        return
    bind = socket.socket.bind

    def bind_shared(self: socket.socket, address: t.Any) -> None:  # noqa: ANN401 - of any family
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[1] == own:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bind(self, address)

    socket.socket.bind = bind_shared  # type: ignore[method-assign, assignment]


def _holder(port: int) -> str:
    """Name the program that listens on a port, as far as the system shows it."""
    import psutil  # noqa: PLC0415 - bootstrap has none yet

    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) and one.pid:
                process = psutil.Process(one.pid)
                return f"{process.name()} (pid {one.pid}, user {process.username()}, in {process.cwd()})"
    return "a program of another user"
