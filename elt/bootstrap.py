"""Prepare a clone: uv, the locked environment, DuckDB's extensions, `.env`, git hooks, process-compose.

Runs on the system's Python before the environment exists, hence the standard library only. Each step first
looks whether it has anything to do, so that a second run costs a fraction of a second.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import typing as t
from pathlib import Path

from elt import layout, uv
from elt.drafts import draft
from elt.errors import EltError, SetupError, last_line
from elt.supervisor import lockfile
from elt.supervisor import ports as network

ANOTHER_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
)
"""Variables by which git is told of a repository: hooks of git set them, and some shells."""
_ASSIGNMENT = re.compile(
    r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)[^\S\n]*=[^\S\n]*(.*?)[^\S\n]*$", re.MULTILINE | re.IGNORECASE
)
"""Name and value of a line of `.env`."""
FREE_PORTS = "scripts/bootstrap.sh --free-ports"
PORTS = "ports"
CONNECT_SECONDS = 3
QUIET_SECONDS = 0.5
REFUSAL_SECONDS = 24 * 3600
"""How long a refused download is not tried again."""


def main() -> int:
    """Run every step, one line each; the first that fails ends the run with its reason."""
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
        mend = f"it belongs to user {owner}: run this as that user, or `sudo chown -R {os.getuid()}` it where it lies"
        return _fail("clone", SetupError(f"{layout.ROOT} is not writable by this user; {mend}"))
    begin = time.monotonic()
    os.environ.update(layout.libraries())
    for name in ANOTHER_REPOSITORY:
        os.environ.pop(name, None)
    supervisor = ProcessCompose()
    steps: tuple[tuple[str, t.Callable[[], str]], ...] = (
        ("state", prepare_state),
        *(((".env", write_env), (PORTS, free_ports)) if options.free_ports else ()),
        *(((PORTS, refuse_taken_ports),) if options.start and not _is_installed() else ()),
        ("environment", uv.sync),
        ("duckdb extensions", fill_duckdb_extensions),
        *((("password", new_password),) if options.new_password else ()),
        *(() if options.packages or options.free_ports else ((".env", write_env),)),
        *(() if options.packages else (("git hooks", install_hooks),)),
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
    """Make the folder of all that running creates, for this user only, and see that there is room."""
    for folder in (layout.ROOT, layout.STATE):
        if strange := re.search(r"[^\w ./+@,=~-]", str(folder)):
            raise SetupError(f"{folder}: a path with {strange[0]!r} in it is not supported: clone to another folder")
    layout.prepare()
    free = shutil.disk_usage(layout.STATE).free
    if not _is_installed() and free < uv.ENVIRONMENT_SIZE:
        raise SetupError(
            f"{free / 1e9:.1f} GB are free below {layout.STATE}, {uv.ENVIRONMENT_SIZE / 1e9:.1f} GB are needed: "
            "free some, or clone to another disk"
        )
    return f"{layout.STATE}, {free / 1e9:.0f} GB free"


def _is_installed() -> bool:
    return (uv.ENVIRONMENT / "pyvenv.cfg").exists()


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
    """Unpack the extensions of the lock where DuckDB finds them, so that it never downloads one."""
    stamp = layout.DUCKDB_EXTENSIONS / "uv.lock.sha256"
    lock = hashlib.sha256((layout.ROOT / "uv.lock").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == lock:
        return "up to date"
    layout.DUCKDB_EXTENSIONS.mkdir(exist_ok=True)
    command = [str(uv.ENVIRONMENT / "bin" / "python"), "-c", FILL, str(layout.DUCKDB_EXTENSIONS)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=layout.STATE)
    if run.returncode:
        raise SetupError(f"DuckDB's extensions cannot be unpacked: {last_line(run.stderr)}")
    stamp.write_text(lock)
    version, *names = run.stdout.split()
    return f"DuckDB {version}: {', '.join(names)}"


# .env --------------------------------------------------------------------------------------------


def write_env() -> str:
    """Write `.env` from `.env.example` with random secrets, or add the settings that it lacks."""
    target = layout.ENV_FILE
    text = target.read_text() if target.exists() else ""
    have = {name.upper() for name, _ in _ASSIGNMENT.findall(text)}
    lacking = [name for name, _, _ in example_settings() if name not in have]
    mended = target.exists() and target.stat().st_mode & 0o077
    if mended:
        target.chmod(0o600)
    if "POSTGRES_PASSWORD" in lacking and (lost := lost_password()):
        raise SetupError(f"{target} lacks POSTGRES_PASSWORD, and {lost}")
    if not lacking:
        return "mode set to 0600" if mended else "up to date"
    added = "".join(
        f"{comment}{name}={value or random_secret(name)}\n"
        for name, value, comment in example_settings()
        if name in lacking
    )
    with draft(target, 0o600) as path:
        path.write_text(text + ("\n" if text and not text.endswith("\n") else "") + added.lstrip("\n"))
    if not text:
        return "written, with random secrets"
    return f"added {', '.join(lacking)}" if len(lacking) < 4 else f"added {len(lacking)} settings"


def lost_password() -> str:
    """What to say where `.env` lacks the password that the data was made with; empty if there is no data."""
    data = next(layout.STATE.glob("postgres*/PG_VERSION"), None)
    if data is None:
        return ""
    return (
        f"{data.parent} was made with one: put the old file or line back, or run "
        "`scripts/bootstrap.sh --new-password`, which keeps the data"
    )


def new_password() -> str:
    """Give the user of PostgreSQL's data a new password, in `.env` as well, when the old one is lost.

    Raises:
        SetupError: there is no data, `.env` has a password, or a server runs on the data.
    """
    text = layout.ENV_FILE.read_text() if layout.ENV_FILE.exists() else ""
    if re.search(r"^POSTGRES_PASSWORD=.", text, re.MULTILINE):
        raise SetupError(f"{layout.ENV_FILE} has POSTGRES_PASSWORD: remove the line first, if it is the wrong one")
    if not (layout.POSTGRES_DATA / "PG_VERSION").exists():
        raise SetupError(f"{layout.POSTGRES_DATA} holds no data: `scripts/bootstrap.sh` writes a password")
    secret = random_secret("POSTGRES_PASSWORD")
    code = "import sys; from elt import servers; servers.set_password(sys.stdin.read())"
    run = subprocess.run(
        [str(uv.ENVIRONMENT / "bin" / "python"), "-c", code],
        input=secret,
        capture_output=True,
        text=True,
        cwd=layout.ROOT,
    )
    if run.returncode:
        raise SetupError(f"PostgreSQL does not take a new password: {last_line(run.stderr)}")
    with draft(layout.ENV_FILE, 0o600) as path:
        path.write_text(f"{text.rstrip()}\nPOSTGRES_PASSWORD={secret}\n".lstrip())
    return "PostgreSQL's data has a new one, in .env"


# Ports -------------------------------------------------------------------------------------------


def _taken_ports() -> dict[str, tuple[int, int]]:
    """The settings whose port is taken, each with that port and a free one; none while this clone's stack runs."""
    if lockfile.is_held(layout.RUN):
        return {}
    text = layout.ENV_FILE.read_text() if layout.ENV_FILE.exists() else ""
    known = (
        {name: value for name, value, _ in example_settings()} | dict(_ASSIGNMENT.findall(text)) | dict(os.environ)
    )
    host = known["BIND_ADDRESS"]
    wanted = {
        name: int(known[name])
        for name, _, _ in example_settings()
        if name.endswith("_PORT") and known[name].isdigit() and known.get(f"{name[:-5]}_TCP") != "off"
    }
    found: dict[str, tuple[int, int]] = {}
    for name, port in wanted.items():
        if not network.is_free(host, port):
            others = {*wanted.values(), *(free for _, free in found.values())}
            free = next((n for n in range(port + 1, 65536) if n not in others and network.is_free(host, n)), 0)
            found[name] = port, free
    return found


