"""Implement the verbs of `elt` on the stack of this clone: up, down, status, logs, restart."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import typing as t

from elt import disk, layout
from elt.config import env_file, services
from elt.errors import EltError, StackError
from elt.services import task_logs
from elt.supervisor.control import Plan, Stack
from elt.supervisor.logs import last_lines, plain
from elt.supervisor.progress import FINISHED

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.config.settings import Settings
    from elt.supervisor.progress import Change


def ours() -> Stack:
    """Return the stack of this clone."""
    return Stack(layout.PROCESS_FILE, layout.STATE, layout.ROOT, layout.TOOLS)


def is_running() -> bool:
    """Return whether the stack of this clone runs."""
    return ours().is_running()


def refuse_other_settings(settings: Settings) -> None:
    """Refuse to go on if the running stack was started with other settings.

    Raises:
        SetupError: settings differ; it names them.
    """
    from elt.config import process_env  # noqa: PLC0415 - the other verbs work without

    ours().facts.refuse_other_settings(_settings_of(process_env.build(settings)))


def print_endpoints(settings: Settings) -> None:
    """Print the addresses that a person opens, and the login of those that ask for one."""
    from elt.config.settings import ADMIN, DEFAULT_PASSWORD  # noqa: PLC0415 - its imports cost the other verbs 0.1 s

    off = services.parts_off(settings.elt_parts)
    for one in services.SERVICES:
        if one.title and one.part not in off:
            login = f"{ADMIN} / {settings.admin_password}" if one.has_login else ""
            print(f"  {one.title:<12} {one.url(settings):<28} {login}".rstrip())
    if settings.admin_password == DEFAULT_PASSWORD:
        print("  whoever is on this machine can log in and run code as you: set another ADMIN_PASSWORD in .env")


def _optional() -> list[str]:
    return [one.process for one in services.SERVICES if one.part]


_OF_NO_PROCESS = {"ELT_SUPERVISOR", "ELT_GROUPS"}
"""Settings that may change while the stack runs: which packages are installed is looked at by bootstrap alone."""


def _settings_of(env: t.Mapping[str, str]) -> dict[str, str]:
    """Return what a stack is started with, by name: settings, names of Airflow, settings of Meltano's plugins."""
    from elt.config import secret_files  # noqa: PLC0415 - their imports cost the other verbs 0.1 s
    from elt.config.airflow_names import CONNECTION, VARIABLE  # noqa: PLC0415
    from elt.config.meltano_plugins import plugin_settings  # noqa: PLC0415

    named = {name: env.get(name, "") for name, _, _ in env_file.example_settings() if name not in _OF_NO_PROCESS}
    others = {*(name for name in env if name.startswith((CONNECTION, VARIABLE))), *plugin_settings().given}
    others |= secret_files.values(env.get("ELT_ENVIRONMENT", "")).keys()
    return named | {name: env.get(name, "") for name in sorted(others)}


def supervisor() -> str:
    """Return the name of the supervisor of this clone's stack; "" before the first start."""
    return ours().supervisor()


def up(settings: Settings, timeout: float, on_change: t.Callable[[Change], None] = lambda _: None) -> None:
    """Start the stack and wait until every process is healthy.

    Args:
        settings: the checked settings.
        timeout: seconds until everything must be healthy.
        on_change: called with each change of a process' state, also when this fails later.
    """
    disk.refuse_full()
    from elt.config import process_env  # noqa: PLC0415 - the other verbs work without

    layout.prepare()
    began = time.monotonic()
    stack = ours()
    stack.on_change = on_change
    env = process_env.build(settings)
    plan = Plan(settings.listeners(), services.shared_ports(env).values(), _settings_of(env), _optional())
    stack.up(env, timeout, plan, settings.elt_supervisor)
    print(f"healthy after {time.monotonic() - began:.1f} s")
    print_endpoints(settings)


def down() -> None:
    """Stop the stack, and end orphaned processes of a killed supervisor."""
    began = time.monotonic()
    was_running = ours().down()
    print(f"stopped in {time.monotonic() - began:.1f} s" if was_running else "the stack was not running")


def status() -> bool:
    """Print a table of the processes, and return whether all are healthy."""
    rows = ours().rows()
    if not rows:
        print("the stack is starting or stopping" if is_running() else "the stack is not running")
        return False
    print(f"{'process':<24} {'state':<11} {'pid':>8} {'restarts':>8}  ready")
    for row, state in rows:
        ready = "yes" if state in FINISHED else "no"
        print(f"{row['name']:<24} {state:<11} {row['pid'] or '-':>8} {row['restarts']:>8}  {ready}")
    for name in (row["name"] for row, state in rows if state == "unhealthy"):
        print(f"{name} runs and does not answer in time; if that lasts: elt logs {name}, then elt restart {name}")
    from elt.config.settings import load  # noqa: PLC0415 - its imports cost the other verbs 0.1 s

    try:
        settings = load()
        refuse_other_settings(settings)
    except EltError as error:  # the addresses would not be those of the stack that runs
        print(error)
    else:
        print_endpoints(settings)
    return all(state in FINISHED for _, state in rows)


def logs(name: str, lines: int, *, follow: bool) -> None:
    """Print the end of the log of a process or a task, and go on with what is added.

    Args:
        name: a process of the stack, or a task of a DAG, of which the last try in the latest run is meant.
        lines: how many of the last lines, as they are printed.
        follow: go on for ever.

    Raises:
        StackError: there is no such log.
    """
    readable: t.Callable[[str], str] = str
    try:
        path = ours().log(name)
    except StackError as error:
        if (of_task := task_logs.newest(name)) is None:
            tasks = ", ".join(task_logs.names()) or "none yet"
            raise StackError(f"{error}; of the tasks there are {tasks}") from None
        path, readable = of_task, task_logs.readable
        print(f"log: {path}", file=sys.stderr)
    with contextlib.closing(_follow(path)) as added:
        next(added)  # from here on nothing is missed
        if readable is str:
            text = last_lines(path, lines)
        else:
            whole = "".join(map(readable, path.read_text(errors="replace").splitlines(keepends=True)))
            text = plain(whole).splitlines(keepends=True)
        sys.stdout.write("".join(text[-lines:] if lines else []))
        sys.stdout.flush()
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                for line in added:
                    sys.stdout.write(plain(readable(line)))
                    sys.stdout.flush()


def restart(process: str) -> None:
    """Restart one process and wait until it is healthy."""
    ours().restart(process, timeout=120)


def _follow(path: Path) -> t.Generator[str, None, None]:
    """Yield an empty line, then lines added to a file, for ever, also after its rotation."""
    file = path.open(errors="replace")
    file.seek(0, os.SEEK_END)
    line = ""
    yield line
    while True:
        line += file.readline()
        if line.endswith("\n"):
            yield line
            line = ""
            continue
        time.sleep(0.2)
        with contextlib.suppress(OSError):
            there, here = path.stat(), os.fstat(file.fileno())
            if there.st_ino != here.st_ino or there.st_size < file.tell():
                file.close()
                file, line = path.open(errors="replace"), ""
