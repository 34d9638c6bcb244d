"""Delete what is old: runs in Airflow's database, results of Celery, runs of Meltano, logs of tasks.

Other data that grows is limited where it is written: logs of processes rotate, publications keep their last
three, the report of e2e its last ten runs.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import subprocess

from elt import layout
from elt.config import process_env
from elt.config.settings import Settings
from elt.config.settings import load as load_settings
from elt.errors import StackError
from elt.services import databases, stack

LAST_LINES = 5


def trim(days: int) -> None:
    """Delete runs, results and logs older than `days`, and print how many.

    Args:
        days: age in days that is kept.

    Raises:
        StackError: the stack is down, a run that old has not ended, or Airflow could not clean its tables.
    """
    settings = load_settings()
    if not stack.is_running():
        raise StackError("trim: the stack is not running: scripts/up.sh, then again")
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    print(f"trim: what is older than {before:%Y-%m-%d %H:%M} UTC", flush=True)
    _refuse_old_runs(settings, before)
    files = trim_files(before)
    runs = _trim_meltano(settings, before)
    print(f"trim: {files} files of logs, {runs} runs of Meltano; next Airflow's database", flush=True)
    command = ["airflow", "db", "clean", "--clean-before-timestamp", before.isoformat(timespec="seconds")]
    command += ["--skip-archive", "--yes", "--error-on-cleanup-failure"]
    done = subprocess.run(command, env=process_env.build(settings), capture_output=True, text=True)
    if done.returncode:
        end = "\n    ".join((done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:])
        raise StackError(f"trim: airflow db clean ended with exit code {done.returncode}:\n    {end}")
    print("trim: done")


def trim_files(before: dt.datetime) -> int:
    """Delete logs of tasks, of parsing and of Meltano, and marks of alerts, that were last written before a time.

    Returns:
        The number of deleted files.
    """
    tops = [layout.LOGS / "tasks", layout.LOGS / "dag_processor", layout.STATE / "meltano" / "logs", layout.ALERTED]
    removed = 0
    for top in tops:
        for path in sorted(top.rglob("*"), reverse=True):  # what is in a folder comes before it
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # it is not empty
                    path.rmdir()
            elif path.lstat().st_mtime < before.timestamp():
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _refuse_old_runs(settings: Settings, before: dt.datetime) -> None:
    """Refuse to delete data of a run that has not ended.

    Raises:
        StackError: there is one that began before the time.
    """
    databases.wait_for_postgres(settings).close()
    statement = "select dag_id, run_id from dag_run where state in ('running', 'queued') and queued_at < %s limit 1"
    with contextlib.closing(databases.connect(settings, "airflow")) as connection, connection.cursor() as cursor:
        cursor.execute(statement, (before,))
        if found := cursor.fetchone():
            run = " ".join(found)
            raise StackError(f"trim: {run} is that old and has not ended: wait for it, or stop it in Airflow")


def _trim_meltano(settings: Settings, before: dt.datetime) -> int:
    """Delete runs of Meltano that ended before a time, without its state, and return their number."""
    with (
        contextlib.closing(databases.connect(settings, "meltano")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select to_regclass('runs')")
        if cursor.fetchone() == (None,):
            return 0
        cursor.execute("delete from runs where ended_at < %s", (before.replace(tzinfo=None),))
        return cursor.rowcount
