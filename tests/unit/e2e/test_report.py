"""The report of e2e: its figures, its history and its page."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import statistics

import pytest
from proofs import WHEN, Page, full_proof, proof_of, run_of
from workspace import DEADLINE

from elt.e2e import report
from elt.e2e.report import ALL, PIPELINE, START, Proof, Run
from elt.errors import DataError, SetupError
from elt.orchestration.api import Task
from elt.pipeline.quality import Figure
from elt.supervisor.progress import Change

# The steps ---------------------------------------------------------------------------------------


def test_a_step_is_timed_and_keeps_its_result():
    proof = proof_of()
    with proof.step("one") as step:
        step.result = "found it"
    assert [(one.name, one.result, one.is_ok) for one in proof.steps] == [("one", "found it", True)]
    assert 0 <= proof.steps[0].seconds < DEADLINE
    assert proof.failed_step == ""


def test_a_step_that_fails_says_why_in_its_first_line_and_passes_the_error_on():
    proof = proof_of()
    with pytest.raises(DataError), proof.step("one"):
        raise DataError("3 figures differ\nthe end of the log")
    assert proof.steps[0].result == "3 figures differ"
    assert proof.failed_step == "one"


def test_a_step_that_is_interrupted_says_so():
    proof = proof_of()
    with pytest.raises(SystemExit), proof.step("one"):
        raise SystemExit(130)
    assert "interrupted" in proof.steps[0].result


@pytest.mark.parametrize(
    ("error", "verdict", "word"),
    [
        (DataError("3 figures differ"), "failed", "3 figures differ"),
        (ZeroDivisionError("by nothing"), "failed", "ZeroDivisionError: by nothing"),
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (SystemExit(130), "interrupted", "Ctrl-C"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_the_verdict_follows_from_the_error(error, verdict, word):
    proof = proof_of()
    proof.fail(error)
    assert proof.verdict == verdict
    assert word in proof.failure


# What went on within a step ----------------------------------------------------------------------


def parts(proof: Proof, name: str) -> list[tuple[str, str, float, float, float]]:
    """Name, state and the three moments of each part, rounded to a thousandth."""
    step = next(step for step in proof.steps if step.name == name)
    return [
        (part.name, part.state, *(round(moment, 3) for moment in (part.queued, part.begin, part.end)))
        for part in proof.parts(step)
    ]


def test_a_process_waits_then_starts():
    assert parts(full_proof(), START) == [
        ("postgres", "ready", 0.6, 0.6, 1.3),
        ("migrate", "done", 0.6, 0.7, 2.0),
        ("flower", "ready", 0.6, 7.0, 8.4),
    ]


def test_a_process_of_a_stack_that_ran_already_takes_no_time():
    proof = proof_of(start=0.2)
    proof.changes = [Change("postgres", "ready", proof.began + 0.1)]
    assert parts(proof, START) == [("postgres", "ready", 0.1, 0.1, 0.1)]


def test_a_process_that_is_not_ready_is_shown_until_the_end_of_the_step():
    proof = proof_of(start=5.0)
    proof.changes = [
        Change("postgres", "starting", proof.began + 0.1),
        Change("flower", "waiting", proof.began + 0.1),
    ]
    assert parts(proof, START) == [("postgres", "starting", 0.1, 0.1, 5.0), ("flower", "waiting", 0.1, 5.0, 5.0)]
    assert not any(part.is_ok for part in proof.parts(proof.steps[0]))


def tried(*tries: Task) -> list[tuple[str, str, float, float, float]]:
    proof = proof_of(seed=1.0, pipeline=9.0)
    proof.tries = {(one.name, one.tries): one for one in tries}
    return parts(proof, PIPELINE)


def test_each_try_of_a_task_stands_by_itself():
    zero = WHEN.timestamp()
    assert tried(
        Task("load", "up_for_retry", 1, zero + 1, zero + 2, zero + 3),
        Task("load", "success", 2, zero + 5, zero + 6, zero + 7),
    ) == [("load", "up_for_retry", 1, 2, 3), ("load, try 2", "success", 5, 6, 7)]


def test_a_task_that_is_queued_again_shows_nothing_of_the_try_before():
    zero = WHEN.timestamp()
    assert tried(Task("load", "queued", 2, zero + 5, zero + 2, zero + 3)) == [("load, try 2", "queued", 5, 10, 10)]


def test_a_deferred_task_runs_since_its_first_start():
    zero = WHEN.timestamp()
    assert tried(Task("wait", "success", 1, zero + 4, zero + 2, zero + 5)) == [("wait", "success", 2, 2, 5)]


def test_a_task_that_never_came_to_be_queued_is_left_out():
    assert tried(Task("publish", "none", 0), Task("test", "upstream_failed", 0)) == []


def test_a_task_that_still_runs_is_shown_until_the_end_of_the_step():
    zero = WHEN.timestamp()
    assert tried(Task("load", "running", 1, zero + 1, zero + 2)) == [("load", "running", 1, 2, 10)]


# The history -------------------------------------------------------------------------------------


def test_the_history_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "e2e" / "runs.jsonl"
    first, second = run_of(start=1.0), run_of(start=2.0)
    assert report.remember(first, path) == [first]
    assert report.remember(second, path) == [first, second]
    assert [json.loads(line)["steps"] for line in path.read_text().splitlines()] == [{"start": 1.0}, {"start": 2.0}]
    assert [one.name for one in path.parent.iterdir()] == ["runs.jsonl"]


def test_only_the_last_runs_are_kept(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(f"{run_of(start=number).model_dump_json()}\n" for number in range(report.KEPT_RUNS + 5)))
    runs = report.remember(run_of(start=9999.0), path)
    assert [one.steps["start"] for one in runs] == [*range(6, report.KEPT_RUNS + 5), 9999]
    assert len(path.read_text().splitlines()) == report.KEPT_RUNS


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"when": "2026-11-24T18:00:00Z"}',
        b"\xff\xfe",
        run_of(start=1.0).model_dump_json().replace("passed", "perhaps").encode(),
        run_of(start=1.0).model_dump_json().replace("1.0", '"soon"').encode(),
        run_of(start=1.0).model_dump_json()[:-9].encode(),
    ],
    ids=range(9),
)
def test_a_damaged_line_is_left_out(tmp_path, line):
    path = tmp_path / "runs.jsonl"
    good = run_of(start=1.0)
    path.write_bytes(b"\n".join([good.model_dump_json().encode(), line, good.model_dump_json().encode(), b""]))
    last = run_of(start=2.0)
    assert report.remember(last, path) == [good, good, last]


def test_the_median_is_that_of_runs_that_passed_and_did_the_same_work():
    alike = [run_of(seed=1.0, start=start, stop=4.0) for start in (8.0, 9.0, 30.0)]
    others = [
        alike[0].model_copy(update={"verdict": "failed", "steps": {"start": 100.0}}),
        alike[0].model_copy(update={"extract_bytes": 1, "steps": {"start": 100.0}}),
        alike[0].model_copy(update={"start": "joined", "steps": {"start": 100.0}}),
    ]
    last = run_of(seed=1.0, start=10.0, stop=4.0)
    assert report.peers([*alike, *others, last]) == alike
    found = {trend.name: trend for trend in report.trends([*alike, *others, last])}
    assert list(found) == [ALL, "seed", "start", "stop"]
    assert found["start"].median == statistics.median([8.0, 9.0, 30.0])
    assert found["start"].values == [8.0, 9.0, 30.0, 100.0, 100.0, 100.0, 10.0]
    assert found[ALL].median == 14.0
    assert found[ALL].values[-1] == 15.0
    assert found[ALL].difference == 1.0


def test_a_run_with_fewer_steps_is_compared_step_by_step_only():
    kept = run_of(seed=1.0, start=10.0)  # the stack was left running
    found = {trend.name: trend for trend in report.trends([run_of(seed=1.0, start=9.0, stop=4.0), kept])}
    assert found[ALL].median is None
    assert found["start"].median == 9.0
    assert found["stop"].values == [4.0, None]


def test_of_a_run_that_failed_the_steps_before_the_failure_are_compared():
    before = run_of(seed=1.0, start=9.0, pipeline=20.0, stop=4.0)
    failed = run_of(seed=2.0, start=0.5, stop=0.1).model_copy(update={"verdict": "failed", "failed_step": "start"})
    found = {trend.name: trend.difference for trend in report.trends([before, failed])}
    assert found == {ALL: None, "seed": 1.0, "start": None, "pipeline": None, "stop": None}
    assert list(found) == [ALL, "seed", "start", "pipeline", "stop"]


def test_the_first_run_has_nothing_to_be_compared_with():
    assert {trend.median for trend in report.trends([run_of(start=9.0)])} == {None}


@pytest.mark.parametrize("seconds", [0.0, 0.04, 0.9, 9.9, 38.2, 150.0, 1800.0, 90_000.0])
def test_the_time_axis_holds_everything_and_few_marks(seconds):
    axis = report.ticks(seconds)
    assert axis.end >= seconds
    assert axis.end > 0
    assert axis.marks[0] == 0
    assert axis.marks[-1] <= axis.end
    assert len(axis.marks) <= max(report.MAX_TICKS, seconds / 3600) + 1


# The page ----------------------------------------------------------------------------------------


def test_the_page_names_what_was_found():
    proof = full_proof()
    page = Page(report.render(proof, [Run.of(proof)]))
    for words in ("passed in 25.5 s", "2026-11-24 18:00:00 UTC", "0123456789", "embedded", "dev", "8.4 MB"):
        assert words in page.text
    for name, value in report.machine().items():
        assert f"{name} {value}" in page.text
    assert "pipeline pipeline done 12.0" in page.text
    assert "raw.transactions: rows 93,912 93,912 yes" in page.text
    assert "revenue 1,234,567.80 1,234,567.80 yes" in page.text
    assert "of one customer 3 / 12 / 1.50 / loyal absent NO" in page.text
    assert "2 of 3 figures agree" in page.text


def test_bars_stand_where_the_time_was_spent():
    proof = full_proof()
    page = Page(report.render(proof, [Run.of(proof)]))
    steps, inner, waiting = page.bars("step"), page.bars("part"), page.bars("waiting")
    scale = (steps[2][1] - steps[2][0]) / 12.0  # pixels a second, by the longest step
    left = steps[0][0]
    expected = [(step.begin, step.end) for step in proof.steps]
    for (begin, end), (x1, x2) in zip(expected, steps, strict=False):
        assert x1 == pytest.approx(left + begin * scale, abs=0.2)
        assert x2 == pytest.approx(left + end * scale, abs=0.2)
    shown = [(part.begin, part.end) for step in proof.steps for part in proof.parts(step)]
    assert [x1 for x1, _ in inner] == pytest.approx([left + begin * scale for begin, _ in shown], abs=0.2)
    assert [x2 for _, x2 in inner] == pytest.approx([left + end * scale for _, end in shown], abs=0.2)
    assert len(waiting) == 4  # postgres began at once


def test_a_failure_is_told_and_text_stays_text():
    proof = proof_of(seed=0.1)
    nasty = "</pre><script>alert('x')</script> & \"quotes\" {{ 7 * 7 }}"
    with contextlib.suppress(DataError), proof.step("marts"):
        raise DataError(nasty)
    proof.fail(DataError(nasty))
    proof.figures = [Figure(nasty, nasty, nasty)]
    proof.commit = nasty
    page = Page(report.render(proof, [Run.of(proof)]))
    assert "marts: failed" in page.text
    assert "e2e failed" in page.text
    assert page.text.count(nasty) >= 5
    assert "script" not in {tag for tag, _ in page.elements}


def test_a_failure_before_the_first_step_still_gives_a_page():
    proof = proof_of()
    proof.fail(KeyboardInterrupt())
    page = Page(report.render(proof, [Run.of(proof)]))
    assert "was interrupted" in page.text
    assert "No figure was compared" in page.text


def test_the_page_loads_nothing():
    proof = full_proof()
    text = report.render(proof, [Run.of(proof)])
    page = Page(text)
    names = {name for _, attrs in page.elements for name in attrs}
    assert not names & {"src", "href", "xlink:href", "srcset", "data", "style"}
    assert not re.findall(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text


def test_write_leaves_page_and_history_and_names_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(report.layout, "E2E_REPORT", tmp_path / "e2e" / "report.html")
    monkeypatch.setattr(report.layout, "E2E_RUNS", tmp_path / "e2e" / "runs.jsonl")
    for number in range(1, report.SHOWN_RUNS + 3):
        path = report.write(full_proof())
        assert len(report.layout.E2E_RUNS.read_text().splitlines()) == number
    assert path == tmp_path / "e2e" / "report.html"
    assert f"The last {report.SHOWN_RUNS} runs" in Page(path.read_text()).text
    shutil.rmtree(tmp_path / "e2e")
    (tmp_path / "e2e").write_text("in the way")
    with pytest.raises(SetupError, match=re.escape(str(tmp_path / "e2e"))):
        report.write(full_proof())
