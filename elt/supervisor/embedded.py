"""Run the processes of process-compose.yaml: order, health, restarts, ordered stop, and an API on a unix socket.

States and answers are those of process-compose, so that one client serves both. The end of a process is noticed by
wait(), since it writes its log file itself: there is no pipe that an orphan could hold open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
import typing as t
from pathlib import Path

from elt.supervisor.guard import LATE_SECONDS, POLL_INTERVAL_SECONDS, Stopwatch

if t.TYPE_CHECKING:
    from elt.supervisor.spec import Process

READY, NOT_READY, UNKNOWN = "Ready", "Not Ready", "-"
FIRST_PROBE_INTERVAL_SECONDS, PROBE_INTERVAL_GROWTH = 0.2, 1.3
"""Pause between two tries of a probe before its first success, and the factor by which each is longer than the last,
up to the period of the probe."""
ROTATION_INTERVAL_SECONDS = 5.0
"""Seconds between two checks of the sizes of the logs."""
REQUEST_TIMEOUT_SECONDS = 10.0
"""Seconds that a client of the API has to send its request."""


class Live:
    """Hold the present state of a process, by process-compose's names of states."""

    def __init__(self, name: str, spec: Process) -> None:
        self.name, self.spec = name, spec
        self.status, self.health = "Pending", UNKNOWN
        self.pid = self.restarts = self.exit_code = 0
        self.starts = 0
        self.halt = asyncio.Event()
        """Set when it shall end and not be restarted."""
        self.task: asyncio.Task[None] | None = None
        self.restarting = asyncio.Lock()

    @property
    def is_over(self) -> bool:
        """Return whether it has ended for good."""
        return self.status in {"Completed", "Skipped", "Error"}

    def meets(self, condition: str) -> bool | None:
        """Return whether a condition of depends_on holds; None while that is undecided."""
        if condition == "process_started":
            good = self.starts > 0
        elif condition == "process_healthy":
            good = self.health == READY
        else:
            good = self.status == "Completed" and self.exit_code == 0
        return True if good else False if self.is_over else None

    def row(self) -> dict[str, t.Any]:
        """Return its state as the API answers it."""
        return {
            "name": self.name,
            "namespace": self.spec.get("namespace", "default"),
            "status": self.status,
            "is_running": bool(self.pid),
            "is_ready": self.health,
            "has_ready_probe": "readiness_probe" in self.spec,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "pid": self.pid,
        }


