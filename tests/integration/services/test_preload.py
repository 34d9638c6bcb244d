"""elt/services/preload.py and `elt-guard --fork`: a command that another process forks is still the guard's own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import typing as t

import psutil
import pytest
from workspace import BIN, DEADLINE, ROOT, is_gone, wait_for

from elt.supervisor import guard

if t.TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")

SERVER = """
import importlib, os, subprocess, sys, threading
from elt.services import preload
from elt.supervisor import fork_server

def run(command):
    assert "fractions" in sys.modules
    sys.argv = command
    exec(command[1])

preload.PROGRAMS["toy"] = fork_server.Program(("fractions", *os.environ["MODULES"].split()), run)
sys.argv = ["elt-preload", "toy"]
preload.main()
"""
"""A preload parent of a program that runs Python given on its command line."""
SLEEP = "import time; print(os.getpid(), flush=True); time.sleep(60)"


class Stack:
    """A state folder with a preload parent of that program in it."""

    def __init__(self, state: Path, modules: str = "") -> None:
        self.state = state
        (state / "run").mkdir(parents=True)
        (state / "slow.py").write_text("import time; time.sleep(60)")
        self.env = os.environ | {"ELT_STATE": str(state), "ELT_PRELOAD": "True", "MODULES": modules}
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(state), os.environ.get("PYTHONPATH"))))
        self.started: list[subprocess.Popen[str]] = []
        self.server = self.start([sys.executable, "-c", SERVER], PC_PROC_NAME="parent")

    def start(self, command: list[str], cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """Start a program with its output in a pipe."""
        self.started.append(
            subprocess.Popen(command, env=self.env | more, cwd=cwd, stdout=-1, stderr=-1, stdin=-1, text=True)
        )
        return self.started[-1]

    def ask(self, code: str, *options: str, **more: t.Any) -> subprocess.Popen[str]:
        """Start a guard that has the parent fork that code."""
        command = [sys.executable, "-IS", guard.__file__, "--fork", "parent", *options, "toy", code]
        return self.start(command, **more)


@pytest.fixture
def stack(tmp_path: Path) -> t.Iterator[t.Callable[..., Stack]]:
    made: list[Stack] = []

    def make(*words: str, deep: str = "state") -> Stack:
        made.append(Stack(tmp_path / deep, *words))
        return made[-1]

    yield make
    for process in [process for one in made for process in one.started]:
        process.kill()
        process.communicate()


def first_number(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_it_has_the_clients_streams_environment_folder_and_exit_code(stack, tmp_path):
    code = "print(os.getcwd(), os.environ['ASKED'], sys.stdin.read()); print('err', file=sys.stderr); sys.exit(7)"
    process = stack(deep="deep/" + "d" * 120).ask(code, cwd=tmp_path, ASKED="yes")
    out, err = process.communicate("typed", timeout=DEADLINE)
    assert (process.returncode, out, err) == (7, f"{tmp_path} yes typed\n", "err\n")


def test_what_is_registered_and_shown_is_the_command(stack):
    here = stack()
    process = here.ask(SLEEP, PC_PROC_NAME="child")
    pid = first_number(process)
    wait_for(lambda: guard.read("child", str(here.state)))
    record = guard.read("child", str(here.state))
    assert (record.guard, record.main) == (process.pid, pid)
    assert psutil.Process(pid).cmdline()[0].startswith("toy import time")
    process.terminate()
    assert process.wait(DEADLINE) == 128 + signal.SIGTERM
    assert is_gone(pid)
    assert guard.read("child", str(here.state)) is None


def test_a_signal_of_death_is_told(stack):
    process = stack().ask("os.kill(os.getpid(), 9)")
    assert process.wait(DEADLINE) == 128 + signal.SIGKILL


def test_a_command_that_does_not_end_is_killed_after_the_grace(stack):
    code = f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP}"
    process = stack().ask(code, "-t", "0.3")
    pid = first_number(process)
    process.terminate()
    assert process.wait(DEADLINE) == 128 + signal.SIGKILL
    assert is_gone(pid)


@pytest.mark.parametrize("killed", ["guard", "command", "branch", "parent"])
def test_whoever_is_killed_nothing_of_the_command_is_left(stack, killed):
    """The command has a child in a session of its own, whom the kernel alone would let live."""
    here = stack()
    code = f"p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid, flush=True); {SLEEP}"
    process = here.ask(code)
    child, pid = first_number(process), first_number(process)
    branch = psutil.Process(pid).ppid()
    pids = {"guard": process.pid, "command": pid, "branch": branch, "parent": here.server.pid}
    os.kill(pids[killed], signal.SIGKILL)
    assert process.wait(DEADLINE) != 0
    wait_for(lambda: is_gone(child) and is_gone(pid))


def test_what_is_shared_is_left_alone_by_a_collector_that_runs(stack):
    """Its marks would copy each shared page; what a command makes itself it must still look through."""
    out, err = stack().ask("import gc; print(gc.isenabled(), gc.get_freeze_count() > 1000)").communicate(timeout=20)
    assert (out, err) == ("True True\n", "")


def test_commands_do_not_share_what_they_change(stack):
    here = stack()
    for number in "12":
        code = f"print(os.environ.get('CHANGED')); os.environ['CHANGED'] = '{number}'; sys.modules.pop('json')"
        out, err = here.ask(code).communicate(timeout=DEADLINE)
        assert (out, err) == ("None\n", "")


def test_two_processes_compile_what_was_never_imported(stack, tmp_path, monkeypatch):
    """The other one begins at the other end, and only where there is no bytecode yet."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in "xyz":
        lines = "import os, time", "open(f'{__file__}.{os.getpid()}.ran', 'x').close()", "time.sleep(0.3)"
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
    answer = "print(*sys.modules.keys() & {'x', 'y', 'z'})"
    for deep, processes in (("first", 2), ("again", 1)):
        here = stack("x y z", deep=deep)
        assert set(here.ask(answer).communicate(timeout=20)[0].split()) == {"x", "y", "z"}
        wait_for(lambda parent=here.server.pid: len(psutil.Process(parent).children()) == 0)
        ran = [path.unlink() or path.suffixes[-2] for path in tmp_path.glob("*.ran")]
        assert len(set(ran)) == processes
        assert len(ran) == 3 * processes
        assert len(list((tmp_path / "__pycache__").glob("z.*.pyc"))) == 1


