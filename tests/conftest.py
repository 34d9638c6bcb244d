"""What all tests share: a state folder of their own, strict skips."""

from __future__ import annotations

import os
import typing as t

import chromium
import pytest
from workspace import REMARKS, ROOT

from elt import layout

if t.TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


E2E = "tests/e2e/"
OTHER_SYSTEMS = ("tests/e2e/test_debian.py", "tests/e2e/test_devcontainer.py")
"""What runs in a root or a container of its own."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of the test's own."""
    return tmp_path / "state"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Paths that bootstrap writes to, moved to a folder of the test's own."""
    monkeypatch.setattr(layout, "ENV_FILE", tmp_path / ".env")
    monkeypatch.setattr(layout, "STATE", tmp_path / ".state")
    monkeypatch.setattr(layout, "TOOLS", tmp_path / "tools")
    (tmp_path / "tools").mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def browser() -> t.Iterator[Browser]:
    """A Chromium, the machine's or a pinned one."""
    try:
        with chromium.browser() as one:
            yield one
    except LookupError as error:
        pytest.skip(str(error))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest; and within it last what uses the platform, which runs from then on to the end."""
    items.sort(
        key=lambda item: (
            part_of(item.nodeid) != E2E,
            item.nodeid.startswith(OTHER_SYSTEMS),
            "platform" in getattr(item, "fixturenames", ()),
        )
    )


def part_of(nodeid: str) -> str:
    """What one worker takes as a whole: a file, or all that starts stacks, since two of them crowd two processors.

    Other systems wait more than they compute, and come last of the others, when both workers have equal parts.
    """
    is_e2e = nodeid.startswith(E2E) and not nodeid.startswith(OTHER_SYSTEMS)
    return E2E if is_e2e else nodeid.partition("::")[0]


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
