"""Schedules of meltano.yml: what becomes of each, and what is refused with its line."""

from __future__ import annotations

import time

import pytest

from elt import layout
from elt.errors import ConfigError
from elt.sources import jobs

JOBS = """
jobs:
  - name: one
    tasks: [tap-a target-b]
  - name: several
    tasks: [tap-a target-b, [tap-a, target-c], "dbt-duckdb:build"]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MELTANO_YML", tmp_path / "meltano.yml")
    return tmp_path


def written(project, schedules, name="meltano.yml", more=""):
    (project / name).write_text(
        f"{more}plugins: {{}}\n{JOBS if name == 'meltano.yml' else ''}schedules:\n{schedules}"
    )


def refused(project, schedules):
    written(project, schedules)
    with pytest.raises(ConfigError) as caught:
        jobs.schedules()
    return str(caught.value).removeprefix(f"{project}/")


def test_a_schedule_is_read(project):
    written(
        project,
        """
  - name: nightly
    interval: 30 5 * * 1-5
    job: several
    annotations: {elt: {tags: [x], timezone: Europe/Berlin, after: [old], deadline: 90m, environments: [prod]}}
  - {name: old, interval: "@once", extractor: tap-a, loader: target-b, annotations: {other: {any: 1}}}
""",
    )
    nightly, old = jobs.schedules()
    assert (nightly.interval, old.interval) == ("30 5 * * 1-5", None)
    assert nightly.tasks == (("tap-a", "target-b"), ("tap-a", "target-c"), ("dbt-duckdb:build",))
    assert nightly.task_names() == ["tap_a", "tap_a_2", "dbt_duckdb_build"]
    assert [*jobs.steps(nightly)] == ["tap_a", "tap_a_2", "dbt_duckdb_build", "data_quality", "publish"]
    assert (old.tasks, old.task_names()) == ((("tap-a", "target-b"),), ["extract_load"])
    assert [*jobs.steps(old)] == ["extract_load", "dbt_run", "dbt_test", "data_quality", "publish"]
    assert (nightly.elt.after, nightly.elt.deadline, old.elt) == (["old"], "90m", jobs.Annotations())


def test_files_that_are_included_count_as_one(project):
    written(project, "  - {name: a, interval: '@daily', job: one}\n", more="include_paths: ['more*.yml']\n")
    written(project, "  - {name: b, interval: '@daily', job: one}\n", name="more-1.yml")
    assert [one.name for one in jobs.schedules()] == ["a", "b"]
    written(project, "  - {name: b, interval: '@daily', job: none}\n", name="more-1.yml")
    with pytest.raises(ConfigError, match=r"more-1.yml, line 3, column 5: schedule b: no job is called 'none'"):
        jobs.schedules()
    written(project, "", more="include_paths: ['../*.yml']\n")
    (project.parent / "foreign.yml").write_text("{}")
    with pytest.raises(ConfigError, match="lies outside of"):
        jobs.schedules()


@pytest.mark.parametrize(
    ("schedules", "said"),
    [
        ("  - {interval: '@daily', job: one}", "meltano.yml, line 9, column 5: schedule : a name has letters"),
        ("  - {name: a/b, interval: '@daily', job: one}", "meltano.yml, line 9, column 5: schedule a/b: a name has"),
        ("  - {name: a, job: one}", "meltano.yml, line 9, column 5: schedule a: its interval is missing"),
        ("  - {name: a, interval: '@daily'}", "line 9, column 5: schedule a: it names no job"),
        ("  - {name: a, interval: '@daily', job: two}", "no job is called 'two'; there are one, several"),
        (
            "  - {name: a, interval: x, job: one}\n  - {name: a, interval: x, job: one}",
            "two schedules are called 'a'",
        ),
        (
            "  - name: a\n    interval: x\n    job: one\n    annotations:\n      elt:\n        slect: x",
            "meltano.yml, line 14, column 9: schedule a: no annotation is called 'slect'; there are description,",
        ),
        (
            "  - name: a\n    interval: x\n    job: one\n    annotations:\n      elt: {retries: -1}",
            "meltano.yml, line 13, column 13: schedule a: `retries`: Input should be greater than or equal to 0",
        ),
        (
            "  - name: a\n    interval: x\n    job: one\n    annotations:\n      elt: {tags: [1]}",
            "meltano.yml, line 13, column 20: schedule a: `tags.0`: Input should be a valid string",
        ),
        (
            "  - {name: a, interval: x, job: one, annotations: {elt: {deadline: soon}}}",
            "schedule a: `deadline`: String should match pattern",
        ),
        (
            "  - {name: a, interval: x, job: one, annotations: {elt: {after: [a]}}}",
            "schedule a: after: no other is called 'a'; there are ",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(project, schedules, said):
    assert said in refused(project, schedules)


def test_a_hundred_schedules_are_read_at_once(project):
    """Half a second is what all of a parse may take; here is no more than the file."""
    written(project, "".join(f"  - {{name: s{n}, interval: '@daily', job: one}}\n" for n in range(100)))
    begin = time.process_time()
    assert len(jobs.schedules()) == 100
    assert time.process_time() - begin < 0.25
