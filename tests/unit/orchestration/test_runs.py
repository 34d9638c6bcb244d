"""Why a task of the pipeline failed is told in one line where the workspace or Meltano said it."""

from __future__ import annotations

import pytest

from elt.errors import ConfigError
from elt.orchestration import runs
from elt.orchestration.api import Task

WHAT = "task publish of meltano_elt_pipeline failed"


class Api:
    """In the place of Airflow: a run whose task failed with this log."""

    def __init__(self, *log):
        self.lines = [*log]

    def tasks(self, *_):
        """The tasks of the run."""
        return [Task("dbt_test", "success", 1), Task("publish", "failed", 3)]

    def log(self, *_):
        """The log of a task."""
        return self.lines


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (["Task failed", "AirflowFailException: quality: no", "DiffersError: quality: no"], "quality: no"),
        (["StackError: publish: it is locked: wait", "Task finished"], "publish: it is locked: wait"),
        (["2026-11-24T12:00:00Z [info     ] dbt-duckdb   no", "Command exited with return code 1"], "no"),
    ],
    ids=["quality", "publish", "Meltano"],
)
def test_what_a_person_should_read_is_told_in_a_line(log, told):
    assert runs._why_failed(Api("::group::x", *log), "none").splitlines()[0] == f"{WHAT}: {told}"


def test_of_anything_else_the_end_of_the_log_is_told():
    told = runs._why_failed(Api("begin", "KeyError: 'x'"), "none").splitlines()
    assert told[:3] == [f"{WHAT}; the end of its log:", "    begin", "    KeyError: 'x'"]


def test_a_pipeline_is_found_by_its_job_or_by_its_own_name():
    assert runs._dag_of("shop") == runs._dag_of("shop_elt_pipeline") == "shop_elt_pipeline"
    assert runs._dag_of("meltano") == "meltano_elt_pipeline"
    with pytest.raises(ConfigError, match=r"no schedule is called shpo_elt_pipeline; there are .*shop_elt_pipeline"):
        runs._dag_of("shpo")
