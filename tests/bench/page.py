"""docs/benchmarks.md: a section for each benchmark, with its tables and a chart."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import typing as t
from pathlib import Path
from xml.sax.saxutils import escape

import psutil
from workspace import ROOT

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"
_ROW, _LEFT, _WIDTH = 26, 250, 760


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """The machine in a few words."""
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 2**30
    return f"{cores} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def put(section: str, text: str) -> None:
    """Put a section into the page, in the place of the one that was there.

    Raises:
        LookupError: the page has no place for it.
    """
    page = PAGE.read_text()
    found = re.compile(f"(<!-- bench: {section} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not found.search(page):
        raise LookupError(f"{PAGE} has no place <!-- bench: {section} -->")
    today = dt.datetime.now(dt.UTC).date()
    whole = f"{text}\n\nMeasured on {today}: {machine()}, by `scripts/bench.sh {section}`.\n"
    PAGE.write_text(found.sub(lambda match: match[1] + whole + match[2], page))


def write(section: str, title: str, seconds: Mapping[str, float], text: str) -> None:
    """Print a benchmark's table, and put it into the page below a chart of seconds."""
    print(f"\n{text}\n")
    put(section, f"![{title}]({bars(section, title, seconds)})\n\n{text}")
    print(f"bench: wrote {PAGE.relative_to(ROOT)}")


def bars(name: str, title: str, seconds: Mapping[str, float]) -> Path:
    """Draw a chart of seconds, a bar each.

    Returns:
        Its path, relative to the page.
    """
    longest, height = max(seconds.values()), _ROW * len(seconds) + 40
    scale = (_WIDTH - _LEFT - 70) / longest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}">',
        f"<title>{escape(title)}</title><style>text {{ font: 13px sans-serif }}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, value) in enumerate(seconds.items()):
        y = 36 + number * _ROW
        color = "#0b7a75" if label.startswith("ours") else "#9aa5b1"
        lines += [
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{max(1, value * scale):.1f}" height="{_ROW - 6}" fill="{color}"/>',
            f'<text x="{_LEFT + value * scale + 6:.1f}" y="{y + 15}">{value:.1f} s</text>',
        ]
    path = IMAGES / f"bench-{name}.svg"
    path.write_text("\n".join([*lines, "</svg>", ""]))
    return path.relative_to(PAGE.parent)
