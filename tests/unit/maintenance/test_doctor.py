"""elt/maintenance/doctor.py: what needs a running stack; tests/integration has the rest."""

from __future__ import annotations

import pytest

from elt.maintenance import doctor


@pytest.fixture
def rows(monkeypatch):
    """What Airflow's table of import errors holds, in place of a stack that runs."""
    found = []
    monkeypatch.setattr(doctor.stack, "is_running", lambda: True)
    monkeypatch.setattr(doctor.databases, "query", lambda *_: found)
    return found


def test_a_file_that_airflow_cannot_import_is_named_with_the_last_line(rows):
    assert doctor.dags() == "all files can be imported"
    rows.append(("mine.py", "Traceback\n  File x\nModuleNotFoundError: No module named 'y'\n"))
    with pytest.raises(
        doctor.CheckFailedError, match=r"airflow/dags/mine\.py: ModuleNotFoundError: No module named 'y'$"
    ):
        doctor.dags()


def test_without_a_stack_it_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(doctor.stack, "is_running", lambda: False)
    with pytest.raises(doctor.SkipError):
        doctor.dags()
