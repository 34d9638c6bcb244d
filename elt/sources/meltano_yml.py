"""Read from meltano.yml what is loaded, for the DAG, the local run and the quality checks."""

from __future__ import annotations

import typing as t

from elt import layout
from elt.config.meltano_plugins import project, readable
from elt.errors import ConfigError
from elt.sources.csv_files import ELSEWHERE, Extract

if t.TYPE_CHECKING:
    from pathlib import Path

TAP = "tap-csv"
"""Name of the extractor whose files can be counted independently."""
KNOWN = {"entity", "path", "keys", "columns", "delimiter", "encoding", "decimal_separator", "thousands_separator"}
KNOWN |= {"null_values", "unnamed_columns", "max_field_bytes"}
"""Settings of an entry with which its records are counted as the tap finds them."""
EXTRACT_LOAD = "extract_load"
"""Name of the job of meltano.yml, and of the task of the DAG, that loads everything."""


def loads(job: str = EXTRACT_LOAD) -> list[str]:
    """List the arguments of `meltano run` that load all that a job of meltano.yml lists.

    Raises:
        ConfigError: meltano.yml cannot be read, or has no such job.
    """
    return [word for task in _tasks(job) for word in task]


def is_of_files() -> bool:
    """Return whether all that is loaded are files, of which one can see that they did not change.

    Raises:
        ConfigError: meltano.yml cannot be read, or has no job EXTRACT_LOAD.
    """
    return all(task[0] == TAP for task in _tasks()) and not any("://" in path for path in _paths())


def _paths() -> list[str]:
    with readable():
        plugins = project()["plugins"]
        configs = [one["config"] for one in plugins.get("extractors") or [] if one["name"] == TAP]
        return [str(one["path"]) for one in configs[0]["files"]] if configs else []


def states() -> list[str]:
    """List the suffixes of the ids of Meltano's states, one for each pair of a tap and a loader.

    Raises:
        ConfigError: meltano.yml cannot be read, or has no job EXTRACT_LOAD.
    """
    return [f"{task[0]}-to-{task[-1]}" for task in _tasks()]


def _tasks(job: str = EXTRACT_LOAD) -> list[list[str]]:
    """List the tasks of the job, each as arguments of `meltano run`."""
    with readable():
        jobs = project().get("jobs") or []
        if job != EXTRACT_LOAD and job not in (there := [str(one["name"]) for one in jobs]):
            raise ConfigError(
                f"{layout.MELTANO_YML}: no job is called {job!r}; there are {', '.join(there) or 'none'}"
            )
        tasks: list[t.Any] = next((one["tasks"] for one in jobs if one["name"] == job), [])
        words = [task.split() if isinstance(task, str) else [*task] for task in tasks]
    if not words or not all(len(task) > 1 for task in words):
        raise ConfigError(
            f"{layout.MELTANO_YML}: jobs: {job} must list what is loaded, such as `tasks: [{TAP} target-duckdb]`"
        )
    return words


def listed(extract: Path | None = None) -> list[Extract]:
    """List the extracts that tap-csv loads.

    Args:
        extract: the folder that $ELT_EXTRACT stands for (default: layout.EXTRACT); other paths count from meltano/.

    Raises:
        ConfigError: meltano.yml cannot be read, or an entry lacks its table or path.
    """
    folder = str(extract or layout.EXTRACT)
    with readable():
        plugins = project()["plugins"]
        configs = [one["config"] for one in plugins.get("extractors") or [] if one["name"] == TAP]
        files: list[dict[str, t.Any]] = configs[0]["files"] if configs else []
        return [
            Extract(
                table=str(one["entity"]),
                path=layout.MELTANO_PROJECT / str(one["path"]).replace("$ELT_EXTRACT", folder),
                delimiter=str(one.get("delimiter", ",")),
                encoding=str(one.get("encoding", "utf-8")),
                other=(ELSEWHERE,) if "://" in str(one["path"]) else tuple(sorted(one.keys() - KNOWN)),
            )
            for one in files
        ]