def test_imports_that_start_a_thread_are_refused(stack, tmp_path, monkeypatch):
    lines = "import threading, time", "threading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    (tmp_path / "threaded.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = stack("threaded").server
    assert server.wait(DEADLINE) == 1
    assert "2 threads run after the imports" in server.stderr.read()


def test_a_garbled_request_harms_nobody(stack):
    here = stack()
    assert here.ask("pass").wait(DEADLINE) == 0
    request = {"command": ["toy", "pass"], "env": {}, "umask": 0, "niceness": 0, "limits": []}
    nowhere = json.dumps(request | {"folder": "/nonexistent"}).encode()
    for garbage in (b"\0\0\0\5{]", b"\0\0\0\2{}", b"\0", len(nowhere).to_bytes(4, "big") + nowhere):
        folder = os.open(here.state / "run", os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"/proc/self/fd/{folder}/parent.fork")
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(64):
                    pass
        os.close(folder)
    assert here.ask("print('well')").communicate(timeout=DEADLINE)[0] == "well\n"
    wait_for(lambda: not psutil.Process(here.server.pid).children())


def test_it_is_to_the_kernel_what_the_asker_is(stack):
    here = stack()
    code = "import resource; print(oct(os.umask(0)), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    command = [sys.executable, "-IS", guard.__file__, "--fork", "parent", "toy", code]
    process = here.start(["sh", "-c", 'umask 027; ulimit -n 77; exec nice -n 3 "$@"', "sh", *command])
    assert process.communicate(timeout=DEADLINE) == (f"0o27 {min(19, os.nice(0) + 3)} 77\n", "")


