"""Schedules of meltano.yml: what becomes of each, and what is refused with its line."""

from __future__ import annotations

import time
from datetime import UTC, datetime

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
  - {name: old, interval: "@once", extractor: tap-a, loader: target-b, transform: skip, annotations: {other: {a: 1}}}
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
            "  - {name: a, interval: x, extractor: tap-a, loader: target-b}",
            "schedule a: beside an extractor and a loader Meltano wants a `transform: skip`",
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


def scheduled(project, words, more=""):
    written(project, f"  - {{name: s, interval: '@daily', job: one, {more}annotations: {{elt: {{{words}}}}}}}\n")
    (found,) = jobs.schedules()
    return found


@pytest.mark.parametrize(
    ("words", "moment", "name", "begin", "end"),
    [
        (
            "partition: day",
            "2026-03-01T04:30+00:00",
            "2026-02-28",
            "2026-02-28T00:00:00+00:00",
            "2026-03-01T00:00:00+00:00",
        ),
        (
            "partition: day",
            "2026-03-01T00:00+00:00",
            "2026-02-28",
            "2026-02-28T00:00:00+00:00",
            "2026-03-01T00:00:00+00:00",
        ),
        (
            "partition: hour",
            "2026-03-01T00:07+00:00",
            "2026-02-28T23",
            "2026-02-28T23:00:00+00:00",
            "2026-03-01T00:00:00+00:00",
        ),
        (
            "partition: month",
            "2026-01-31T23:59+00:00",
            "2025-12",
            "2025-12-01T00:00:00+00:00",
            "2026-01-01T00:00:00+00:00",
        ),
        # the day on which clocks are set forward has 23 hours, the day before it 24
        (
            "partition: day, timezone: Europe/Berlin",
            "2026-03-29T22:30+00:00",
            "2026-03-29",
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        ),
        (
            "partition: hour, timezone: Europe/Berlin",
            "2026-10-25T01:10+00:00",
            "2026-10-25T02",
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:00:00+01:00",
        ),
        (  # where midnight comes twice
            "partition: day, timezone: America/Havana",
            "2026-11-01T05:30+00:00",
            "2026-10-31",
            "2026-10-31T00:00:00-04:00",
            "2026-11-01T00:00:00-04:00",
        ),
    ],
)
def test_a_run_loads_the_last_whole_part_before_its_time(project, words, moment, name, begin, end):
    found = scheduled(project, words).partition(datetime.fromisoformat(moment))
    assert found == {"ELT_PARTITION": name, "ELT_PARTITION_START": begin, "ELT_PARTITION_END": end}


def test_without_a_part_all_is_loaded(project):
    assert scheduled(project, "").partition(datetime.now(UTC)) == {}


@pytest.mark.parametrize(
    ("words", "first", "last", "runs"),
    [
        ("", "2026-11-01", "2026-11-02", ("2026-11-01T00:00:00+00:00", "2026-11-02T23:59:59.999999+00:00")),
        ("", "2026-11-01T04:00", "2026-11-01T05:30", ("2026-11-01T04:00:00+00:00", "2026-11-01T05:30:00+00:00")),
        (
            "partition: day",
            "2026-11-01",
            "2026-11-02",
            ("2026-11-02T00:00:00+00:00", "2026-11-03T23:59:59.999999+00:00"),
        ),
        (
            "partition: hour",
            "2026-11-01T04:00",
            "2026-11-01T05:00",
            ("2026-11-01T05:00:00+00:00", "2026-11-01T06:59:59.999999+00:00"),
        ),
        (
            "partition: month",
            "2026-11-01",
            "2026-12-31",
            ("2026-12-01T00:00:00+00:00", "2027-01-31T23:59:59.999999+00:00"),
        ),
        (
            "partition: month",
            "2026-01-31",
            "2026-01-31",
            ("2026-02-01T00:00:00+00:00", "2026-02-28T23:59:59.999999+00:00"),
        ),
        (  # which the clock shows twice
            "partition: hour, timezone: Europe/Berlin",
            "2026-10-25T02:00",
            "2026-10-25T02:00",
            ("2026-10-25T02:00:00+01:00", "2026-10-25T03:59:59.999999+01:00"),
        ),
        (
            "partition: hour, timezone: Europe/Berlin",
            "2026-03-29T01:00",
            "2026-03-29T01:00",
            ("2026-03-29T03:00:00+02:00", "2026-03-29T03:59:59.999999+02:00"),
        ),
        (
            "timezone: Europe/Berlin",
            "2026-10-25T02:00",
            "2026-10-25T02:30",
            ("2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+01:00"),
        ),
        (
            "timezone: Europe/Berlin",
            "2026-11-01",
            "2026-11-01",
            ("2026-11-01T00:00:00+01:00", "2026-11-01T23:59:59.999999+01:00"),
        ),
    ],
)
def test_dates_that_a_person_gives_are_those_of_the_data(project, words, first, last, runs):
    moments = scheduled(project, words).moments(datetime.fromisoformat(first), datetime.fromisoformat(last))
    assert tuple(one.isoformat() for one in moments) == runs


@pytest.mark.parametrize("given", ["2026-01-31", "'2026-01-31'", "2026-01-31 00:00:00", "2026-01-31T00:00:00+01:00"])
def test_a_start_is_a_date_in_the_zone_of_the_schedule(project, given):
    found = scheduled(project, "catchup: true, timezone: Europe/Berlin", f"start_date: {given}, ")
    assert found.begin is not None
    assert found.begin.isoformat() == "2026-01-31T00:00:00+01:00"


@pytest.mark.parametrize(
    ("words", "more", "wrong"),
    [
        ("catchup: true", "", 'catchup: since when? Give it a `start_date: "2026-01-31"`'),
        ("", "start_date: soon, ", "start_date: 'soon' is no date, such as \"2026-01-31\""),
        ("timezone: Europe/Belrin", "", "timezone: no zone is called 'Europe/Belrin'; one is Europe/Berlin"),
        ("timezone: ../etc/passwd", "", "timezone: no zone is called '../etc/passwd'; one is Europe/Berlin"),
    ],
)
def test_a_start_and_a_zone_that_are_none_are_refused(project, words, more, wrong):
    with pytest.raises(ConfigError) as caught:
        scheduled(project, words, more)
    said = str(caught.value)
    assert said.endswith(f"schedule s: {wrong}")
    assert "line 9, column 5" in said
