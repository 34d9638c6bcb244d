"""Inspect a file: its dialect, types and keys, and the entry of meltano.yml that loads it.

tap-csv itself inspects the file, in a process of its own, so that a load finds the same.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from elt import layout, quoting
from elt.atomic import atomic_write
from elt.config import meltano_plugins
from elt.errors import ConfigError, DataError, last_line
from elt.sources import meltano_yml, yaml_text

PLAIN_PARAMETER = re.compile(
    r"(?![^=]*(?:auth|credential|expires|key|pass|secret|sig|token))[^=]{1,40}(?:=.{0,40})?", re.IGNORECASE
)
"""Parameters of a URL that are no credentials, by their names and length."""
_ID = re.compile(
    r"(^|[\W_]|(?<=[a-z])(?=[A-Z]))(id|key|code|no|nr|num|number|uuid|guid|sku|iso\d?|iata|icao|isbn|ean|fips|zip|plz)\.?$|[a-z]id$",
    re.IGNORECASE,
)
"""Names of columns that identify a row."""
_SUFFIXES = re.compile(r"(\.(csv|tsv|txt|xlsx|jsonl?|ndjson|parquet|gz|zst|bz2|xz|zip))+$")
FILES = ("plugins", "extractors", meltano_yml.TAP, "config", "files")
"""Where the list of files stands in meltano.yml."""
MAX_VALUE_CHARACTERS = 40
"""Characters of a value that are shown."""


def inspect(named: Path | str, *, rows: int | None = None, **given: str | None) -> dict[str, t.Any]:
    """Inspect a file by tap-csv, or the first of several.

    Args:
        named: its path, a glob, a folder or a URL.
        rows: number of rows from which types are inferred; None for the number of a load, -1 for all.
        given: settings of its entry that are known: `encoding`, `delimiter`, `members`, `sheet`.

    Returns:
        What tap_csv.inspection says: `columns`, `keys`, `delimiter`, `encoding` and more.

    Raises:
        DataError: the file cannot be read; the message says where.
    """
    options = [word for name, value in {"rows": rows, **given}.items() if value for word in (f"--{name}", str(value))]
    command = [sys.executable, "-P", "-m", "tap_csv.inspection", str(named), *options]
    env = os.environ | meltano_plugins.plugin_settings().given
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise DataError(f"inspect: {last_line(done.stderr)}")
    found = dict(json.loads(done.stdout))
    if (url := urlsplit(str(named))).netloc:
        if url.password is not None:
            found["hints"].append("the entry lacks user and password of the URL: add them by a variable of .env")
        elif not url.query or all(map(PLAIN_PARAMETER.fullmatch, url.query.split("&"))):
            found["path"] = str(named)  # with its user, whom messages of the tap leave out
        else:
            found["hints"].append(
                "the entry lacks what follows `?`, which may be a secret: add it by a variable of .env"
            )
    return found


def show(found: dict[str, t.Any]) -> None:
    """Print what was found, for a person."""
    of_what = "all" if found["is_whole"] else "the first"
    sure = " (a guess)" if found["confidence"] < 1 else ""
    how = f"{found['encoding']}{sure}, delimiter {found['delimiter']!r}" if found["format"] == "csv" else _how(found)
    print(f"{found['path']}: {how}")
    if found["number"] > 1:
        print(f"  {found['number']:,} files, types by all of them, the rest by the first: {found['examples'][0]}")
    table = Table("column", "type", "decided by", "a load would refuse")
    for one in found["columns"]:
        decided = f"line {one['line']:,}: {_short(one['value'])}" if one["line"] else ""
        refused = f"{one['where']}: {_short(one['doubt'])}" if one["where"] else ""
        table.add_row(*map(escape, (one["name"], one["type"], decided, refused)))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    keys = " or ".join(f"[{', '.join(some)}]" for some in found["keys"][:3]) or "none"
    of_file = " of that file" if found["number"] > 1 else ""
    print(f"key candidates, by {of_what} {found['rows']:,} rows{of_file}: {keys}")
    if found["ragged"]:
        print(f"{found['ragged']:,} rows have too few or too many fields: see `ragged`")
    if found["rejected"]:
        print(f"a load would end {found['rejected']}")
    for hint in found["hints"]:
        print(f"look at this: {hint}")


def key_of(found: dict[str, t.Any]) -> list[str]:
    """Choose the key: a candidate that is called like one, and holds no measurements; empty if there is none.

    By chance a price or a name is unique, too, and its rows would replace one another in a later delivery.
    """
    types = {one["name"]: one["type"] for one in found["columns"]}
    for columns in found["keys"]:
        if all(types[name] in ("integer", "string") for name in columns) and any(map(_ID.search, columns)):
            return [*columns]
    return []


def _how(found: dict[str, t.Any]) -> str:
    settings = found["settings"]
    sheet = f", sheet {settings['sheet']!r}" if "sheet" in settings else ""
    return (
        str(found["format"])
        + sheet
        + (f", header in row {settings['header_row']}" if "header_row" in settings else "")
    )


def entry(found: dict[str, t.Any], entity: str | None = None) -> dict[str, t.Any]:
    """Make the entry of tap-csv's `files` that loads a file, by a name that is given or its own.

    Columns of money keep the type that was found, and one with a value that does not fit becomes a string.
    """
    is_url = "://" in found["path"]
    pinned = {
        one["name"]: "string" if one["where"] else one["type"]
        for one in found["columns"]
        if one["where"] or one["is_named"] or one["type"].startswith("decimal")
    }
    settings = {
        "entity": entity or name_of(found["path"], found["settings"].get("sheet", "")),
        "path": found["path"] if is_url else as_meltano_says(Path(found["path"]).absolute()),
        "keys": key_of(found),
        "columns": pinned,
        "delimiter": found["delimiter"],
        "encoding": found["encoding"],
        **found["settings"],
    }
    usual = {"columns": {}, "delimiter": ",", "encoding": "utf-8"}
    return {name: value for name, value in settings.items() if value != usual.get(name)}


def name_of(named: Path | str, sheet: str = "") -> str:
    """Return the name of the table that a file becomes: its own, as a plain word in lower case.

    Args:
        named: its path, a URL, or a glob, whose folder gives the name if the rest is one of marks and numbers.
        sheet: the one of a workbook that is loaded.
    """
    url = urlsplit(str(named))
    path = Path(f"{url.netloc}{url.path}") if "://" in str(named) else Path(named).absolute()
    words = [_word(_SUFFIXES.sub("", part.lower())) for part in reversed(path.parts)]
    is_one = not glob.has_magic(path.name)
    plain = words[0] if is_one else next((word for word in words if re.search("[^0-9_]", word)), "")
    plain = "_".join(filter(None, [plain, _word(sheet.lower())]))
    return f"t_{plain}" if not plain or plain[0].isdigit() else plain


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def as_meltano_says(path: Path) -> str:
    """Return how meltano.yml names a file: by $ELT_EXTRACT, or from the folder of the project, if it lies there."""
    path = Path(os.path.normpath(path))
    for folder, prefix in ((layout.EXTRACT, "$ELT_EXTRACT/"), (layout.MELTANO_PROJECT, "")):
        if path.is_relative_to(folder):
            return f"{prefix}{path.relative_to(folder)}"
    return str(path)


class _Dumper(yaml.SafeDumper):
    """Write lists of plain values in one line, and indent items below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        super().increase_indent(flow, indentless=False)

    def represent_sequence(self, tag: str, sequence: t.Any, flow_style: bool | None = None) -> yaml.SequenceNode:  # noqa: ANN401, FBT001
        return super().represent_sequence(tag, sequence, all(isinstance(one, str) for one in sequence) or flow_style)


