"""Forty tasks in a row that do nothing, beside `airflow standalone`; writes its part of docs/benchmarks.md.

Ours hands each task to a Celery worker; `airflow standalone` starts it itself. Time counts from the request to the
end of the last task. Both are started anew for each round: the first run after a start stands apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import typing as t
from pathlib import Path

from bench import page
from bench.dags.chain import LENGTH
from bench.measure import DATA
from bench.platforms import Platform, both, seconds_of_run

if t.TYPE_CHECKING:
    from collections.abc import Sequence

DAG = "bench_chain"


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh schedule", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="starts of each, of which the middle one counts")
    arguments = parser.parse_args(words)
    DATA.mkdir(parents=True, exist_ok=True)
    first: dict[str, list[float]] = {}
    later: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name, both(Path(name)) as (ours, peer):
        platforms: dict[str, Platform] = {"ours, on Celery": ours, "airflow standalone": peer}
        for number in range(arguments.times):
            for label, platform in platforms.items():
                platform.start(empty=number == 0)
                api = platform.api()
                first.setdefault(label, []).append(max(seconds_of_run(api, DAG).values()))
                later.setdefault(label, []).append(max(seconds_of_run(api, DAG).values()))
                api.close()
                platform.stop()
                said = f"first run {first[label][-1]:.1f} s, second {later[label][-1]:.1f} s"
                print(f"bench: {number + 1} of {arguments.times}, {label}: {said}", flush=True)
    theirs = statistics.median(later["airflow standalone"])
    rows = []
    for label, found in later.items():
        begun, settled = statistics.median(first[label]), statistics.median(found)
        rows.append(
            [
                label,
                f"{settled:.1f}",
                f"{settled / LENGTH:.2f}",
                f"{settled / theirs:.2f}",
                f"{begun:.1f}",
                f"{begun / settled:.2f}",
            ]
        )
    head = ["", f"{LENGTH} tasks, s", "a task, s", "x peer", "first run after a start, s", "x later ones"]
    table = page.table(head, rows)
    settled_seconds = {label: statistics.median(found) for label, found in later.items()}
    page.write("schedule", f"{LENGTH} tasks in a row, seconds", settled_seconds, table)


if __name__ == "__main__":
    main(sys.argv[1:])
