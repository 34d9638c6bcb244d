"""elt/supervisor/guard.py: signals, orphans, exit codes, the register."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import psutil
import pytest
from workspace import DEADLINE, is_gone, wait_for

from elt.supervisor import guard

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux adopts orphans")


def number_in(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


class Guarded:
    """A shell script behind a guard, in a session of its own."""

    def __init__(
        self,
        folder: Path,
        script: str,
        *options: str,
        stdout: int = subprocess.DEVNULL,
        program: str = guard.__file__,
    ) -> None:
        self.folder = folder
        command = [sys.executable, "-IS", program, *options, "bash", "-c", script]
        env = os.environ | {"ELT_STATE": str(folder), "PC_PROC_NAME": "toy"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=stdout, start_new_session=True, text=True
        )

    def record(self) -> guard.Record:
        """What it registered, as soon as it has."""
        wait_for(lambda: guard.read("toy", str(self.folder)))
        record = guard.read("toy", str(self.folder))
        assert record
        return record

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(DEADLINE)


@pytest.fixture
def guarded(tmp_path: Path) -> t.Iterator[t.Callable[..., Guarded]]:
    started: list[Guarded] = []

    def start(script: str, *options: str, **more: t.Any) -> Guarded:
        started.append(Guarded(tmp_path, script, *options, **more))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait(DEADLINE)
        if one.process.stdout:
            one.process.stdout.close()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_ends_with_the_code_of_its_command(guarded: t.Callable[..., Guarded], script: str, code: int) -> None:
    assert guarded(script).wait() == code


def test_says_when_there_is_no_such_program() -> None:
    done = subprocess.run(
        [sys.executable, guard.__file__, "no-such-program"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 127
    assert done.stderr == "elt-guard: no-such-program: No such file or directory\n"


@pytest.mark.parametrize("words", [[], ["-s", "NOSUCH", "true"], ["-t", "soon", "true"], ["-t"]])
def test_explains_its_usage(words: list[str]) -> None:
    done = subprocess.run([sys.executable, guard.__file__, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.split()[0]) == (2, "usage:")


def test_passes_a_request_to_stop_on_once(guarded: t.Callable[..., Guarded], tmp_path: Path) -> None:
    one = guarded("trap 'echo stop >> asked' TERM; touch ready; until [ -e go ]; do sleep 0.05; done", "-t", "60")
    wait_for((tmp_path / "ready").exists)
    for _ in range(3):
        one.process.terminate()
        time.sleep(0.1)
    wait_for((tmp_path / "asked").exists)
    (tmp_path / "go").touch()
    assert one.wait() == 0
    assert (tmp_path / "asked").read_text() == "stop\n"


def test_kills_what_does_not_stop_in_time(guarded: t.Callable[..., Guarded], tmp_path: Path) -> None:
    one = guarded("trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done", "-t", "0.3")
    pid = number_in(tmp_path / "pid")
    one.process.terminate()
    assert one.wait() == 137
    assert is_gone(pid)


@linux_only
def test_an_orphan_that_holds_stdout_goes_with_its_parent(guarded: t.Callable[..., Guarded], tmp_path: Path) -> None:
    one = guarded("setsid bash -c 'echo $$ > orphan; sleep 60' & sleep 60", stdout=subprocess.PIPE)
    orphan = number_in(tmp_path / "orphan")
    os.kill(one.record().main, signal.SIGKILL)
    assert one.process.communicate(timeout=DEADLINE) == ("", None)  # ends only when nobody holds the pipe
    assert one.process.returncode == 137
    assert is_gone(orphan)


@linux_only
def test_its_command_does_not_outlive_it(guarded: t.Callable[..., Guarded]) -> None:
    record = guarded("sleep 60; true").record()
    os.kill(record.guard, signal.SIGKILL)
    wait_for(lambda: is_gone(record.main))


def test_stops_its_command_when_the_parent_vanishes(tmp_path: Path) -> None:
    script = "trap 'echo interrupted > how; exit' INT; echo $$ > pid; while :; do sleep 0.05; done"
    (tmp_path / "script").write_text(script)
    parent = subprocess.Popen(
        [
            "bash",
            "-c",
            '"$0" -IS "$1" -s INT bash script & sleep 60; true',
            sys.executable,
            guard.__file__,
        ],
        cwd=tmp_path,
        start_new_session=True,
    )
    pid = number_in(tmp_path / "pid")
    parent.kill()
    parent.wait(DEADLINE)
    wait_for(lambda: is_gone(pid))
    assert (tmp_path / "how").read_text() == "interrupted\n"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(parent.pid, signal.SIGKILL)  # the sleep of the script


def test_registers_while_it_runs(guarded: t.Callable[..., Guarded], tmp_path: Path) -> None:
    before = time.time()
    one = guarded("until [ -e go ]; do sleep 0.02; done")
    record = one.record()
    path = tmp_path / "run" / "processes" / "toy.json"
    assert record.guard == one.process.pid
    assert psutil.Process(record.main).ppid() == record.guard
    assert before <= record.started_at <= time.time()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    (tmp_path / "go").touch()
    assert one.wait() == 0
    assert not path.exists()
    assert guard.read("toy", str(tmp_path)) is None


def test_a_record_of_a_killed_guard_is_none(guarded: t.Callable[..., Guarded], tmp_path: Path) -> None:
    one = guarded("sleep 60")
    os.kill(one.record().guard, signal.SIGKILL)
    one.wait()
    assert guard.read("toy", str(tmp_path)) is None
    assert guard.read_record(guard.register_path("toy", str(tmp_path)))


def test_without_a_state_folder_it_does_not_register(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != "ELT_STATE"} | {"PC_PROC_NAME": "toy"}
    command = [sys.executable, "-IS", guard.__file__, "true"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, b"", [])


def test_its_command_inherits_no_descriptor() -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-IS", guard.__file__, "bash", "-c", f"[ ! -e /dev/fd/{writer} ]"]
    try:
        assert subprocess.run(command, pass_fds=(writer,), check=False).returncode == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_the_table_of_ps_agrees_with_proc() -> None:
    row, same = guard.processes()[os.getpid()], guard._ps("-p", str(os.getpid()))[os.getpid()]
    assert (row.parent, row.group) == (same.parent, same.group) == (os.getppid(), os.getpgrp())


def test_elsewhere_the_process_group_binds_them(guarded: t.Callable[..., Guarded], tmp_path: Path) -> None:
    """MacOS has no /proc, no adoption and no pidfd; here its way is taken on Linux."""
    source = Path(guard.__file__).read_text()
    program = tmp_path / "guard.py"
    program.write_text(
        source.replace('LINUX = sys.platform == "linux"', "LINUX = False").replace('isdir("/proc/self")', 'isdir("")')
    )
    assert "LINUX = False" in program.read_text()
    assert 'isdir("")' in program.read_text()
    one = guarded("(echo $BASHPID > orphan; exec sleep 60) & sleep 60", program=str(program))
    orphan = number_in(tmp_path / "orphan")
    path = guard.register_path("toy", str(tmp_path))
    wait_for(lambda: guard.read_record(path))
    record = guard.read_record(path)
    assert record
    os.kill(record.main, signal.SIGKILL)
    assert one.wait() == 137
    assert is_gone(orphan)


def test_the_grace_of_a_stop_does_not_pass_while_nothing_can_run(tmp_path, guarded):
    script = "trap 'touch asked; sleep 0.3; touch ended; exit' TERM; touch ready; while :; do sleep 0.1; done"
    one = guarded(script, "-t", "3")
    wait_for((tmp_path / "ready").exists)
    top, main = psutil.Process(one.process.pid), psutil.Process(one.record().main)
    one.process.terminate()
    wait_for((tmp_path / "asked").exists)
    top.suspend()
    main.suspend()
    time.sleep(3 + guard.LATE_SECONDS + 0.5)
    top.resume()
    time.sleep(0.2)  # in which it would kill what has not had its grace
    main.resume()
    assert one.wait() == 0
    assert (tmp_path / "ended").exists()
