"""Import a program once, and fork from that each process of it which the stack asks for.

Half of what a start of the stack costs is six times the same imports. Here they are done once, while the databases
start; then each `elt-guard --fork NAME COMMAND...` asks over a socket for its command, and this process forks

- a *branch*, which guards the command as elt/guard.py says: it kills what descends from the command when that ends,
  when the asker hangs up (it was killed) and when this process is gone; and below it
- the command itself, with environment, folder and standard streams of the asker.

So each process is still one of its own to the supervisor. A fork is right only of a process with one thread and no
open connection: the modules listed here start none, and `serve` refuses if they did.
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

from elt import guard
from elt.errors import ConfigError, EltError, StackError
from elt.supervisor import ports

REQUEST_SECONDS = 5
"""How long an asker may take to say what it wants."""


@dataclass(frozen=True)
class Program:
    """What is imported once.

    Attributes:
        modules: names of modules, roots of what its processes need.
        run: runs a command in the process just forked, by its words; returns or raises SystemExit.
        prepare: does once what each process would do first.
        is_urgent: whether the start waits for it; else the import waits for the end of the start, or for who asks.
    """

    modules: tuple[str, ...]
    run: t.Callable[[list[str]], None]
    prepare: t.Callable[[], None] = lambda: None
    is_urgent: bool = True


@dataclass(frozen=True)
class Request:
    """What an asker wants, and what it is to the kernel, as elt/guard.py sends it.

    Attributes:
        command: the words.
        environment: all variables.
        folder: the working folder.
        umask: which permissions new files lack.
        niceness: 0 to 19.
        limits: number, soft and hard value of each limit of resources.
        streams: descriptors of its standard input, output and error.
    """

    command: list[str]
    environment: dict[str, str]
    folder: str
    umask: int
    niceness: int
    limits: list[tuple[int, int, int]]
    streams: list[int]

    def take_over(self) -> None:
        """Become to the kernel what the asker is, in a process just forked."""
        os.environ.clear()
        os.environ.update(self.environment)
        if self.environment.get("PC_PROC_NAME") in ports.SHARING:
            ports.share()
        os.chdir(self.folder)
        os.umask(self.umask)
        with contextlib.suppress(PermissionError):  # one that is nicer than the asker stays so
            os.setpriority(os.PRIO_PROCESS, 0, self.niceness)
        for number, *values in self.limits:
            with contextlib.suppress(ValueError, OSError):  # one that is stricter stays so
                resource.setrlimit(number, (values[0], values[1]))


Asked: t.TypeAlias = tuple[Request, socket.socket]
"""What somebody asks for, and where the answer goes."""


def _airflow(command: list[str]) -> None:
    """Be `airflow ...`. The object-relational mapper is set up anew, as it holds what no two processes may share."""
    from airflow import __main__ as airflow  # noqa: PLC0415
    from airflow import settings  # noqa: PLC0415

    settings.dispose_orm(do_log=False)
    settings.configure_orm()  # type: ignore[no-untyped-call]
    if command[1:2] == ["celery"]:
        _leave_out_warm_up()
    sys.argv = command
    airflow.main()  # type: ignore[no-untyped-call]


def _prepare_airflow() -> None:
    """Work out how Airflow's tables hang together, and its command line: 0.3 s and 25 MiB in each process."""
    import airflow.models  # noqa: PLC0415
    import sqlalchemy.orm  # noqa: PLC0415
    from airflow.cli import cli_parser  # noqa: PLC0415

    airflow.models.import_all_models()  # type: ignore[no-untyped-call]
    sqlalchemy.orm.configure_mappers()
    cli_parser.get_parser()


def _leave_out_warm_up() -> None:
    """Keep Airflow from warming Celery's processes up: all is imported but numpy, which no process of ours needs.

    What it does besides would undo gc.freeze, and the collector's marks would then copy every shared page.
    """
    from airflow.providers.celery.executors import celery_executor_utils as utils  # noqa: PLC0415
    from celery import signals  # type: ignore[import-untyped]  # noqa: PLC0415

    signals.import_modules.disconnect(utils.on_celery_import_modules)
    signals.worker_ready.disconnect(utils.on_celery_worker_ready)
    signals.import_modules.connect(lambda **_: gc.freeze(), weak=False)


