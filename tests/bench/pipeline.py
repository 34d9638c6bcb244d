"""The pipeline on the sample, beside the same commands typed by hand; writes its part of docs/benchmarks.md.

By hand means: in the shell of `elt exec`, one after the other, with the stack up. Both load the same warehouse. What
the pipeline publishes after its last check has no counterpart, and is left out of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from workspace import said

from bench import page
from bench.measure import DATA
from bench.platforms import Ours, both, seconds_of_run
from elt.orchestration.runs import DAG

if t.TYPE_CHECKING:
    from collections.abc import Sequence

MELTANO = "meltano --cwd meltano --environment dev run --force"
BY_HAND = {
    "wait_for_extract": "test -e .state/extract/transactions.csv",
    "extract_load": f"{MELTANO} tap-csv target-duckdb",
    "dbt_run": f"{MELTANO} dbt-duckdb:run",
    "dbt_test": f"{MELTANO} dbt-duckdb:test",
    "data_quality": "elt quality --environment dev",
}
"""What a person would type for each task of the pipeline."""
PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def by_hand(ours: Ours) -> dict[str, float]:
    """Seconds of each command."""
    env = json.loads(ours.elt("exec", "python", "-c", PRINT_ENVIRONMENT))
    found = {}
    for step, command in BY_HAND.items():
        began = time.monotonic()
        done = said("bash", "-c", command, cwd=ours.clone.root, env=env)
        assert done.returncode == 0, done.stdout
        found[step] = time.monotonic() - began
    return found


def in_airflow(ours: Ours) -> dict[str, float]:
    """Seconds of each step, from the end of the one before or from the request on."""
    api = ours.api()
    ends = seconds_of_run(api, DAG)
    api.close()
    steps, before = {}, 0.0
    for step in BY_HAND:
        steps[step], before = ends[step] - before, ends[step]
    return steps


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="runs of each, of which the middle one counts")
    arguments = parser.parse_args(words)
    DATA.mkdir(parents=True, exist_ok=True)
    rounds: dict[str, list[dict[str, float]]] = {
        "ours, first run after a start": [],
        "ours, later": [],
        "by hand": [],
    }
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name, both(Path(name)) as (ours, _):
        ours.start(empty=True)
        ours.elt("seed", "--sample")
        in_airflow(ours)  # the very first run compiles bytecode and dbt's manifest
        by_hand(ours)
        ours.stop()
        for number in range(arguments.times):
            ours.start(empty=False)
            for label, found in rounds.items():
                found.append(by_hand(ours) if label == "by hand" else in_airflow(ours))
                print(
                    f"bench: {number + 1} of {arguments.times}, {label}: {sum(found[-1].values()):.1f} s", flush=True
                )
            ours.stop()
    middle = {
        label: {step: statistics.median(one[step] for one in found) for step in BY_HAND}
        for label, found in rounds.items()
    }
    totals = {label: statistics.median(sum(one.values()) for one in found) for label, found in rounds.items()}
    rows = [
        [
            label,
            *(f"{value:.1f}" for value in steps.values()),
            f"{totals[label]:.1f}",
            f"{totals[label] / totals['by hand']:.2f}",
        ]
        for label, steps in middle.items()
    ]
    table = page.table(["seconds", *BY_HAND, "in all", "x by hand"], rows)
    page.write("pipeline", "Five steps on the sample, seconds", totals, table)


if __name__ == "__main__":
    main(sys.argv[1:])
