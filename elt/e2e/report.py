"""Write the report of e2e: one page of steps, times, checked figures, and a comparison with earlier runs.

The page (report.html.jinja) loads nothing. Earlier runs are kept beside it, one line of JSON each.
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
KEPT_RUNS = 100
"""Number of runs that the history keeps."""
SHOWN_RUNS = 10
"""Number of runs that the page compares, this one included."""
ALL = "all"
"""Name of the sum of all steps."""
START, PIPELINE = "start", "pipeline"
"""Names of the steps whose parts the page shows."""
INTERRUPTS = (KeyboardInterrupt, SystemExit)
MAX_TICKS = 10

Verdict = t.Literal["passed", "failed", "interrupted"]
Start = t.Literal["first", "again", "joined"]
"""State of the stack before: without databases, stopped, or running."""


# The proof ---------------------------------------------------------------------------------------


@dataclass
class Step:
    """Hold one step; times in seconds, `begin` since the begin of the proof."""

    name: str
    begin: float
    seconds: float = 0.0
    result: str = ""
    is_ok: bool = True

    @property
    def end(self) -> float:
        """Return the end in seconds since the begin of the proof."""
        return self.begin + self.seconds


@dataclass(frozen=True)
class Part:
    """Hold a part of a step, the start of a process or a try of a task; seconds since the begin of the proof.

    It waits from `queued` to `begin` and works from `begin` to `end`.
    """

    name: str
    state: str
    queued: float
    begin: float
    end: float

    @property
    def is_ok(self) -> bool:
        """Return whether it succeeded."""
        return self.state in FINISHED | {"success"}


@dataclass
class Proof:
    """Collect the results of one run of e2e."""

    environment: str
    start: Start
    commit: str
    began: float = field(default_factory=time.monotonic)
    when: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    """Load average of the minute before."""
    supervisor: str = ""
    extract_bytes: int = 0
    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """Changes of the processes' states within the step START."""
    tries: dict[tuple[str, int], Task] = field(default_factory=dict)
    """The tasks of the run within the step PIPELINE, by name and number of the try."""
    figures: list[Figure] = field(default_factory=list)
    verdict: Verdict = "passed"
    failure: str = ""

    def saw(self, task: Task) -> None:
        """Keep the last known state of a try of a task."""
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
        """Return the seconds of all steps together."""
        return sum(step.seconds for step in self.steps)

    @property
    def failed_step(self) -> str:
        """Return the name of the step that failed; empty when none did."""
        return next((step.name for step in self.steps if not step.is_ok), "")

    def fail(self, error: BaseException) -> None:
        """Record the error that ended the proof."""
        self.verdict = "interrupted" if isinstance(error, INTERRUPTS) else "failed"
        is_known = isinstance(error, (EltError, *INTERRUPTS))
        self.failure = why(error) if is_known else "".join(traceback.format_exception(error))

    def parts(self, step: Step) -> list[Part]:
        """Return the parts of a step, as far as they were recorded."""
        if step.name == START:
            return _processes(self.changes, step, self.began)
        if step.name == PIPELINE:
            return _tasks(self.tries.values(), step, self.when.timestamp())
        return []


def why(error: BaseException) -> str:
    """Return the message of an error."""
    if isinstance(error, INTERRUPTS):
        return "interrupted by Ctrl-C or a signal"
    return str(error) or type(error).__name__


def _processes(changes: t.Iterable[Change], step: Step, origin: float) -> list[Part]:
    """Return the start of each process; one that did not become healthy lasts until the end of the step."""
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
    """Return each try of a task, queued and running; one without an end lasts until the end of the step."""
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
    """Return the commit that is checked out, and how many files differ from it."""
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
    """Return properties of the machine by name."""
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
    """Hold one line of the history: the figures of one proof; times in seconds."""

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
        """Make the line of the history of a proof."""
        steps = {step.name: round(step.seconds, 3) for step in proof.steps}
        facts = {name: getattr(proof, name) for name in cls.model_fields if name != "steps"}
        return cls(**facts, steps=steps)

    @property
    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step and of all together."""
        return self.steps | {ALL: sum(self.steps.values())}

    @property
    def work(self) -> tuple[int, Start]:
        """Return what the times depend on: the amount of data and the state of the stack before."""
        return self.extract_bytes, self.start


def remember(run: Run, path: Path) -> list[Run]:
    """Add a run to the history.

    Args:
        run: the last run.
        path: file of the history; a damaged line is removed.

    Returns:
        The runs that are kept, oldest first; the last is the one given.

    Raises:
        OSError: the file cannot be read or written.
    """
    runs = [*_read(path), run][-KEPT_RUNS:]
    _replace(path, "".join(f"{one.model_dump_json()}\n" for one in runs))
    return runs


def _read(path: Path) -> t.Iterator[Run]:
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValidationError):
                yield Run.model_validate_json(line)


def _replace(path: Path, text: str) -> None:
    """Write a file atomically, so that a reader never sees half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@dataclass(frozen=True)
class Trend:
    """Compare one step over the runs; seconds, None where a run did not reach it."""

    name: str
    values: list[float | None]
    median: float | None
    """Median of the peers of the last run."""
    is_whole: bool
    """Whether the step succeeded in the last run, so that it may be compared."""

    @property
    def latest(self) -> float | None:
        """Return the seconds of the last run."""
        return self.values[-1]

    @property
    def difference(self) -> float | None:
        """Return by how many seconds the last run exceeds the median."""
        if self.latest is None or self.median is None or not self.is_whole:
            return None
        return self.latest - self.median

    @property
    def top(self) -> float:
        """Return the greatest value, which is never 0."""
        return max([value for value in self.values if value is not None] + [0.001])


def peers(runs: list[Run]) -> list[Run]:
    """Return the earlier runs that passed and did the same work as the last, whose times may be compared."""
    last = runs[-1]
    return [run for run in runs[:-1] if run.verdict == "passed" and run.work == last.work]


def trends(runs: list[Run]) -> list[Trend]:
    """Return the times of each step in each run, with the median of the peers, all steps together first.

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
    """Hold the ticks of the time axis, in seconds."""

    end: float
    marks: list[float]


def ticks(seconds: float) -> Ticks:
    """Choose round ticks up to the end of the axis."""
    every = next(
        (size for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if seconds / size <= MAX_TICKS),
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
        _replace(layout.E2E_REPORT, render(proof, runs[-SHOWN_RUNS:]))
    except OSError as error:
        raise SetupError(f"the report cannot be written: {error}") from None
    return layout.E2E_REPORT


def render(proof: Proof, runs: list[Run]) -> str:
    """Render the page as HTML.

    Args:
        proof: the present run.
        runs: those that are compared, oldest first; the last is the present one.
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