def _meltano_or_dbt(command: list[str]) -> None:
    """Be `meltano ...` or `dbt ...`."""
    sys.argv = command
    if Path(command[0]).name == "dbt":
        from dbt.cli.main import cli  # noqa: PLC0415

        cli()
    else:
        from meltano.cli import main  # noqa: PLC0415

        main()


PROGRAMS = {
    "airflow": Program(
        (
            "airflow.__main__",
            "airflow.api_fastapi.app",
            "airflow.api_fastapi.core_api.app",
            "airflow.api_fastapi.execution_api.app",
            "airflow.api_fastapi.execution_api.routes",
            "airflow.api_fastapi.execution_api.versions",
            "airflow.cli.commands.api_server_command",
            "airflow.cli.commands.dag_processor_command",
            "airflow.cli.commands.scheduler_command",
            "airflow.cli.commands.triggerer_command",
            "airflow.dag_processing.manager",
            "airflow.jobs.scheduler_job_runner",
            "airflow.jobs.triggerer_job_runner",
            # Not Celery's application, airflow.providers.celery.executors: it reads the client's name when imported.
            "airflow.providers.celery.cli.celery_command",
            "airflow.utils.db",
            "celery.apps.worker",
            "celery.backends.database",
            "celery.bin.celery",
            "celery.concurrency.prefork",
            "flower.command",
            "kombu.transport.redis",
            "uvicorn.lifespan.on",
            "uvicorn.protocols.http.h11_impl",
            # what the first tasks would import
            "airflow.providers.standard.operators.bash",
            "airflow.providers.standard.operators.python",
            "airflow.providers.standard.sensors.filesystem",
            "airflow.providers.standard.triggers.file",
            "airflow.sdk.execution_time.supervisor",
            "airflow.sdk.execution_time.task_runner",
        ),
        _airflow,
        _prepare_airflow,
    ),
    # Not DuckDB, which starts a thread when it is imported.
    "pipeline": Program(("dbt.cli.main", "meltano.cli"), _meltano_or_dbt, is_urgent=False),
}
QUIET_SECONDS = 0.5
"""Time between two looks at whether the start is over."""


def main() -> None:
    """Be the process that forks: `elt-preload PROGRAM`, under a guard that gives it a name in the stack."""
    try:
        if len(sys.argv) != 2 or sys.argv[1] not in PROGRAMS:
            raise ConfigError(f"usage: elt-preload {'|'.join(PROGRAMS)}")
        program = PROGRAMS[sys.argv[1]]
        if not guard.is_preloading():
            print("ELT_PRELOAD is off, or the system is not Linux: each process imports for itself", flush=True)
            signal.pause()
        request = serve(program, os.environ["PC_PROC_NAME"])
    except EltError as error:
        sys.exit(f"elt-preload: {error}")
    setproctitle.setproctitle(" ".join(request.command))
    try:
        program.run(request.command)
    except SystemExit as error:
        if not isinstance(error.code, (int, NoneType)):
            raise
        leave(error.code or 0)
    leave(0)


def leave(code: int) -> t.NoReturn:
    """End this process in order, but for the interpreter's own end: to take apart what it shares takes a second."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing ends what it forked
    atexit._run_exitfuncs()  # noqa: SLF001
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def serve(program: Program, name: str) -> Request:
    """Import, then fork what is asked for, for ever.

    Returns:
        In each process that was forked to run a command: what was asked.

    Raises:
        StackError: the imports have started a thread.
    """
    listener = guard.at_server(name, _listen)  # first, so that askers wait instead of being refused
    asked = None if program.is_urgent else _wait_for_start(listener)
    began = time.monotonic()
    gc.disable()  # what is imported lives on: looking for garbage costs half a second, and finds 2 MiB
    branches = set() if _is_compiled(program.modules[-1]) else {_import_ahead(program.modules)}
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
    while not (asked and (request := _fork(asked, listener, branches))):
        ready = select.select([listener, wake], [], [])[0]
        if wake in ready:
            os.read(wake, 256)
            _reap(branches)
        asked = _accept(listener) if listener in ready else None
    return request


def _is_compiled(module: str) -> bool:
    """Whether Python has imported the package of that module before, and left its bytecode."""
    package = importlib.util.find_spec(module.partition(".")[0])
    return package is None or package.cached is None or Path(package.cached).exists()


def _import_ahead(modules: t.Sequence[str]) -> int:
    """Fork a process that imports from the other end and leaves its bytecode there, for the second core; its id.

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


