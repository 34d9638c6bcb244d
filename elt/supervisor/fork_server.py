"""Import a program once, and fork each of its processes from that one: a fork server.

Half of what a start of the stack costs is six times the same imports. Here they are done once; then each client,
`elt-guard --fork NAME COMMAND...`, asks over a socket for its command, and this process forks

- a guard, which works as elt/supervisor/guard.py says: it kills what descends from the command when that ends, when
  the client closes the connection (it was killed) and when this process is gone; and below it
- the command itself, with the environment variables, folder and standard streams of the client.

So each process is still one of its own to the supervisor. A fork is right only of a process with one thread and no
open connection: the modules of a program may start none, and `serve` refuses if they did.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
import typing as t
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

import setproctitle

from elt.errors import StackError
from elt.supervisor import guard, ports

REQUEST_SECONDS = 5
"""Seconds that a client may take to send its request."""


@dataclass(frozen=True)
class Program:
    """Define what a fork server imports once, and how it runs a command.

    Attributes:
        modules: names of modules, roots of what its processes need.
        run: runs a command, given as its words, in the process just forked; returns or raises SystemExit.
        prepare: does once, after the imports, what each process would do first.
        is_due: whether it is time to import; asked again twice a second until it is, or until a client asks.
    """

    modules: tuple[str, ...]
    run: t.Callable[[list[str]], None]
    prepare: t.Callable[[], None] = lambda: None
    is_due: t.Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Request:
    """Hold what a client asks for, and its own attributes as a process, as elt/supervisor/guard.py sends them.

    Attributes:
        command: program and arguments.
        env: its environment variables.
        folder: its working folder.
        umask: permissions that new files lack.
        niceness: 0 to 19.
        limits: number, soft and hard value of each resource limit.
        streams: descriptors of its standard input, output and error.
    """

    command: list[str]
    env: dict[str, str]
    folder: str
    umask: int
    niceness: int
    limits: list[tuple[int, int, int]]
    streams: list[int]

    def take_over(self) -> None:
        """Apply the client's environment, folder, umask, niceness and limits to this process."""
        os.environ.clear()
        os.environ.update(self.env)
        ports.share()
        os.chdir(self.folder)
        os.umask(self.umask)
        with contextlib.suppress(PermissionError):  # a nicer one than the client stays so
            os.setpriority(os.PRIO_PROCESS, 0, self.niceness)
        for number, *values in self.limits:
            with contextlib.suppress(ValueError, OSError):  # one that is stricter stays so
                resource.setrlimit(number, (values[0], values[1]))


Asked: t.TypeAlias = tuple[Request, socket.socket]
"""Pair of a request and the connection on which it is answered."""


def run(program: Program) -> None:
    """Serve as the fork server of a program, under a guard that gives it a name in the stack.

    Raises:
        StackError: the imports have started a thread.
    """
    if not guard.uses_fork_server():
        print("ELT_PRELOAD is off, or the system is not Linux: each process imports for itself", flush=True)
        signal.pause()
    request = serve(program, os.environ["PC_PROC_NAME"])
    setproctitle.setproctitle(" ".join(request.command))
    try:
        program.run(request.command)
    except SystemExit as error:
        if not isinstance(error.code, (int, NoneType)):
            raise
        leave(error.code or 0)
    leave(0)


def leave(code: int) -> t.NoReturn:
    """Run the exit handlers and end this process without the interpreter's own clean-up, which takes a second."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing ends what it forked
    atexit._run_exitfuncs()  # noqa: SLF001
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def serve(program: Program, name: str) -> Request:
    """Import the program, then fork a process for each request, for ever.

    Returns:
        In each process that was forked to run a command: the request.

    Raises:
        StackError: the imports have started a thread.
    """
    listener = guard.at_socket_of(name, _listen)  # first, so that clients wait instead of being refused
    asked = _wait_until_due(program, listener)
    began = time.monotonic()
    gc.disable()  # what is imported lives on: looking for garbage costs half a second, and finds 2 MiB
    children = set() if _is_compiled(program.modules[-1]) else {_import_ahead(program.modules)}
    for module in program.modules:
        importlib.import_module(module)
    program.prepare()
    if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:  # those of libraries count as well
        raise StackError(f"{threads} threads run after the imports; a process with threads must not be forked")
    gc.freeze()  # else the collector's marks would copy every shared page
    gc.enable()
    print(f"{len(sys.modules)} modules imported in {time.monotonic() - began:.1f} s", flush=True)
    wake, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)
    while not (asked and (request := _fork(asked, listener, children))):
        ready = select.select([listener, wake], [], [])[0]
        if wake in ready:
            os.read(wake, 256)
            _reap(children)
        asked = _accept(listener) if listener in ready else None
    return request


def _is_compiled(module: str) -> bool:
    """Return whether the bytecode of a module's package is cached."""
    package = importlib.util.find_spec(module.partition(".")[0])
    return package is None or package.cached is None or Path(package.cached).exists()


