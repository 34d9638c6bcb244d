"""Add a source to the project without copying: look at it, and write what loads it and what dbt makes of it."""

from __future__ import annotations

import functools
import os
import re
import typing as t
from pathlib import Path

from elt import layout
from elt.atomic import atomic_write
from elt.config import meltano_plugins, secret_files
from elt.errors import ConfigError, DataError
from elt.sources import database, inspection, jobs, pieces, yaml_text
from elt.sources.pieces import EXTRACTORS, JOBS, LEFT_OUT, LOADERS, SCHEDULES, Piece

FILES = ("csv", "excel")
KINDS = (*FILES, *database.KINDS)
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
CRON = re.compile(r"[0-9A-Za-z*,/#?-]+( [0-9A-Za-z*,/#?-]+){4}")
PRESETS = ("@daily", "@hourly", "@weekly", "@monthly", "@yearly", *sorted(jobs.NEVER))


class Ask(t.Protocol):
    """Ask a person."""

    def __call__(self, what: str, default: str = "", *, hidden: bool = False) -> str:
        """Return the answer."""


class Given(t.NamedTuple):
    """Hold what is known of a source before one looks at it."""

    kind: str = ""
    path: str = ""
    host: str = ""
    port: int | None = None
    user: str = ""
    database: str = ""
    tables: tuple[str, ...] = ()
    schedule: str = ""


# Adding ------------------------------------------------------------------------------------------


