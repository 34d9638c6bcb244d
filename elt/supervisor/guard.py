"""Run one process of the stack so that its end is noticed at once and no orphaned process stays behind.

`elt-guard [-s SIGNAL] [-t SECONDS] COMMAND...` stands before each long-running command of
process-compose.yaml, under whichever supervisor runs the file:

- When COMMAND ends, its process tree is killed, so that no orphan hides the end, holds a port or keeps the
  supervisor's log pipe open; then the guard ends with COMMAND's exit code (128 + n after signal n).
- A signal is passed on to COMMAND alone, and a request to stop only once, since some programs take the second
  for "now". The supervisor must therefore signal only the guard: `shutdown.parent_only: true`.
- SECONDS (default 8) after the request the whole process tree is killed. `shutdown.timeout_seconds` must be longer:
  it is the supervisor's own and last means, and reaches only the process group.
- When the supervisor vanishes, COMMAND gets SIGNAL (default TERM) and the same grace period.
- When the guard itself is killed, the kernel kills COMMAND (Linux).
- It is registered in `$ELT_STATE/run/processes/$PC_PROC_NAME.json`; `read` is for health probes.

`elt-guard --keep NAME COMMAND...` is what `up` puts around the supervisor itself. It registers as NAME, ends
at once every orphan that reaches it (its own guard was killed), and when the supervisor is killed it waits for
the guards below to end their processes in order, before it kills what is left.

`elt-guard --fork NAME COMMAND...` has the fork server NAME of the stack fork COMMAND, whose modules it has imported
already (elt/services/preload.py). All of the above holds; the two ends of a connection take the place of parent and
child.
Where no such server answers, ELT_PRELOAD is off or the system is not Linux, the guard runs COMMAND as always.

Linux has all of it. Elsewhere orphans are found by process group only, and the parent is looked at each second.
Standard library only, and as little of it as possible: one of these starts with every process.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing costs 5 ms
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED = (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
HANDLED = (*PASSED, signal.SIGCHLD)

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

LINUX = sys.platform == "linux"
GRACE_SECONDS = 8.0
"""Seconds between the request to stop and SIGKILL for the process tree, unless -t says otherwise."""
POLL_INTERVAL_SECONDS = 1.0
"""Seconds between two looks at what the kernel does not report by itself."""
FORK_SERVER_TIMEOUT_SECONDS = 10.0
"""Seconds to wait for the fork server before running COMMAND directly."""
FORK_SERVER_ANSWER_SECONDS = 60.0
"""Seconds to wait for the answer of the fork server, which sends none while it imports."""
LATE_SECONDS = 3.0
"""Seconds by which a poll may be late; after more than that this process was suspended."""
READY = b"ready\n"
"""Answer of the fork server to an empty request."""
KILL_TIMEOUT_SECONDS = 5.0
"""Seconds to wait for processes to end after SIGKILL: one that is stuck in the kernel, or another user's, stays."""


class Stopwatch:
    """Count seconds for a time-out, without those in which this process was suspended.

    A machine that sleeps, a paused container and a lack of memory stop this process together with what it waits for.
    So a poll that comes much later than planned starts the count anew.
    """

    __slots__ = ("_began", "_seen")

    def __init__(self) -> None:
        self._began = self._seen = time.monotonic()

    def seconds(self, planned: float = 0) -> float:
        """Return the count, when this call was planned for `planned` seconds after the one before."""
        now = time.monotonic()
        if now - self._seen > planned + LATE_SECONDS:
            self._began = now
        self._seen = now
        return now - self._began


class Row:
    """Hold what the system says of one process: parent, process group and start time."""

    __slots__ = ("group", "parent", "start")

    def __init__(self, parent: int, group: int, start: str) -> None:
        self.parent, self.group, self.start = parent, group, start


