"""The logs of tasks for a person to read: Airflow writes a JSON object for each line."""

from __future__ import annotations

import json
import re
import typing as t

from elt import layout

if t.TYPE_CHECKING:
    from pathlib import Path

_FOLDER = "task_id="
_MELTANO = re.compile(r"\S+Z \[\w+ *\] ")
"""Time and level, which Meltano puts before a line that Airflow gives its own."""
_GROUP = "::"
"""How a line begins that only opens or closes a group of Airflow's UI."""


def names() -> list[str]:
    """The tasks that have a log."""
    folders = (layout.LOGS / "tasks").glob(f"dag_id=*/run_id=*/{_FOLDER}*")
    return sorted({folder.name.removeprefix(_FOLDER) for folder in folders})


def newest(task: str) -> Path | None:
    """The log of a task's last try in the latest run, if it ever ran."""
    folders = [one for one in (layout.LOGS / "tasks").glob("dag_id=*/run_id=*/*") if one.name == f"{_FOLDER}{task}"]
    files = [file for folder in folders for file in folder.rglob("attempt=*.log")]
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def readable(line: str) -> str:
    """A line of a log as text: the time (UTC), what was said and, of an exception, its kind and words.

    Args:
        line: an object of JSON with a line break, or anything else, which stays as it is.

    Returns:
        One or more lines, each with its line break; nothing for what says nothing to a reader.
    """
    try:
        entry = json.loads(line)
        said = [_MELTANO.sub("", str(entry["event"]), count=1)]
        said += [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
        moment = str(entry.get("timestamp", ""))[11:19]
    except (ValueError, TypeError, KeyError, AttributeError):
        return line
    if said[0].startswith(_GROUP):
        return ""
    return "".join(f"{moment}  {text}\n" for one in said for text in one.splitlines() or [""])
