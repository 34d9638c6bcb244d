"""What tests share: the clone's path, free ports, an environment apart from the developer's."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.prefix) / "bin"
PORTS = ("AIRFLOW_PORT", "FLOWER_PORT", "STREAMLIT_PORT", "POSTGRES_PORT", "VALKEY_PORT")

PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps({one.name: one.version for one in distributions()}, sort_keys=True))
"""
"""A program that prints the version of each package of its environment."""


def packages() -> dict[str, str]:
    """Version of each package of this environment."""
    return {one.name: one.version for one in importlib.metadata.distributions()}


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


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def apart(state: Path) -> dict[str, str]:
    """An environment in which the workspace uses another state folder and other ports than the developer's."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "ELT_TRACEBACK")}
    env |= {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return env | {"ELT_STATE": str(state), "PATH": f"{BIN}{os.pathsep}{env['PATH']}"}


def run(*command: str | Path, env: t.Mapping[str, str], seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program of the clone to its end, output as text."""
    return subprocess.run(
        [*map(str, command)], cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=seconds
    )
