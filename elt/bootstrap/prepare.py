"""Prepare a clone: uv, the locked environment, DuckDB's extensions, `.env`, git hooks, process-compose.

Runs on the system's Python before the environment exists, hence the standard library only. Each step first
looks whether it has anything to do, so that a second run costs a fraction of a second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import typing as t

from elt import layout
from elt.atomic import atomic_write
from elt.bootstrap import git_hooks, process_compose, uv
from elt.config import env_file, services
from elt.errors import EltError, SetupError, last_line
from elt.supervisor import lockfile
from elt.supervisor import ports as network

FREE_PORTS = "scripts/bootstrap.sh --free-ports"
PORTS = "ports"
QUIET_SECONDS = 0.5


def main() -> int:
    """Run every step, one line each, up to the first that fails, and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bootstrap.sh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="print only steps that take longer than half a second")
    parser.add_argument(
        "--packages", action="store_true", help="only what an image may hold: no secrets, nothing of this clone"
    )
    parser.add_argument(
        "--start", action="store_true", help="refuse before the installation what would keep the stack from starting"
    )
    parser.add_argument("--free-ports", action="store_true", help="write free ports to .env where one is taken")
    parser.add_argument(
        "--new-password",
        action="store_true",
        help="let PostgreSQL's data have a new password, if the old one is lost",
    )
    options = parser.parse_args()
    quiet: bool = options.quiet
    if not os.access(layout.ROOT, os.W_OK):
        owner = layout.ROOT.stat().st_uid
        fix = f"it belongs to user {owner}: run this as that user, or `sudo chown -R {os.getuid()}` it where it lies"
        return _fail("clone", SetupError(f"{layout.ROOT} is not writable by this user; {fix}"))
    begin = time.monotonic()
    os.environ.update(layout.libraries())
    for name in git_hooks.ANOTHER_REPOSITORY:
        os.environ.pop(name, None)
    supervisor = process_compose.ProcessCompose()
    steps: tuple[tuple[str, t.Callable[[], str]], ...] = (
        ("state", prepare_state),
        *(((".env", env_file.write_env), (PORTS, free_ports)) if options.free_ports else ()),
        *(((PORTS, refuse_taken_ports),) if options.start and not _is_installed() else ()),
        ("environment", uv.sync),
        ("duckdb extensions", fill_duckdb_extensions),
        *((("password", new_password),) if options.new_password else ()),
        *(() if options.packages or options.free_ports else ((".env", env_file.write_env),)),
        *(() if options.packages else (("git hooks", git_hooks.install_hooks),)),
        ("process-compose", supervisor.result),
    )
    for name, step in steps:
        start = time.monotonic()
        try:
            done = step()
        except EltError as error:
            return _fail(name, error)
        except UnicodeDecodeError as error:
            return _fail(name, SetupError(f"{layout.ENV_FILE} is not UTF-8: {error}"))
        except OSError as error:
            return _fail(name, SetupError(f"{error.filename or layout.STATE}: {error.strerror}"))
        seconds = time.monotonic() - start
        if not quiet or seconds > QUIET_SECONDS or (name == PORTS and options.free_ports):  # they changed a file
            print(f"  {name:<18} {done:<72} {seconds:6.2f} s", flush=True)
    if not quiet:
        print(f"  {'ready':<91} {time.monotonic() - begin:6.2f} s")
    return 0


def _fail(step: str, error: EltError) -> int:
    print(f"bootstrap: {step}: {error}", file=sys.stderr)
    return 1


# State -------------------------------------------------------------------------------------------


def prepare_state() -> str:
    """Create the state folder, for this user only, and check that the disk has enough space."""
    for folder in (layout.ROOT, layout.STATE):
        if strange := re.search(r"[^\w ./+@,=~-]", str(folder)):
            raise SetupError(f"{folder}: a path with {strange[0]!r} in it is not supported: clone to another folder")
    layout.prepare()
    free = shutil.disk_usage(layout.STATE).free
    if not _is_installed() and free < uv.VENV_BYTES:
        raise SetupError(
            f"{free / 1e9:.1f} GB are free below {layout.STATE}, {uv.VENV_BYTES / 1e9:.1f} GB are needed: "
            "free some, or clone to another disk"
        )
    return f"{layout.STATE}, {free / 1e9:.0f} GB free"


def _is_installed() -> bool:
    return (uv.VENV / "pyvenv.cfg").exists()


# DuckDB's extensions -----------------------------------------------------------------------------

FILL = """
import pathlib, pkgutil, sys, duckdb
from duckdb_extensions import import_extension
connection = duckdb.connect(config={"extension_directory": sys.argv[1]})
names = [m.name.removeprefix("duckdb_extension_") for m in pkgutil.iter_modules()
         if m.name.startswith("duckdb_extension_")]
for name in names:
    import_extension(name, con=connection)
print(duckdb.__version__, *names)
"""


