"""Runs programs and measures them: wall time of all, peak memory of each."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from elt import layout

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DATA = layout.STATE / "bench"
"""Where benchmarks work, and keep what takes long to make."""


@dataclass(frozen=True)
class Measured:
    """What one run took."""

    seconds: float
    peaks: tuple[int, ...]
    """Peak resident memory in bytes of each program, or of the largest process that it started and waited for; none
    where others did its work.

    Linux counts from what this program had when it started the other: less than that is never seen.
    """
    cpu: float = 0.0
    """Seconds of processors that all programs took, theirs and the kernel's for them, which other work on the machine
    changes little; not those of a server that they asked."""

    @property
    def peak(self) -> int:
        """The largest."""
        return max(self.peaks, default=0)


class FailedError(Exception):
    """A program failed; the message has the end of what it said."""


def pipe(*commands: Sequence[str | Path], env: Mapping[str, str], cwd: Path, source: Path | None = None) -> Measured:
    """Run programs that read each other's output, and wait for all.

    Args:
        commands: the programs.
        env: what they find in their environment.
        cwd: where they run.
        source: what the first one reads.

    Raises:
        FailedError: one failed.
    """
    with tempfile.TemporaryFile() as said, (source or Path(os.devnull)).open("rb") as first:
        begin, before, started = time.perf_counter(), first, []
        for number, command in enumerate(commands):
            last = number == len(commands) - 1
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=before,
                stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                stderr=said,
                env=dict(env),
                cwd=cwd,
            )
            if before is not first:
                before.close()
            before = t.cast("t.Any", process.stdout)
            started.append(process)
        ended, cpu = [], 0.0
        for process in started:
            _, status, usage = os.wait4(process.pid, 0)  # of all that it waited for too
            process.returncode = os.waitstatus_to_exitcode(status)
            ended.append(usage.ru_maxrss * 1024)
            cpu += usage.ru_utime + usage.ru_stime
        seconds = time.perf_counter() - begin
        for process in started:
            if process.returncode:
                said.seek(0)
                end = said.read().decode(errors="replace")[-2000:]
                raise FailedError(f"{process.args} ended with {process.returncode}:\n{end}")
    return Measured(seconds, tuple(ended), cpu)


def median(run: Callable[[], Measured], times: int) -> Measured:
    """The middle one of several runs by its time, with the highest peaks of all."""
    runs = sorted((run() for _ in range(times)), key=lambda one: one.seconds)
    peaks = tuple(max(column) for column in zip(*(one.peaks for one in runs), strict=True))
    cpu = statistics.median_low([one.cpu for one in runs])
    return Measured(statistics.median_low([one.seconds for one in runs]), peaks, cpu)
