"""What is old goes, what is young stays, and so do folders that hold something."""

from __future__ import annotations

import datetime as dt
import os

from elt import layout
from elt.maintenance import trim


def test_old_files_go_and_young_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "STATE", tmp_path)
    monkeypatch.setattr(layout, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(layout, "ALERTED", tmp_path / "alerted")
    now = dt.datetime.now(dt.UTC)
    ages = {
        "logs/tasks/dag_id=a/run_id=1/task_id=t/attempt=1.log": 40,
        "logs/tasks/dag_id=a/run_id=2/task_id=t/attempt=1.log": 20,
        "logs/dag_processor/2026-01-01/a.py.log": 40,
        "meltano/logs/elt/run/1/elt.log": 40,
        "alerted/1": 40,
        "logs/postgres.log": 40,
        "warehouse/warehouse_dev.duckdb": 40,
    }
    for name, days in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (now.timestamp() - days * 86_400,) * 2)
    (tmp_path / "logs/dag_processor/latest").symlink_to("2026-01-01")
    assert trim.trim_files(now - dt.timedelta(days=30)) == 4
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())
    assert left == [
        "logs/dag_processor/latest",
        "logs/postgres.log",
        "logs/tasks/dag_id=a/run_id=2/task_id=t/attempt=1.log",
        "warehouse/warehouse_dev.duckdb",
    ]
    assert not (tmp_path / "logs/tasks/dag_id=a/run_id=1").exists()
    assert not (tmp_path / "meltano/logs/elt").exists()
