"""The report of e2e: one page of what was done, where the time went, what was checked, and how it was before.

The page (report.html.jinja) loads nothing. The runs before stand beside it, one line of JSON each.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import statistics
import subprocess
import time
import traceback
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from elt import layout
from elt.errors import EltError, SetupError
from elt.pipeline.quality import shown
from elt.supervisor.progress import FINISHED

if t.TYPE_CHECKING:
    from elt.orchestration.api import Task
    from elt.pipeline.quality import Figure
    from elt.supervisor.progress import Change

PAGE = "report.html.jinja"
KEPT = 100
"""Lines of the history that are kept."""
SHOWN = 10
"""Runs that the page compares, this one included."""
ALL = "all"
"""Name of the sum over all steps."""
START, PIPELINE = "start", "pipeline"
"""Names of the steps that the page shows in parts."""
INTERRUPTS = (KeyboardInterrupt, SystemExit)
MANY_TICKS = 10

Verdict = t.Literal["passed", "failed", "interrupted"]
Start = t.Literal["first", "again", "joined"]
"""How the stack was found: no databases yet, stopped, or running."""


# What is reported --------------------------------------------------------------------------------


@dataclass
class Step:
    """One step; times in seconds, `begin` since the begin of the proof."""

    name: str
    begin: float
    seconds: float = 0.0
    result: str = ""
    is_ok: bool = True

    @property
    def end(self) -> float:
        """Seconds from the begin of the proof."""
        return self.begin + self.seconds


@dataclass(frozen=True)
class Part:
    """What went on within a step: a process that starts, or one try of a task; seconds since the begin of the proof.

    It waits from `queued` to `begin` and works from `begin` to `end`.
    """

    name: str
    state: str
    queued: float
    begin: float
    end: float

    @property
    def is_ok(self) -> bool:
        """Whether it came to a good end."""
        return self.state in FINISHED | {"success"}


@dataclass
class Proof:
    """All that one run of e2e found."""

    environment: str
    start: Start
    commit: str
    began: float = field(default_factory=time.monotonic)
    when: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    """Processes that wanted to run during the minute before."""
    supervisor: str = ""
    extract_bytes: int = 0
    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """What became of the processes within the step START."""
    tries: dict[tuple[str, int], Task] = field(default_factory=dict)
    """The tasks of the run within the step PIPELINE, by name and number of the try."""
    figures: list[Figure] = field(default_factory=list)
    verdict: Verdict = "passed"
    failure: str = ""

    def saw(self, task: Task) -> None:
        """Keep a try of a task as it was seen last."""
        self.tries[task.name, task.tries] = task

    @contextlib.contextmanager
    def step(self, name: str) -> t.Iterator[Step]:
        """Time a step; the caller sets the result, a line of what was found."""
        step = Step(name, time.monotonic() - self.began)
        self.steps.append(step)
        try:
            yield step
        except BaseException as error:
            step.is_ok = False
            step.result = why(error).splitlines()[0]
            raise
        finally:
            step.seconds = time.monotonic() - self.began - step.begin

    @property
    def seconds(self) -> float:
        """What all steps took together."""
        return sum(step.seconds for step in self.steps)

    @property
    def failed_step(self) -> str:
        """Name of the step that failed; empty when none did."""
        return next((step.name for step in self.steps if not step.is_ok), "")

    def fail(self, error: BaseException) -> None:
        """Note what ended the proof."""
        self.verdict = "interrupted" if isinstance(error, INTERRUPTS) else "failed"
        is_known = isinstance(error, (EltError, *INTERRUPTS))
        self.failure = why(error) if is_known else "".join(traceback.format_exception(error))

    def parts(self, step: Step) -> list[Part]:
        """What went on within a step, as far as it was watched."""
        if step.name == START:
            return _processes(self.changes, step, self.began)
        if step.name == PIPELINE:
            return _tasks(self.tries.values(), step, self.when.timestamp())
        return []


def why(error: BaseException) -> str:
    """What an error says."""
    if isinstance(error, INTERRUPTS):
        return "interrupted by Ctrl-C or a signal"
    return str(error) or type(error).__name__


def _processes(changes: t.Iterable[Change], step: Step, origin: float) -> list[Part]:
    """How each process became healthy; one that did not is shown as working until the end of the step."""
    states: dict[str, list[tuple[str, float]]] = {}
    for change in changes:
        states.setdefault(change.process, []).append((change.state, change.moment - origin))
    parts = []
    for name, seen in states.items():
        last, moment = seen[-1]
        begin = next((moment for state, moment in seen if state != "waiting"), step.end)
        parts.append(Part(name, last, seen[0][1], begin, moment if last in FINISHED else step.end))
    return parts


def _tasks(tries: t.Iterable[Task], step: Step, origin: float) -> list[Part]:
    """How each try of a task was queued and ran; one without an end is shown as working until the end of the step."""
    parts = []
    for one in tries:
        started = None if one.state in {"scheduled", "queued"} else one.started  # it would be that of the try before
        known = [moment - origin for moment in (one.queued, started) if moment is not None]
        if known:
            name = one.name if one.tries <= 1 else f"{one.name}, try {one.tries}"
            begin = step.end if started is None else started - origin
            end = step.end if started is None or one.ended is None else one.ended - origin
            parts.append(
                Part(name, one.state, min(known), begin, end)
            )  # a deferred task is queued again while it runs
    return sorted(parts, key=lambda part: part.queued)


def commit(root: Path = layout.ROOT) -> str:
    """The commit that is checked out, and whether files differ from it."""
    if not (root / ".git").exists():  # and not that of a repository around the clone
        return "not a git checkout"
    command = ["git", "--no-optional-locks", "-C", str(root), "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: git does not answer ({type(error).__name__})"
    if done.returncode:
        return f"unknown: {done.stderr.strip().splitlines()[-1]}"
    lines = done.stdout.splitlines()
    found = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
    changed = sum(not line.startswith("#") for line in lines)
    name = "no commit yet" if found == "(initial)" else found[:9]
    return f"{name}, {changed} files changed" if changed else name


def machine() -> dict[str, str]:
    """What the proof ran on, by the name of each fact."""
    with contextlib.suppress(AttributeError):  # macOS has no such call
        return _machine(len(os.sched_getaffinity(0)))
    return _machine(psutil.cpu_count() or 1)


def _machine(cores: int) -> dict[str, str]:
    libc = " ".join(platform.libc_ver())
    return {
        "cores": str(cores),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": " ".join(filter(None, (platform.system(), platform.release(), platform.machine(), libc.strip()))),
        "Python": platform.python_version(),
    }


# The history -------------------------------------------------------------------------------------


class Run(BaseModel):
    """One line of the history: the figures of one proof; times in seconds."""

    model_config = ConfigDict(frozen=True)

    when: dt.datetime
    verdict: Verdict
    failed_step: str
    commit: str
    environment: str
    supervisor: str
    start: Start
    extract_bytes: int
    load: float
    steps: dict[str, float]

    @classmethod
    def of(cls, proof: Proof) -> Run:
        """The figures of a proof that are kept."""
        steps = {step.name: round(step.seconds, 3) for step in proof.steps}
        facts = {name: getattr(proof, name) for name in cls.model_fields if name != "steps"}
        return cls(**facts, steps=steps)

    @property
    def seconds(self) -> dict[str, float]:
        """Of each step and of all together."""
        return self.steps | {ALL: sum(self.steps.values())}

    @property
    def work(self) -> tuple[int, Start]:
        """What the times depend on: the amount of data and how the stack was found."""
        return self.extract_bytes, self.start


def remember(run: Run, path: Path) -> list[Run]:
    """Add a run to the history.

    Args:
        run: the last run.
        path: file of the history; a line that is damaged is left out and forgotten.

    Returns:
        The runs that are kept, in the order in which they were made; the last is the one given.

    Raises:
        OSError: the file cannot be read or written.
    """
    runs = [*_read(path), run][-KEPT:]
    _replace(path, "".join(f"{one.model_dump_json()}\n" for one in runs))
    return runs


def _read(path: Path) -> t.Iterator[Run]:
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValidationError):
                yield Run.model_validate_json(line)


def _replace(path: Path, text: str) -> None:
    """Write a file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@dataclass(frozen=True)