def test_an_asker_whose_parent_is_killed_before_it_forks_asks_the_next_one(stack):
    here = stack("slow")
    process = here.ask("print('well')")
    time.sleep(1)
    here.server.kill()
    here.server.wait()
    here.env["MODULES"] = ""
    here.server = here.start([sys.executable, "-c", SERVER], PC_PROC_NAME="parent")
    assert process.communicate(timeout=DEADLINE) == ("well\n", "")


def test_a_parent_that_says_nothing_is_done_without(tmp_path):
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run" / "parent.fork"))
        listener.listen()
        code = "from elt.supervisor import guard as g; g.FORK_SERVER_ANSWER_SECONDS = 0.5; "
        code += "import sys; sys.exit(g.main())"
        command = [sys.executable, "-c", code, "--fork", "parent", "sh", "-c", "echo alone; exit 3"]
        env = os.environ | {"ELT_STATE": str(tmp_path), "ELT_PRELOAD": "True"}
        said = tmp_path / "said"  # no pipe: the request that waits holds it open
        with said.open("w") as file:
            done = subprocess.run(command, env=env, stdout=file, stderr=file, text=True, timeout=DEADLINE)
    assert (done.returncode, said.read_text()) == (3, "elt-guard: parent: does not answer; runs without it\nalone\n")


@pytest.mark.parametrize("preload", ["False", "True"])
def test_without_the_parent_the_command_is_run_as_always(tmp_path, preload):
    """Switched off, and when nobody answers."""
    (tmp_path / "run").mkdir()
    code = "from elt.supervisor import guard as g; g.FORK_SERVER_TIMEOUT_SECONDS = 0.2; "
    code += "import sys; sys.exit(g.main())"
    command = [sys.executable, "-c", code, "--fork", "parent", "sh", "-c", "echo alone; exit 3"]
    env = os.environ | {"ELT_STATE": str(tmp_path), "ELT_PRELOAD": preload}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (3, "alone\n")
    assert ("runs without it" in done.stderr) == (preload == "True")


@pytest.mark.parametrize("program", ["dbt", "meltano"])
def test_a_program_of_tasks_is_the_one_of_the_environment(stack, tmp_path, program):
    """Forked from the process that has imported it, the first client before it had a reason to."""
    here = stack()
    more = {"PC_PROC_NAME": "pipeline-preload", "CONNECT_ADDRESS": "127.0.0.1", "AIRFLOW_PORT": "1"}
    server = here.start([str(BIN / "elt-preload"), "pipeline"], **more)
    command = [str(ROOT / "elt" / "forked" / program), "--version"]
    environment = {"ELT_ROOT": str(ROOT), "PATH": f"{BIN}:{os.environ['PATH']}", "PC_PROC_NAME": "celery-worker"}
    wait_for((here.state / "run" / "pipeline-preload.fork").exists)
    forked = here.start(command, cwd=tmp_path, **environment)
    out, err = forked.communicate(timeout=DEADLINE)
    plain = subprocess.run(
        [BIN / program, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE
    )
    assert (out, forked.returncode) == (plain.stdout, 0), err
    assert "runs without it" not in err
    assert guard.read("celery-worker", str(here.state)) is None  # that name is the worker's
    assert "modules imported" in server.stdout.readline()


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("pass", 0, ""), ("sys.exit()", 0, ""), ("sys.exit(5)", 5, ""), ("sys.exit('why')", 1, "why\n")],
)
def test_what_a_command_leaves_to_its_end_is_done(stack, end, code, said):
    last = "atexit.register(print, 'at exit'); threading.Timer(0.2, print, ['thread']).start(); print('main')"
    process = stack().ask(f"import atexit, threading; {last}; {end}")
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (code, "main\nthread\nat exit\n", said)
