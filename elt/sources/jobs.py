"""Read the schedules of meltano.yml and the files that it includes: what Airflow runs, and when.

What Meltano has no word for stands under `annotations: elt:` of a schedule; `Annotations` lists it. Neither Meltano
nor Airflow is imported: the DAG processor reads this at every parse.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import typing as t
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from elt.config import meltano_plugins
from elt.config.environments import Environment  # noqa: TC001 - pydantic reads it
from elt.config.meltano_plugins import place
from elt.errors import ConfigError

if t.TYPE_CHECKING:
    from pathlib import Path

NEVER = {"@manual", "@none", "@once"}
"""Intervals of Meltano that no clock fulfils: such a pipeline runs when it is asked for."""
DBT = "dbt-duckdb:"
"""How a task of a job begins that calls dbt."""
PARTITIONS = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
"""How a part of the data is named, by its length."""
PARTITION_VARIABLES = ("ELT_PARTITION", "ELT_PARTITION_START", "ELT_PARTITION_END")
"""A partition's name, its begin, and the moment after its end, both with their distance from UTC."""
Name = t.Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


class Annotations(BaseModel):
    """Hold what stands under `annotations: elt:` of a schedule."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    description: str = Field("", description="What the pipeline does, in a sentence: its page in Airflow begins so")
    wait_for: Name | None = Field(
        None, description="What must be there before the load: the file of an entity, or `tap-csv` for its first one"
    )
    select: str | None = Field(
        None, description="dbt selection that is built and tested; without it all models that no other schedule has"
    )
    checks: Name | None = Field(
        None, description="Folder of `transform/checks`, and of the marts, that belongs to the pipeline"
    )
    publish: bool = Field(default=True, description="Whether readers get the marts at the end")
    retries: int | None = Field(None, ge=0, le=20, description="Tries of a task after the first; else airflow.cfg's")
    deadline: str | None = Field(
        None, pattern=r"^\d+(s|m|h)$", description="Time after which a run is ended as failed: `90m`, `2h`"
    )
    owner: str = Field("data", min_length=1, description="Who answers for it")
    tags: list[str] = Field([], description="What the list of DAGs can be searched by, besides `elt`")
    after: list[Name] = Field([], description="Schedules whose success starts this one, once all had one")
    timezone: str = Field("UTC", description="Zone of the interval, such as `Europe/Berlin`")
    paused: bool = Field(default=False, description="Whether it waits to be unpaused when it is seen first")
    environments: list[Environment] = Field(
        [], description="Environments in which it runs by the clock, elsewhere when it is asked for; all without it"
    )
    queue: Name | None = Field(None, description="Queue of Celery that its tasks wait in")
    partition: t.Literal["hour", "day", "month"] | None = Field(
        None,
        description="What a run loads: the last whole `hour`, `day` or `month` before its time, `$ELT_PARTITION`",
    )
    catchup: bool = Field(
        default=False, description="Whether the runs since the schedule's `start_date` are made up for"
    )


@dataclass(frozen=True)
class Schedule:
    """Hold a schedule, with what it runs."""

    name: str
    interval: str | None
    """A cron expression or a preset such as `@daily`; None if it runs when it is asked for."""
    tasks: tuple[tuple[str, ...], ...]
    """Arguments of `meltano run` of each task."""
    elt: Annotations
    env: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Environment variables of its tasks."""
    begin: datetime | None = None
    """Meltano's `start_date`."""

    def task_names(self) -> list[str]:
        """Return how Airflow calls each task of the job: `extract_load`, or by the tap if there are several."""
        if len(self.tasks) == 1:
            return ["extract_load"]
        found: list[str] = []
        for words in self.tasks:
            name = re.sub(r"\W", "_", words[0])
            found.append(name if name not in found else f"{name}_{len(found) + 1}")
        return found

    @property
    def zone(self) -> ZoneInfo:
        """Return the time zone of the interval, the partitions and the dates that a person gives."""
        return ZoneInfo(self.elt.timezone)

    def partition(self, moment: datetime) -> dict[str, str]:
        """Return the variables that name the part of the data that a run of a moment loads; none, if it loads all."""
        if not (unit := self.elt.partition):
            return {}
        end = _floor(moment.astimezone(self.zone), unit)
        if unit == "hour":  # one that a clock shows twice has two names of one spelling, and two begins
            begin = (end.astimezone(UTC) - timedelta(hours=1)).astimezone(self.zone)
        else:
            begin = _floor(end - timedelta(days=1), unit)
        values = (begin.strftime(PARTITIONS[unit]), begin.isoformat(), end.isoformat())
        return dict(zip(PARTITION_VARIABLES, values, strict=True))

    def moments(self, first: datetime, last: datetime) -> tuple[datetime, datetime]:
        """Return between which moments the runs lie that a person means by two dates: those of the partitions.

        Args:
            first: the earliest; without a zone in that of the schedule.
            last: the latest; midnight stands for the whole day.
        """
        unit = self.elt.partition
        # Of an hour that a clock shows twice, both are meant.
        first, last = (
            one if one.tzinfo else one.replace(tzinfo=self.zone, fold=fold) for fold, one in enumerate((first, last))
        )
        whole = last.time() == time()
        if unit is None:
            return first, last + timedelta(days=1, microseconds=-1) if whole else last
        if unit == "hour" and whole:
            last = last.replace(hour=23)
        begin, end = _floor(first, unit), _floor(last, unit)
        return _after(begin, unit), _after(_after(end, unit), unit) - timedelta(microseconds=1)

    @property
    def calls_dbt(self) -> bool:
        """Whether a task of the job calls dbt itself."""
        return any(word.startswith(DBT) for task in self.tasks for word in task)