class Trend:
    """One step in the runs that are compared; seconds, None where a run did not come to it."""

    name: str
    values: list[float | None]
    median: float | None
    """Of the peers of the last run."""
    is_whole: bool
    """Whether the last run came to the end of the step without a failure, so that it may be compared."""

    @property
    def now(self) -> float | None:
        """What the last run took."""
        return self.values[-1]

    @property
    def difference(self) -> float | None:
        """Seconds more than the median."""
        if self.now is None or self.median is None or not self.is_whole:
            return None
        return self.now - self.median

    @property
    def top(self) -> float:
        """The greatest value, and never 0."""
        return max([value for value in self.values if value is not None] + [0.001])


def peers(runs: list[Run]) -> list[Run]:
    """The runs before the last that passed and did the same work as the last, so that their times may be compared."""
    last = runs[-1]
    return [run for run in runs[:-1] if run.verdict == "passed" and run.work == last.work]


def trends(runs: list[Run]) -> list[Trend]:
    """How long each step took in each run, against the median of the peers, all steps together first.

    These are compared with peers of the same steps only: a run that left the stack running has fewer. Of a run that
    failed, the steps before the failure are compared.
    """
    last = runs[-1]
    whole = list(last.steps)
    if last.failed_step:
        whole = whole[: whole.index(last.failed_step)]
    elif last.verdict == "passed":
        whole.append(ALL)
    found = []
    longest = max(reversed(runs), key=lambda run: len(run.steps))  # it has all steps in their order
    for name in [ALL, *dict.fromkeys(name for run in (longest, *runs) for name in run.steps)]:
        alike = [run for run in peers(runs) if name != ALL or run.steps.keys() == last.steps.keys()]
        known = [run.seconds[name] for run in alike if name in run.seconds]
        median = statistics.median(known) if known else None
        found.append(Trend(name, [run.seconds.get(name) for run in runs], median, name in whole))
    return found