class Supervisor:
    """Run all processes of a file, from their start to the request to stop."""

    def __init__(self, processes: dict[str, Process], socket: Path) -> None:
        self.all = {name: Live(name, spec) for name, spec in processes.items()}
        self.socket = socket
        self.changed = asyncio.Event()
        self.over = asyncio.Event()
        self.stopping: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Start everything, and return when everything has been stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop_all)
        server = await self._listen()
        for live in self.all.values():
            live.task = asyncio.create_task(self._live(live))
        while not self.over.is_set():
            for live in self.all.values():
                _rotate(live.spec)
            before = time.monotonic()
            await _wait_for_event(self.over, ROTATION_INTERVAL_SECONDS)
            if (late := time.monotonic() - before - ROTATION_INTERVAL_SECONDS) > LATE_SECONDS:
                _log(f"nothing could run for {late:.0f} s: what is counted against a process starts anew")
        server.close()
        self.socket.unlink(missing_ok=True)

    def stop_all(self) -> None:
        """Stop every process, dependents first, and end."""
        if not self.stopping:
            self.stopping = asyncio.create_task(self._stop_in_order())

    def _set(self, live: Live, status: str, health: str = UNKNOWN, note: str = "") -> None:
        live.status, live.health = status, health
        line = " ".join(filter(None, (live.name, status, "" if health == UNKNOWN else health, note)))
        _log(line)
        self._notify()

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    # Life cycle of a process

    async def _live(self, live: Live) -> None:
        """Wait for what the process depends on, then run it as often as its restart policy says."""
        failed = await self._wait_for_dependencies(live)
        if live.halt.is_set():
            self._set(live, "Completed")
            return
        if failed:
            live.exit_code = 1
            self._set(live, "Skipped", note=f"because of {failed}")
            return
        policy = live.spec["availability"]
        while True:
            if not await self._once(live):
                return
            again = policy["restart"] == "always" or (policy["restart"] == "on_failure" and live.exit_code)
            if policy["max_restarts"] and live.restarts >= policy["max_restarts"]:
                again = False
            if not again or live.halt.is_set():
                self._set(live, "Completed", note=f"exit code {live.exit_code}")
                return
            live.restarts += 1
            self._set(live, "Restarting", note=f"exit code {live.exit_code}, in {policy['backoff_seconds']} s")
            await _wait_for_event(live.halt, policy["backoff_seconds"])
            if live.halt.is_set():
                self._set(live, "Completed")
                return

    async def _wait_for_dependencies(self, live: Live) -> str:
        """Wait for all dependencies, and return the name of the one that failed, if any."""
        for name, need in live.spec["depends_on"].items():
            while (met := self.all[name].meets(need["condition"])) is None and not live.halt.is_set():
                await self.changed.wait()
            if met is False:
                return str(name)
        return ""

    async def _once(self, live: Live) -> bool:
        """Start the process and wait for its end; return False when it cannot be started."""
        try:
            process = await self._start(live)
        except OSError as error:
            live.exit_code = 1
            self._set(live, "Error", note=str(error))
            return False
        live.pid, live.starts = process.pid, live.starts + 1
        self._set(live, "Running", NOT_READY if "readiness_probe" in live.spec else UNKNOWN)
        ending = asyncio.create_task(self._end_on_request(live))
        probing = asyncio.create_task(self._probe(live))
        code = await process.wait()
        ending.cancel()
        probing.cancel()
        _signal_group(live.pid, signal.SIGKILL)
        live.exit_code, live.pid = code if code >= 0 else 128 - code, 0
        return True

    async def _start(self, live: Live) -> asyncio.subprocess.Process:
        _rotate(live.spec)
        log = _open_log(Path(live.spec["log_location"]))
        try:
            return await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                live.spec["command"],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=live.spec.get("working_dir"),
                env=_process_env(live),
                start_new_session=True,
            )
        finally:
            os.close(log)

    async def _end_on_request(self, live: Live) -> None:
        await live.halt.wait()
        await self._end(live)

    async def _end(self, live: Live) -> None:
        """Signal a running process as the file says, and kill its group when it takes too long."""
        how = live.spec["shutdown"]
        self._set(live, "Terminating")
        if how["parent_only"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(live.pid, how["signal"])
        else:
            _signal_group(live.pid, how["signal"])
        await _running_time(how["timeout_seconds"])
        self._set(live, "Terminating", note=f"killed after {how['timeout_seconds']} s")
        _signal_group(live.pid, signal.SIGKILL)

    async def _stop(self, live: Live) -> None:
        live.halt.set()
        self._notify()
        if live.task:
            await asyncio.wait([live.task])

    async def _stop_in_order(self) -> None:
        stops: dict[str, asyncio.Task[None]] = {}

        async def after_dependents(live: Live) -> None:
            for other in self.all.values():
                if live.name in other.spec["depends_on"]:
                    await asyncio.wait([stops[other.name]])
            await self._stop(live)

        for live in self.all.values():
            if not live.pid:
                live.halt.set()  # what waits shall not start while others stop
            stops[live.name] = asyncio.create_task(after_dependents(live))
        self._notify()
        await asyncio.wait(stops.values())
        self.over.set()

    async def _restart(self, live: Live) -> None:
        async with live.restarting:  # two requests at once must not start it twice
            await self._stop(live)
            if self.stopping:
                return
            live.halt.clear()
            live.restarts += 1
            self._set(live, "Pending")
            live.task = asyncio.create_task(self._live(live))

    # Health

    async def _probe(self, live: Live) -> None:
        """Probe while the process runs: say when it is ready, end it when the probe fails for too long.

        What counts is the time of tries that were made when they were due, as process-compose counts tries.
        """
        probe = live.spec.get("readiness_probe")
        if not probe:
            return
        await asyncio.sleep(probe["initial_delay_seconds"])
        first_pause = min(FIRST_PROBE_INTERVAL_SECONDS, probe["period_seconds"])
        allowed = probe["period_seconds"] * probe["failure_threshold"]
        failing, pause = Stopwatch(), first_pause
        while True:
            good = await _probe_once(probe, live)
            if live.status != "Running":
                return
            failed = failing.seconds(pause + probe["timeout_seconds"])
            if good:
                failing, pause = Stopwatch(), probe["period_seconds"]
            elif "exec" in probe:  # a program each time, which takes the processor from what is starting
                pause = min(pause * PROBE_INTERVAL_GROWTH, probe["period_seconds"])
            if live.health != (READY if good else NOT_READY):
                self._set(live, "Running", READY if good else NOT_READY)
            if not good and failed > allowed:
                self._set(live, "Running", NOT_READY, f"readiness_probe failed for {allowed} s")
                await self._end(live)
                return
            await asyncio.sleep(pause)

    # The API

    async def _listen(self) -> asyncio.AbstractServer:
        """Listen on the socket, from within its folder, since the path of a socket may have 103 bytes only."""
        self.socket.unlink(missing_ok=True)
        before, mask = Path.cwd(), os.umask(0o077)
        os.chdir(self.socket.parent)
        try:
            return await asyncio.start_unix_server(self._serve, self.socket.name)
        finally:
            os.chdir(before)
            os.umask(mask)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            code, answer = await self._answer(method, path)
            body = json.dumps(answer).encode()
            writer.write(
                f"HTTP/1.1 {code}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        writer.close()

    async def _answer(self, method: str, path: str) -> tuple[str, dict[str, t.Any]]:
        verb, _, name = path.rpartition("/")
        if (method, path) == ("GET", "/live"):
            return "200 OK", {"status": "alive"}
        if (method, path) == ("GET", "/processes"):
            return "200 OK", {"data": [live.row() for live in self.all.values()]}
        if (method, path) == ("POST", "/project/stop"):
            self.stop_all()
            return "200 OK", {"status": "stopped"}
        action = {("POST", "/process/restart"): self._restart, ("PATCH", "/process/stop"): self._stop}.get(
            (method, verb)
        )
        if not action:
            return "404 Not Found", {"error": f"no {method} {path} here"}
        if name not in self.all or self.stopping:
            return "400 Bad Request", {"error": f"process {name} does not exist, or everything is stopping"}
        await action(self.all[name])
        return "200 OK", {"name": name}


# Helpers without state ----------------------------------------------------------------------------


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


async def _running_time(seconds: float) -> None:
    """Wait until so many seconds have passed in which the processes could run."""
    clock = Stopwatch()
    while (left := seconds - clock.seconds(POLL_INTERVAL_SECONDS)) > 0:  # noqa: ASYNC110 - time itself is waited for
        await asyncio.sleep(min(left, POLL_INTERVAL_SECONDS))


async def _wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so many seconds."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _process_env(live: Live) -> dict[str, str]:
    given = dict(one.split("=", 1) for one in live.spec["environment"])
    return {**os.environ, "PC_PROC_NAME": live.name, **given}


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _open_log(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _rotate(spec: Process) -> None:
    """Copy and truncate a log that has grown too long; its writers append, so they go on at the new end.

    What is written between the copy and the truncation is lost: a few milliseconds each max_size_mb.
    """
    log, rule = spec["log_location"], spec["log_configuration"].get("rotation", {})
    with contextlib.suppress(OSError):  # none yet, or the disk is full: the next look tries again
        if "max_size_mb" not in rule or os.stat(log).st_size <= rule["max_size_mb"] << 20:  # noqa: PTH116
            return
        for number in range(rule.get("max_backups", 1) - 1, 0, -1):
            if Path(f"{log}.{number}").exists():
                Path(f"{log}.{number}").replace(f"{log}.{number + 1}")
        shutil.copyfile(log, f"{log}.1")
        Path(f"{log}.1").chmod(0o600)
        os.truncate(log, 0)


async def _probe_once(probe: dict[str, t.Any], live: Live) -> bool:
    """Try a readiness probe once, and return whether it succeeded."""
    try:
        async with asyncio.timeout(probe["timeout_seconds"]):
            if "exec" in probe:
                return await _exec_succeeds(probe["exec"]["command"], live)
            return await _http_status(probe["http_get"]) == 200
    except (OSError, ValueError, IndexError):  # TimeoutError is an OSError
        return False


async def _exec_succeeds(command: str, live: Live) -> bool:
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=live.spec.get("working_dir"),
        env=_process_env(live),
        start_new_session=True,
    )
    try:
        return await process.wait() == 0
    finally:  # a probe that hangs goes with all it has started
        _signal_group(process.pid, signal.SIGKILL)


async def _http_status(at: dict[str, t.Any]) -> int:
    reader, writer = await asyncio.open_connection(at["host"], at["port"])
    try:
        host = f"[{at['host']}]" if ":" in at["host"] else at["host"]
        writer.write(f"GET {at['path']} HTTP/1.1\r\nHost: {host}:{at['port']}\r\nConnection: close\r\n\r\n".encode())
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def run(processes: dict[str, Process], socket: Path) -> None:
    """Run the processes until SIGTERM, SIGINT or a request to the API stops them."""
    if sys.version_info < (3, 12):
        with contextlib.suppress(OSError, AttributeError):  # a kernel or a Python without it
            os.close(os.pidfd_open(os.getpid()))
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())  # else a thread for each process and probe

    async def main() -> None:
        await Supervisor(processes, socket).run()

    asyncio.run(main())