def refuse_taken_ports() -> str:
    """See that the stack will get its ports.

    Raises:
        SetupError: one is taken.
    """
    if taken := _taken_ports():
        which = ", ".join(f"{port} ({name})" for name, (port, _) in taken.items())
        lines = ", ".join(f"{name}={free}" for name, (_, free) in taken.items())
        raise SetupError(f"taken: {which}; end what holds them, or let `{FREE_PORTS}` write {lines} to .env")
    return "all are free"


def free_ports() -> str:
    """Write free ports to `.env` in the place of those that are taken.

    Raises:
        SetupError: an environment variable, which goes before `.env`, names one that is taken.
    """
    write_env()
    taken = _taken_ports()
    text = layout.ENV_FILE.read_text()
    for name, (port, free) in taken.items():
        if name in os.environ:
            raise SetupError(f"{port} is taken, and the environment variable {name} says it: set it to {free}")
        text = re.sub(rf"(?m)^(\s*(?:export\s+)?{name}\s*=).*$", rf"\g<1>{free}", text)
    if taken:
        with draft(layout.ENV_FILE, 0o600) as path:
            path.write_text(text)
    return ", ".join(f"{name} {port} -> {free}" for name, (port, free) in taken.items()) or "all are free"


def example_settings() -> list[tuple[str, str, str]]:
    """Name, default and preceding comment of each setting of `.env.example`."""
    found, comment = [], ""
    for line in layout.ENV_EXAMPLE.read_text().splitlines(keepends=True):
        name, equals, value = line.strip().partition("=")
        if equals and not line.startswith("#"):
            found.append((name, value, comment))
            comment = ""
        else:
            comment += line
    return found