class Record:
    """Describe a process of the stack as its guard registered it.

    Attributes:
        guard: the guard's process id; also the process group of all it started, unless they changed it.
        guard_start: the guard's start, as `start_of` tells it.
        main: the guarded command's process id.
        main_start: its start.
        started_at: unix time in seconds, taken before the command was started.
    """

    __slots__ = ("guard", "guard_start", "main", "main_start", "started_at")

    def __init__(self, guard: int, guard_start: str, main: int, main_start: str, started_at: float) -> None:
        self.guard, self.guard_start = guard, guard_start
        self.main, self.main_start, self.started_at = main, main_start, started_at

    def is_live(self) -> bool:
        """Return whether the guard of this record still runs."""
        return start_of(self.guard) == self.guard_start


# What runs on this machine -----------------------------------------------------------------------


def _boot() -> str:
    """Return an identifier of this boot, since start times are counted from it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - pathlib costs 5 ms
            return file.read(8)
    except OSError:
        return ""


def _stat(pid: int | str) -> Row | None:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    if fields[0] in "ZX":
        return None
    return Row(int(fields[1]), int(fields[2]), fields[19])


def processes() -> dict[int, Row]:
    """Return every process of this machine by its id, without zombies; `start` lacks the identifier of the boot."""
    if os.path.isdir("/proc/self"):  # noqa: PTH112
        rows = {int(pid): _stat(pid) for pid in os.listdir("/proc") if pid.isdigit()}  # noqa: PTH208
        return {pid: row for pid, row in rows.items() if row}
    return _ps("-A")


def _ps(*which: str) -> dict[int, Row]:
    import subprocess  # noqa: PLC0415 - not on Linux

    columns = "pid=,ppid=,pgid=,stat=,lstart="
    with subprocess.Popen(
        ["ps", *which, "-o", columns], stdout=subprocess.PIPE, text=True, env={"LC_ALL": "C", "PATH": os.defpath}
    ) as ps:
        lines = ps.communicate()[0].splitlines()
    found = {}
    for line in lines:
        pid, parent, group, state, start = line.split(None, 4)
        if not state.startswith("Z") and int(pid) != ps.pid:  # it sees itself, as a child of ours
            found[int(pid)] = Row(int(parent), int(group), start.strip())
    return found


def start_of(pid: int) -> str:
    """Return when a process started, in a form unique on this machine; "" when it is gone."""
    row = _stat(pid) if LINUX else _ps("-p", str(pid)).get(pid)
    return f"{row.start}@{_boot()}" if row else ""


def process_tree(roots: set[int], table: dict[int, Row] | None = None) -> set[int]:
    """Return the ids of all descendants of `roots`, without these."""
    rows = processes() if table is None else table
    found: set[int] = set()
    layer = roots
    while layer := {pid for pid, row in rows.items() if row.parent in layer} - found - roots:
        found |= layer
    return found


def children() -> set[int]:
    """Return the ids of this process's children."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children") as file:  # noqa: PTH123
            return set(map(int, file.read().split()))
    except OSError:
        return {pid for pid, row in processes().items() if row.parent == me}