def add(name: str, given: Given, *, ask: Ask | None = None, dry_run: bool = False) -> None:
    """Add a source: look at it, write what loads it, and show that.

    Args:
        name: what it is called from then on.
        given: what the options said.
        ask: asks for what is missing; without it that is an error.
        dry_run: show what would be written, and write nothing.

    Raises:
        ConfigError: an option is missing or wrong, or something there bears such a name.
        DataError: the source cannot be read.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"source: {name!r} is no name: lower-case letters, digits and _, a letter first, 40 at most"
        )
    record = pieces.record(name)
    if record.exists():
        lacking = [piece for piece in pieces.recorded(name) if piece.text() is None]
        print(f"source {name} is there already ({record}): nothing is changed")
        what = f"it lacks {lacking[0]}" if lacking else "to add it otherwise"
        print(f"{what}: `elt source remove {name}`, then add it again")
        return
    given = _completed(given, ask)
    _refuse_taken(name, given)
    secret, is_file = "", given.kind in FILES
    if is_file:
        texts, added = _file(name, given)
    else:
        config, secret, tables = _connected(name, given, ask)
        texts, added = _database(name, given, config, tables)
    pieces.show(texts)
    texts[record] = pieces.record_text(name, {one: pieces.digest(one.text(texts[one.path]) or "") for one in added})
    variable = _variable(name, given.kind, "password")
    if secret:
        print(f"{layout.ENV_FILE} gets {variable}=********")
    if dry_run:
        print("--dry-run: nothing is written")
        return
    if secret:
        _keep_secret(name, variable, secret)
    pieces.write(dict(reversed(texts.items())))  # the record first, by which a half can be removed; last meltano.yml
    table = (
        f"raw.{name}" if is_file else f"staging.{next(one for one in added if one.path.suffix == '.sql').path.stem}"
    )
    print(f"source {name} is added; `elt source remove {name}` takes it back")
    anew = "" if is_file else f" --source {name} --full-refresh"  # one of this name may have left bookmarks
    print(f"next: .venv/bin/elt run{anew}")
    print(f"then: .venv/bin/elt sql --local 'from {table}'")


def _completed(given: Given, ask: Ask | None) -> Given:
    """Ask for what is missing.

    Raises:
        ConfigError: an option is missing and nobody can be asked, or it does not fit.
    """

    def asked(option: str, default: str = "") -> str:
        value = str(getattr(given, option) or "")
        if not value and ask:
            value = ask(option, default)
        if not value and not (value := "" if ask else default):
            raise ConfigError(
                f"source: --{option} is missing" + (f", one of {', '.join(KINDS)}" if option == "kind" else "")
            )
        if re.search(r"[\x00-\x1f]", value) or (option != "path" and "$" in value):
            raise ConfigError(f"source: --{option}: {value!r} has characters that meltano.yml does not carry")
        return value

    given = given._replace(kind=asked("kind"))
    if given.kind not in KINDS:
        raise ConfigError(f"source: --kind: {given.kind!r} is none of {', '.join(KINDS)}")
    if strange := [one for one in _unfit(given.kind) if getattr(given, one)]:
        raise ConfigError(f"source: --{strange[0]} does not fit --kind {given.kind}: leave it out")
    if given.kind in database.PORTS:
        given = given._replace(host=asked("host"), port=_number(asked("port", str(database.PORTS[given.kind]))))
        given = given._replace(user=asked("user"), database=asked("database"))
    else:
        given = given._replace(path=asked("path"))
    if given.schedule or given.kind in database.KINDS:
        given = given._replace(schedule=asked("schedule", "@daily"))
        _refuse_interval(given.schedule)
    return given


def _unfit(kind: str) -> tuple[str, ...]:
    """List the options that mean nothing to a kind."""
    if kind in database.PORTS:
        return ("path",)
    return ("host", "port", "user", "database", *(("tables",) if kind == "csv" else ()))


def _number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigError(f"source: --port: {text!r} is no port")
    return int(text)


def _refuse_interval(interval: str) -> None:
    if interval not in PRESETS and not CRON.fullmatch(interval):
        there = ", ".join(PRESETS)
        raise ConfigError(f"source: --schedule: {interval!r} is none of {there}, nor cron's, such as '30 5 * * 1-5'")


def _refuse_taken(name: str, given: Given) -> None:
    """Refuse a name that something has which was written by hand."""
    names: dict[tuple[str, ...], list[str]] = {JOBS: [name], SCHEDULES: [pieces.pipeline(name)]}
    if given.kind in database.KINDS:
        names |= {EXTRACTORS: [f"tap-{given.kind}--{name}"], LOADERS: [f"target-duckdb--{name}"]}
        folder = pieces.staging(name)
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is there, by hand: choose another name than {name}, or move it away")
    for path, data in meltano_plugins.files():
        for where, taken in names.items():
            listed: t.Any = data
            for key in where:
                listed = (listed or {}).get(key)
            for number, one in enumerate(listed or []):
                if one.get("name") in taken:
                    place = meltano_plugins.place(path, *where, number)
                    raise ConfigError(f"{place}: {one['name']} is there, by hand: choose another name than {name}")


def _file(name: str, given: Given) -> tuple[dict[Path, str], list[Piece]]:
    """Make what loads a file: an entry of tap-csv, a source of dbt, and job and schedule if asked for."""
    if Path(given.path).is_file() and _is_sqlite(Path(given.path)):
        raise ConfigError(f"source: --path: {given.path} is a database of SQLite: add it by --kind sqlite")
    sheet = given.tables[0] if given.kind == "excel" and given.tables else None
    found = inspection.inspect(given.path, sheet=sheet)
    inspection.show(found)
    table, texts = inspection.additions(found, name)
    yml, source = layout.MELTANO_YML, inspection.source_of(table)
    if yml not in texts or source not in texts:
        there = f"{source} is" if yml in texts else f"{yml}: entity {table} is"
        raise ConfigError(f"{there} there, by hand: choose another name than {name}")
    added = [Piece(yml, inspection.FILES, table), Piece(source)]
    if given.schedule:
        job = {"name": name, "tasks": ["tap-csv target-duckdb"]}
        elt = {"tags": [name]} | ({} if "://" in given.path else {"wait_for": table})
        only = {"TAP_CSV__SELECT": f'["{table}.*"]'}
        texts[yml] = _scheduled(texts[yml], name, job, given.schedule, {"env": only}, elt)
        added = [Piece(yml, SCHEDULES, pieces.pipeline(name)), Piece(yml, JOBS, name), *added]
    return texts, added


def _scheduled(
    text: str, name: str, job: dict[str, t.Any], interval: str, more: dict[str, t.Any], elt: dict[str, t.Any]
) -> str:
    schedule = {"name": pieces.pipeline(name), "interval": interval, "job": name, **more, "annotations": {"elt": elt}}
    text = yaml_text.insert(layout.MELTANO_YML, text, JOBS, lambda indent: inspection.as_yaml(job, indent))
    return yaml_text.insert(layout.MELTANO_YML, text, SCHEDULES, lambda indent: inspection.as_yaml(schedule, indent))


def _connected(name: str, given: Given, ask: Ask | None) -> tuple[dict[str, t.Any], str, list[database.Table]]:
    """Try the connection, and list its tables.

    Returns:
        The settings for meltano.yml, the password if it was asked for, and the tables.
    """
    if given.kind == "sqlite":
        path = Path(given.path).absolute()
        if "$" in given.path or not path.is_file():
            raise ConfigError(f"source: --path: {path} is no file")
        if not _is_sqlite(path):
            raise ConfigError(f"source: --path: {path} is no database of SQLite")
        config: dict[str, t.Any] = {"path_to_database": inspection.as_meltano_says(path)}
        return config, "", database.discover(given.kind, {"path_to_database": str(path)}, given.tables)
    config = {"host": given.host, "port": given.port, "user": given.user, "database": given.database}
    variable = _variable(name, given.kind, "password")
    known = os.environ.get(variable) or secret_files.lines().get(variable) or ""
    secret = (
        ask(f"password of {given.user} at {given.host} (empty for none)", hidden=True) if ask and not known else ""
    )
    password = {"password": known or secret} if known or secret else {}
    try:
        return config, secret, database.discover(given.kind, config | password, given.tables)
    except DataError as error:
        way = "" if password else f"; its password belongs into {layout.ENV_FILE} as {variable}"
        raise DataError(f"{error}{way}") from None


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _plugin(entry: dict[str, t.Any], indent: int) -> str:
    return "\n" + inspection.as_yaml(entry, indent)  # a blank line stands between plugins


def _database(
    name: str, given: Given, config: dict[str, t.Any], tables: list[database.Table]
) -> tuple[dict[Path, str], list[Piece]]:
    """Make what loads a database: plugins, job and schedule, source and staging models of dbt."""
    yml, selectors = layout.MELTANO_YML, layout.DBT_PROJECT / "selectors.yml"
    extractor, loader = database.extractor(given.kind, name, config, tables), database.loader(name, tables)
    text = yml.read_text(encoding="utf-8")
    for where, one in ((EXTRACTORS, extractor), (LOADERS, loader)):
        text = yaml_text.insert(yml, text, where, functools.partial(_plugin, one))
    job = {"name": name, "tasks": [f"{extractor['name']} {loader['name']}"]}
    text = _scheduled(text, name, job, given.schedule, {}, {"tags": [name], "select": f"tag:{name}+", "checks": name})
    tag = {"method": "tag", "value": name, "children": True}
    left_out = yaml_text.insert(
        selectors, selectors.read_text(encoding="utf-8"), LEFT_OUT, lambda indent: inspection.as_yaml(tag, indent)
    )
    source = pieces.staging(name) / f"_{name}__sources.yml"
    texts = {yml: text, selectors: left_out, source: database.dbt_source(given.kind, name, tables)}
    added = [
        Piece(yml, SCHEDULES, pieces.pipeline(name)),
        Piece(yml, JOBS, name),
        Piece(yml, LOADERS, loader["name"]),
        Piece(yml, EXTRACTORS, extractor["name"]),
        Piece(selectors, LEFT_OUT, name),
        Piece(source),
    ]
    for table in tables:
        sql = pieces.staging(name) / f"stg_{name}__{table.word}.sql"
        texts[sql], texts[sql.with_suffix(".yml")] = database.staging(name, table)
        added += [Piece(sql.with_suffix(".yml")), Piece(sql)]
    return texts, added


def _variable(name: str, kind: str, setting: str) -> str:
    return meltano_plugins.variable(f"tap-{kind}--{name}", setting)


def _keep_secret(name: str, variable: str, value: str) -> None:
    """Add a secret to `.env`, in quotes within which dotenv changes nothing."""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    text = layout.ENV_FILE.read_text(encoding="utf-8") if layout.ENV_FILE.exists() else ""
    text += ("" if not text or text.endswith("\n") else "\n") + f"{pieces.mark(name)}{variable}='{quoted}'\n"
    with atomic_write(layout.ENV_FILE, 0o600) as path:
        path.write_text(text, encoding="utf-8")
