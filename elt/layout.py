"""Define every path of the workspace that Python needs, and nothing else.

Standard library only, since bootstrap reads it before the environment exists.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import stat
import tempfile
from pathlib import Path

from elt.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
"""Root folder of the clone."""

STATE = Path(os.environ.get("ELT_STATE") or ROOT / ".state").absolute()
"""Folder of all that running creates."""

ENV_FILE = ROOT / ".env"
ENV_EXAMPLE = ROOT / ".env.example"
SECRETS = ROOT / "secrets"
"""Folder of the secrets of a team, encrypted, one file for each environment."""
PROCESS_FILE = ROOT / "process-compose.yaml"
MELTANO_PROJECT = ROOT / "meltano"
MELTANO_YML = MELTANO_PROJECT / "meltano.yml"
DBT_PROJECT = ROOT / "transform"
DAGS = ROOT / "airflow" / "dags"
SAMPLE_CSV = MELTANO_PROJECT / "extract" / "sample_data.csv"

LOGS = STATE / "logs"
RUN = STATE / "run"
"""Folder of sockets, process records, and configuration files that hold secrets."""
TOOLS = STATE / "tools"
"""Folder of programs that bootstrap installed for this clone."""
EXTRACT = STATE / "extract"
"""Folder of the CSV files that the pipeline loads."""
WAREHOUSES = STATE / "warehouse"
PUBLISHED = STATE / "published"
E2E_REPORT = STATE / "e2e" / "report.html"
E2E_RUNS = STATE / "e2e" / "runs.jsonl"
"""File of the figures of the last runs of e2e, a line each."""
LOCAL_RUN = STATE / "inner"
"""Folder of the warehouse and working files of `elt run`, apart from those of the stack."""
DUCKDB_EXTENSIONS = STATE / "duckdb_extensions"
ALERTED = STATE / "alerted"
"""Folder of a mark for each failure whose alert was sent."""
POSTGRES_DATA = STATE / ("postgres.host" if os.environ.get("ELT_POSTGRES_BIN") else "postgres")
VALKEY_DATA = STATE / ("valkey.host" if os.environ.get("ELT_VALKEY_SERVER") else "valkey")
"""Data folders of the servers; those that are not from the lock have their own, as versions may differ."""
AIRFLOW_HOME = STATE / "airflow"

PROGRAMS = os.environ.get("ELT_PROGRAMS", "")
"""Folders of programs that go before those of wheels, which do not start on NixOS: uv and ruff of a Nix shell."""
LOADER = os.environ.get("ELT_LOADER", "")
"""Dynamic loader for programs of wheels where the usual place has none, as on NixOS."""
LIBRARY_PATH = os.environ.get("ELT_LIBRARY_PATH", "")
"""Folders of libraries that wheels take for granted (C++, zlib) and NixOS has elsewhere. They are set for what the
workspace starts, and never for the Nix shell itself, whose other programs they could break."""


def libraries() -> dict[str, str]:
    """Return the environment variable by which programs find LIBRARY_PATH; nothing without one."""
    if not LIBRARY_PATH:
        return {}
    others = [part for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    return {"LD_LIBRARY_PATH": ":".join(dict.fromkeys([*LIBRARY_PATH.split(":"), *others]))}


def prepare() -> None:
    """Create the state folder, for this user only, and the folders that more than one module writes to.

    Raises:
        SetupError: it belongs to another user, who could have this one run any code.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    owner = STATE.stat().st_uid
    if owner != os.geteuid():
        raise SetupError(f"{STATE} belongs to user {owner}: run this as that user, or set another ELT_STATE")
    STATE.chmod(0o700)
    for folder in (LOGS, RUN, TOOLS, EXTRACT, WAREHOUSES, PUBLISHED):
        folder.mkdir(exist_ok=True)


def sockets(state: Path = STATE) -> Path:
    """Return the folder of the servers' sockets, which nobody but this user may enter.

    It is RUN where a path in there fits a socket (103 bytes on macOS) and an address that libpq parses; otherwise a
    short one among the temporary files, to which the link `sockets` in RUN leads.
    """
    run = state / "run"
    if len(os.fsencode(run)) <= 88 and re.fullmatch(r"[A-Za-z0-9_./-]+", str(run)):
        return run
    link = run / "sockets"
    with contextlib.suppress(FileNotFoundError):
        short = link.readlink()
        there = short.lstat()
        if stat.S_ISDIR(there.st_mode) and there.st_uid == os.geteuid() and not there.st_mode & 0o077:
            return short
    short = Path(tempfile.mkdtemp(prefix="elt-"))  # a name that nobody else can create first
    new = run / f"sockets.{short.name}"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.symlink_to(short)
    new.replace(link)
    return short


def published(environment: str) -> Path:
    """Return the folder in which readers of one environment find what was published."""
    return PUBLISHED / environment


def warehouse(environment: str, warehouses: Path = WAREHOUSES) -> Path:
    """Return the DuckDB file of one environment; meltano.yml builds the same path from ELT_WAREHOUSES.

    DuckDB names the catalog after the file, and a catalog `staging` beside the schema `staging` would be ambiguous.
    """
    return warehouses / f"warehouse_{environment}.duckdb"


def package(name: str) -> Path:
    """Return the folder of an installed package whose files are needed, not its code.

    Raises:
        SetupError: it is not in the environment.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"the package {name} is missing: run scripts/bootstrap.sh")
    return Path(spec.submodule_search_locations[0])