def _floor(moment: datetime, unit: str) -> datetime:
    """Return the begin of the part of the data in which a moment lies."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if unit == "hour" else hour.replace(hour=0, day=1 if unit == "month" else hour.day, fold=0)


def _after(begin: datetime, unit: str) -> datetime:
    """Return the begin of the part after that of this begin."""
    if unit == "hour":
        return (begin.astimezone(UTC) + timedelta(hours=1)).astimezone(begin.tzinfo)
    return _floor(begin + timedelta(days=1 if unit == "day" else 32), unit)


def steps(schedule: Schedule) -> dict[str, tuple[str, str]]:
    """Return what each step of a schedule does, and what to do when it fails, by its task."""
    elt = schedule.elt
    found: dict[str, tuple[str, str]] = {}
    if elt.wait_for:
        found["wait_for_extract"] = (f"waits, deferred, for the file of {elt.wait_for}", "run `scripts/seed.sh`")
    for name, words in zip(schedule.task_names(), schedule.tasks, strict=True):
        found[name] = (f"`meltano run {' '.join(words)}`", "its log names the line")
    if elt.select:
        found["dbt_build"] = (f"builds and tests `{elt.select}`, through Meltano", "its log names the model")
    elif not schedule.calls_dbt:
        found["dbt_run"] = ("staging, intermediate and marts, through Meltano", "its log names the model")
        found["dbt_test"] = ("the tests of the dbt project, through Meltano", "its log names the test")
    found["data_quality"] = ("compares the marts with figures of the source itself", "its log shows both figures")
    if elt.publish:
        found["publish"] = (
            "gives readers the marts, as a file and in PostgreSQL",
            "readers see what they saw before",
        )
    return found


def schedules() -> list[Schedule]:
    """List the schedules in the order of the files.

    Raises:
        ConfigError: one cannot be used; the message says in which line of which file.
    """
    files = meltano_plugins.files()
    with meltano_plugins.readable():
        jobs = {str(one["name"]): one["tasks"] for _, data in files for one in data.get("jobs") or []}
        found = [
            _schedule(path, number, dict(one), jobs)
            for path, data in files
            for number, one in enumerate(data.get("schedules") or [])
        ]
    names = [one.name for one in found]
    for one in found:
        if names.count(one.name) > 1:
            raise ConfigError(f"{files[0][0]}: two schedules are called {one.name!r}")
        if strange := [name for name in one.elt.after if name not in names or name == one.name]:
            there = ", ".join(name for name in names if name != one.name)
            raise ConfigError(
                f"{files[0][0]}: schedule {one.name}: after: no other is called {strange[0]!r}; there are {there}"
            )
    return found


def _schedule(path: Path, number: int, raw: dict[str, t.Any], jobs: t.Mapping[str, t.Any]) -> Schedule:
    name, interval = str(raw.get("name", "")), raw.get("interval")
    wrong = ""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        wrong = f"a name has letters, digits and . _ - only, not {name!r}"
    elif not isinstance(interval, str) or not interval:
        wrong = 'its interval is missing, such as `interval: "@daily"`'
    elif "job" in raw and raw["job"] not in jobs:
        wrong = f"no job is called {raw['job']!r}; there are {', '.join(jobs)}"
    elif "job" not in raw and not (raw.get("extractor") and raw.get("loader")):
        wrong = "it names no job, nor an extractor and a loader"
    elif "job" not in raw and "transform" not in raw:
        wrong = "beside an extractor and a loader Meltano wants a `transform: skip`; a job needs none"
    if wrong:
        raise ConfigError(f"{place(path, 'schedules', number)}: schedule {name}: {wrong}")
    listed: list[t.Any] = jobs[raw["job"]] if "job" in raw else [f"{raw['extractor']} {raw['loader']}"]
    tasks = tuple(tuple((one if isinstance(one, str) else " ".join(map(str, one))).split()) for one in listed)
    if not tasks or not all(tasks):
        raise ConfigError(f"{place(path, 'schedules', number)}: schedule {name}: its job has no tasks")
    elt = _annotations((raw.get("annotations") or {}).get("elt") or {}, name, path, number)
    env = {str(key): str(value) for key, value in (raw.get("env") or {}).items()}
    try:
        begin = _begin(raw.get("start_date"), elt)
    except ValueError as error:
        raise ConfigError(f"{place(path, 'schedules', number)}: schedule {name}: {error}") from None
    return Schedule(name, None if interval in NEVER else str(interval), tasks, elt, env, begin)


def _begin(raw: object, elt: Annotations) -> datetime | None:
    """Return the `start_date` of a schedule.

    Raises:
        ValueError: it is no date, it is missing, or the zone is none.
    """
    try:
        zone = ZoneInfo(elt.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone: no zone is called {elt.timezone!r}; one is Europe/Berlin") from None
    if raw is None:
        if elt.catchup:
            raise ValueError('catchup: since when? Give it a `start_date: "2026-01-31"`')
        return None
    try:
        text = raw.isoformat() if isinstance(raw, date) else str(raw)  # YAML makes dates of what looks like one
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'start_date: {raw!r} is no date, such as "2026-01-31"') from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _annotations(raw: object, name: str, path: Path, number: int) -> Annotations:
    where = ("schedules", number, "annotations", "elt")
    try:
        return Annotations.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [one for one in first["loc"] if isinstance(one, (str, int))]
        what = f"`{'.'.join(map(str, keys))}`: {first['msg']}"
        if first["type"] == "extra_forbidden":
            what = f"no annotation is called {keys[0]!r}; there are {', '.join(Annotations.model_fields)}"
        raise ConfigError(f"{place(path, *where, *keys)}: schedule {name}: {what}") from None


def main() -> int:
    """Check the schedules, for the hook of git; print what is wrong, and return the exit code."""
    try:
        schedules()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
