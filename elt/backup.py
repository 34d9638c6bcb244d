"""Back up all that the platform knows to one file, and restore it in another clone.

The stack must be down: then PostgreSQL's folder, the warehouses and what was published belong together, and to copy
the files is all there is to do. What bootstrap and the next start make again stays out. The file holds `.env` as
well, since the databases were made with its passwords.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import shutil
import tarfile
import time
import typing as t
import zlib
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import Version

from elt import layout
from elt.errors import ConfigError, DataError, StackError
from elt.supervisor import lockfile

FORMAT = 1
MANIFEST, STATE, ENV = "manifest.json", "state", "env"
"""Members of a backup: what it is of, the folder of the state, the settings."""
LEFT_OUT = ("run", "tools", "duckdb_extensions", "hooks", "bench", "dbt", "xdg", "inner")
"""Parts of the state that say nothing that is not made again."""
OLD_ENV = "env.before-restore"
"""In the state: the settings that a restore has replaced."""
_DAMAGES = (tarfile.TarError, EOFError, zlib.error, KeyError, ValueError)


def back_up(goal: Path | None = None) -> Path:
    """Write the backup, readable for this user only; a half-written one never has the name.

    Args:
        goal: the file; default: a name with the time in the current folder.

    Raises:
        StackError: the stack runs.
        DataError: there is nothing to back up, the file exists, or it cannot be written.
    """
    _refuse_running("backup")
    if not layout.POSTGRES_DATA.exists():
        raise DataError(f"backup: {layout.STATE} holds no PostgreSQL: nothing ran here yet")
    now = datetime.now(UTC)
    goal = goal or Path(f"elt-backup-{now:%Y%m%dT%H%M%S}.tar.gz")
    if goal.exists():
        raise DataError(f"backup: {goal} is there already: name another file")
    began, part = time.monotonic(), goal.with_name(f".{goal.name}.{os.getpid()}.part")
    manifest = {
        "format": FORMAT,
        "created": now.isoformat(timespec="seconds"),
        "airflow": importlib.metadata.version("apache-airflow"),
    }
    print(f"backup: packing {layout.STATE} ({_size() >> 20:,} MiB)", flush=True)
    try:
        with (
            open(part, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive,
        ):
            head = tarfile.TarInfo(MANIFEST)
            body = json.dumps(manifest).encode()
            head.size = len(body)
            archive.addfile(head, io.BytesIO(body))
            archive.add(layout.ENV_FILE, ENV, filter=_anonymous)
            for path in _kept():
                archive.add(path, f"{STATE}/{path.name}", filter=_anonymous)
        part.rename(goal)
    except OSError as error:
        raise DataError(f"backup: {goal} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    print(f"backup: {goal}, {goal.stat().st_size >> 20:,} MiB, {time.monotonic() - began:.1f} s; it holds passwords")
    return goal


def restore(source: Path) -> None:
    """Put a backup in the place of this clone's state and settings; either all of it or nothing.

    Args:
        source: the file.

    Raises:
        StackError: the stack runs.
        DataError: the file is damaged, or this clone has data of its own.
        ConfigError: the file was made by a version that does not fit.
    """
    _refuse_running("restore")
    held = (layout.POSTGRES_DATA, layout.VALKEY_DATA, layout.WAREHOUSES, layout.PUBLISHED)
    if taken := [path for path in held if path.exists() and any(path.iterdir())]:
        raise DataError(f"restore: {taken[0]} holds data: restore into a new clone, or move {layout.STATE} away")
    began, draft = time.monotonic(), layout.STATE / "restore.part"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    try:
        with tarfile.open(source, "r:gz") as archive:
            first = archive.next()
            member = archive.extractfile(first) if first and first.name == MANIFEST else None
            if member is None:
                raise DataError(f"restore: {source} is no backup of this workspace")
            manifest = json.loads(member.read())
            _check(source, manifest)
            print(f"restore: unpacking {source}, made {manifest['created']}", flush=True)
            archive.extractall(draft, filter="tar")
        _take_over(draft)
    except OSError as error:
        raise DataError(f"restore: {source} cannot be restored: {error}") from error
    except _DAMAGES as error:
        raise DataError(f"restore: {source} is damaged: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    print(f"restore: done in {time.monotonic() - began:.1f} s; scripts/up.sh starts it")


def _refuse_running(verb: str) -> None:
    if lockfile.is_held(layout.RUN):
        raise StackError(f"{verb}: the stack runs, and its files change: scripts/down.sh first")


def _kept() -> list[Path]:
    """What goes into a backup."""
    return [path for path in sorted(layout.STATE.iterdir()) if path.name not in LEFT_OUT]


def _size() -> int:
    """Bytes of what goes into a backup."""
    return sum(path.lstat().st_size for top in _kept() for path in (top.rglob("*") if top.is_dir() else [top]))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Whoever restores it shall own it. Sockets and pipes are left out."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isfile() or member.isdir() or member.issym() else None


def _check(source: Path, manifest: dict[str, t.Any]) -> None:
    """Refuse what this version cannot go on with.

    Raises:
        ConfigError: it was made by a newer one.
    """
    here = importlib.metadata.version("apache-airflow")
    if manifest["format"] != FORMAT or Version(manifest["airflow"]) > Version(here):
        raise ConfigError(
            f"restore: {source} is of Airflow {manifest['airflow']}, format {manifest['format']}; this is "
            f"Airflow {here}, format {FORMAT}: restore it with the version that made it, or a newer one"
        )


def _take_over(draft: Path) -> None:
    """Move what was unpacked into place. The settings come last: they fit the databases that came before."""
    for path in sorted((draft / STATE).iterdir()):
        there = layout.STATE / path.name
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there)
        with contextlib.suppress(FileNotFoundError):
            there.unlink()
        path.rename(there)
    if layout.ENV_FILE.exists():
        layout.ENV_FILE.replace(layout.STATE / OLD_ENV)
    shutil.copyfile(draft / ENV, layout.ENV_FILE)
    layout.ENV_FILE.chmod(0o600)
