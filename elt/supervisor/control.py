"""Start, join, watch and stop the processes of a process-compose.yaml.

Whichever supervisor runs it, `Stack` talks to it in one way. Whether a supervisor runs is known by a lock that it
holds as long as it lives, never by the content of a file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from elt.errors import SetupError, StackError
from elt.supervisor import guard, health, lockfile, orphans, ports, signals, spec
from elt.supervisor.client import ANSWER_SECONDS, SOCKET_NAME, Client, Row, short_path
from elt.supervisor.facts import Facts, state_of
from elt.supervisor.logs import last_lines
from elt.supervisor.progress import FINISHED, Change, Progress

if t.TYPE_CHECKING:
    import socket

UNFINISHED = "restore.unfinished"
"""File in the state folder while a restore is not complete (elt/maintenance/backup.py)."""
SUPERVISOR_NAME = "elt-supervisor"
"""Name under which the guard around the supervisor is registered."""
STOP_TIMEOUT_SECONDS = 60
"""Seconds that the supervisor has to stop everything in order."""
MAX_RESTARTS = 3
"""Restarts of a process that was never healthy after which `up` gives up."""
LOG_TAIL_LINES = 15
"""Lines of a log that an error shows."""


class Plan(t.NamedTuple):
    """Hold what a start needs to know besides the process-compose.yaml.

    Attributes:
        listeners: addresses and ports that must be free, by the name of the port's setting.
        shared: those of them that the guard of the supervisor holds as well.
        settings: values by name; a stack that runs with others is not joined.
        optional: processes without which a start is complete: one that fails is stopped and reported in a line.
    """

    listeners: t.Mapping[str, tuple[str, int]] = {}
    shared: t.Collection[tuple[str, int]] = ()
    settings: t.Mapping[str, str] = {}
    optional: t.Collection[str] = ()


class Stack:
    """Run a process-compose.yaml in its folder.

    Args:
        file: the process-compose.yaml.
        state: the state folder ($ELT_STATE).
        root: working folder of the processes; default: that of the file.
        tools: where bootstrap may have put process-compose.
    """

    def __init__(self, file: Path, state: Path, root: Path | None = None, tools: Path | None = None) -> None:
        self.file, self.state, self.root = file, state, root or file.parent
        self.tools = tools or state / "tools"
        self.run, self.logs = state / "run", state / "logs"
        self.client = Client(self.run)
        self.child: subprocess.Popen[bytes] | None = None
        """The supervisor, while the `up` that started it waits."""
        self.facts = Facts(self.run / "stack.json")
        self.on_change: t.Callable[[Change], None] = lambda _: None
        """Called with each change of a process' state while `up` or `restart` waits, also when these fail."""

    # up

    def up(
        self,
        env: t.Mapping[str, str],
        timeout: float,
        plan: Plan | None = None,
        supervisor: str = "auto",
    ) -> bool:
        """Start the stack, or join the one that runs, and wait until every process is healthy.

        Args:
            env: environment of the supervisor and all processes.
            timeout: seconds until everything must be healthy.
            plan: what the file does not say of the processes.
            supervisor: auto, process-compose or embedded.

        Returns:
            Whether this call started it.

        Raises:
            ConfigError: the file does not fit.
            SetupError: a port is taken, or there is no such supervisor.
            StackError: a process failed or took too long; everything has been stopped again.
            SystemExit: with 130 after Ctrl-C or SIGTERM; everything has been stopped again.
        """
        env = {**env, "ELT_STATE": str(self.state)}
        processes = spec.load(self.file, env)
        plan = plan or Plan()
        needed = ports.wanted(plan.listeners, processes)
        for folder in (self.state, self.run, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with signals.interruptible():
            try:
                while True:
                    self._start_unless_running(env, processes, needed, plan, supervisor)
                    with contextlib.suppress(_GoneError):  # the one that was joined has ended: start anew
                        self._wait_healthy(timeout, optional=set(plan.optional))
                        return self._detach()
            except (StackError, KeyboardInterrupt, BrokenPipeError):
                if self.child:
                    print("stopping everything", flush=True)
                    self._stop()
                raise

    def _start_unless_running(
        self,
        env: dict[str, str],
        processes: dict[str, spec.Process],
        needed: t.Mapping[tuple[str, int], str],
        plan: Plan,
        supervisor: str,
    ) -> None:
        with self._lock() as lock:
            if lock is None:
                self.facts.refuse_other_settings(plan.settings)
                print("the stack is running already", flush=True)
                return
            self._refuse_half_files()
            self.facts.path.unlink(missing_ok=True)  # those of an earlier start
            for name, count in orphans.reap(self.state).items():
                print(f"{name}: ended {count} orphaned processes of a killed supervisor", flush=True)
            ports.check(needed)
            kind, command, why = self.choose(supervisor, env)
            print(f"supervisor: {kind} ({why})", flush=True)
            self.facts.write(kind, processes, plan.settings, self.root)
            (self.run / SOCKET_NAME).unlink(missing_ok=True)
            with signals.held():
                self.child = self._spawn(command, env, lock, {port for _, port in needed}, plan.shared)

    def _refuse_half_files(self) -> None:
        if lockfile.is_held(self.run, lockfile.FILES):
            raise SetupError("a backup or a restore is at work on the files: start when it has ended")
        if (self.state / UNFINISHED).exists():
            raise SetupError("a restore has not come to its end: repeat scripts/restore.sh FILE, then start")

    def _detach(self) -> bool:
        """Detach from the supervisor, and return whether this process started it."""
        if not self.child:
            return False
        self.child.returncode = 0  # else Python would warn that nobody waited for it
        self.child = None
        return True

    def choose(self, wanted: str, env: t.Mapping[str, str]) -> tuple[str, list[str], str]:
        """Choose the supervisor, and return its name, its command, and why it was chosen.

        Raises:
            SetupError: process-compose is wanted and cannot be had.
        """
        program = shutil.which(
            "process-compose", path=os.pathsep.join((env.get("PATH", os.defpath), str(self.tools / "bin")))
        )
        socket = short_path(self.run / SOCKET_NAME, self.root)
        embedded = [sys.executable, "-P", "-m", "elt.supervisor", str(self.file)]
        if wanted == "embedded":
            return "embedded", embedded, "as ELT_SUPERVISOR says"
        if program and socket:
            log = str(self.logs / "supervisor.log")
            command = [program, "up", "-f", str(self.file), "-t=false", "--disable-dotenv", "--keep-project"]
            command += ["-L", log, "-U", "-u", socket]
            return "process-compose", command, program
        lack = "the state folder's path is too long for its socket" if program else "no process-compose on PATH"
        if wanted == "process-compose":
            raise SetupError(f"ELT_SUPERVISOR=process-compose, but {lack}: set ELT_SUPERVISOR=embedded in .env")
        return "embedded", embedded, lack

    def _spawn(
        self,
        command: list[str],
        env: dict[str, str],
        lock: int,
        ipv6_ports: t.Iterable[int],
        shared: t.Iterable[tuple[str, int]],
    ) -> subprocess.Popen[bytes]:
        """Start the supervisor in a session of its own, behind the guard that holds the lock and the ports.

        Raises:
            SetupError: another program took one of these.
        """
        guarded = [sys.executable, "-IS", guard.__file__, "--keep", SUPERVISOR_NAME]
        guarded += ["-t", str(STOP_TIMEOUT_SECONDS), *command]
        env = {key: value for key, value in env.items() if not key.startswith("PC_")}
        env |= {"PROC_COMP_CONFIG": str(self.run / "process-compose"), "PC_LOG_NO_COLOR": "1"}
        log = os.open(self.logs / "supervisor.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        is_embedded = command[0] == sys.executable
        held: list[socket.socket] = []
        try:
            held += ports.bind_ipv6_ports(ipv6_ports)
            held += ports.hold(shared)
            return subprocess.Popen(
                guarded,
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log if is_embedded else subprocess.DEVNULL,  # the other repeats every process's log there
                stderr=log,
                start_new_session=True,
                pass_fds=(lock, *(one.fileno() for one in held)),
            )
        except OSError as error:
            raise SetupError(f"the supervisor cannot start: {error}") from None
        finally:
            os.close(log)
            for one in held:
                one.close()

    def _wait_healthy(self, timeout: float, only: str | None = None, optional: set[str] | None = None) -> None:
        """Show each process until all (or the one) are healthy, without optional ones that fail.

        Raises:
            StackError: a process failed or the time is up.
            _GoneError: the supervisor of the stack that was joined has ended.
        """
        waited = guard.Stopwatch()
        with Progress(self.on_change) as progress:
            before: dict[str, int] = {}
            states: dict[str, str] = {}
            left_out: set[str] = set()
            while waited.seconds(ANSWER_SECONDS) < timeout:
                try:
                    states, failed = self._query(before, only)
                    for name in failed.keys() - left_out:
                        self._leave_out(name, failed[name], optional or set())
                    left_out |= failed.keys()
                except StackError:
                    if self.child or not self._is_stopping():
                        raise
                    continue
                states = {name: state for name, state in states.items() if name not in left_out}
                progress.show(states)
                if states and set(states.values()) <= FINISHED:
                    return
                if not states:
                    self._check_alive()
                time.sleep(0.1)
        late = [name for name, state in states.items() if state not in FINISHED | {"waiting"}] or [*states, ""]
        if late[0] and set(late) <= (optional or set()):
            for name in late:
                self._leave_out(name, f"{name}: not healthy after {timeout:g} s", {name})
            return
        what = f"{late[0]}: not healthy after {timeout:g} s" if late[0] else f"nothing after {timeout:g} s"
        raise StackError(self._with_log_tail(what, late[0]))

    def _leave_out(self, name: str, why: str, optional: set[str]) -> None:
        """Stop an optional process that failed, and say so.

        Raises:
            StackError: it is not optional.
        """
        if name not in optional:
            raise StackError(self._with_log_tail(why, name))
        print(f"  {why}; the rest runs without it, elt logs {name} says more", flush=True)
        with contextlib.suppress(OSError):
            self.client.stop(name)

    def _query(self, before: dict[str, int], only: str | None) -> tuple[dict[str, str], dict[str, str]]:
        """Query the state of each process, in the order of the file.

        Returns:
            The state of each, nothing when no supervisor answers; and of each that has failed for good or too often,
            what happened.

        Raises:
            StackError: some are skipped, as what they depend on has failed.
        """
        states, failed = {}, {}
        for row, state in self.rows():
            name = row["name"]
            if only not in {None, name}:
                continue
            again = row["restarts"] - before.setdefault(name, row["restarts"])
            if state == "failed":
                failed[name] = f"{name}: ended with exit code {row['exit_code']}"
            elif state not in FINISHED and again >= MAX_RESTARTS:
                failed[name] = f"{name}: ended {again} times, last with exit code {row['exit_code']}"
            states[name] = state
        if not failed and set(states.values()) <= FINISHED | {"skipped"} and "skipped" in states.values():
            raise StackError(f"skipped: {', '.join(name for name in states if states[name] == 'skipped')}")
        return states, failed

    def _is_stopping(self) -> bool:
        """Return whether the stack that was joined is being stopped, so that what ends there has not failed."""
        if any(state == "stopping" for _, state in self.rows()):
            return True
        time.sleep(0.5)
        states = [state for _, state in self.rows()]
        return not states or "stopping" in states

    def _check_alive(self) -> None:
        if self.child and self.child.poll() is not None:
            code = self.child.returncode
            raise StackError(self._with_log_tail(f"the supervisor ended with exit code {code}", SUPERVISOR_NAME))
        if not self.child and not self.is_running():
            raise _GoneError

    def _with_log_tail(self, what: str, name: str) -> str:
        log = self._log_of(name) if name and name != SUPERVISOR_NAME else self.logs / "supervisor.log"
        lines = last_lines(log, LOG_TAIL_LINES)
        return f"{what}; {log} ends with:\n{''.join(lines)}".rstrip() if lines else f"{what}; {log} is empty"

    # down

    def down(self) -> bool:
        """Stop everything, end orphaned processes of a killed supervisor, and return whether one ran.

        Raises:
            StackError: something could not be ended.
        """
        was_running = self.is_running()
        self._stop()
        return was_running

    def _stop(self) -> None:
        """Ask the supervisor to stop, wait for its end, kill it if need be, and reap orphaned processes."""
        with signals.uninterruptible():
            waited, asked = guard.Stopwatch(), False
            while (lock := lockfile.take(self.run)) is None and waited.seconds(ANSWER_SECONDS) < STOP_TIMEOUT_SECONDS:
                asked = asked or self.client.stop_all()
                if not asked and self.child:  # it does not listen yet
                    self.child.terminate()
                time.sleep(0.05)
            if lock is None:
                self._kill_supervisor()
                lock = lockfile.take(self.run)
            if lock is None:
                raise StackError(f"the supervisor did not end; it holds {self.run / lockfile.NAME}")
            try:
                if self.child:
                    self.child.wait()
                    self.child = None
                for name, count in orphans.reap(self.state).items():
                    print(f"{name}: ended {count} orphaned processes", flush=True)
                (self.run / SOCKET_NAME).unlink(missing_ok=True)
            finally:
                os.close(lock)

    def _kill_supervisor(self) -> None:
        """Kill the supervisor's guard: the kernel then ends the supervisor, and its guards end their processes."""
        record = orphans.records(self.state).get(SUPERVISOR_NAME)
        if record and record.is_live():
            guard.end({record.guard})
            time.sleep(0.5)

    # The lock

    def is_running(self) -> bool:
        """Return whether a supervisor runs (or is about to)."""
        return lockfile.is_held(self.run)

    @contextlib.contextmanager
    def _lock(self) -> t.Iterator[int | None]:
        lock = lockfile.take(self.run)
        try:
            yield lock
        finally:
            if lock is not None:
                os.close(lock)  # a supervisor that inherited it holds it still

    # Requests to a running stack

    def rows(self) -> list[tuple[Row, str]]:
        """Return each process with its state, in the order of the file; nothing when no supervisor answers."""
        try:
            rows = self.client.processes()
        except OSError:
            return []
        facts = self.facts.read()
        order = {name: place for place, name in enumerate(facts["logs"])}
        # process-compose keeps the id of a process that has ended
        rows = [row | ({} if row["is_running"] else {"pid": 0}) for row in rows if row["status"] != "Disabled"]
        rows.sort(key=lambda row: order.get(row["name"], len(order)))
        return [(row, self._state(row, facts)) for row in rows]

    def _state(self, row: Row, facts: t.Mapping[str, t.Any]) -> str:
        """Return its state; "unhealthy" when elt-probe found it healthy since its start, and no longer does."""
        state = state_of(row, facts)
        if state == "starting" and health.is_stale(guard.register_path(row["name"], str(self.state))):
            return "unhealthy"
        return state

    def restart(self, name: str, timeout: float) -> None:
        """Restart a process and wait until it is healthy.

        Raises:
            StackError: the stack does not run, there is no such process, or it did not become healthy.
        """
        names = [row["name"] for row, _ in self.rows()]
        if not names:
            raise StackError("the stack is not running: start it with `elt up`")
        if name not in names:
            raise StackError(f"no process {name!r}; there are {', '.join(names)}")
        try:
            self.client.restart(name, timeout)
        except OSError as error:
            raise StackError(f"{name}: could not be restarted: {error}") from None
        try:
            self._wait_healthy(timeout, only=name)
        except _GoneError:
            raise StackError("the stack was stopped meanwhile") from None

    def log(self, name: str) -> Path:
        """Return the log file of a process.

        Raises:
            StackError: there is none.
        """
        path = self.logs / "supervisor.log" if name == "supervisor" else self._log_of(name)
        if not path.exists():
            there = sorted(one.stem for one in self.logs.glob("*.log"))
            raise StackError(f"no log of {name!r}; there are {', '.join(there) or 'none yet'}")
        return path

    def supervisor(self) -> str:
        """Return the name of the supervisor that runs or ran the stack; "" before the first start."""
        return str(self.facts.read()["supervisor"])

    def _log_of(self, name: str) -> Path:
        return Path(self.facts.read()["logs"].get(name, self.logs / f"{name}.log"))


class _GoneError(Exception):
    """Signal that the supervisor of the stack that was joined has ended."""
