"""What all tests share: the clone's path, free ports, an environment apart from the developer's, strict skips."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.prefix) / "bin"
PORTS = ("AIRFLOW_PORT", "FLOWER_PORT", "STREAMLIT_PORT", "POSTGRES_PORT", "VALKEY_PORT")


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


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of the test's own."""
    return tmp_path / "state"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that are not allowed."""
    for reason in _surprises(terminalreporter):
        terminalreporter.write_line(f"SKIP NOT LISTED in tests/allowed_skips.txt: {reason}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true a skip that is not listed with its reason is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        os.environ.get("CI") == "true"
        and reporter
        and session.exitstatus == pytest.ExitCode.OK
        and _surprises(reporter)
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _surprises(reporter: pytest.TerminalReporter) -> list[str]:
    lines = (ROOT / "tests" / "allowed_skips.txt").read_text().splitlines()
    allowed = [line.split("  ")[0].strip() for line in lines if line and not line.startswith("#")]
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", [])]
    return [reason for reason in reasons if not reason.startswith(tuple(allowed))]