def _import_ahead(modules: t.Sequence[str]) -> int:
    """Fork a process that compiles the modules in the opposite order, for the second core, and return its id.

    Two thirds of a first start's imports are compiling. Libraries come first: all that is imported stands on them.
    """
    me = os.getpid()
    ahead = os.fork()
    if ahead:
        return ahead
    try:
        guard.refresh(me)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        first = modules[0].partition(".")[0]
        order = list(reversed(modules))
        order.sort(key=lambda name: name.partition(".")[0] == first)
        for module in order:
            importlib.import_module(module)
    finally:  # the error is for the other one to tell
        os._exit(0)


def _reap(children: set[int]) -> None:
    """Collect what has ended, and end orphaned processes of a killed guard, which this process adopts."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            children.discard(ended)
    if orphans := guard.children() - children:
        guard.end(orphans | guard.process_tree(orphans))


def _wait_until_due(program: Program, listener: socket.socket) -> Asked | None:
    """Wait until the program is to be imported, or for the first request, which is then returned."""
    while not program.is_due():
        if select.select([listener], [], [], guard.POLL_INTERVAL_SECONDS / 2)[0] and (asked := _accept(listener)):
            return asked
    return None


def _listen(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _accept(listener: socket.socket) -> Asked | None:
    """Receive a request; None if a client only asked whether it would be served."""
    connection = listener.accept()[0]
    streams: list[int] = []
    try:
        if request := _receive(connection, streams):
            return request, connection
        with contextlib.suppress(OSError):  # the client may have given up
            connection.sendall(guard.READY)
    except (OSError, EOFError, ValueError, TypeError) as error:
        print(f"a request that cannot be read: {error!r}", file=sys.stderr, flush=True)
    _close(streams, connection)
    return None


def _fork(asked: Asked, listener: socket.socket, children: set[int]) -> Request | None:
    """Fork for a client and add the guard to `children`; return None here, the request in the command's process."""
    request, connection = asked
    try:
        child = os.fork()
    except OSError as error:  # the client notices, and asks again
        print(f"{' '.join(request.command)} cannot be forked: {error}", file=sys.stderr, flush=True)
    else:
        if not child:
            listener.close()
            return _guard(request, connection)
        children.add(child)
    _close(request.streams, connection)
    return None


def _close(streams: list[int], connection: socket.socket) -> None:
    for stream in streams:
        os.close(stream)
    connection.close()


def _guard(request: Request, connection: socket.socket) -> Request:
    """Guard the command to its end; return in the command's process alone."""
    try:
        if ForkedGuard(request, connection).fork():
            return request
    except BaseException:  # noqa: BLE001 - neither process may go on as a second parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _receive(connection: socket.socket, streams: list[int]) -> Request | None:
    """Receive a request, None if it is empty, and add the descriptors that come with it to `streams`."""
    connection.settimeout(REQUEST_SECONDS)
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    streams += descriptors
    length = int.from_bytes(head, "big")
    body = b""
    while len(body) < length:
        part = connection.recv(length - len(body))
        if not part:
            raise EOFError("it ends in the middle")
        body += part
    connection.settimeout(None)
    return Request(**json.loads(body), streams=streams) if body else None


class ForkedGuard(guard.Guard):
    """Guard a forked command, whose parent is the client at the other end of the connection."""

    def __init__(self, request: Request, connection: socket.socket) -> None:
        os.setsid()
        super().__init__(request.command, signal.SIGTERM, guard.GRACE_SECONDS, "")
        self.request, self.connection = request, connection
        setproctitle.setproctitle(f"elt-preload: {' '.join(request.command)}")

    def fork(self) -> bool:
        """Start the command; return True in its process, False here once its process tree has ended."""
        guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)
        signal.pthread_sigmask(signal.SIG_BLOCK, guard.HANDLED)
        me = os.getpid()
        self.main = os.fork()
        if not self.main:
            for number, stream in enumerate(self.request.streams):
                os.dup2(stream, number)
            self.connection.close()  # refresh() would close only its number
            guard.refresh(me)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.request.take_over()
            return True
        for stream in self.request.streams:
            os.close(stream)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, guard.HANDLED)
        self._send(self.main)
        self._watch()
        self._send(self.exit_code())
        return False

    def _send(self, number: int) -> None:
        with contextlib.suppress(OSError):  # nobody listens: the next poll finds that out
            self.connection.sendall(f"{number}\n".encode())

    def _ends(self) -> list[int]:
        return [*super()._ends(), self.connection.fileno()]

    def _look(self, ready: list[int]) -> None:
        if self.connection.fileno() in ready:  # it says nothing: this is its end
            self._parent_vanished()

    def _parent_vanished(self) -> None:
        self.deadline = 0