def end(pids: set[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to each process; those that are gone or belong to another user are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


# The register ------------------------------------------------------------------------------------


def register_path(name: str, state: str | None = None) -> str:
    """Return the path of a process's record; "" without a state folder, which defaults to $ELT_STATE."""
    state = state or os.environ.get("ELT_STATE", "")
    return os.path.join(state, "run", "processes", f"{name}.json") if state else ""  # noqa: PTH118


def read(name: str, state: str | None = None) -> Record | None:
    """Read the record of a process of the stack; None when its guard does not run.

    Args:
        name: the process's name in process-compose.yaml.
        state: the state folder, default $ELT_STATE.
    """
    record = read_record(register_path(name, state))
    return record if record and record.is_live() else None


def read_record(path: str) -> Record | None:
    """Read a record from its file, whether or not its guard still runs; None when there is none."""
    import json  # noqa: PLC0415 - only readers pay for it

    try:
        with open(path) as file:  # noqa: PTH123
            fields = json.load(file)
        return Record(**{key: fields[key] for key in Record.__slots__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _register(path: str, main: int, started_at: float) -> str:
    """Write the record atomically and return its text; "" when it could not be written."""
    me = os.getpid()
    text = (
        f'{{"guard": {me}, "guard_start": "{start_of(me)}", "main": {main}, '
        f'"main_start": "{start_of(main)}", "started_at": {started_at!r}}}\n'
    )
    temporary = f"{path}.{me}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, text.encode())
        os.close(fd)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        os.write(2, f"elt-guard: {path}: {error.strerror}\n".encode())
        return ""
    return text


def _unregister(path: str, text: str) -> None:
    """Remove the record, unless another guard has written its own in the meantime."""
    try:
        with open(path) as file:  # noqa: PTH123
            ours = file.read() == text
        if ours:
            os.unlink(path)  # noqa: PTH108
    except OSError:
        return


# The guard ---------------------------------------------------------------------------------------


def refresh(guard: int) -> None:
    """Reset signals and descriptors in a child that was just forked, and have the kernel end it with its guard."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:  # it ended before the kernel knew that it matters
        os._exit(128 + signal.SIGKILL)
    os.closerange(3, 1024)  # a lock that the guard holds must not live on in its command
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process in the kernel; do nothing where that is not Linux."""
    if LINUX:
        import ctypes  # noqa: PLC0415 - 3 ms, and only the guard needs it

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Guard:
    """Run one command, from its start to the end of the last of its descendants."""

    def __init__(self, command: list[str], vanish_signal: int, grace_seconds: float, keep: str) -> None:
        self.command, self.vanish_signal, self.grace_seconds, self.keep = command, vanish_signal, grace_seconds, keep
        self.main = 0
        self.status: int | None = None
        self.passed: set[int] = set()
        self.deadline = float("inf")
        self.parent = 0 if keep else os.getppid()  # 0: not watched, as `up` ends long before its supervisor
        self.parent_end = self._open_parent()
        self.wake, writer = os.pipe()
        os.set_blocking(writer, False)
        for number in HANDLED:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def run(self) -> int:
        """Run the command and return the exit code to end with."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        started_at = time.time()
        self._start()
        name = self.keep or os.environ.get("PC_PROC_NAME", "")
        path = register_path(name) if name else ""
        text = _register(path, self.main, started_at) if path and self.main else ""
        self._watch()
        if text:
            _unregister(path, text)
        return self.exit_code()

    def exit_code(self) -> int:
        """Return the command's exit code, or 137 if it had to be killed."""
        return 128 + signal.SIGKILL if self.status is None else self.status

    def _watch(self) -> None:
        """Wait until the command has ended or its time is up, and kill what is left of its process tree."""
        while self.status is None and time.monotonic() < self.deadline:
            self._wait()
        if self.keep:
            self._let_guards_finish()
        self._end_process_tree()

    def _open_parent(self) -> int | None:
        """Return a descriptor that becomes readable when the parent ends; None where it must be polled."""
        try:
            return os.pidfd_open(self.parent) if LINUX and self.parent else None
        except (OSError, AttributeError):  # gone already, or a kernel or a Python without it
            return None

    def _start(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        me = os.getpid()
        self.main = os.fork()
        if not self.main:
            try:
                self._become(me)
            except OSError as error:
                os.write(2, f"elt-guard: {self.command[0]}: {error.strerror}\n".encode())
            finally:
                os._exit(127)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _become(self, guard: int) -> None:
        """Execute the command in the child, with the signal state and descriptors of a fresh process."""
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        refresh(guard)
        os.execvp(self.command[0], self.command)  # noqa: S606 - that is what a guard is for

    def _wait(self, longest: float = float("inf")) -> None:
        """Sleep until something happens, at most `longest` seconds, and handle it."""
        looks = self.keep or (self.parent_end is None and self.parent)
        before = time.monotonic()
        timeout = min(POLL_INTERVAL_SECONDS if looks else longest, self.deadline - before)
        ready = select.select(self._ends(), [], [], None if timeout == float("inf") else max(timeout, 0))[0]
        if (slept := time.monotonic() - before) > timeout + LATE_SECONDS:
            self.deadline += slept  # the command could not run either
        received = os.read(self.wake, 256) if self.wake in ready else b""
        self._reap()
        self._look(ready)
        if self.status is not None:
            return
        for number in received:
            if number != signal.SIGCHLD:
                self._pass(number)
        if self.parent and (self.parent_end in ready or os.getppid() != self.parent):
            self._parent_vanished()
        if self.keep:
            end(self._orphans())

    def _ends(self) -> list[int]:
        """Return the descriptors that become readable when something happens."""
        return [self.wake] if self.parent_end is None else [self.wake, self.parent_end]

    def _look(self, ready: list[int]) -> None:
        """Handle what no signal reports; here nothing."""

    def _pass(self, number: int) -> None:
        if number in STOPS:
            if number in self.passed:
                return
            self.passed.add(number)
            self.deadline = min(self.deadline, time.monotonic() + self.grace_seconds)
            if not self.main:  # another process is about to fork it
                self.status = 128 + number
        if self.main:
            end({self.main}, number)

    def _parent_vanished(self) -> None:
        if self.parent_end is not None:
            os.close(self.parent_end)
        self.parent_end, self.parent = None, 0
        self._pass(self.vanish_signal)

    def _reap(self) -> None:
        """Collect the exit status of what has ended: the command, and orphans that this process adopted."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.main:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self.status = code if code >= 0 else 128 - code
        except ChildProcessError:
            return

    def _orphans(self) -> set[int]:
        """Return the processes that this one adopted because their own guard is gone, with their descendants."""
        adopted = children() - {self.main}
        return adopted | process_tree(adopted) if adopted else set()

    def _let_guards_finish(self) -> None:
        """Wait for the guards of a supervisor that is gone, which stop their processes in order."""
        waited = Stopwatch()
        while waited.seconds() < self.grace_seconds and children():
            time.sleep(0.02)
            self._reap()

    def _end_process_tree(self) -> None:
        """Kill all descendants of this process, until none is left."""
        waited = Stopwatch()
        me = os.getpid()
        while waited.seconds() < KILL_TIMEOUT_SECONDS:
            table = processes()
            left = process_tree({me}, table)
            if not LINUX and os.getpgrp() == me:  # no adoption there: the process group is what binds them
                left |= {pid for pid, row in table.items() if row.group == me} - {me}
            if not left:
                break
            end(left)
            time.sleep(0.005)
            self._reap()
        self._reap()


class Remote(Guard):
    """Run a command that a fork server forks: a child of the server is its parent and ends its process tree.

    Over the connection that child sends the command's process id, then its exit code, a line each, and closes it when
    nothing is left. When this end is closed, the child kills the command.
    """

    def __init__(self, command: list[str], vanish_signal: int, grace_seconds: float, server: str) -> None:
        super().__init__(command, vanish_signal, grace_seconds, "")
        self.server, self.received = server, b""
        self.connection: socket.socket | None = None

    def _start(self) -> None:
        clock, why = Stopwatch(), ""
        while not self.main and self.status is None:
            waited = clock.seconds(POLL_INTERVAL_SECONDS)
            if self.connection:
                if waited > FORK_SERVER_ANSWER_SECONDS:
                    why = "does not answer"
                    break
                self._wait(0.5)
                continue
            if why and waited > FORK_SERVER_TIMEOUT_SECONDS:
                break
            try:
                self.connection = ask(self.server, self._request())
                why = "ended before it forked"
            except OSError as error:
                why = error.strerror or str(error)
                self._wait(0.05)
        if not self.main and self.status is None:
            os.write(2, f"elt-guard: {self.server}: {why}; runs without it\n".encode())
            self._disconnect()
            super()._start()

    def _request(self) -> bytes:
        import json  # noqa: PLC0415

        os.umask(mask := os.umask(0))
        limits = {value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
        request = {
            "command": self.command,
            "env": dict(os.environ),
            "folder": os.getcwd(),  # noqa: PTH109
            "umask": mask,
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "limits": [(number, *resource.getrlimit(number)) for number in sorted(limits)],
        }
        return json.dumps(request).encode()

    def _ends(self) -> list[int]:
        return super()._ends() + ([self.connection.fileno()] if self.connection else [])

    def _look(self, ready: list[int]) -> None:
        if self.connection and self.connection.fileno() in ready:
            self._receive(self.connection)

    def _pass(self, number: int) -> None:
        if not self.main and self.connection and select.select([self.connection], [], [], POLL_INTERVAL_SECONDS)[0]:
            self._receive(self.connection)  # it was forked, and shall end as it wants to
        super()._pass(number)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(64)
        except ConnectionError:
            data = b""
        self.received += data
        main, *status = self.received.split(b"\n")[:-1] or [b"0"]
        self.main = int(main)
        if status:
            self.status = int(status[0])
        elif not data and self.main:
            self.status = 128 + signal.SIGKILL
        elif not data:  # it ended before it forked: the next one may do it
            self._disconnect()

    def _disconnect(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def _end_process_tree(self) -> None:
        if self.connection:
            self.connection.settimeout(KILL_TIMEOUT_SECONDS)
            try:
                self.connection.shutdown(1)  # SHUT_WR
                while self.connection.recv(64):
                    pass
            except OSError:  # the child is gone, or what it must kill cannot be killed
                pass
        super()._end_process_tree()


def uses_fork_server() -> bool:
    """Return whether processes come from a fork server: setting ELT_PRELOAD, on Linux."""
    return LINUX and os.environ.get("ELT_PRELOAD") == "True"


def at_socket_of(name: str, act: Callable[[str], T]) -> T:
    """Return what `act` returns for the path of a fork server's socket, which is short however deep the clone is."""
    folder = os.open(os.path.join(os.environ.get("ELT_STATE", ""), "run"), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH118
    try:
        return act(f"/proc/self/fd/{folder}/{name}.fork")
    finally:
        os.close(folder)


def ask(name: str, message: bytes) -> socket.socket:
    """Send a message with this process's standard streams, and return the connection on which the answer comes.

    Raises:
        OSError: nobody listens.
    """
    import socket  # noqa: PLC0415 - 4 ms

    connection = socket.socket(socket.AF_UNIX)
    at_socket_of(name, connection.connect)
    socket.send_fds(connection, [len(message).to_bytes(4, "big")], [0, 1, 2])
    if message:  # after an empty one the other end may have closed it by now
        connection.sendall(message)
    return connection


def answers(name: str) -> bool:
    """Return whether a fork server serves requests, or is switched off."""
    if not uses_fork_server():
        return True
    try:
        with ask(name, b"") as connection:
            connection.settimeout(4)  # it may be importing
            return connection.recv(64) == READY
    except OSError:
        return False


def main() -> int:
    """Read the command line, run the guard, and return the exit code."""
    vanish_signal, grace_seconds, keep, server, words = int(signal.SIGTERM), GRACE_SECONDS, "", "", sys.argv[1:]
    try:
        while words and words[0] in {"-s", "-t", "--keep", "--fork"}:
            option, value, *words = words
            if option == "-s":
                vanish_signal = signal.Signals[f"SIG{value.upper().removeprefix('SIG')}"]
            elif option == "-t":
                grace_seconds = float(value)
            elif option == "--fork":
                server = value
            else:
                keep = value
    except (KeyError, ValueError):
        words = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it holds secrets
    if not words:
        print("usage: elt-guard [-s SIGNAL] [-t SECONDS] [--fork NAME] COMMAND...", file=sys.stderr)
        return 2
    if server and uses_fork_server():
        return Remote(words, vanish_signal, grace_seconds, server).run()
    return Guard(words, vanish_signal, grace_seconds, keep).run()


if __name__ == "__main__":
    sys.exit(main())