def dumped(value: object) -> str:
    """Write a value in YAML, lists of words in one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100)


def as_yaml(settings: dict[str, t.Any], indent: int = 0) -> str:
    """Write an entry as an item of a list in YAML, indented by so many blanks."""
    lines = dumped([settings]).splitlines(keepends=True)
    return "".join(f"{' ' * indent}{line}" for line in lines)


def dbt_source(found: dict[str, t.Any], table: str) -> str:
    """Write the source of dbt, with a description to fill in for each column."""
    key = key_of(found)
    single = key[0] if len(key) == 1 and not {'"', "{"} & {*key[0]} else ""  # dbt does not double the quote in a test
    columns = [
        {"name": one["name"].lower(), "description": f"{one['name']} ({one['type']})."}
        | ({"data_tests": ["not_null", "unique"]} if one["name"] == single else {})
        | ({} if re.fullmatch(r"[A-Za-z_]\w*", one["name"]) else {"quote": True})
        for one in found["columns"]
    ]
    about = f"What {Path(found['path']).name} holds."
    source = {
        "name": table,
        "description": about,
        "schema": "raw",
        "tables": [{"name": table, "description": about, "columns": columns}],
    }
    return dumped(quoting.templates({"sources": [source]}))


def write(found: dict[str, t.Any], entity: str | None = None) -> None:
    """Add the entry to meltano.yml and write the source of dbt; what exists already stays unchanged.

    Args:
        found: what `inspect` returned.
        entity: the name of the table, if not that of the file.

    Raises:
        ConfigError: meltano.yml has no list of files in block style to add to, or the name is taken.
    """
    table, texts = additions(found, entity)
    source = source_of(table)
    if layout.MELTANO_YML not in texts:
        print(f"{layout.MELTANO_YML} has an entity {table!r} already: left as it is")
    if source not in texts:
        print(f"{source} is there already: left as it is")
    for path, text in texts.items():
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        print(f"written: {path}" + (f", entity {table}" if path == layout.MELTANO_YML else ""))
    print(f"next: .venv/bin/elt run, then .venv/bin/elt sql --local 'from raw.{table}'")


def additions(found: dict[str, t.Any], entity: str | None = None) -> tuple[str, dict[Path, str]]:
    """Return the table that a file becomes, and the new texts of meltano.yml and the source of dbt, if they lack it.

    Raises:
        ConfigError: meltano.yml has no list of files in block style to add to, or the name is taken.
    """
    settings = entry(found, entity)
    others = {one.table: str(one.path) for one in meltano_yml.listed()}
    own = str(layout.MELTANO_PROJECT / str(settings["path"]).replace("$ELT_EXTRACT", str(layout.EXTRACT)))
    if others.get(settings["entity"], own) != own:
        if entity:
            raise ConfigError(f"{layout.MELTANO_YML}: entity {entity} loads {others[entity]}: choose another name")
        settings["entity"] = _another(settings["entity"], Path(own), others)
    table: str = settings["entity"]
    texts = {}
    if table not in others:
        text = layout.MELTANO_YML.read_text(encoding="utf-8")
        texts[layout.MELTANO_YML] = yaml_text.insert(
            layout.MELTANO_YML, text, FILES, lambda indent: as_yaml(settings, indent)
        )
    if not source_of(table).exists():
        texts[source_of(table)] = dbt_source(found, table)
    return table, texts


def source_of(table: str) -> Path:
    """Return the file of dbt in which the source of a file stands."""
    return layout.DBT_PROJECT / "models" / "staging" / f"_{table}__sources.yml"


def _another(name: str, path: Path, taken: t.Container[str]) -> str:
    """Return a name that no other file has: with the suffix of this one, or a number."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    suffix = _word(path.suffix.lower())
    return next(one for one in itertools.chain([f"{name}_{suffix}"] if suffix else [], numbered) if one not in taken)


def _short(value: str) -> str:
    shown = value if len(value) <= MAX_VALUE_CHARACTERS else f"{value[:MAX_VALUE_CHARACTERS]}..."
    return ascii(shown)[1:-1] if not shown.isprintable() else shown
