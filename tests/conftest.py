"""What all tests share: a state folder of their own, strict skips."""

from __future__ import annotations

import os
import typing as t

import chromium
import pytest
from workspace import REMARKS, ROOT

if t.TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


OWN_STACK = tuple(f"tests/e2e/test_{name}.py" for name in ("devcontainer", "docs", "fresh_clone", "nix"))
"""Files of tests/e2e that start stacks of their own; all others share one."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of the test's own."""
    return tmp_path / "state"


@pytest.fixture(scope="session")
def browser() -> t.Iterator[Browser]:
    """A Chromium, the machine's or a pinned one."""
    try:
        with chromium.browser() as one:
            yield one
    except LookupError as error:
        pytest.skip(str(error))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what starts stacks of its own last, so that one worker has the platform while another needs no stack."""
    order = {"platform": -1} | {part: number for number, part in enumerate(OWN_STACK, 1)}
    items.sort(key=lambda item: order.get(part_of(item.nodeid), 0))


def part_of(nodeid: str) -> str:
    """What one worker takes as a whole, since each makes its own session fixtures: a file, or all of the platform."""
    file = nodeid.partition("::")[0]
    return "platform" if file.startswith("tests/e2e/") and file not in OWN_STACK else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> t.Any:
    """Hand out whole parts."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return part_of(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: t.Any) -> None:
    """Take over the remarks of a worker."""
    REMARKS.extend(getattr(node, "workeroutput", {}).get("remarks", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the remarks, and name the skips that are not allowed."""
    for remark in REMARKS:
        terminalreporter.write_line(f"REMARK {remark}")
    for reason in _surprises(terminalreporter):
        terminalreporter.write_line(f"SKIP NOT LISTED in tests/allowed_skips.txt: {reason}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true a skip that is not listed with its reason is a failure."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["remarks"] = REMARKS
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
