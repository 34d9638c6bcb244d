"""Show what would run where, and run nothing: `elt plan`.

Nothing of Meltano or dbt is imported; dbt is started only if no manifest of its is as new as the project.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import typing as t
from pathlib import Path

from elt import layout, quoting
from elt.config import meltano_plugins, process_env, secret_files
from elt.config.environments import ENVIRONMENTS
from elt.errors import ConfigError, DataError, last_line
from elt.sources import jobs

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from elt.config.settings import Settings

MASK = "***"
SECRET = re.compile(r"auth|credential|key|pass|secret|token", re.IGNORECASE)
"""What names of variables hold whose values are not shown."""
TAGS = re.compile(r"tag:([\w.-]+)(\+?)")
"""What of dbt's selections is counted here; dbt itself is asked about others."""
LAST_RUN = "select state, started_at from runs where job_name = {} order by started_at desc limit 1"
STATE = "select completed_state, partial_state from state where state_id = {}"
"""What a run with --full-refresh knows stands in the partial one, until the next run."""
TABLES = "select schema_name, table_name from duckdb_columns() where column_name = '_sdc_deleted_at'"
SHOWN = 3
"""Bookmarks that are shown of a state."""


class Last(t.NamedTuple):
    """Hold what is known of the last run of a tap and a target."""

    said: str
    started: object = None
    bookmarks: tuple[str, ...] = ()


def show(settings: Settings, environment: str | None, name: str | None, *, local: bool = False) -> None:
    """Print for each schedule its tasks, connections, state, the rows of the last run, and what dbt would build.

    Args:
        settings: the checked settings.
        environment: which one's; default: ELT_ENVIRONMENT.
        name: a schedule, or the source that it is called after; None for all.
        local: as `elt run` would.

    Raises:
        ConfigError: no schedule is called so, or meltano.yml cannot be read.
    """
    environment = environment or settings.elt_environment
    schedules = jobs.schedules()
    picked = [one for one in schedules if name in {None, one.name, one.name.removesuffix("_elt_pipeline")}]
    if not picked:
        raise ConfigError(
            f"plan: no schedule is called {name!r}; there are {', '.join(one.name for one in schedules)}"
        )
    env = secret_files.switched(process_env.build(settings, local_run=local), environment)
    env["MELTANO_ENVIRONMENT"] = environment
    manifest = _manifest(env)
    for one in picked:
        print(f"{one.name}: {_when(one, environment)}")
        for number, (task, (does, _)) in enumerate(jobs.steps(one).items(), 1):
            print(f"  {number} {task}: {does}")
        for words in one.tasks:
            if not words[0].startswith(jobs.DBT):
                _show_load(words, environment, env)
        print(f"  dbt    {_counted(manifest, one, env)}")


def _when(schedule: jobs.Schedule, environment: str) -> str:
    elt = schedule.elt
    when = f"{schedule.interval} {elt.timezone}" if schedule.interval else ""
    if elt.environments and environment not in elt.environments:
        when = ""
    after = f"after {', '.join(elt.after)}" if elt.after else ""
    paused = ", paused until somebody lets it run" if elt.paused else ""
    return f"{environment}, {' and '.join(filter(None, (when, after))) or 'when it is asked for'}{paused}"


# Extract and load ----------------------------------------------------------------------------


def _show_load(words: Sequence[str], environment: str, env: Mapping[str, str]) -> None:
    tap, target = words[0], words[-1]
    print(f"  from   {_connection('extractors', tap, environment, env)}")
    config, _ = meltano_plugins.resolved(meltano_plugins.project(), "loaders", target, environment)
    path = Path(_expanded(str(config.get("filepath", "")), env))
    size = f"{path.stat().st_size / 1e6:,.0f} MB" if path.is_file() else "not there yet"
    schema = str(config.get("default_target_schema", "main"))
    print(f"  to     {target}: {path} ({size}), schema {schema}, {config.get('load_method', 'append-only')}")
    last = _last(f"{environment}:{tap}-to-{target}", env)
    print(f"  state  {last.said}")
    for bookmark in last.bookmarks[:SHOWN]:
        print(f"         {bookmark}")
    if len(last.bookmarks) > SHOWN:
        print(f"         and {len(last.bookmarks) - SHOWN} more")
    print(f"  rows   {_rows(path, schema, last.started)}")


