"""uv: one that reads the lock, and the environment that it makes of it.

Runs on the system's Python before the environment exists, hence the standard library only.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import importlib.util
import os
import platform
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
import time
import tomllib
import typing as t
from collections import defaultdict
from pathlib import Path

from elt import layout
from elt.errors import SetupError, last_line
from elt.supervisor import lockfile

ENVIRONMENT = Path(os.environ.get("UV_PROJECT_ENVIRONMENT") or layout.ROOT / ".venv").absolute()
ENVIRONMENT_SIZE = 2_500_000_000
"""Bytes that the environment and a first run need on disk."""
WHOLE = ENVIRONMENT / "elt-whole"
"""Holds a hash of the lock that the environment was made of to the end; it is not there while that goes on."""
PASSABLE = 0o711
"""Mode of the environment: others pass, as PostgreSQL does if root starts it as nobody, and cannot open it."""
WAIT_SECONDS = 3600
"""How long another bootstrap may take: 1.1 GB on a slow line."""
PRIVATE = layout.TOOLS / "uv" / "bin" / "uv"
"""The uv of this clone, where PATH has none that fits."""
_USERS = (
    *("AUTH", "CACHE", "CERT", "CONCURRENT", "CONFIG", "HTTP", "INDEX", "INSECURE", "KEYRING", "LINK", "OFFLINE"),
    *("PROXY", "TIMEOUT", "TLS"),
)
"""Words in the names of uv's variables that say from where and how it gets packages. All others are left out: they
would make another environment of the same lock."""


# The environment ---------------------------------------------------------------------------------


def sync() -> str:
    """Make the environment what uv.lock says, with a fitting uv.

    Bytecode is not compiled ahead: 13 s for 1.6 GB of which a run uses a tenth.

    Raises:
        SetupError: it cannot be made; the message says how to fix it.
    """
    wanted = hashlib.sha256(b"".join((layout.ROOT / name).read_bytes() for name in ("uv.lock", "pyproject.toml")))
    with _alone() as lock:
        program, source = find()
        is_first = not (ENVIRONMENT / "pyvenv.cfg").exists()
        if is_first:
            print("  ... installing the locked packages (about 1.1 GB, once)", flush=True)
        command, env = [program, "sync", "--locked", "--python", sys.executable], variables()
        refuse_to_replace(command, env)
        was = WHOLE.read_text() if WHOLE.exists() else ""
        if not was:
            _forget_damaged()
        if was != wanted.hexdigest():
            WHOLE.unlink(missing_ok=True)
        code, said = (_shown if is_first and sys.stderr.isatty() else _silent)(command, env, lock)
        if code:
            if not is_first or not sys.stderr.isatty():
                print(said, file=sys.stderr, end="")
            raise SetupError(explain(said, program))
        if was != wanted.hexdigest():
            WHOLE.write_text(wanted.hexdigest())
    return f"Python {platform.python_version()}, {source}"


def variables() -> dict[str, str]:
    """The environment variables with which uv runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("UV_") or any(word in name for word in _USERS)
    }
    kept.pop("VIRTUAL_ENV", None)
    # A preference for Pythons of its own, from a file of the user's, would replace the environment each time.
    ours = {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON_PREFERENCE": "system"}
    if layout.TOOLS.exists():
        ours["TMPDIR"] = str(layout.TOOLS)  # it leaves an empty lock file there for each project
    return kept | ours | {"UV_PROJECT_ENVIRONMENT": str(ENVIRONMENT)}


@contextlib.contextmanager
def _alone() -> t.Iterator[int]:
    """Wait until nobody else changes the environment, and hold it by this descriptor, or whoever inherits it.

    Raises:
        SetupError: another user holds it, or nobody comes to an end.
    """
    ENVIRONMENT.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
    _close_to_others()
    folder = os.open(ENVIRONMENT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for(folder)
        yield folder
    finally:
        os.close(folder)
        _close_to_others()


def _close_to_others() -> None:
    """Let nobody else open, and so hold, the folder or uv's lock in it; PostgreSQL as nobody must still pass."""
    with contextlib.suppress(PermissionError):  # it is another user's, who has to see to it
        if ENVIRONMENT.stat().st_mode & 0o066:
            ENVIRONMENT.chmod(PASSABLE)
        with contextlib.suppress(FileNotFoundError):
            (ENVIRONMENT / ".lock").chmod(0o600)


def _wait_for(folder: int) -> None:
    """Take the lock; says whom it waits for.

    Raises:
        SetupError: that is another user, or not at its end within WAIT_SECONDS.
    """
    end, told = time.monotonic() + WAIT_SECONDS, None
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner, who = _holder(folder)
        if owner not in {None, os.geteuid()}:
            raise SetupError(f"{ENVIRONMENT} is held by {who}: let that end, or move the folder away")
        if who != told:
            print(f"  ... waiting for another bootstrap of {ENVIRONMENT}: {who}", flush=True)
            told = who
        if time.monotonic() > end:
            raise SetupError(f"{ENVIRONMENT} is still held after {WAIT_SECONDS // 60} minutes by {who}: end that")
        time.sleep(0.1)


def _holder(descriptor: int) -> tuple[int | None, str]:
    """User id of the process that holds a lock on a file, and words for the process, as far as the system tells."""
    inode = os.fstat(descriptor).st_ino
    with contextlib.suppress(OSError):
        for row in map(str.split, Path("/proc/locks").read_text().splitlines()):
            if row[1] == "FLOCK" and row[5].endswith(f":{inode}"):
                process = Path("/proc", row[4])
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                plain = "".join(one if one.isprintable() else "?" for one in words)[:80]
                owner = process.stat().st_uid
                return owner, f"process {row[4]} of user {owner} ({plain})"
    return None, "a process that the system does not name"


def damaged(environment: Path = ENVIRONMENT) -> list[Path]:
    """The folder of metadata of each package that lacks files, or has them cut off, by its own list of them."""
    return [info for site in environment.glob("lib/python*/site-packages") for info in _damaged(site)]


def _damaged(site: Path) -> list[Path]:
    lists: dict[Path, list[str]] = {}
    sizes: dict[str, set[str]] = defaultdict(set)
    for info in sorted(site.glob("*.dist-info")):
        lists[info] = []
        with contextlib.suppress(OSError, ValueError), (info / "RECORD").open(newline="") as rows:
            for name, _, size in csv.reader(rows):
                if not name.endswith(".pyc"):
                    lists[info].append(name)
                    sizes[name].add(size)  # some packages bring the same file

    def is_whole(name: str) -> bool:
        try:
            size = os.stat(f"{site}/{name}").st_size  # noqa: PTH116 - 24,000 times, for which pathlib takes a second
        except OSError:
            return False
        return not sizes[name].isdisjoint(("", str(size)))

    # uv adds what it brought itself last of all
    return [
        info
        for info, names in lists.items()
        if f"{info.name}/INSTALLER" not in names or not all(map(is_whole, names))
    ]


def _forget_damaged() -> None:
    """Let uv install again what an installation that was cut off has left half-way: it looks at names alone."""
    if lacking := damaged():
        print(f"  ... an installation was cut off: {len(lacking)} packages are installed again", flush=True)
    for info in lacking:
        shutil.rmtree(info)


def _silent(command: list[str], env: dict[str, str], lock: int) -> tuple[int, str]:
    """Exit code of a program, and what it says; it holds the lock as well, and longer if this process is killed."""
    run = subprocess.run(command, cwd=layout.ROOT, env=env, stderr=subprocess.PIPE, text=True, pass_fds=(lock,))
    return run.returncode, run.stderr


def _shown(command: list[str], env: dict[str, str], lock: int) -> tuple[int, str]:
    """The same with its words and bars of progress on this terminal; uv draws them on nothing else."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, termios.tcgetwinsize(sys.stderr))
    with subprocess.Popen(command, cwd=layout.ROOT, env=env, stderr=its, pass_fds=(lock,)) as process:
        os.close(its)
        said = _pass_on(_pieces(ours), sys.stderr.buffer)
        os.close(ours)
    return process.returncode, said.decode(errors="replace")


def _pieces(terminal: int) -> t.Iterator[bytes]:
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while piece := os.read(terminal, 4096):
            yield piece


def _pass_on(pieces: t.Iterable[bytes], to: t.BinaryIO) -> bytes:
    """Write what uv says, but for the list of what it has installed, which comes last; returns all that it said."""
    said, shown = b"", 0
    for piece in pieces:
        said += piece
        place = said.find(b"Installed ")
        line_ends = said.find(b"\n", place) + 1 if place >= 0 else 0
        end = line_ends or len(said)
        to.write(said[shown:end])
        to.flush()
        shown = end
    return said


def refuse_to_replace(command: list[str], env: dict[str, str]) -> None:
    """Keep the environment from which a stack runs: uv makes it anew for another Python, such as that of a Nix shell.

    Raises:
        SetupError: uv would, and the stack of this clone runs.
    """
    if not (ENVIRONMENT / "pyvenv.cfg").exists() or not lockfile.is_held(layout.RUN):
        return
    plan = subprocess.run([*command, "--dry-run"], cwd=layout.ROOT, env=env, capture_output=True, text=True)
    if "Would replace" in plan.stderr:
        raise SetupError(
            f"a stack runs from {ENVIRONMENT}, which was made for another Python than {sys.executable}: "
            "stop it with scripts/down.sh where it was started, then come back"
        )


def explain(output: str, program: str) -> str:
    """Say in one line why `uv sync` failed and how to fix it.

    Args:
        output: what it said.
        program: the uv.
    """
    lines = output.lower()
    if "needs to be updated" in lines:
        if lock_fits(program):
            return other_index()
        return f"uv.lock does not fit pyproject.toml: run `{program} lock` and commit the result"
    if "no space left" in lines:
        return f"the disk is full: free {ENVIRONMENT_SIZE / 1e9:.1f} GB"
    if any(word in lines for word in ("dns error", "connect", "timed out", "error sending request", "unreachable")):
        if not lock_fits(program, variables()) and lock_fits(program):
            return other_index()
        return "the package index cannot be reached: connect, or set HTTPS_PROXY and SSL_CERT_FILE for a proxy"
    return "`uv sync` failed; its words stand above"


def other_index() -> str:
    """What to say where the user has uv take packages from elsewhere than the lock says."""
    index = next((name for name in sorted(variables()) if name.startswith("UV_") and "INDEX" in name), "")
    whose = f"unset {index}" if index else "set UV_NO_CONFIG=1, as a uv.toml of yours names another index"
    return f"uv.lock holds the addresses of its packages: {whose}; a proxy is set by HTTPS_PROXY"


def lock_fits(program: str, env: dict[str, str] | None = None) -> bool:
    """Whether uv.lock is that of pyproject.toml, as uv sees it.

    Args:
        program: the uv.
        env: with these variables; default: without anything that the user has set for his own packages.
    """
    if env is None:
        env = {name: value for name, value in variables().items() if "INDEX" not in name and "CONFIG" not in name}
        env |= {"XDG_CONFIG_HOME": str(layout.ROOT / ".config"), "XDG_CONFIG_DIRS": str(layout.ROOT / ".config")}
    command = [program, "lock", "--check", "--offline", "--quiet", "--python", sys.executable]
    return subprocess.run(command, cwd=layout.ROOT, env=env, capture_output=True).returncode == 0


# The program -------------------------------------------------------------------------------------


def find() -> tuple[str, str]:
    """A uv that reads this lock: from PATH, else the pinned one, installed for this clone alone."""
    if one := fitting():
        return one.program, f"uv {one.version} {one.place}"
    pinned = next(d[4:] for d in project()["project"]["dependencies"] if d.startswith("uv=="))
    print(f"  ... installing uv {pinned} for this clone", flush=True)
    install(pinned)
    return str(PRIVATE), f"uv {pinned} of this clone"


class Uv(t.NamedTuple):
    """A uv that is there."""

    program: str
    version: str
    place: str
    is_old: bool
    """Whether it does not read this lock."""
    fits: bool
    """Whether it reads this lock, and builds this workspace's packages itself."""


def known() -> t.Iterator[Uv]:
    """The uv on PATH and the one of this clone, as far as they are there."""
    oldest, builders = _numbers(least()), range_of_builder()
    for program, place in ((shutil.which("uv"), "from PATH"), (str(PRIVATE), "of this clone")):
        if program and (version := _version(program)):
            numbers = _numbers(version)
            is_old = numbers < oldest
            yield Uv(program, version, place, is_old, not is_old and builders[0] <= numbers < builders[1])


def fitting() -> Uv | None:
    """One that reads this lock, if it is there."""
    return next((one for one in known() if one.fits), None)


def least() -> str:
    """The oldest version of uv that reads this lock."""
    return str(project()["tool"]["uv"]["required-version"]).removeprefix(">=")


def range_of_builder() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The versions of uv that build the workspace's own packages themselves, first and first beyond.

    Another one fetches `uv_build` from the index, which no hash of uv.lock holds.
    """
    (builder,) = project()["build-system"]["requires"]
    first, beyond = re.fullmatch(r"uv_build>=([\d.]+),<([\d.]+)", builder).groups()  # type: ignore[union-attr]
    return _numbers(first), _numbers(beyond)


def project() -> dict[str, t.Any]:
    """What pyproject.toml says."""
    return tomllib.loads((layout.ROOT / "pyproject.toml").read_text())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _version(program: str) -> str | None:
    try:
        run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.split()[1] if run.returncode == 0 and run.stdout.startswith("uv ") else None


def install(version: str) -> None:
    """Install the pinned uv into a folder of this clone, checked against the hashes of uv.lock.

    Raises:
        SetupError: Python has neither venv nor pip, or the package cannot be had.
    """
    lock = tomllib.loads((layout.ROOT / "uv.lock").read_text())
    package = next(p for p in lock["package"] if p["name"] == "uv")
    requirement = f"uv=={version} " + " ".join(f"--hash={wheel['hash']}" for wheel in package["wheels"])
    home, made = PRIVATE.parent.parent, layout.TOOLS / "uv.new"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    wanted = made / "requirements.txt"
    wanted.write_text(requirement + "\n")
    pip = [*_pip(made / "pip"), "install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:"]
    pip += ["--disable-pip-version-check", "--root-user-action", "ignore", "--require-hashes", "-r", str(wanted)]
    # What is set for packages of the user's own would refuse an installation to a folder.
    env = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
    run = subprocess.run([*pip, "--target", str(made / "uv")], env=env, capture_output=True, text=True)
    if run.returncode:
        shutil.rmtree(made, ignore_errors=True)
        full = "no space left" in run.stderr.lower()
        fix = f"free some below {layout.TOOLS} and in {tempfile.gettempdir()}" if full else "is there a network?"
        raise SetupError(f"uv {version} cannot be installed ({last_line(run.stderr)}): {fix}")
    shutil.rmtree(home, ignore_errors=True)
    (made / "uv").rename(home)
    shutil.rmtree(made)


def _pip(home: Path) -> list[str]:
    """The pip of this Python, which takes a third of the time; where there is none, that of an environment made here.

    Raises:
        SetupError: Python has neither pip nor venv.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    made = subprocess.run([sys.executable, "-m", "venv", str(home)], capture_output=True, text=True)
    if made.returncode:
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment ({last_line(made.stdout + made.stderr)}): "
            "install your system's python3-venv package, or uv"
        )
    return [str(home / "bin" / "python"), "-m", "pip"]