# The page ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ticks:
    """The time axis, in seconds."""

    end: float
    marks: list[float]


def ticks(seconds: float) -> Ticks:
    """Round marks up to the end of the axis."""
    every = next(
        (size for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if seconds / size <= MANY_TICKS),
        3600,
    )
    return Ticks(max(seconds, every), [every * number for number in range(int(seconds / every) + 1)])


def write(proof: Proof) -> Path:
    """Add the proof to the history and write the page.

    Returns:
        The page.

    Raises:
        SetupError: a file cannot be read or written.
    """
    try:
        runs = remember(Run.of(proof), layout.E2E_RUNS)
        _replace(layout.E2E_REPORT, render(proof, runs[-SHOWN:]))
    except OSError as error:
        raise SetupError(f"the report cannot be written: {error}") from None
    return layout.E2E_REPORT


def render(proof: Proof, runs: list[Run]) -> str:
    """The page as HTML.

    Args:
        proof: the run of now.
        runs: those that are compared, oldest first; the last is that of now.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - `elt pipeline` works without

    folder = FileSystemLoader(Path(__file__).parent)
    pages = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["shown"] = shown
    ends = [step.end for step in proof.steps] + [part.end for step in proof.steps for part in proof.parts(step)]
    return pages.get_template(PAGE).render(
        proof=proof,
        machine=machine(),
        ticks=ticks(max(ends, default=0.0)),
        runs=runs,
        trends=trends(runs),
        compared=len(peers(runs)),
    )