def _connection(kind: str, name: str, environment: str, env: Mapping[str, str]) -> str:
    config, secret = meltano_plugins.resolved(meltano_plugins.project(), kind, name, environment)
    prefix = meltano_plugins.variable(name, "")
    given = {
        setting: MASK if setting in secret or SECRET.search(setting) else _expanded(str(value), env)
        for setting, value in config.items()
        if isinstance(value, (str, int, float))
    }
    given |= {f"{one} files": "" for one in [len(config.get("files") or ())] if one}
    # what stands in no file of git, by the names of the variables
    given |= {variable: MASK for variable in env if variable.startswith(prefix)}
    return f"{name}: {', '.join(f'{one} {value}'.rstrip() for one, value in given.items())}"


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """Put values in the places of variables, but no secret; hide the password of a URL."""
    text = re.sub(
        r"\$\{?([A-Za-z_]\w*)\}?",
        lambda found: MASK if SECRET.search(found[1]) else env.get(found[1], found[0]),
        text,
    )
    return re.sub(r"(?<=//)([^/@:]*):[^/@]*@", rf"\1:{MASK}@", text)


def _last(state: str, env: Mapping[str, str]) -> Last:
    """Read from Meltano's database how the last run ended, and its bookmarks."""
    try:
        runs, states = _asked(
            env["MELTANO_DATABASE_URI"], [one.format(quoting.text(state)) for one in (LAST_RUN, STATE)]
        )
    except OSError as error:
        return Last(f"not known: {error}")
    if not runs:
        return Last("none: the first run loads everything")
    bookmarks: dict[str, t.Any] = {}
    for text in states[0] if states else ():
        bookmarks |= (json.loads(text or "{}").get("singer_state") or {}).get("bookmarks") or {}
    marks = (
        f"{stream} {one.get('replication_key', '')} {one.get('replication_key_value', '')}".rstrip()
        for stream, one in bookmarks.items()
        if isinstance(one, dict)
    )
    ended, started = runs[0]
    return Last(f"the last run began {str(started)[:19]} UTC: {str(ended).lower()}", started, tuple(marks))


def _asked(address: str, queries: Sequence[str]) -> list[list[t.Any]]:
    """Run queries in a database of SQLite, or of PostgreSQL.

    Raises:
        OSError: it cannot be read; the message says why.
    """
    if not address.startswith("sqlite:///"):
        return _asked_of_postgres(address.replace("+psycopg2", ""), queries)
    path = Path(address.removeprefix("sqlite:///"))
    if not path.is_file():
        return [[] for _ in queries]
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return [connection.execute(one).fetchall() for one in queries]
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from None


def _asked_of_postgres(address: str, queries: Sequence[str]) -> list[list[t.Any]]:
    import psycopg2  # noqa: PLC0415 - a local run needs no server

    try:
        connection = psycopg2.connect(address, connect_timeout=2)
    except psycopg2.OperationalError:
        raise OSError("the stack is not running, scripts/up.sh starts it") from None
    found = []
    try:
        with contextlib.closing(connection), connection.cursor() as cursor:
            for one in queries:
                cursor.execute(one)
                found.append(cursor.fetchall())
    except psycopg2.Error as error:
        raise OSError(last_line(str(error))) from None
    return found


def _rows(path: Path, schema: str, started: object) -> str:
    """Count the rows of a schema, and those that came with the last run."""
    if not path.is_file():
        return "none"
    import duckdb  # noqa: PLC0415 - without a warehouse there is nothing to read

    since = f"_sdc_batched_at >= {quoting.text(started)}" if started else "false"
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = [name for of, name in connection.execute(TABLES).fetchall() if of == schema]
            counts = [
                f"select count(*) as n, count(*) filter ({since}) as new from "  # noqa: S608 - names that are quoted
                f"{quoting.name(schema)}.{quoting.name(one)} where _sdc_deleted_at is null"
                for one in tables
            ]
            if not counts:
                return "none"
            total = connection.execute(f"select sum(n), sum(new) from ({' union all '.join(counts)})").fetchone()  # noqa: S608
    except duckdb.Error as error:
        return f"not known while it is written to: {last_line(str(error))}"
    assert total
    return f"{total[0]:,} in {len(tables)} tables of {schema}, {total[1]:,} of them by that run"


# dbt ---------------------------------------------------------------------------------------------


