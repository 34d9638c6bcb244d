"""elt/supervisor: toy stacks under both supervisors, from start to every kind of end."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml
from workspace import BIN, DEADLINE, ROOT, free_ports, wait_for

from elt.errors import ConfigError, SetupError, StackError
from elt.supervisor import guard, orphans, ports
from elt.supervisor.control import SUPERVISOR_NAME, Plan, Stack

PROBE = {"period_seconds": 1, "timeout_seconds": 2, "failure_threshold": 20}
STEADY = "trap 'echo stop $PC_PROC_NAME >> order; exit' TERM; echo start $PC_PROC_NAME >> order; "
WAIT = "while :; do sleep 0.05; done"
ORPHAN = "setsid bash -c 'echo $$ > orphan; exec sleep 600' & "
"""Starts a child in a session of its own, which inherits the log and would outlive its parent."""

UP = """
import json, os, sys
from pathlib import Path
from elt.supervisor.control import Stack
from elt.errors import EltError
file, state, supervisor, timeout = sys.argv[1:]
try:
    Stack(Path(file), Path(state)).up(os.environ, float(timeout), supervisor=supervisor)
except EltError as error:
    sys.exit(str(error))
"""


def process(script: str, *options: str, restart: str = "always", **more: object) -> dict[str, t.Any]:
    """A process of a toy stack: a bash script behind the guard."""
    quoted = script.replace("$", "$$").replace("'", "'\\''")
    return {
        "command": f"elt-guard {' '.join(options or ('-t', '2'))} bash -c '{quoted}'",
        "availability": {"restart": restart, "backoff_seconds": 1},
        "shutdown": {"signal": 15, "timeout_seconds": 5, "parent_only": True},
    } | more


def probe(command: str, **more: int) -> dict[str, t.Any]:
    return PROBE | {"exec": {"command": command}} | more


class Toy:
    """A stack in a folder of its own."""

    def __init__(self, root: Path, supervisor: str, state: Path | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.supervisor = root, supervisor
        self.state = state or root / ".state"
        self.stack = Stack(root / "process-compose.yaml", self.state)
        self.env = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ELT_STATE": str(self.state)}

    def write(self, max_size_mb: int = 10, **processes: dict[str, t.Any]) -> None:
        """Write the file."""
        log = {
            "rotation": {"max_size_mb": max_size_mb, "max_backups": 2},
            "no_metadata": True,
            "disable_json": True,
            "flush_each_line": True,
            "no_color": True,
            "fields_order": ["message"],
        }
        for name, one in processes.items():
            one.setdefault("log_location", f"${{ELT_STATE}}/logs/{name}.log")
            one.setdefault("log_configuration", log)
        content = {"version": "0.5", "is_strict": True, "ordered_shutdown": True, "processes": processes}
        self.stack.file.write_text(yaml.safe_dump(copy.deepcopy(content), sort_keys=False))

    def up(self, timeout: float = DEADLINE, **more: t.Any) -> bool:
        """Start it and wait."""
        return self.stack.up(self.env, timeout, **({"supervisor": self.supervisor} | more))

    def up_apart(self, timeout: float = DEADLINE) -> subprocess.Popen[str]:
        """The same in a program of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", UP, self.stack.file, str(self.state), self.supervisor, str(timeout)],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def rows(self) -> dict[str, dict[str, t.Any]]:
        """What the supervisor says, by name."""
        return {row["name"]: row | {"state": state} for row, state in self.stack.rows()}

    def state_of(self, name: str) -> str:
        """The state of a process; "" when no supervisor answers."""
        return str(self.rows().get(name, {}).get("state", ""))

    def record(self, name: str) -> guard.Record:
        """What the guard of a process registered."""
        wait_for(lambda: guard.read(name, str(self.state)))
        record = guard.read(name, str(self.state))
        assert record
        return record

    def number_in(self, name: str) -> int:
        """The process id that a script wrote to a file."""
        path = self.root / name
        wait_for(lambda: path.exists() and path.read_text().strip())
        return int(path.read_text())

    def order(self) -> list[str]:
        """What the scripts told of their starts and stops."""
        return (self.root / "order").read_text().splitlines()

    def alive(self) -> list[psutil.Process]:
        """Every process here that was started for this stack."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if one.environ().get("ELT_STATE") == str(self.state) and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return found

    def programs(self) -> list[str]:
        """Names of what runs for this stack; a probe may end while one looks."""
        names = []
        for one in self.alive():
            with contextlib.suppress(psutil.Error):
                names.append(psutil.Process(one.pid).name())
        return names


@pytest.fixture(
    params=[
        "embedded",
        pytest.param(
            "process-compose",
            marks=pytest.mark.skipif(not shutil.which("process-compose"), reason="process-compose is not on PATH"),
        ),
    ]
)
def supervisor(request: pytest.FixtureRequest) -> str:
    """Each test runs under both."""
    return str(request.param)


@pytest.fixture
def toys(tmp_path: Path) -> t.Iterator[t.Callable[..., Toy]]:
    """Makes toy stacks; after the test nothing of them may be left."""
    made: list[Toy] = []

    def make(supervisor: str, root: Path = tmp_path, state: Path | None = None) -> Toy:
        made.append(Toy(root, supervisor, state))
        return made[-1]

    yield make
    for toy in made:
        toy.stack.down()
        assert toy.alive() == []


@pytest.fixture
def toy(toys: t.Callable[..., Toy], supervisor: str) -> Toy:
    """A toy stack under either supervisor."""
    return toys(supervisor)


# Start, order, health, stop ----------------------------------------------------------------------


def test_order_health_and_stop(toy: Toy) -> None:
    toy.write(
        app=process(
            STEADY + WAIT,
            depends_on={
                "init": {"condition": "process_completed_successfully"},
                "base": {"condition": "process_healthy"},  # process-compose does not look through init when it stops
            },
            readiness_probe=probe("grep -q app order"),
        ),
        init=process(STEADY, restart="no", depends_on={"base": {"condition": "process_healthy"}}),
        base=process(STEADY + "sleep 0.5; touch healthy; " + WAIT, readiness_probe=probe("test -e healthy")),
        late=process(
            STEADY + WAIT,
            depends_on={"app": {"condition": "process_healthy"}, "base": {"condition": "process_started"}},
            readiness_probe=probe("grep -q late order"),
        ),
    )
    assert toy.up()
    assert toy.order() == ["start base", "start init", "start app", "start late"]
    rows = toy.rows()
    assert {name: row["state"] for name, row in rows.items()} == {
        "base": "ready",
        "init": "done",
        "app": "ready",
        "late": "ready",
    }
    assert rows["base"]["pid"] == toy.record("base").guard
    assert not toy.up()  # joins
    assert toy.stack.is_running()
    for path in (toy.stack.run, toy.stack.logs, toy.stack.run / "processes"):
        assert path.stat().st_mode & 0o777 == 0o700

    assert toy.stack.down()
    assert toy.order()[4:] == ["stop late", "stop app", "stop base"]
    assert toy.alive() == []
    assert not toy.stack.is_running()
    assert not toy.stack.down()
    assert orphans.records(toy.state) == {}


def test_what_is_disabled_is_not_run(toy: Toy) -> None:
    app = process(STEADY + WAIT, readiness_probe=probe("grep -q app order"))
    toy.write(app=app, off=process(STEADY + WAIT, disabled=True))
    toy.up()
    assert list(toy.rows()) == ["app"]
    assert toy.order() == ["start app"]


@pytest.mark.parametrize("how", ["ends", "is never healthy"])
def test_an_optional_process_that_fails_does_not_keep_the_rest_from_running(toy: Toy, capsys, how: str) -> None:
    app = process(STEADY + WAIT, readiness_probe=probe("grep -q app order"))
    extra = process("exit 3" if how == "ends" else WAIT, readiness_probe=probe("false"))
    toy.write(app=app, extra=extra)
    assert toy.up(timeout=20 if how == "ends" else 4, plan=Plan(optional={"extra"}))
    said = [line for line in capsys.readouterr().out.splitlines() if "elt logs extra" in line]
    assert len(said) == 1
    wait_for(lambda: toy.rows()["extra"]["pid"] == 0)
    restarts = toy.rows()["extra"]["restarts"]
    time.sleep(2.5)
    assert toy.rows()["extra"]["restarts"] == restarts
    assert toy.state_of("app") == "ready"


def test_restart_touches_one_process_only(toy: Toy) -> None:
    toy.write(
        one=process("rm -f healthy; sleep 0.3; touch healthy; " + WAIT, readiness_probe=probe("test -e healthy")),
        other=process(WAIT),
    )
    toy.up()
    one, other = toy.record("one"), toy.record("other")
    toy.stack.restart("one", DEADLINE)
    assert toy.record("one").guard != one.guard
    assert toy.record("one").started_at > one.started_at
    assert toy.state_of("one") == "ready"
    assert toy.record("other").guard == other.guard
    with ThreadPoolExecutor() as pool:  # asked twice at once
        list(pool.map(lambda _: toy.stack.client.restart("one", DEADLINE), range(2)))
    wait_for(lambda: toy.state_of("one") == "ready")
    assert toy.programs().count("bash") == 2
    with pytest.raises(StackError, match=r"no process 'three'; there are one, other"):
        toy.stack.restart("three", DEADLINE)


def test_a_process_that_becomes_unhealthy_is_restarted(toy: Toy) -> None:
    toy.write(one=process("touch healthy; " + WAIT, readiness_probe=probe("test -e healthy", failure_threshold=2)))
    toy.up()
    before = toy.record("one").guard
    (toy.root / "healthy").unlink()
    wait_for(lambda: toy.record("one").guard != before)
    wait_for(lambda: toy.state_of("one") == "ready")


def test_what_could_not_answer_while_nothing_ran_is_not_ended(toys: t.Callable[..., Toy]) -> None:
    """process-compose counts tries, of which a freeze takes one."""
    toy = toys("embedded")
    slow = "touch probing; sleep 0.8; rm probing; test -e healthy"
    toy.write(
        one=process("touch healthy; " + WAIT, readiness_probe=probe(slow, failure_threshold=4, timeout_seconds=2))
    )
    toy.up()
    before = toy.record("one").guard
    supervisor = next(each for each in toy.alive() if "-m" in each.cmdline() and "--keep" not in each.cmdline())
    wait_for(lambda: not (toy.root / "probing").exists())
    wait_for((toy.root / "probing").exists)
    supervisor.suspend()  # in the middle of a try, which it will find late
    frozen = toy.alive()
    for each in frozen:
        with contextlib.suppress(psutil.Error):
            each.suspend()
    time.sleep(1 + 2 + guard.LATE_SECONDS + 1)  # as long as a try may take, and more than four seconds of failure
    supervisor.resume()
    time.sleep(0.5)  # in which its probe has failed
    for each in frozen:
        with contextlib.suppress(psutil.Error):
            each.resume()
    wait_for(lambda: "nothing could run for" in (toy.stack.logs / "supervisor.log").read_text())
    wait_for(lambda: toy.state_of("one") == "ready")
    assert toy.record("one").guard == before


def test_a_log_is_rotated(toy: Toy) -> None:
    lines = "yes a line of twenty-eight bytes | head -n 100000; echo the end; "
    toy.write(max_size_mb=1, one=process(lines + WAIT))
    toy.up()
    wait_for(lambda: len(list(toy.stack.logs.glob("one*"))) > 1)
    wait_for(lambda: sum(path.stat().st_size for path in toy.stack.logs.glob("one*")) < 4 << 20)
    (toy.root / "order").touch()
    toy.stack.restart("one", DEADLINE)
    wait_for(lambda: "the end" in toy.stack.log("one").read_text())


# What dies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["main", "guard"])
def test_a_killed_process_comes_back_and_leaves_no_orphan(toy: Toy, victim: str) -> None:
    toy.write(one=process(ORPHAN + WAIT))
    toy.up()
    before, orphan = toy.record("one"), toy.number_in("orphan")
    os.kill(getattr(before, victim), signal.SIGKILL)
    wait_for(lambda: toy.record("one").main != before.main)
    assert not guard.start_of(before.main)
    wait_for(lambda: not guard.start_of(orphan))
    wait_for(lambda: toy.rows()["one"]["restarts"] == 1 and toy.state_of("one") == "ready")


def test_a_deaf_process_is_killed_with_all_it_started(toy: Toy) -> None:
    toy.write(one=process("trap '' TERM INT; " + ORPHAN + WAIT, "-t", "0.5"))
    toy.up()
    toy.number_in("orphan")
    toy.stack.down()
    assert toy.alive() == []


def test_a_failed_one_shot_is_named_first(toy: Toy) -> None:
    toy.write(
        base=process(WAIT),
        init=process("for n in $(seq 20); do echo line $n; done; exit 3", restart="no"),
        app=process(STEADY, depends_on={"init": {"condition": "process_completed_successfully"}}),
    )
    with pytest.raises(StackError) as caught:
        toy.up()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("init: ended with exit code 3; ")
    assert lines[1:] == [f"line {n}" for n in range(6, 21)]
    assert not (toy.root / "order").exists()
    assert toy.alive() == []


def test_a_process_that_ends_again_and_again_is_given_up(toy: Toy) -> None:
    toy.write(one=process("echo why; exit 4", readiness_probe=probe("false")))
    with pytest.raises(StackError, match=r"(?s)^one: ended 3 times, last with exit code 4; .*\nwhy"):
        toy.up()
    assert toy.alive() == []


def test_a_process_that_is_not_healthy_in_time_is_named(toy: Toy) -> None:
    toy.write(
        one=process("echo still at it; " + WAIT, readiness_probe=probe("false")),
        two=process(WAIT, depends_on={"one": {"condition": "process_healthy"}}),
    )
    with pytest.raises(StackError, match=r"(?s)^one: not healthy after 5 s; .*\nstill at it"):
        toy.up(timeout=5)
    assert toy.alive() == []


@pytest.mark.parametrize("also_guards", [False, True], ids=["supervisor", "supervisor-and-guards"])
def test_up_after_kill_of_the_supervisor(toy: Toy, also_guards: bool) -> None:
    toy.write(one=process(ORPHAN + WAIT))
    toy.up()
    before, orphan = toy.record("one"), toy.number_in("orphan")
    kill_supervisor(toy, also_guards)
    assert toy.up()
    assert not guard.start_of(before.main)
    assert not guard.start_of(orphan)
    assert toy.record("one").main != before.main


def test_down_after_kill_of_supervisor_and_guards(toy: Toy) -> None:
    toy.write(one=process(ORPHAN + WAIT))
    toy.up()
    orphan = toy.number_in("orphan")
    kill_supervisor(toy, also_guards=True)
    assert guard.start_of(orphan)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        toy.stack.down()
        assert toy.alive() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def kill_supervisor(toy: Toy, also_guards: bool) -> None:
    supervisor_guard, one = toy.record(SUPERVISOR_NAME), toy.record("one")
    victims = [supervisor_guard.guard, supervisor_guard.main, one.guard] if also_guards else [supervisor_guard.main]
    for pid in victims:  # stopped first, so that none of them can act on the death of another
        os.kill(pid, signal.SIGSTOP)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(guard.start_of(pid) for pid in victims))


def test_a_number_that_was_reused_is_no_leftover(toys: t.Callable[..., Toy]) -> None:
    toy = toys("embedded")
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    path = Path(guard.register_path("one", str(toy.state)))
    path.parent.mkdir(parents=True)
    pid = stranger.pid
    path.write_text(f'{{"guard": {pid}, "guard_start": "1@x", "main": {pid}, "main_start": "1@x", "started_at": 1}}')
    try:
        assert orphans.reap(toy.state) == {}
        assert stranger.poll() is None
        assert not path.exists()
    finally:
        stranger.kill()
        stranger.wait()


# Who comes in between ----------------------------------------------------------------------------


def test_two_ups_at_once_start_one_stack(toy: Toy) -> None:
    toy.write(one=process("sleep 0.5; touch healthy; " + WAIT, readiness_probe=probe("test -e healthy")))
    both = [toy.up_apart(), toy.up_apart()]
    outputs = [one.communicate(timeout=DEADLINE)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    assert sorted("running already" in output for output in outputs) == [False, True]
    assert sum(SUPERVISOR_NAME in " ".join(one.cmdline()) for one in toy.alive()) == 1


def test_up_while_the_stack_is_being_stopped_starts_it_anew(toy: Toy) -> None:
    slow = "trap 'sleep 1; exit' TERM; " + WAIT
    toy.write(base=process(slow), one=process(slow, depends_on={"base": {"condition": "process_started"}}))
    toy.up()
    before = toy.record("base").main
    assert toy.stack.client.stop_all()
    wait_for(lambda: toy.state_of("one") == "stopping")
    assert toy.up()
    assert toy.record("base").main != before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_stops_everything(toy: Toy, number: signal.Signals) -> None:
    toy.write(one=process(STEADY + WAIT, readiness_probe=probe("false")))
    one = toy.up_apart()
    wait_for((toy.root / "order").exists)
    one.send_signal(number)
    output = one.communicate(timeout=DEADLINE)[0]
    assert one.returncode == 130, output
    assert "stopping everything" in output
    assert toy.alive() == []
    assert toy.order() == ["start one", "stop one"]


def test_a_port_that_is_taken_is_named_with_its_holder(toy: Toy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]
        toy.write(one=process(WAIT, readiness_probe=PROBE | {"http_get": {"port": str(second)}}))
        with pytest.raises(SetupError) as caught:
            toy.up(plan=Plan({"TOY_PORT": ("127.0.0.1", first)}))
    me = psutil.Process()
    first_line, second_line = str(caught.value).splitlines()
    assert f"port {first} is taken by {me.name()} (pid {me.pid}, user {me.username()}, in {me.cwd()})" in first_line
    assert "set TOY_PORT in .env" in first_line
    assert f"port {second} is taken" in second_line
    assert "processes.one.readiness_probe" in second_line
    assert not toy.stack.is_running()


def test_a_file_that_does_not_fit_starts_nothing(toy: Toy) -> None:
    toy.write(one=process(WAIT, is_daemon=True))
    with pytest.raises(ConfigError, match=r"processes\.one\.is_daemon"):
        toy.up()
    toy.write(one=process(WAIT, description="${NOWHERE}"))
    with pytest.raises(ConfigError, match=r"\$\{NOWHERE\} has no value"):
        toy.up()
    assert not toy.state.exists()


def test_a_supervisor_that_is_not_there(toys: t.Callable[..., Toy]) -> None:
    toy = toys("process-compose")
    toy.write(one=process(WAIT))
    toy.env["PATH"] = f"{BIN}:/usr/bin:/bin"
    with pytest.raises(SetupError, match=r"no process-compose on PATH: set ELT_SUPERVISOR=embedded in \.env"):
        toy.up()


# Where it lies -----------------------------------------------------------------------------------


def test_a_deep_folder_with_a_space(toys: t.Callable[..., Toy], supervisor: str, tmp_path: Path) -> None:
    toy = toys(supervisor, tmp_path / ("deep " * 10) / ("er " * 10))
    assert len(str(toy.stack.client.path)) > 103
    toy.write(one=process("touch healthy; " + WAIT, readiness_probe=probe("test -e healthy")))
    assert toy.up()
    assert toy.state_of("one") == "ready"
    toy.stack.restart("one", DEADLINE)
    assert toy.stack.down()


def test_a_deep_state_folder_outside(toys: t.Callable[..., Toy], supervisor: str, tmp_path: Path) -> None:
    toy = toys(supervisor, tmp_path / "clone", tmp_path / ("d" * 60) / ("e" * 60))
    toy.write(one=process(WAIT))
    if supervisor == "process-compose":
        with pytest.raises(SetupError, match="path is too long for its socket"):
            toy.up()
    toy.up(supervisor="auto" if supervisor == "process-compose" else "embedded")
    assert toy.state_of("one") == "ready"


def test_nobody_else_answers_on_the_ipv6_twin_of_a_port(tmp_path, supervisor):
    """Browsers and psql try ::1 first for `localhost`: a stranger there would be told passwords at any time."""
    try:
        stranger = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    port = stranger.getsockname()[1]
    toy = Toy(tmp_path / "twin", supervisor)
    toy.write(one=process(f"{STEADY} {WAIT}"))
    plan = Plan({"A_PORT": ("127.0.0.1", port)})
    with stranger, pytest.raises(SetupError, match=f"port {port} is taken by .*set A_PORT in .env"):
        toy.stack.up(toy.env, 30, plan, supervisor)
    toy.stack.up(toy.env, 30, plan, supervisor)
    try:
        for address in ("::1", "::"):
            with pytest.raises(OSError, match="in use"):
                socket.create_server((address, port), family=socket.AF_INET6).close()
        with pytest.raises(ConnectionRefusedError):  # so that whoever tries it goes on to IPv4
            socket.create_connection(("::1", port)).close()
        socket.create_server(("127.0.0.1", port)).close()
    finally:
        toy.stack.down()
    socket.create_server(("::1", port), family=socket.AF_INET6).close()


@pytest.mark.skipif(not guard.LINUX, reason="ports are shared so on Linux alone")
def test_a_port_that_is_held_is_for_servers_that_share_it():
    (port,) = free_ports(1)
    bind = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1]))).close()"
    command = [sys.executable, "-c", bind, str(port)]
    startup = os.environ | {"PYTHONPATH": str(ROOT / "elt" / "startup"), "ELT_SHARED_PORTS": f"flower={port}"}
    (held,) = ports.hold([("127.0.0.1", port)])
    with held:
        assert not ports.is_free("127.0.0.1", port)
        for name, ends in (("flower", 0), ("nobody", 1)):
            done = subprocess.run(command, env=startup | {"PC_PROC_NAME": name}, capture_output=True, text=True)
            assert done.returncode == ends, done.stderr
