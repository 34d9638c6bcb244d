"""What tests share: the clone's path, free ports, an environment apart from the developer's."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path
from unittest import mock

from elt.bootstrap import uv
from elt.config import services, settings
from elt.supervisor import guard

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.prefix) / "bin"
DEADLINE = 60.0
"""Seconds that a test waits for what should come at once, on a machine that may be busy with other things."""
PORTS = [one.port for one in services.SERVICES if one.port]

PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps({one.name: one.version for one in distributions()}, sort_keys=True))
"""
"""A program that prints the version of each package of its environment."""


def packages() -> dict[str, str]:
    """Version of each package of this environment."""
    return {one.name: one.version for one in importlib.metadata.distributions()}


def default_packages() -> dict[str, str]:
    """Version of each package of this environment that every way in installs, too: without those of ELT_GROUPS."""
    command = [uv.find()[0], "export", "--frozen", "--no-hashes", "--no-header", "--no-annotate", "--no-emit-project"]

    def names(*groups: str) -> set[str]:
        lines = subprocess.check_output([*command, *groups], cwd=ROOT, env=uv.variables(), text=True).splitlines()
        return {line.split("==")[0] for line in lines if "==" in line}

    chosen = [word for name in uv.optional_groups() for word in ("--group", name)]
    added = names(*chosen) - names()
    return {name: one for name, one in packages().items() if re.sub(r"[-_.]+", "-", name).lower() not in added}


REMARKS: list[str] = []
"""Lines that the summary of the tests prints: what was measured, or what a double left out."""


def files() -> list[str]:
    """Names of the files that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def copy(root: Path) -> None:
    """Copy them to another folder, as they stand in the working tree."""
    for name in files():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


def said(
    *command: str | Path, cwd: Path, env: t.Mapping[str, str] | None = None, seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; standard error is part of its output."""
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )


@contextlib.contextmanager
def alone(path: Path) -> t.Iterator[None]:
    """Let one worker of pytest at a time make what all use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different.

    They are of a range that no other worker of pytest takes from, below those that outgoing connections take.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = 17_000 + worker * 1_000
    found: list[int] = []
    for port in random.sample(range(begin, begin + 1_000), 1_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == number:
            return found
    raise LookupError(f"not {number} free ports from {begin} on")


def apart(state: Path) -> dict[str, str]:
    """An environment in which the workspace uses another state folder and other ports than the developer's."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "ELT_TRACEBACK")}
    env |= {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return env | {"ELT_STATE": str(state), "PATH": f"{BIN}{os.pathsep}{env['PATH']}"}


def settings_of(env: t.Mapping[str, str]) -> settings.Settings:
    """Load the settings as a process of another environment does."""
    with mock.patch.dict(os.environ, env):
        return settings.load()


def run(*command: str | Path, env: t.Mapping[str, str], seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program of the clone to its end, output as text."""
    return subprocess.run(
        [*map(str, command)], cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=seconds
    )


def wait_for(condition: t.Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait until a condition holds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not guard.start_of(pid)
