"""Proofs and their pages, for the tests of the report."""

from __future__ import annotations

import datetime as dt
import html.parser
from decimal import Decimal

from elt.e2e.report import Proof, Run, Step
from elt.orchestration.api import Task
from elt.pipeline.quality import Figure
from elt.supervisor.progress import Change

WHEN = dt.datetime(2026, 11, 24, 18, 0, tzinfo=dt.UTC)
VOID = {"meta", "br"}


def proof_of(**seconds: float) -> Proof:
    """A proof whose steps took so long, one after another."""
    proof = Proof("dev", "again", "0123456789", supervisor="embedded", extract_bytes=8_365_481, when=WHEN)
    for name, took in seconds.items():
        begin = proof.steps[-1].end if proof.steps else 0.0
        proof.steps.append(Step(name, begin, took, f"{name} done"))
    return proof


def run_of(when: dt.datetime = WHEN, **seconds: float) -> Run:
    """A line of the history of a proof that passed."""
    return Run.of(proof_of(**seconds)).model_copy(update={"when": when})


class Page(html.parser.HTMLParser):
    """What a page holds; an element that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note an element that opens."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Check that the element that closes is the last that opened."""
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        """Note a text."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words, a space between them."""
        return " ".join(" ".join(self.words).split())

    def bars(self, kind: str) -> list[tuple[float, float]]:
        """Left and right edge of each bar of the timeline, in the order in which they stand."""
        found = [attrs for tag, attrs in self.elements if tag == "rect" and attrs.get("x") and attrs["class"] == kind]
        return [(float(one["x"]), float(one["x"]) + float(one["width"])) for one in found]


def full_proof() -> Proof:
    """A proof with everything that the page can show."""
    proof = proof_of(seed=0.5, start=8.0, pipeline=12.0, marts=1.0, stop=4.0)
    for name, waits, works, ends in (("postgres", 0.6, 0.6, 1.3), ("migrate", 0.6, 0.7, 2), ("flower", 0.6, 7, 8.4)):
        last = "done" if name == "migrate" else "ready"
        for state, moment in (("waiting", waits), ("starting", works), (last, ends)):
            proof.changes.append(Change(name, state, proof.began + moment))
    origin = WHEN.timestamp()
    proof.tries = {
        ("load", 1): Task("load", "success", 1, origin + 9, origin + 9.5, origin + 13),
        ("publish", 1): Task("publish", "success", 1, origin + 14, origin + 14.5, origin + 20),
    }
    proof.figures = [
        Figure("raw.transactions: rows", 93_912, 93_912),
        Figure("revenue", Decimal("1234567.80"), Decimal("1234567.80")),
        Figure("of one customer", (3, 12, Decimal("1.50"), "loyal"), "absent"),
    ]
    return proof
