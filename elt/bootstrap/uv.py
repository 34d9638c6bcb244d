"""Find a uv that reads the lock, and install the virtual environment by it.

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
from elt.config.env_file import ASSIGNMENT
from elt.errors import SetupError, last_line
from elt.supervisor import lockfile

VENV = Path(os.environ.get("UV_PROJECT_ENVIRONMENT") or layout.ROOT / ".venv").absolute()
VENV_BYTES = 2_500_000_000
"""Bytes that the virtual environment and a first run need on disk."""
INSTALLED_STAMP = VENV / "elt-whole"
"""File with a hash of the lock that was installed completely; it is missing during an installation."""
PASSABLE = 0o711
"""Mode of the folder: other users may traverse it, as PostgreSQL does if root starts it as nobody, not open it."""
WAIT_SECONDS = 3600
"""Seconds that another bootstrap may take: 1.1 GB on a slow line."""
OWN_UV = layout.TOOLS / "uv" / "bin" / "uv"
"""Path of the uv of this clone, where PATH has none that fits."""
_KEPT = (
    *("AUTH", "CACHE", "CERT", "CONCURRENT", "CONFIG", "HTTP", "INDEX", "INSECURE", "KEYRING", "LINK", "OFFLINE"),
    *("PROXY", "TIMEOUT", "TLS"),
)
"""Words in the names of uv's variables that say from where and how it gets packages. All others are removed: they
would give another virtual environment of the same lock."""


# The virtual environment -------------------------------------------------------------------------


def sync() -> str:
    """Install the virtual environment of uv.lock, with a fitting uv and the optional groups that ELT_GROUPS names.

    Bytecode is not compiled ahead: 13 s for 1.6 GB of which a run uses a tenth.

    Raises:
        SetupError: it cannot be made; the message says how to fix it.
    """
    files = [(layout.ROOT / name).read_bytes() for name in ("uv.lock", "pyproject.toml")]
    groups = [word for name in optional_groups() for word in ("--group", name)]
    wanted = hashlib.sha256(b"".join([*files, " ".join(groups).encode()]))
    with _locked() as lock:
        program, source = find()
        is_first = not (VENV / "pyvenv.cfg").exists()
        if is_first:
            print("  ... installing the locked packages (about 1.1 GB, once)", flush=True)
        command, env = [program, "sync", "--locked", *groups, "--python", sys.executable], variables()
        refuse_to_replace(command, env)
        was = INSTALLED_STAMP.read_text() if INSTALLED_STAMP.exists() else ""
        if not was:
            _remove_damaged()
        if was != wanted.hexdigest():
            INSTALLED_STAMP.unlink(missing_ok=True)
        code, output = (_shown if is_first and sys.stderr.isatty() else _silent)(command, env, lock)
        if code:
            if not is_first or not sys.stderr.isatty():
                print(output, file=sys.stderr, end="")
            raise SetupError(explain(output, program))
        if was != wanted.hexdigest():
            INSTALLED_STAMP.write_text(wanted.hexdigest())
    return f"Python {platform.python_version()}, {source}"


def optional_groups() -> list[str]:
    """Return the optional groups that ELT_GROUPS names, in the environment or else in `.env`.

    Raises:
        SetupError: one is none of pyproject.toml.
    """
    lines = layout.ENV_FILE.read_text() if layout.ENV_FILE.is_file() else ""
    chosen = {name.upper(): value.strip("\"'") for name, value in ASSIGNMENT.findall(lines)}.get("ELT_GROUPS", "")
    named: list[str] = os.environ.get("ELT_GROUPS", chosen).replace(",", " ").split()
    known = tomllib.loads((layout.ROOT / "pyproject.toml").read_text())["dependency-groups"].keys() - {"dev"}
    if strange := [name for name in named if name not in known]:
        there = ", ".join(sorted(known))
        raise SetupError(f"{layout.ENV_FILE}: ELT_GROUPS: no group is called {strange[0]!r}; there are {there}")
    return named


def variables() -> dict[str, str]:
    """Return the environment variables with which uv runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("UV_") or any(word in name for word in _KEPT)
    }
    kept.pop("VIRTUAL_ENV", None)
    # A preference for Pythons of its own, from a file of the user's, would replace the environment each time.
    ours = {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON_PREFERENCE": "system"}
    if layout.TOOLS.exists():
        ours["TMPDIR"] = str(layout.TOOLS)  # it leaves an empty lock file there for each project
    return kept | ours | {"UV_PROJECT_ENVIRONMENT": str(VENV)}


@contextlib.contextmanager
def _locked() -> t.Iterator[int]:
    """Lock the virtual environment, and yield the descriptor that holds the lock, also in a child that inherits it.

    Raises:
        SetupError: another user holds it, or a holder does not end in time.
    """
    VENV.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
    _close_to_others()
    folder = os.open(VENV, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for(folder)
        yield folder
    finally:
        os.close(folder)
        _close_to_others()


def _close_to_others() -> None:
    """Keep other users from opening, and so locking, the folder or uv's lock; PostgreSQL as nobody traverses it."""
    with contextlib.suppress(PermissionError):  # it is another user's, who has to see to it
        if VENV.stat().st_mode & 0o066:
            VENV.chmod(PASSABLE)
        with contextlib.suppress(FileNotFoundError):
            (VENV / ".lock").chmod(0o600)


def _wait_for(folder: int) -> None:
    """Take the lock, and print which process holds it while waiting.

    Raises:
        SetupError: that is another user, or not at its end within WAIT_SECONDS.
    """
    end, printed = time.monotonic() + WAIT_SECONDS, None
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner, who = _holder(folder)
        if owner not in {None, os.geteuid()}:
            raise SetupError(f"{VENV} is held by {who}: let that end, or move the folder away")
        if who != printed:
            print(f"  ... waiting for another bootstrap of {VENV}: {who}", flush=True)
            printed = who
        if time.monotonic() > end:
            raise SetupError(f"{VENV} is still held after {WAIT_SECONDS // 60} minutes by {who}: end that")
        time.sleep(0.1)


def _holder(descriptor: int) -> tuple[int | None, str]:
    """Return user id and description of the process that holds a lock on a file, as far as the system shows it."""
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


def damaged(venv: Path = VENV) -> list[Path]:
    """Find packages with missing or truncated files, and return the folder of metadata of each."""
    return [info for site in venv.glob("lib/python*/site-packages") for info in _damaged(site)]


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


def _remove_damaged() -> None:
    """Remove packages that an interrupted installation left incomplete, so that uv installs them again."""
    if lacking := damaged():
        print(f"  ... an installation was cut off: {len(lacking)} packages are installed again", flush=True)
    for info in lacking:
        shutil.rmtree(info)


def _silent(command: list[str], env: dict[str, str], lock: int) -> tuple[int, str]:
    """Run a program, which inherits the lock, and return its exit code and standard error."""
    run = subprocess.run(command, cwd=layout.ROOT, env=env, stderr=subprocess.PIPE, text=True, pass_fds=(lock,))
    return run.returncode, run.stderr


def _shown(command: list[str], env: dict[str, str], lock: int) -> tuple[int, str]:
    """Run a program like `_silent`, with its output on this terminal: uv draws progress on nothing else."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, termios.tcgetwinsize(sys.stderr))
    with subprocess.Popen(command, cwd=layout.ROOT, env=env, stderr=its, pass_fds=(lock,)) as process:
        os.close(its)
        output = _pass_on(_pieces(ours), sys.stderr.buffer)
        os.close(ours)
    return process.returncode, output.decode(errors="replace")


def _pieces(terminal: int) -> t.Iterator[bytes]:
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while piece := os.read(terminal, 4096):
            yield piece


def _pass_on(pieces: t.Iterable[bytes], to: t.BinaryIO) -> bytes:
    """Write uv's output, except for the list of installed packages at its end, and return all of it."""
    output, shown = b"", 0
    for piece in pieces:
        output += piece
        place = output.find(b"Installed ")
        line_ends = output.find(b"\n", place) + 1 if place >= 0 else 0
        end = line_ends or len(output)
        to.write(output[shown:end])
        to.flush()
        shown = end
    return output


def refuse_to_replace(command: list[str], env: dict[str, str]) -> None:
    """Refuse to replace the virtual environment of a running stack, as uv does for another Python, such as Nix's.

    Raises:
        SetupError: uv would, and the stack of this clone runs.
    """
    if not (VENV / "pyvenv.cfg").exists() or not lockfile.is_held(layout.RUN):
        return
    plan = subprocess.run([*command, "--dry-run"], cwd=layout.ROOT, env=env, capture_output=True, text=True)
    if "Would replace" in plan.stderr:
        raise SetupError(
            f"a stack runs from {VENV}, which was made for another Python than {sys.executable}: "
            "stop it with scripts/down.sh where it was started, then come back"
        )


def explain(output: str, program: str) -> str:
    """Say in one line why `uv sync` failed and how to fix it.

    Args:
        output: of uv.
        program: path of uv.
    """
    lines = output.lower()
    if "needs to be updated" in lines:
        if lock_fits(program):
            return other_index()
        return f"uv.lock does not fit pyproject.toml: run `{program} lock` and commit the result"
    if "no space left" in lines:
        return f"the disk is full: free {VENV_BYTES / 1e9:.1f} GB"
    if any(word in lines for word in ("dns error", "connect", "timed out", "error sending request", "unreachable")):
        if not lock_fits(program, variables()) and lock_fits(program):
            return other_index()
        return "the package index cannot be reached: connect, or set HTTPS_PROXY and SSL_CERT_FILE for a proxy"
    return "`uv sync` failed: see the output above"


def other_index() -> str:
    """Explain that the user has uv take packages from another index than the lock."""
    index = next((name for name in sorted(variables()) if name.startswith("UV_") and "INDEX" in name), "")
    whose = f"unset {index}" if index else "set UV_NO_CONFIG=1, as a uv.toml of yours names another index"
    return f"uv.lock holds the addresses of its packages: {whose}; a proxy is set by HTTPS_PROXY"


def lock_fits(program: str, env: dict[str, str] | None = None) -> bool:
    """Return whether uv.lock is up to date with pyproject.toml.

    Args:
        program: path of uv.
        env: with these variables; default: without anything that the user has set for his own packages.
    """
    if env is None:
        env = {name: value for name, value in variables().items() if "INDEX" not in name and "CONFIG" not in name}
        env |= {"XDG_CONFIG_HOME": str(layout.ROOT / ".config"), "XDG_CONFIG_DIRS": str(layout.ROOT / ".config")}
    command = [program, "lock", "--check", "--offline", "--quiet", "--python", sys.executable]
    return subprocess.run(command, cwd=layout.ROOT, env=env, capture_output=True).returncode == 0


# The program -------------------------------------------------------------------------------------


def find() -> tuple[str, str]:
    """Return path and description of a uv that reads this lock: from PATH, else the pinned one, which it installs."""
    if one := fitting():
        return one.program, f"uv {one.version} {one.place}"
    pinned = next(d[4:] for d in project()["project"]["dependencies"] if d.startswith("uv=="))
    print(f"  ... installing uv {pinned} for this clone", flush=True)
    install(pinned)
    return str(OWN_UV), f"uv {pinned} of this clone"


class Uv(t.NamedTuple):
    """Describe a uv that is installed."""

    program: str
    version: str
    place: str
    is_old: bool
    """Whether it does not read this lock."""
    fits: bool
    """Whether it reads this lock, and builds this workspace's packages itself."""


def known() -> t.Iterator[Uv]:
    """Find the uv on PATH and the one of this clone."""
    oldest, builders = _numbers(least()), range_of_builder()
    for program, place in ((shutil.which("uv"), "from PATH"), (str(OWN_UV), "of this clone")):
        if program and (version := _version(program)):
            numbers = _numbers(version)
            is_old = numbers < oldest
            yield Uv(program, version, place, is_old, not is_old and builders[0] <= numbers < builders[1])


def fitting() -> Uv | None:
    """Return a uv that reads this lock and builds the workspace's packages, if one is installed."""
    return next((one for one in known() if one.fits), None)


def least() -> str:
    """Return the oldest version of uv that reads this lock."""
    return str(project()["tool"]["uv"]["required-version"]).removeprefix(">=")


def range_of_builder() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the versions of uv that build the workspace's own packages themselves: first, and first beyond.

    Another one fetches `uv_build` from the index, which no hash of uv.lock holds.
    """
    (builder,) = project()["build-system"]["requires"]
    first, beyond = re.fullmatch(r"uv_build>=([\d.]+),<([\d.]+)", builder).groups()  # type: ignore[union-attr]
    return _numbers(first), _numbers(beyond)


def project() -> dict[str, t.Any]:
    """Read pyproject.toml."""
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
    """Install the pinned uv into a folder of this clone, verified by the hashes of uv.lock.

    Raises:
        SetupError: Python has neither venv nor pip, or the package cannot be had.
    """
    lock = tomllib.loads((layout.ROOT / "uv.lock").read_text())
    package = next(p for p in lock["package"] if p["name"] == "uv")
    requirement = f"uv=={version} " + " ".join(f"--hash={wheel['hash']}" for wheel in package["wheels"])
    home, made = OWN_UV.parent.parent, layout.TOOLS / "uv.new"
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
    """Return the command of this Python's pip, or else that of a virtual environment, which takes thrice as long.

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