def random_secret(name: str) -> str:
    """A secret of 256 bits, in the padded form that Fernet asks for or in digits; of 96 bits if a person types it."""
    if name == "ADMIN_PASSWORD":
        return secrets.token_urlsafe(12)
    if name.endswith("FERNET_KEY"):
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(32)


# Git hooks ---------------------------------------------------------------------------------------

NO_ENVIRONMENT = (
    "[ -e .env ] || exit 0; "  # as new: what bootstrap made is removed, and nothing is to be checked
    "echo 'hook: no environment in .venv: run scripts/bootstrap.sh, or git commit --no-verify' >&2; exit 1"
)


def install_hooks() -> str:
    """Let pre-commit check what is committed here; leave hooks that somebody else manages alone."""
    git = ["git", "-C", str(layout.ROOT)]
    try:
        where = subprocess.run(
            [*git, "rev-parse", "--show-toplevel", "--git-path", "hooks/pre-commit"],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return "left out: git is not installed"
    if where.returncode:
        said = where.stderr
        return "left out: " + ("git trusts only its owner" if "dubious" in said else last_line(said)[:60])
    top, hook = where.stdout.splitlines()
    if Path(top).resolve() != layout.ROOT:
        return f"left out: the repository is {top}"
    if subprocess.run([*git, "config", "--get", "core.hooksPath"], capture_output=True).returncode == 0:
        return "left out: core.hooksPath is set, its owner decides"
    return _write_hook(layout.ROOT / hook)


def _write_hook(path: Path) -> str:
    """Let pre-commit write its hook, and the hook say where the environment is: an editor's git does not know.

    A container and its host share the hook, and so do all worktrees: each finds its own, and this one last.
    """
    text = path.read_text(errors="replace") if path.exists() else ""
    environment = shlex.quote(str(uv.ENVIRONMENT))
    lines = (
        f'for folder in "$UV_PROJECT_ENVIRONMENT" "$PWD/.venv" {environment}; do',
        '  if [ -x "$folder/bin/python" ]; then export UV_PROJECT_ENVIRONMENT="$folder"; break; fi',
        "done",
        'export PATH="$PATH:$PWD/.venv/bin" PRE_COMMIT_HOME="${ELT_STATE:-$PWD/.state}/hooks/pre-commit"',
        f"[ -x {environment}/bin/python ] || command -v pre-commit > /dev/null || {{ {NO_ENVIRONMENT}; }}",
    )
    if set(lines) <= set(text.splitlines()):
        return "up to date"
    if text and "generated by pre-commit" not in text:
        return "left out: there is another pre-commit hook"
    program = uv.ENVIRONMENT / "bin" / "pre-commit"
    env = os.environ | {"PRE_COMMIT_HOME": str(layout.STATE / "hooks" / "pre-commit")}
    run = subprocess.run([str(program), "install"], cwd=layout.ROOT, env=env, capture_output=True, text=True)
    if run.returncode:
        return f"left out: {last_line(run.stderr or run.stdout)}"[:64]
    shebang, rest = path.read_text().split("\n", 1)
    path.write_text("\n".join((shebang, *lines, rest)))
    return "installed"


# process-compose ---------------------------------------------------------------------------------


class ProcessCompose:
    """The pinned process-compose: found, or downloaded beside the other steps, or refused and remembered."""

    def __init__(self) -> None:
        pin = uv.project()["tool"]["elt"]["process-compose"]
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        self.platform = f"{sys.platform}_{machine}"
        self.version: str = pin["version"]
        self.sha256: str | None = pin["sha256"].get(self.platform)
        self.url: str = pin["url"].format(version=self.version, platform=self.platform)
        self.program = layout.TOOLS / "bin" / "process-compose"
        self.stamp = layout.TOOLS / "process-compose.version"
        self.refusal = layout.TOOLS / "process-compose.refused"
        self.outcome = ""
        self.connected = threading.Event()
        self.thread: threading.Thread | None = None
        if not self._known():
            self.thread = threading.Thread(target=self._download, daemon=True)
            self.thread.start()

    def _known(self) -> bool:
        """Whether nothing needs to be fetched; `outcome` then says why."""
        if found := shutil.which("process-compose"):
            self.outcome = f"found: {found}"
        elif self.program.exists() and self.stamp.exists() and self.stamp.read_text() == self.version:
            self.outcome = f"{self.version}, of this clone"
        elif self.sha256 is None:
            self.outcome = f"none for {self.platform}; the embedded supervisor runs the stack"
        elif self._refused_lately():
            self.outcome = "not reachable (remembered for a day); the embedded supervisor serves"
        return bool(self.outcome)

    def _refused_lately(self) -> bool:
        if not self.refusal.exists() or self.refusal.read_text() != self.version:
            return False
        return time.time() - self.refusal.stat().st_mtime < REFUSAL_SECONDS

    def _download(self) -> None:
        import urllib.request  # noqa: PLC0415 - 25 ms of each start, most of which have nothing to fetch

        try:
            with urllib.request.urlopen(self.url, timeout=CONNECT_SECONDS) as answer:  # noqa: S310 - https
                self.connected.set()
                body = answer.read()
        except (OSError, ValueError):
            self._refuse("its release cannot be reached")
            return
        if hashlib.sha256(body).hexdigest() != self.sha256:
            self._refuse("the download does not have the pinned checksum")
            return
        self._unpack(body)

    def _unpack(self, body: bytes) -> None:
        archive = layout.TOOLS / "process-compose.tar.gz"
        self.program.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(body)
        with tarfile.open(archive) as tar:
            member = tar.extractfile("process-compose")
            draft = self.program.with_suffix(".new")
            draft.write_bytes(member.read() if member else b"")
        draft.chmod(0o755)
        draft.replace(self.program)
        archive.unlink()
        self.stamp.write_text(self.version)
        self.outcome = f"{self.version}, downloaded and checked"

    def _refuse(self, why: str) -> None:
        layout.TOOLS.mkdir(parents=True, exist_ok=True)
        self.refusal.write_text(self.version)
        self.outcome = f"{why}; the embedded supervisor serves"

    def result(self) -> str:
        """What became of it; waits for a connection that stands, not for one that never comes."""
        if self.thread:
            self.thread.join(CONNECT_SECONDS)
            if self.connected.is_set():
                self.thread.join(60)
            if not self.outcome:
                self._refuse("no answer")
        return self.outcome


def leave(code: int) -> t.NoReturn:
    """End at once: a download that still waits inside OpenSSL would crash an interpreter that takes itself down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        leave(main())
    except KeyboardInterrupt:
        leave(130)