def _manifest(env: Mapping[str, str]) -> dict[str, t.Any]:
    """Return a manifest of dbt that is as new as the project; made anew if there is none.

    Raises:
        DataError: dbt cannot read the project.
    """
    parts = [layout.DBT_PROJECT / name for name in ("models", "snapshots", "tests", "macros")]
    paths = [*layout.DBT_PROJECT.glob("*.yml"), *parts, *(path for part in parts for path in part.rglob("*"))]
    changed = max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)
    own = layout.STATE / "dbt" / "plan"
    folders = (layout.STATE / "dbt" / "target", layout.LOCAL_RUN / "dbt" / "target", own)
    found = [path for folder in folders if (path := folder / "manifest.json").is_file()]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None or newest.stat().st_mtime < changed:
        _dbt(["parse"], dict(env) | {"DBT_TARGET_PATH": str(own)})
        newest = own / "manifest.json"
    return dict(json.loads(newest.read_text(encoding="utf-8")))


def _dbt(words: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(["dbt", "--quiet", *words], capture_output=True, text=True, env=env, cwd=layout.DBT_PROJECT)
    if done.returncode:
        raise DataError(f"plan: dbt {words[0]}: {last_line(done.stdout + done.stderr)}")
    return done.stdout


def _counted(manifest: dict[str, t.Any], schedule: jobs.Schedule, env: Mapping[str, str]) -> str:
    """Count what dbt would build, by the manifest where that is simple."""
    select = schedule.elt.select
    if select is None and schedule.calls_dbt:
        return "is called by the job itself"
    if select:
        words = [TAGS.fullmatch(word) for word in select.split()]
        ids = _tagged(manifest, [(one[1], bool(one[2])) for one in words if one]) if all(words) else None
    else:
        ids = _of_files(manifest)
    if ids is None:
        more = ["--select", select] if select else []
        listed = _dbt(["ls", "--output", "json", "--output-keys", "resource_type", *more], env).splitlines()
        kinds = [json.loads(line)["resource_type"] for line in listed if line.startswith("{")]
    else:
        kinds = [one.partition(".")[0] for one in ids]
    numbers = {kind: kinds.count(kind) for kind in ("model", "snapshot", "seed", "test", "unit_test")}
    shown = ", ".join(
        f"{number} {kind.replace('_', ' ')}{'s' if number > 1 else ''}" for kind, number in numbers.items() if number
    )
    return f"{shown or 'nothing'}: {select or 'all that no other pipeline has'}"


def _tagged(manifest: dict[str, t.Any], tags: Iterable[tuple[str, bool]]) -> set[str]:
    """Return what bears one of the tags, with all that stands on it where that is asked for, and their tests."""
    kinds = ("nodes", "sources", "unit_tests")
    nodes = {name: one for kind in kinds for name, one in (manifest.get(kind) or {}).items()}
    found: set[str] = set()
    for tag, with_children in tags:
        waiting = [name for name, one in nodes.items() if tag in one.get("tags", ())]
        chosen = {*waiting}
        for name in waiting:  # which grows
            below = [one for one in manifest["child_map"].get(name, ()) if one not in chosen]
            taken = [one for one in below if with_children or one.partition(".")[0] in {"test", "unit_test"}]
            chosen |= {*taken}
            waiting += taken
        found |= chosen
    return found


def _of_files(manifest: dict[str, t.Any]) -> set[str] | None:
    """Return what the default selector takes, if that is all but some tags; else None."""
    default = [one for one in (manifest.get("selectors") or {}).values() if one.get("default")]
    try:
        everything, left_out = default[0]["definition"]["union"]
        tags = [(one["value"], bool(one.get("children"))) for one in left_out["exclude"] if one["method"] == "tag"]
        if everything != {"method": "fqn", "value": "*"} or len(tags) != len(left_out["exclude"]):
            return None
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return {*manifest["nodes"], *(manifest.get("unit_tests") or {})} - _tagged(manifest, tags)


def chosen(words: Sequence[str]) -> tuple[str | None, str | None]:
    """Return environment and name that were given, each of which may be left out.

    Raises:
        ConfigError: there are two words, and the first is no environment.
    """
    if len(words) == 2 and words[0] not in ENVIRONMENTS:
        raise ConfigError(f"plan: no environment is called {words[0]!r}; there are {', '.join(ENVIRONMENTS)}")
    environment = words[0] if words and words[0] in ENVIRONMENTS else None
    rest = words[1:] if environment else words
    return environment, rest[0] if rest else None
