"""Start, stop and memory of the whole stack, beside `airflow standalone`; writes its part of docs/benchmarks.md.

Each is started in turns with the others, once on an empty state and then on what it left. Ours is healthy when every
process is and `scripts/up.sh`, which a person types, has ended; `airflow standalone` when its four components say
so. A first start that nothing is said of compiles Python's bytecode.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from bench import page
from bench.measure import DATA
from bench.platforms import Ours, Platform, both

if t.TYPE_CHECKING:
    from collections.abc import Sequence

SETTLED_SECONDS = 8
"""Between health and the look at memory: by then everything is imported."""


@dataclass
class Way:
    """One way of starting, and what was measured of it."""

    name: str
    platform: Platform
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    lean: list[int] = field(default_factory=list)
    """Memory without Streamlit, which the peer has no counterpart of."""
    processes: int = 0

    def measure(self, *, empty: bool) -> None:
        """Start and stop once."""
        (self.cold if empty else self.warm).append(self.platform.start(empty=empty))
        time.sleep(SETTLED_SECONDS)
        if not empty:
            found = self.platform.memory()
            self.memory.append(sum(found.values()))
            self.lean.append(sum(size for name, size in found.items() if "streamlit" not in name))
            self.processes = len(found)
        self.stop.append(self.platform.stop())

    def row(self, peer: Way) -> list[str]:
        """Its row of the table."""
        cold, warm, theirs = map(statistics.median, (self.cold, self.warm, peer.cold))
        return [
            self.name,
            f"{cold:.1f}",
            f"{cold / theirs:.2f}",
            f"{warm:.1f}",
            f"{warm / statistics.median(peer.warm):.2f}",
            f"{statistics.median(self.stop):.1f}",
            f"{statistics.median(self.memory) / 2**20:,.0f}",
            f"{statistics.median(self.lean) / 2**20:,.0f}",
            str(self.processes),
        ]


class Plain(Ours):
    """Ours without preloading."""

    def start(self, *, empty: bool) -> float:
        """Start it; each process imports for itself."""
        self.clone.env["ELT_PRELOAD"] = "0"
        try:
            return super().start(empty=empty)
        finally:
            del self.clone.env["ELT_PRELOAD"]


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh start", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=5, help="starts of each kind, of which the middle one counts")
    arguments = parser.parse_args(words)
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name, both(Path(name)) as (ours, peer):
        ways = [
            Way("ours, 12 processes", ours),
            Way("ours with ELT_PRELOAD=0", Plain(ours.clone)),
            Way("airflow standalone", peer),
        ]
        for way in ways:
            way.platform.start(empty=True)
            way.platform.stop()
        for number in range(arguments.times):
            for way in ways:
                way.measure(empty=True)
                way.measure(empty=False)
                said = f"cold {way.cold[-1]:.1f} s, warm {way.warm[-1]:.1f} s, stop {way.stop[-1]:.1f} s"
                print(f"bench: {number + 1} of {arguments.times}, {way.name}: {said}", flush=True)
    head = [
        "",
        "cold, s",
        "x peer",
        "warm, s",
        "x peer",
        "stop, s",
        "PSS, MiB",
        "without Streamlit",
        "processes in all",
    ]
    table = page.table(head, [way.row(ways[-1]) for way in ways])
    warm = {way.name: statistics.median(way.warm) for way in ways}
    page.write("start", "Warm start to healthy, seconds", warm, table)


if __name__ == "__main__":
    main(sys.argv[1:])
