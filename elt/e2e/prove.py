"""Prove that the platform works: start it, run the pipeline on Celery, check every result, stop it."""

from __future__ import annotations

import contextlib
import signal
import time
import typing as t

from rich.console import Console
from rich.table import Table

from elt import disk, layout
from elt.e2e import report
from elt.e2e.checks import checks
from elt.errors import EltError, SetupError
from elt.orchestration import runs
from elt.pipeline import quality
from elt.services import stack
from elt.sources import seed

if t.TYPE_CHECKING:
    from elt.config.settings import Settings

START_SECONDS = 180
NAMED_FILES = 3
"""Number of extracts that the table of steps names."""
STOP = "stop"


def prove(settings: Settings, *, keep: bool, size: seed.Size | None) -> None:
    """Run all steps and write the report; stop the stack afterwards unless it ran before or is to be kept.

    Args:
        settings: the checked settings.
        keep: leave the stack running.
        size: which extract to write first; none keeps those that are there, and writes all lines if there are none.

    Raises:
        EltError: a step failed.
    """
    disk.refuse_full()
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal included, unless nohup says otherwise
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    found: report.Start = "again" if layout.POSTGRES_DATA.exists() else "first"
    proof = report.Proof(settings.elt_environment, "joined" if stack.is_running() else found, report.commit())
    stops = not keep and proof.start != "joined"
    try:
        _steps(proof, settings, size)
        if stops:
            with proof.step(STOP):
                stack.down()
    except BaseException as error:
        proof.fail(error)
        if stops and proof.failed_step != STOP:
            _stop_quietly(proof)
        with contextlib.suppress(SetupError, OSError):  # the first error is the one to report
            print(f"report: {report.write(proof)}")
        raise
    show(proof)
    if not stops:
        stack.print_endpoints(settings)
    print(f"report: {report.write(proof)}")


def _steps(proof: report.Proof, settings: Settings, size: seed.Size | None) -> None:
    with proof.step("seed") as step:
        if size:
            seed.seed(size)
        files = [file for one in seed.ensure() for file in one.files()]
        step.result = size or ", ".join(file.name for file in files[:NAMED_FILES]) + (
            " ..." if len(files) > NAMED_FILES else ""
        )
        proof.extract_bytes = sum(file.stat().st_size for file in files)
    with proof.step(report.START) as step:
        try:
            stack.up(settings, START_SECONDS, proof.changes.append)
        finally:
            proof.supervisor = stack.supervisor()
        step.result = "all processes healthy"
    begun = time.time()
    with proof.step(report.PIPELINE) as step, contextlib.closing(runs.client(settings)) as api:
        run = runs.run_pipeline(api, None, {"environment": settings.elt_environment}, proof.saw)
        step.result = run
    for name, check in checks(settings, run, begun).items():
        with proof.step(name) as step:
            try:
                step.result, found = check()
            except quality.DiffersError as error:
                proof.figures += error.figures
                raise
            proof.figures += found


def show(proof: report.Proof) -> None:
    """Print the table of steps."""
    table = Table("step", "result", "seconds", title="e2e", title_justify="left")
    table.columns[2].justify = "right"
    for step in proof.steps:
        table.add_row(step.name, step.result, f"{step.seconds:.1f}")
    table.add_row("all", "", f"{proof.seconds:.1f}", style="bold")
    Console(width=120).print(table)


def _stop_quietly(proof: report.Proof) -> None:
    """Stop the stack without hiding the error that is being raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EltError, OSError), proof.step(STOP):
        stack.down()
