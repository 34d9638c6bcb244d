"""`elt run` on 1, 4 and 16 times the data; writes its part of docs/benchmarks.md.

Each size is loaded, built, tested and checked in a folder of its own that is thrown away. Memory is that of all its
processes together, looked at ten times a second.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from workspace import BIN, ROOT, said

from bench import page
from bench.measure import DATA, FailedError
from bench.platforms import memory

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALES = (1, 4, 16)
LOOK_SECONDS = 0.1
_LOADED = re.compile(r" *(?P<seconds>[\d.]+) s  load   raw\.(?P<table>\w+): (?P<rows>[\d,]+) rows")
_BUILT = re.compile(r" *(?P<seconds>[\d.]+) s  dbt    Done\.")
_CHECKED = re.compile(r"quality: (?P<agree>\d+) of (?P<all>\d+) figures agree, (?P<seconds>[\d.]+) s")
_DONE = re.compile(r"run: done in (?P<seconds>[\d.]+) s")


@dataclass(frozen=True)
class Run:
    """What one run took."""

    rows: int
    """Lines of transactions."""
    load: float
    dbt: float
    """Models and tests."""
    quality: float
    whole: float
    """Seconds, as those before."""
    peak: int = 0
    """Proportional set size in bytes of all processes at their highest."""


def told(output: str) -> Run:
    """What `elt run` said of its steps.

    Raises:
        ValueError: it lacks a step.
    """
    loaded = [match for line in output.splitlines() if (match := _LOADED.match(line))]
    built, checked, done = (pattern.search(output) for pattern in (_BUILT, _CHECKED, _DONE))
    if not (loaded and built and checked and done):
        raise ValueError(f"elt run did not tell of each step:\n{output[-2000:]}")
    load = max(float(match["seconds"]) for match in loaded)
    rows = next(int(match["rows"].replace(",", "")) for match in loaded if match["table"] == "transactions")
    return Run(rows, load, float(built["seconds"]) - load, float(checked["seconds"]), float(done["seconds"]))


def watched(command: Sequence[str | Path], env: dict[str, str]) -> tuple[str, int]:
    """Run a program to its end.

    Returns:
        What it said, and the highest proportional set size in bytes of it and all below it together.

    Raises:
        FailedError: it failed.
    """
    process = subprocess.Popen(
        [*map(str, command)], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak, ended = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        first = psutil.Process(process.pid)
        while not ended.wait(LOOK_SECONDS):
            try:
                family = [first, *first.children(recursive=True)]
            except psutil.Error:
                return
            peak = max(peak, sum(memory(family).values()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        output, _ = process.communicate()
    finally:
        ended.set()
        looking.join()
        if process.poll() is None:  # interrupted
            process.terminate()
            process.wait()
    if process.returncode:
        raise FailedError(f"{command} ended with {process.returncode}:\n{output[-2000:]}")
    return output, peak


def measured(scale: int, state: Path) -> Run:
    """Write the data so many times, and run the pipeline on it.

    Raises:
        FailedError: one of the two failed.
    """
    env = os.environ | {"ELT_STATE": str(state)}
    done = said(BIN / "elt", "seed", "--full", "--scale", str(scale), cwd=ROOT, env=env, seconds=3600)
    if done.returncode:
        raise FailedError(done.stdout)
    output, peak = watched([BIN / "elt", "run"], env)
    run = told(output)
    return Run(run.rows, run.load, run.dbt, run.quality, run.whole, peak)


def rows_of(runs: dict[int, Run]) -> list[list[str]]:
    """A line of the table for each scale."""
    return [
        [
            f"{scale} x",
            f"{run.rows:,}",
            *(f"{seconds:.1f}" for seconds in (run.load, run.dbt, run.quality, run.whole)),
            f"{run.quality / run.whole:.0%}",
            f"{run.whole / run.rows * 1e6:.1f}",
            f"{run.peak >> 20:,}",
        ]
        for scale, run in runs.items()
    ]


HEAD = ["data", "lines", "load, s", "dbt, s", "quality, s", "in all, s", "quality's part", "s a million", "peak, MiB"]


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench.sh growth",
        description=__doc__.partition("\n")[0],
        epilog="example: scripts/bench.sh growth --scales 1 4 16 64 (64 needs 10 GB of disk and ten minutes)",
    )
    parser.add_argument(
        "--scales", type=int, nargs="+", default=SCALES, help="how many times the data (default: 1 4 16)"
    )
    arguments = parser.parse_args(words)
    DATA.mkdir(parents=True, exist_ok=True)
    runs = {}
    for scale in sorted(arguments.scales):
        print(f"bench: {scale} times the data", flush=True)
        with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name:
            runs[scale] = measured(scale, Path(name))
        print(f"bench: {dict(zip(HEAD, rows_of(runs)[-1], strict=True))}", flush=True)
    seconds = {f"ours, {run.rows:,} lines": run.whole for run in runs.values()}
    page.write("growth", "elt run on more and more lines, seconds", seconds, page.table(HEAD, rows_of(runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
