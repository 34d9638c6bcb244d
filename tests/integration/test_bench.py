"""What the benchmarks share: programs that are measured, and the page that they write."""

from __future__ import annotations

import sys

import pytest
from bench import growth, measure, page
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
    assert "no benchmark 'speed'; there are singer, sql, start, schedule, pipeline, growth and load" in done.stderr
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in ("singer", "sql", "start", "schedule", "pipeline", "growth", "load"):
        assert f"<!-- bench: {name} -->" in text


def test_the_steps_of_a_run_are_told():
    run = growth.told(
        "run: meltano run tap-csv target-duckdb dbt-duckdb:build (log: x)\n"
        "   3.5 s  load   raw.transactions: 1,469,307 rows\n"
        "   4.0 s  load   raw.products: 92,331 rows\n"
        "   9.0 s  dbt    OK created sql table model marts.daily_sales [OK in 2.09s]\n"
        "  10.5 s  dbt    Done. PASS=71 WARN=0 ERROR=0 SKIP=0 NO-OP=0 TOTAL=71\n"
        "quality: 21 of 21 figures agree, 1.5 s\n"
        "run: done in 12.0 s; `elt sql --local` opens the result\n"
    )
    assert run == growth.Run(1_469_307, 4.0, 6.5, 1.5, 12.0)
    assert growth.rows_of({1: run}) == [["1 x", "1,469,307", "4.0", "6.5", "1.5", "12.0", "12%", "8.2", "0"]]
    with pytest.raises(ValueError, match="did not tell of each step"):
        growth.told("run: done in 1.0 s")


def test_memory_is_that_of_a_whole_family():
    """Two processes of 100 MiB each that start and end within the run of a third."""
    hungry = "waste = b'x' * (100 << 20); import time; time.sleep(1.5)"
    parent = (
        "import subprocess, sys\n"
        f"for one in [subprocess.Popen([sys.executable, '-c', {hungry!r}]) for _ in range(2)]: one.wait()\n"
        "print('end')"
    )
    output, peak = growth.watched([PYTHON, "-c", parent], {})
    assert output == "end\n"
    assert 200 << 20 < peak < 300 << 20
    with pytest.raises(measure.FailedError, match="no luck"):
        growth.watched([PYTHON, "-c", "raise SystemExit('no luck')"], {})
