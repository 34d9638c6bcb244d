"""Find the logs of tasks, and convert their lines, JSON objects of Airflow, to plain text."""

from __future__ import annotations

import json
import re
import typing as t

from elt import layout

if t.TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "task_id="
_MELTANO = re.compile(r"\S+Z \[\w+ *\] ")
"""Pattern of the time and level that Meltano puts before a line; Airflow adds its own."""
_GROUP = "::"
"""Prefix of a line that only opens or closes a group in Airflow's UI."""


def names() -> list[str]:
    """Return the names of the tasks that have a log."""
    folders = (layout.LOGS / "tasks").glob(f"dag_id=*/run_id=*/{_FOLDER}*")
    return sorted({folder.name.removeprefix(_FOLDER) for folder in folders})


def newest(task: str) -> Path | None:
    """Return the log of a task's last try in the latest run; None if it never ran."""
    folders = [one for one in (layout.LOGS / "tasks").glob("dag_id=*/run_id=*/*") if one.name == f"{_FOLDER}{task}"]
    files = [file for folder in folders for file in folder.rglob("attempt=*.log")]
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def readable(line: str) -> str:
    """Convert a line of a log to text: time (UTC), message and, of an exception, its type and message.

    Args:
        line: an object of JSON with a line break, or anything else, which stays as it is.

    Returns:
        One or more lines, each with its line break; "" for a line that only Airflow's UI needs.
    """
    try:
        entry = json.loads(line)
        texts = [_MELTANO.sub("", str(entry["event"]), count=1)]
        texts += [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
        moment = str(entry.get("timestamp", ""))[11:19]
    except (ValueError, TypeError, KeyError, AttributeError):
        return line
    if texts[0].startswith(_GROUP):
        return ""
    return "".join(f"{moment}  {text}\n" for one in texts for text in one.splitlines() or [""])
