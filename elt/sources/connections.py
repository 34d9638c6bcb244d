"""What the pipelines connect with: variables that plugins, models and DAGs name, and where each comes from."""

from __future__ import annotations

import os
import re
import sys
import typing as t
from dataclasses import dataclass
from datetime import UTC, datetime

from dotenv import dotenv_values
from rich.console import Console
from rich.table import Table

from elt import layout
from elt.config import meltano_plugins, process_env, secret_files
from elt.config.airflow_names import CONNECTION, VARIABLE
from elt.errors import ConfigError
from elt.sources import jobs

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from elt.config.settings import Settings

_REFERENCE = re.compile(r"(?<!\$)\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_DBT = re.compile(r"env_var\(\s*['\"](\w+)['\"]\s*(,)?")
_CONNECTION = re.compile(r"\w*conn_id\s*=\s*['\"]([\w.-]+)['\"]")
_VARIABLE = re.compile(r"Variable\.get\(\s*['\"]([\w.-]+)['\"]\s*(,)?")
_OF_MELTANO = re.compile(r"MELTANO_")
"""Variables that Meltano itself sets."""
_PUBLIC = re.compile(r"(HOST|PORT|USER|DATABASE|ADDRESS|ROOT|DIR|ENVIRONMENT|EXTRACT|WAREHOUSES|PARTITION\w*)$")
"""What the names of values end with that are no secrets."""


@dataclass(frozen=True)
class Need:
    """A variable that something names.

    Attributes:
        name: of the environment variable.
        user: who names it: a plugin and its setting, or a file.
        is_required: whether a run would go wrong without it.
        maker: how it may also be made known, where no variable has it: a connection that is kept in Airflow.
        instead: another variable with which nobody asks for this one: that of the plugin's setting itself.
    """

    name: str
    user: str
    is_required: bool = True
    maker: str = ""
    instead: str = ""


def show(settings: Settings) -> bool:
    """Print every connection and variable, and return whether all that are required are there."""
    scheduled: dict[str, str] = {}
    for one in jobs.schedules():
        scheduled |= dict(one.env) | one.partition(datetime.now(UTC))
    env = scheduled | process_env.build(settings)
    own = dotenv_values(layout.ENV_FILE, interpolate=False)
    files: list[tuple[str, Mapping[str, str | None]]] = [(".env", own)]
    files.append(("secrets", dict(secret_files.values(settings.elt_environment))))
    files.append(("schedule", scheduled))
    table, complete = Table("variable", "used by", "from", "value"), True
    found: dict[str, list[Need]] = {}
    for need in needs(settings.elt_environment):
        found.setdefault(need.name, []).append(need)
    for name, users in sorted(found.items()):
        is_required = any(one.is_required for one in users)
        value = env.get(name, "")
        if not value and not is_required:
            continue
        complete &= bool(value)
        source = _source(name, value, files) if value else users[0].maker or "missing"
        shown = value if _PUBLIC.search(name) else "***" if value else ""
        table.add_row(name, "\n".join(dict.fromkeys(one.user for one in users)), source, shown)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return complete


def _source(name: str, value: str, files: Iterable[tuple[str, Mapping[str, str | None]]]) -> str:
    if os.environ.get(name) == value:
        return "environment"
    return next((where for where, lines in files if lines.get(name) == value), "workspace")


def refuse_missing(plugins: Iterable[str], env: Mapping[str, str], environment: str) -> None:
    """Check before an extract that all variables are there that its plugins name in meltano.yml.

    Meltano takes a missing one for an empty text, and a tap may then connect to somewhere else.

    Args:
        plugins: names of extractors and loaders.
        env: the environment variables of the run.
        environment: the one of meltano.yml that it is in.

    Raises:
        ConfigError: one is missing; the message names it, the plugin and the way out.
    """
    for need in _of_plugins(set(plugins), environment):
        if need.is_required and not env.get(need.name) and not env.get(need.instead):
            raise ConfigError(
                f"{layout.MELTANO_YML}: {need.user} names ${need.name}, which is not set: write it into "
                f"{layout.ENV_FILE}, or `elt secrets set {need.name}`"
            )


def needs(environment: str) -> Iterator[Need]:
    """Yield every variable that plugins of jobs, models and DAGs name.

    Raises:
        ConfigError: meltano.yml cannot be read.
    """
    used = {word for one in jobs.schedules() for task in one.tasks for word in task}
    yield from _of_plugins(used, environment)
    for path in sorted([*layout.DBT_PROJECT.rglob("*.sql"), *layout.DBT_PROJECT.rglob("*.yml")]):
        for name, default in _DBT.findall(path.read_text(encoding="utf-8", errors="replace")):
            yield Need(name, str(path.relative_to(layout.ROOT)), not default and not _OF_MELTANO.match(name))
    for path in sorted(layout.DAGS.glob("*.py")):
        text, where = path.read_text(encoding="utf-8", errors="replace"), str(path.relative_to(layout.ROOT))
        for name in _CONNECTION.findall(text):
            yield Need(f"{CONNECTION}{name.upper()}", where, maker="Airflow's own, or missing")
        for name, default in _VARIABLE.findall(text):
            yield Need(f"{VARIABLE}{name.upper()}", where, not default, maker="Airflow's own, or missing")


def _of_plugins(names: set[str], environment: str) -> Iterator[Need]:
    project = meltano_plugins.project()
    for kind in ("extractors", "loaders"):
        with meltano_plugins.readable():
            listed = {str(one["name"]) for one in (project.get("plugins") or {}).get(kind) or []}
        for name in sorted(names & listed):
            config, secret = meltano_plugins.resolved(project, kind, name, environment)
            for setting, value in config.items():
                for one in _references(value):
                    if not _OF_MELTANO.match(one):
                        yield Need(one, f"{name}: {setting}", instead=meltano_plugins.variable(name, setting))
            for setting in sorted(secret - config.keys()):
                yield Need(meltano_plugins.variable(name, setting), f"{name}: {setting}", is_required=False)


def _references(value: object) -> Iterator[str]:
    """Yield the variables that a value of meltano.yml names, however deep."""
    if isinstance(value, str):
        yield from (braced or plain for braced, plain in _REFERENCE.findall(value))
    elif isinstance(value, dict):
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)
