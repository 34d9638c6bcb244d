"""elt/supervisor/guard.py: its register is read with doubt, and its stopwatch knows of sleep."""

from __future__ import annotations

import os
import time
import typing as t

import pytest

from elt.supervisor import guard

if t.TYPE_CHECKING:
    from pathlib import Path


def test_a_number_that_was_given_to_another_process_is_none(tmp_path: Path) -> None:
    path = tmp_path / "run" / "processes" / "toy.json"
    path.parent.mkdir(parents=True)
    me = os.getpid()
    path.write_text(f'{{"guard": {me}, "guard_start": "1@x", "main": {me}, "main_start": "1@x", "started_at": 1.0}}')
    assert guard.read("toy", str(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"guard": 1}'])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run" / "processes" / "toy.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert guard.read("toy", str(tmp_path)) is None


@pytest.mark.parametrize(
    ("looks", "counted"),
    [
        ([(1, 1), (2, 1), (3, 1)], [1, 2, 3]),
        ([(1, 1), (61, 1), (62, 1)], [1, 0, 1]),
        ([(10, 10), (20 + guard.LATE_SECONDS, 10)], [10, 20 + guard.LATE_SECONDS]),
        ([(1, 1), (62, 1), (200, 1)], [1, 0, 0]),
    ],
    ids=["in time", "slept", "a long pause that was planned", "slept twice"],
)
def test_a_stopwatch_counts_the_time_in_which_this_process_could_run(monkeypatch, looks, counted):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watch = guard.Stopwatch()
    found = []
    for now[0], planned in looks:
        found.append(watch.seconds(planned))
    assert found == counted
