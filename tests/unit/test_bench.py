"""What the benchmarks share: programs that are measured, and the page that they write."""

from __future__ import annotations

import sys

import pytest
from bench import measure, page
from workspace import ROOT, run

PYTHON = sys.executable


def test_a_pipe_is_measured_by_program(tmp_path):
    """In a process of its own, since no program seems smaller than the one that started it, and pytest is large."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from bench import measure\n"
        "hungry = \"import sys; waste = b'x' * (300 << 20); print(len(sys.stdin.read()))\"\n"
        "words = [[sys.executable, '-c', text] for text in (\"print('x' * 1000)\", hungry)]\n"
        "got = measure.pipe(*words, env={}, cwd=Path.cwd())\n"
        "print(got.seconds > 0, *got.peaks, got.peak)\n"
    )
    done = run(PYTHON, script, env={"PYTHONPATH": str(ROOT / "tests")})
    positive, small, large, peak = done.stdout.split()
    assert positive == "True"
    assert int(small) + (200 << 20) < int(large) == int(peak)


def test_a_program_that_fails_is_named_with_its_last_words(tmp_path):
    failing = "import sys; print('no luck', file=sys.stderr); sys.exit(3)"
    with pytest.raises(measure.FailedError, match=r"(?s)ended with 3.*no luck"):
        measure.pipe([PYTHON, "-c", failing], env={}, cwd=tmp_path)


def test_the_middle_run_counts_with_the_highest_peak():
    runs = [measure.Measured(3, (5,)), measure.Measured(1, (9,)), measure.Measured(2, (7,))]
    assert measure.median(iter(runs).__next__, 3) == measure.Measured(2, (9,))


def test_a_section_takes_the_place_of_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text("before\n<!-- bench: one -->\nold\n<!-- end -->\nafter\n<!-- bench: two -->\n<!-- end -->\n")
    page.put("one", page.table(["", "s"], [["a", "1.0"]]))
    text = page.PAGE.read_text()
    assert "old" not in text
    assert text.startswith("before\n<!-- bench: one -->\n|  | s |\n| --- | ---: |\n| a | 1.0 |\n")
    assert "by `scripts/bench.sh one`.\n<!-- end -->\nafter\n" in text
    with pytest.raises(LookupError, match="no place <!-- bench: three -->"):
        page.put("three", "")


def test_each_benchmark_has_its_place_in_the_page():
    done = run("scripts/bench.sh", "speed", env={})
    assert done.returncode == 2
    assert "no benchmark 'speed'; there are singer, start, schedule, pipeline and load" in done.stderr
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in ("singer", "start", "schedule", "pipeline"):
        assert f"<!-- bench: {name} -->" in text
