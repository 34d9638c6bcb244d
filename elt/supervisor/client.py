"""Talk to the running supervisor, whichever it is: both serve the same requests on the same unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path

SOCKET_NAME = "supervisor.sock"
ANSWER_SECONDS = 5
"""Seconds that a supervisor may take to answer a request."""
MAX_SOCKET_PATH_BYTES = 100
"""Longest path of a socket in bytes: the least limit is macOS' 103."""

Row = dict[str, t.Any]
"""State of a process as the supervisor answers it, by process-compose's names."""


def short_path(path: Path, root: Path) -> str | None:
    """Return a path of the socket for a program that runs in `root`; None when absolute and relative are too long."""
    ways = (str(path), os.path.relpath(path, root))
    return next((way for way in ways if len(os.fsencode(way)) <= MAX_SOCKET_PATH_BYTES), None)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self.path)) <= MAX_SOCKET_PATH_BYTES:
            self.sock.connect(str(self.path))
        else:
            with contextlib.chdir(self.path.parent):
                self.sock.connect(self.path.name)


class Client:
    """Send the requests that `elt` makes; each raises OSError when no supervisor answers."""

    def __init__(self, run: Path) -> None:
        self.path = run / SOCKET_NAME

    def processes(self) -> list[Row]:
        """Return the state of each process."""
        return t.cast("list[Row]", self._ask("GET", "/processes", ANSWER_SECONDS)["data"])

    def restart(self, name: str, timeout: float) -> None:
        """Restart a process; return once the old one has ended and the new one is starting."""
        self._ask("POST", f"/process/restart/{name}", timeout)

    def stop(self, name: str) -> None:
        """Stop a process, which is then not restarted."""
        self._ask("PATCH", f"/process/stop/{name}", ANSWER_SECONDS)

    def stop_all(self) -> bool:
        """Request the stop of all processes, and return whether the request was accepted."""
        try:
            self._ask("POST", "/project/stop", 1)
        except TimeoutError:  # process-compose answers after the stop
            return True
        except OSError:
            return False
        return True

    def _ask(self, method: str, path: str, timeout: float) -> dict[str, t.Any]:
        connection = _Connection(self.path, timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = json.loads(answer.read() or b"{}")
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"the supervisor's answer is not understood: {error!r}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise OSError(body.get("error", answer.reason))
        return t.cast("dict[str, t.Any]", body)