def _reap(branches: set[int]) -> None:
    """Collect what has ended, and end what a branch that was killed has left: the kernel gives it to this process."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            branches.discard(ended)
    if orphans := guard.children() - branches:
        guard.end(orphans | guard.family(orphans))


def _wait_for_start(listener: socket.socket) -> Asked | None:
    """Wait until Airflow's API answers, which comes last, or somebody asks for a command.

    It gets the first request that tasks would make: for a second it works out all versions of what it offers them.
    """
    api = os.environ["CONNECT_ADDRESS"], int(os.environ["AIRFLOW_PORT"])
    while True:
        if not select.select([listener], [], [], QUIET_SECONDS)[0]:
            with contextlib.suppress(OSError), socket.create_connection(api, timeout=QUIET_SECONDS) as connection:
                connection.sendall(b"GET /execution/health HTTP/1.0\r\n\r\n")
                return None
        elif asked := _accept(listener):
            return asked


def _listen(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _accept(listener: socket.socket) -> Asked | None:
    """See what somebody wants; nothing if it was only whether he would be served."""
    connection = listener.accept()[0]
    streams: list[int] = []
    try:
        if request := _receive(connection, streams):
            return request, connection
        with contextlib.suppress(OSError):  # he may have had no patience
            connection.sendall(guard.READY)
    except (OSError, EOFError, ValueError, TypeError) as error:
        print(f"a request that cannot be read: {error!r}", file=sys.stderr, flush=True)
    _forget(streams, connection)
    return None


def _fork(asked: Asked, listener: socket.socket, branches: set[int]) -> Request | None:
    """Fork for an asker; None in this process, the request in that of the command. Adds the branch."""
    request, connection = asked
    try:
        branch = os.fork()
    except OSError as error:  # the asker notices, and asks again
        print(f"{' '.join(request.command)} cannot be forked: {error}", file=sys.stderr, flush=True)
    else:
        if not branch:
            listener.close()
            return _branch(request, connection)
        branches.add(branch)
    _forget(request.streams, connection)
    return None


def _forget(streams: list[int], connection: socket.socket) -> None:
    for stream in streams:
        os.close(stream)
    connection.close()


def _branch(request: Request, connection: socket.socket) -> Request:
    """Guard the command to its end; returns in the command's process alone."""
    try:
        if Branch(request, connection).fork():
            return request
    except BaseException:  # noqa: BLE001 - neither process may go on as a second parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _receive(connection: socket.socket, streams: list[int]) -> Request | None:
    """What somebody asks for; None when only whether he would be served. Adds the descriptors that come with it."""
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


class Branch(guard.Guard):
    """The guard around a forked command; its parent is the asker at the other end of the connection."""

    def __init__(self, request: Request, connection: socket.socket) -> None:
        os.setsid()
        super().__init__(request.command, signal.SIGTERM, guard.GRACE, "")
        self.request, self.connection = request, connection
        setproctitle.setproctitle(f"elt-preload: {' '.join(request.command)}")

    def fork(self) -> bool:
        """Start the command; true in its process, false here when nothing of it is left and the asker knows."""
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
        self._say(self.main)
        self._watch()
        self._say(self.exit_code())
        return False

    def _say(self, number: int) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the next look will find that out
            self.connection.sendall(f"{number}\n".encode())

    def _ends(self) -> list[int]:
        return [*super()._ends(), self.connection.fileno()]

    def _look(self, ready: list[int]) -> None:
        if self.connection.fileno() in ready:  # it says nothing: this is its end
            self._parent_vanished()

    def _parent_vanished(self) -> None:
        self.deadline = 0


if __name__ == "__main__":
    main()
