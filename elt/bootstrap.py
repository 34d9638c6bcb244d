"""Prepare a clone: uv, the locked environment, DuckDB's extensions, `.env`, git hooks, process-compose.

Runs on the system's Python before the environment exists, hence the standard library only. Each step first
looks whether it has anything to do, so that a second run costs a fraction of a second.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import os
import platform
import pty
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tarfile
import termios
import threading
import time
import tomllib
import typing as t
import urllib.request
from pathlib import Path

from elt import layout
from elt.drafts import draft
from elt.errors import EltError, SetupError
from elt.supervisor import lockfile

ENVIRONMENT = Path(os.environ.get("UV_PROJECT_ENVIRONMENT") or layout.ROOT / ".venv").absolute()
ENVIRONMENT_SIZE = 2_500_000_000
"""Bytes that the environment and a first run need on disk."""
PRIVATE_UV = layout.TOOLS / "uv" / "bin" / "uv"
"""The uv of this clone, where PATH has none that fits."""
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
    options = parser.parse_args()
    quiet: bool = options.quiet
    if not os.access(layout.ROOT, os.W_OK):
        owner = layout.ROOT.stat().st_uid
        mend = f"it belongs to user {owner}: run this as that user, or `sudo chown -R {os.getuid()}` it where it lies"
        return _fail("clone", SetupError(f"{layout.ROOT} is not writable by this user; {mend}"))
    begin = time.monotonic()
    os.environ.update(layout.libraries())
    supervisor = ProcessCompose()
    steps: tuple[tuple[str, t.Callable[[], str]], ...] = (
        ("state", prepare_state),
        ("environment", sync_environment),
        ("duckdb extensions", fill_duckdb_extensions),
        *(() if options.packages else ((".env", write_env), ("git hooks", install_hooks))),
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
        if not quiet or seconds > QUIET_SECONDS:
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
    if not (ENVIRONMENT / "pyvenv.cfg").exists() and free < ENVIRONMENT_SIZE:
        raise SetupError(
            f"{free / 1e9:.1f} GB are free below {layout.STATE}, {ENVIRONMENT_SIZE / 1e9:.1f} GB are needed: "
            "free some, or clone to another disk"
        )
    return f"{layout.STATE}, {free / 1e9:.0f} GB free"


# uv and the environment --------------------------------------------------------------------------


def sync_environment() -> str:
    """Make the environment what uv.lock says, with a fitting uv.

    Bytecode is not compiled ahead: 13 s for 1.6 GB of which a run uses a tenth.
    """
    uv, source = find_uv()
    if not (ENVIRONMENT / "pyvenv.cfg").exists():
        print("  ... installing the locked packages (about 1.1 GB, once)", flush=True)
    env = os.environ | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT), "UV_PYTHON_DOWNLOADS": "never"}
    env.pop("VIRTUAL_ENV", None)
    command = [uv, "sync", "--locked", "--python", sys.executable]
    refuse_to_replace(command, env)
    is_first = not (ENVIRONMENT / "pyvenv.cfg").exists()
    code, said = (_shown if is_first and sys.stderr.isatty() else _silent)(command, env)
    if code:
        if not is_first or not sys.stderr.isatty():
            print(said, file=sys.stderr, end="")
        raise SetupError(explain_sync(said, uv))
    return f"Python {platform.python_version()}, {source}"


def _silent(command: list[str], env: dict[str, str]) -> tuple[int, str]:
    """Exit code of a program, and what it says."""
    run = subprocess.run(command, cwd=layout.ROOT, env=env, stderr=subprocess.PIPE, text=True)
    return run.returncode, run.stderr


def _shown(command: list[str], env: dict[str, str]) -> tuple[int, str]:
    """The same with its words and bars of progress on this terminal; uv draws them on nothing else.

    The list of what it has installed, which comes last, is left out.
    """
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, termios.tcgetwinsize(sys.stderr))
    said = b""
    with subprocess.Popen(command, cwd=layout.ROOT, env=env, stderr=its) as process:
        os.close(its)
        with contextlib.suppress(OSError):  # which is how a terminal ends
            while part := os.read(ours, 4096):
                if b"Installed " not in said:
                    place = part.find(b"Installed ")
                    sys.stderr.buffer.write(part if place < 0 else part[: part.find(b"\n", place) + 1])
                    sys.stderr.flush()
                said += part
        os.close(ours)
    return process.returncode, said.decode(errors="replace")


def refuse_to_replace(sync: list[str], env: dict[str, str]) -> None:
    """Keep the environment from which a stack runs: uv makes it anew for another Python, such as that of a Nix shell.

    Raises:
        SetupError: uv would, and the stack of this clone runs.
    """
    if not (ENVIRONMENT / "pyvenv.cfg").exists() or not lockfile.is_held(layout.RUN):
        return
    plan = subprocess.run([*sync, "--dry-run"], cwd=layout.ROOT, env=env, capture_output=True, text=True)
    if "Would replace" in plan.stderr:
        raise SetupError(
            f"a stack runs from {ENVIRONMENT}, which was made for another Python than {sys.executable}: "
            "stop it with scripts/down.sh where it was started, then come back"
        )


def explain_sync(output: str, uv: str) -> str:
    """Say in one line why `uv sync` failed and what mends it.

    Args:
        output: what it said.
        uv: the program.
    """
    lines = output.lower()
    if "needs to be updated" in lines:
        if index := next((name for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX") if os.environ.get(name)), None):
            return f"uv.lock holds the addresses of its packages: unset {index}; a proxy is set by HTTPS_PROXY"
        return f"uv.lock does not fit pyproject.toml: run `{uv} lock` and commit the result"
    if "no space left" in lines:
        return f"the disk is full: free {ENVIRONMENT_SIZE / 1e9:.1f} GB"
    if any(word in lines for word in ("dns error", "connect", "timed out", "error sending request", "unreachable")):
        return "the package index cannot be reached: connect, or set HTTPS_PROXY and SSL_CERT_FILE for a proxy"
    return "`uv sync` failed; its words stand above"


def find_uv() -> tuple[str, str]:
    """A uv that reads this lock: from PATH, else the pinned one, installed for this clone alone."""
    for uv in known_uvs():
        if uv.fits:
            return uv.program, f"uv {uv.version} {uv.place}"
    pinned = next(d[4:] for d in _project()["project"]["dependencies"] if d.startswith("uv=="))
    print(f"  ... installing uv {pinned} for this clone", flush=True)
    install_uv(pinned)
    return str(PRIVATE_UV), f"uv {pinned} of this clone"


class Uv(t.NamedTuple):
    """A uv that is there."""

    program: str
    version: str
    place: str
    fits: bool
    """Whether it reads this lock."""


def known_uvs() -> t.Iterator[Uv]:
    """The uv on PATH and the one of this clone, as far as they are there."""
    least = least_uv()
    for program, place in ((shutil.which("uv"), "from PATH"), (str(PRIVATE_UV), "of this clone")):
        if program and (version := _uv_version(program)):
            yield Uv(program, version, place, _numbers(version) >= _numbers(least))


def least_uv() -> str:
    """The oldest version of uv that reads this lock."""
    return str(_project()["tool"]["uv"]["required-version"]).removeprefix(">=")


def _project() -> dict[str, t.Any]:
    return tomllib.loads((layout.ROOT / "pyproject.toml").read_text())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _uv_version(program: str) -> str | None:
    try:
        run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.split()[1] if run.returncode == 0 and run.stdout.startswith("uv ") else None


def install_uv(version: str) -> None:
    """Install the pinned uv into a private environment, checked against the hashes of uv.lock.

    Raises:
        SetupError: Python has neither venv nor pip, or the package cannot be had.
    """
    lock = tomllib.loads((layout.ROOT / "uv.lock").read_text())
    package = next(p for p in lock["package"] if p["name"] == "uv")
    requirement = f"uv=={version} " + " ".join(f"--hash={wheel['hash']}" for wheel in package["wheels"])
    home = layout.TOOLS / "uv"
    shutil.rmtree(home, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, text=True)
    if made.returncode:
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment ({last_line(made.stdout + made.stderr)}): "
            "install your system's python3-venv package, or uv"
        )
    wanted = layout.TOOLS / "uv.txt"
    wanted.write_text(requirement + "\n")
    pip = [str(home / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(wanted)]
    run = subprocess.run([*pip, "--disable-pip-version-check"], capture_output=True, text=True)
    if run.returncode:
        shutil.rmtree(home, ignore_errors=True)
        raise SetupError(f"uv {version} cannot be installed ({last_line(run.stderr)}): is there a network?")


def last_line(text: str) -> str:
    """The last line of a program's output that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")


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
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", FILL, str(layout.DUCKDB_EXTENSIONS)]
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
    names = re.findall(r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=", text, re.MULTILINE | re.IGNORECASE)
    have = {name.upper() for name in names}
    lacking = [name for name, _, _ in example_settings() if name not in have]
    mended = target.exists() and target.stat().st_mode & 0o077
    if mended:
        target.chmod(0o600)
    if "POSTGRES_PASSWORD" in lacking and (data := next(layout.STATE.glob("postgres*/PG_VERSION"), None)):
        raise SetupError(
            f"{target} lacks POSTGRES_PASSWORD, and {data.parent} was made with one: put the old file or line back, "
            "or forget all data (rm -rf .state)"
        )
    if not lacking:
        return "mode set to 0600" if mended else "up to date"
    added = "".join(
        f"{comment}{name}={value or random_secret(name)}\n"
        for name, value, comment in example_settings()
        if name in lacking
    )
    with draft(target, 0o600) as path:
        path.write_text(text + ("\n" if text and not text.endswith("\n") else "") + added.lstrip("\n"))
    return "written, with random secrets" if not text else f"added {', '.join(lacking)}"


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
    """A secret of 256 bits; the Fernet key in the padded form that Fernet asks for."""
    if name.endswith("FERNET_KEY"):
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(32)


# Git hooks ---------------------------------------------------------------------------------------

NO_ENVIRONMENT = "echo 'hook: no environment in .venv: run scripts/bootstrap.sh, or git commit --no-verify' >&2"


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
        return "left out: " + last_line(where.stderr)[:60]
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
    environment = shlex.quote(str(ENVIRONMENT))
    lines = (
        f'for folder in "$UV_PROJECT_ENVIRONMENT" "$PWD/.venv" {environment}; do',
        '  if [ -x "$folder/bin/python" ]; then export UV_PROJECT_ENVIRONMENT="$folder"; break; fi',
        "done",
        'export PATH="$PATH:$PWD/.venv/bin" PRE_COMMIT_HOME="${ELT_STATE:-$PWD/.state}/hooks/pre-commit"',
        f"[ -x {environment}/bin/python ] || command -v pre-commit > /dev/null || {{ {NO_ENVIRONMENT}; exit 1; }}",
    )
    if set(lines) <= set(text.splitlines()):
        return "up to date"
    if text and "generated by pre-commit" not in text:
        return "left out: there is another pre-commit hook"
    program = ENVIRONMENT / "bin" / "pre-commit"
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
        pin = _project()["tool"]["elt"]["process-compose"]
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