def fill_duckdb_extensions() -> str:
    """Unpack the locked extensions where DuckDB finds them, so that it never downloads one."""
    stamp = layout.DUCKDB_EXTENSIONS / "uv.lock.sha256"
    lock = hashlib.sha256((layout.ROOT / "uv.lock").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == lock:
        return "up to date"
    layout.DUCKDB_EXTENSIONS.mkdir(exist_ok=True)
    command = [str(uv.VENV / "bin" / "python"), "-c", FILL, str(layout.DUCKDB_EXTENSIONS)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=layout.STATE)
    if run.returncode:
        raise SetupError(f"DuckDB's extensions cannot be unpacked: {last_line(run.stderr)}")
    stamp.write_text(lock)
    version, *names = run.stdout.split()
    return f"DuckDB {version}: {', '.join(names)}"


def new_password() -> str:
    """Set a new password of PostgreSQL's data, in `.env` as well, when the old one is lost.

    Raises:
        SetupError: there is no data, `.env` has a password, or a server runs on the data.
    """
    text = layout.ENV_FILE.read_text() if layout.ENV_FILE.exists() else ""
    if re.search(r"^POSTGRES_PASSWORD=.", text, re.MULTILINE):
        raise SetupError(f"{layout.ENV_FILE} has POSTGRES_PASSWORD: remove the line first, if it is the wrong one")
    if not (layout.POSTGRES_DATA / "PG_VERSION").exists():
        raise SetupError(f"{layout.POSTGRES_DATA} holds no data: `scripts/bootstrap.sh` writes a password")
    secret = env_file.random_secret("POSTGRES_PASSWORD")
    code = "import sys; from elt.services import postgres; postgres.set_password(sys.stdin.read())"
    run = subprocess.run(
        [str(uv.VENV / "bin" / "python"), "-c", code],
        input=secret,
        capture_output=True,
        text=True,
        cwd=layout.ROOT,
    )
    if run.returncode:
        raise SetupError(f"PostgreSQL does not take a new password: {last_line(run.stderr)}")
    with atomic_write(layout.ENV_FILE, 0o600) as path:
        path.write_text(f"{text.rstrip()}\nPOSTGRES_PASSWORD={secret}\n".lstrip())
    return "PostgreSQL's data has a new one, in .env"


# Ports -------------------------------------------------------------------------------------------


def _taken_ports() -> dict[str, tuple[int, int]]:
    """Return the settings whose port is taken, with that port and a free one; none while this clone's stack runs."""
    if lockfile.is_held(layout.RUN):
        return {}
    text = layout.ENV_FILE.read_text() if layout.ENV_FILE.exists() else ""
    defaults = {name: value for name, value, _ in env_file.example_settings()}
    known = defaults | dict(env_file.ASSIGNMENT.findall(text)) | dict(os.environ)
    known |= {name: defaults[name] for name in defaults if name.endswith("_PORT") and not known[name].isdigit()}
    wanted = services.listeners(known)
    ports = {port for _, port in wanted.values()}
    found: dict[str, tuple[int, int]] = {}
    for name, (host, port) in wanted.items():
        if not network.is_free(host, port):
            others = {*ports, *(free for _, free in found.values())}
            free = next((n for n in range(port + 1, 65536) if n not in others and network.is_free(host, n)), 0)
            found[name] = port, free
    return found


def refuse_taken_ports() -> str:
    """Refuse to go on when a port of the stack is taken.

    Raises:
        SetupError: one is taken.
    """
    if taken := _taken_ports():
        which = ", ".join(f"{port} ({name})" for name, (port, _) in taken.items())
        lines = ", ".join(f"{name}={free}" for name, (_, free) in taken.items())
        raise SetupError(f"taken: {which}; end what holds them, or let `{FREE_PORTS}` write {lines} to .env")
    return "all are free"


def free_ports() -> str:
    """Write free ports to `.env` in place of those that are taken.

    Raises:
        SetupError: an environment variable, which goes before `.env`, names one that is taken.
    """
    env_file.write_env()
    taken = _taken_ports()
    text = layout.ENV_FILE.read_text()
    for name, (port, free) in taken.items():
        if name in os.environ:
            raise SetupError(f"{port} is taken, and the environment variable {name} says it: set it to {free}")
        text = re.sub(rf"(?m)^(\s*(?:export\s+)?{name}\s*=).*$", rf"\g<1>{free}", text)
    if taken:
        with atomic_write(layout.ENV_FILE, 0o600) as path:
            path.write_text(text)
    return ", ".join(f"{name} {port} -> {free}" for name, (port, free) in taken.items()) or "all are free"


def leave(code: int) -> t.NoReturn:
    """Exit without clean-up, during which a download that still waits inside OpenSSL would crash the interpreter."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        leave(main())
    except KeyboardInterrupt:
        leave(130)
