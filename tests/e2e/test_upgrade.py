"""A clone of an earlier version, with data and a history, comes to this one by `git pull` and `scripts/up.sh`."""

from __future__ import annotations

import os
import subprocess
import typing as t

import duckdb
import pytest
from workspace import ROOT

from elt.orchestration import runs

from .fresh_clone import GIT, FreshClone, below, clone_working_tree

if t.TYPE_CHECKING:
    from pathlib import Path

OLD = "d87a6f6"
"""The version before schedules became DAGs, and servers had sockets."""
STATES = "select state_id from state"
RUNS = "select run_id from dag_run where state = 'success'"


def marts(here: FreshClone) -> list[t.Any]:
    """What readers see, without the time of it."""
    latest = here.root / ".state/published/dev/latest.duckdb"
    with duckdb.connect(str(latest.resolve()), read_only=True) as connection:
        tables = connection.execute("select table_name from duckdb_tables() where schema_name = 'marts' order by 1")
        found = [name for (name,) in tables.fetchall()]
        return [(name, connection.execute(f"select * from marts.{name} order by all").fetchall()) for name in found]


@pytest.mark.skipif(not os.environ.get("ELT_UPGRADE"), reason="asked for by name: scripts/test.sh upgrade")
def test_data_and_history_are_there_after_an_upgrade(tmp_path: Path) -> None:
    has_old = subprocess.run([*GIT, "cat-file", "-e", f"{OLD}^{{commit}}"], cwd=ROOT, capture_output=True)
    if has_old.returncode:
        pytest.skip(f"the repository has no history back to {OLD}")
    new = clone_working_tree(tmp_path / "new", tmp_path / "home", "embedded", os.environ["PATH"])
    here = FreshClone(tmp_path / "mine", new.env)
    subprocess.run([*GIT, "clone", "-q", new.root, here.root], check=True)
    here.git("reset", "-q", "--hard", OLD)

    def ran(*words: str) -> str:
        done = here.run(*words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    try:
        ran("scripts/seed.sh", "--sample")
        ran("scripts/up.sh")
        ran(".venv/bin/elt", "pipeline")
        before, env = marts(here), (here.root / ".env").read_text()
        assert len(before) >= 3
        ran("scripts/down.sh")
        here.git("pull", "-q", "--ff-only")
        assert here.git("rev-parse", "HEAD").strip() == new.commit
        ran("scripts/up.sh")
        assert (here.root / ".env").read_text().startswith(env), "settings are kept, and new ones added"
        assert marts(here) == before
        listed = ran(".venv/bin/elt", "exec", "airflow", "dags", "list-runs", runs.DAG, "--output", "plain")
        assert listed.count("success") == 1
        assert "dev:tap-csv-to-target-duckdb" in ran(".venv/bin/elt", "exec", "meltano", "state", "list")
        ran(".venv/bin/elt", "pipeline")
        assert dict(before).items() <= dict(marts(here)).items()
        assert here.git("status", "--porcelain") == ""
    finally:
        here.run("scripts/down.sh", seconds=120)
    assert below(here.root) == []
