"""Back up all data and settings of the platform to one file, and restore them in another clone.

The stack must be down: then PostgreSQL's folder, the warehouses and what was published are consistent, and copying
the files is enough. What bootstrap and the next start create again is left out. The file holds `.env` as well, since
the databases were made with its passwords.

A restore reads all of the file first, unpacks it beside the state, and then moves each part into place. From the
first move to the last a mark is in the state: with it no stack starts, and the restore may be repeated.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
import typing as t
import zlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from packaging.version import Version

from elt import disk, layout
from elt.atomic import atomic_write, is_unfinished
from elt.config import programs, services
from elt.errors import ConfigError, DataError, StackError
from elt.maintenance import signature
from elt.supervisor import lockfile, orphans, signals
from elt.supervisor.control import UNFINISHED

FORMAT, OLDER_FORMATS = 3, (2,)
MANIFEST, STATE, ENV = "manifest.json", "state", "env"
"""Members of a backup: its manifest, the folder of the state, the settings."""
UNPACKED, BEFORE = "restore.part", "before-restore"
"""Folders in the state of what a restore unpacks, and of what it has replaced."""
PARTS = {
    **{folder: names for one in services.SERVICES for folder, names in one.data.items()},
    "airflow": r"migrated",
    "warehouse": r"[^/]+\.duckdb(\.wal)?",
    "published": r"\w+(/[^/]+\.duckdb)?",
    "extract": r".+",
    "logs": r"tasks(/.+)?|[\w-]+\.log(\.\d+)?",
    "e2e": r"report\.html|runs\.jsonl",
    "alerted": r"[^/]+",
}
"""Patterns of the names in each part of the state that a backup holds. Other files are created again, are obsolete,
or could run code at a restore, such as settings of PostgreSQL and modules of Airflow."""
EMPTY_SETTINGS = ("postgresql.conf", "postgresql.auto.conf", "pg_ident.conf")
"""Files that PostgreSQL requires; a restore leaves them empty, as each start passes the settings."""
HELD = (*(folder for one in services.SERVICES for folder in one.data), "warehouse", "published")
"""Parts with data that a restore must not replace."""
PIECE_BYTES = 1 << 20
"""Bytes that are read at once; far more than a header or a manifest has."""
MAX_MTIME_SECONDS = 1 << 36
"""Greatest plausible distance of a time of change from 1970, in seconds (2,177 years); beyond, it is damaged."""
_DAMAGES = (
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    LookupError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
)


def back_up(goal: Path | None = None, secret: Path | None = None, *, new_key: bool = False) -> Path:
    """Write the backup atomically, readable by this user only.

    Args:
        goal: the file; default: a name with the time in the current folder.
        secret: the key that signs it; None for no signature.
        new_key: create that key first.

    Raises:
        StackError: the stack runs.
        DataError: there is nothing to back up, the file exists, or it cannot be written.
        ConfigError: the key does not fit.
    """
    with _locked("backup"):
        if (layout.STATE / UNFINISHED).exists():
            raise DataError("backup: a restore has not come to its end: repeat scripts/restore.sh FILE")
        version = next((path.read_text().strip() for path in layout.STATE.glob("postgres*/PG_VERSION")), "")
        if not version:
            raise DataError(f"backup: {layout.STATE} holds no PostgreSQL: nothing ran here yet")
        now, began = datetime.now(UTC), time.monotonic()
        goal = goal or Path(f"elt-backup-{now:%Y%m%dT%H%M%S}.tar.gz")
        if goal.exists():
            raise DataError(f"backup: {goal} is there already: name another file")
        if secret and new_key:
            signature.new_key(secret)
            print(f"backup: made the key {secret}; keep it, and {signature.of_key(secret)} apart from the backup")
        key = signature.load_key(secret) if secret else None
        manifest = {
            "format": FORMAT,
            "created": now.isoformat(timespec="seconds"),
            "airflow": importlib.metadata.version("apache-airflow"),
            "postgres": version,
            "machine": platform.machine(),
        }
        size = sum(path.lstat().st_size for path, _ in _kept())
        print(f"backup: packing {layout.STATE} ({size >> 20:,} MiB)", flush=True)
        try:
            with atomic_write(goal, 0o600) as written, tarfile.open(written, "w:gz", compresslevel=1) as archive:
                head = tarfile.TarInfo(MANIFEST)
                body = json.dumps(manifest).encode()
                head.size = len(body)
                archive.addfile(head, io.BytesIO(body))
                _add(archive, layout.ENV_FILE, ENV)
                for path, name in _kept():
                    _add(archive, path, name)
                archive.close()
                if key:  # before the file has its name
                    with atomic_write(signature.of_file(goal)) as signed:
                        signed.write_text(key.sign(written))
        except OSError as error:
            raise DataError(f"backup: {goal} cannot be written: {error}") from error
        packed, seconds = goal.stat().st_size, time.monotonic() - began
        print(f"backup: {goal}, {packed >> 20:,} MiB, {seconds:.1f} s; it holds passwords")
        if key:
            print(f"backup: signed, {signature.of_file(goal)}")
        return goal


def restore(source: Path, public: Path | None = None) -> None:
    """Replace this clone's state and settings by those of a backup.

    Args:
        source: the file.
        public: the key that must have signed it; None accepts any file.

    Raises:
        StackError: the stack runs.
        DataError: the file is damaged or not signed by that key, or this clone has data of its own.
        ConfigError: the file was made by a version, or on a machine, that does not fit.
    """
    with _locked("restore"):
        held = [layout.STATE / name for name in HELD]
        taken = [path for path in held if path.exists() and _holds_something(path)]
        if taken and not (layout.STATE / UNFINISHED).exists():
            raise DataError(f"restore: {taken[0]} holds data: restore into a new clone, or move {layout.STATE} away")
        began, unpacked = time.monotonic(), layout.STATE / UNPACKED
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            print(f"restore: reading {source} ({source.stat().st_size >> 20:,} MiB)", flush=True)
            digest = signature.verify(source, public) if public else None
            manifest = _verify(source)
            print(f"restore: unpacking {source}, made {datetime.fromisoformat(manifest['created'])}", flush=True)
            unpacked.mkdir(mode=0o700)
            _unpack(source, unpacked, digest)
            _take_over(unpacked)
        except _DAMAGES as error:
            raise DataError(f"restore: {source} is damaged: {error}") from error
        except OSError as error:
            raise DataError(f"restore: {source} cannot be restored: {error}") from error
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        print("restore: a backup is code: its databases may run it; restore only what you trust")
        print(f"restore: .env is the backup's, with its ports and passwords; what was here is in {_before()}")
        print(f"restore: done in {time.monotonic() - began:.1f} s; scripts/up.sh starts it")


@contextlib.contextmanager
def _locked(verb: str) -> t.Iterator[None]:
    """Keep the stack from starting meanwhile, and let SIGTERM end the verb in order.

    Raises:
        StackError: it runs, or another backup or restore does.
    """
    layout.prepare()
    lock = lockfile.take(layout.RUN, lockfile.FILES)
    if lock is None:
        raise StackError(f"{verb}: another backup or restore is at work here: wait for its end")
    try:
        if lockfile.is_held(layout.RUN):
            raise StackError(f"{verb}: the stack runs, and its files change: scripts/down.sh first")
        if any(record.is_live() for record in orphans.records(layout.STATE).values()):
            raise StackError(f"{verb}: processes of a killed supervisor still run: scripts/down.sh first")
        with signals.interruptible():
            yield
    finally:
        os.close(lock)


# Packing -----------------------------------------------------------------------------------------


def _kept() -> t.Iterator[tuple[Path, str]]:
    """List the files and folders of a backup with their names there; a part may be a link to another disk."""
    for part in sorted(layout.STATE.iterdir()):
        if part.name in PARTS and part.exists():
            top = part.resolve()
            for path in (top, *sorted(top.rglob("*"))):
                name = f"{STATE}/{part.name}/{path.relative_to(top)}".removesuffix("/.")
                if _is_named(PurePosixPath(name)):
                    yield path, name


def _is_named(path: PurePosixPath) -> bool:
    """Return whether a name below the state matches PARTS, or is a part itself."""
    if path.parts[:1] != (STATE,) or len(path.parts) < 2:
        return False
    _, part, *rest = path.parts
    return part in PARTS and (not rest or re.fullmatch(PARTS[part], "/".join(rest), re.DOTALL) is not None)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add one file, folder or link, except sockets, unfinished files and links to outside the state.

    Whoever restores it shall own it. A file with several names is packed once for each.
    """
    member = archive.gettarinfo(path, name)
    if member is None or is_unfinished(path):
        return
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isreg() or member.islnk():
        with path.open("rb") as file:
            member.type, member.size = tarfile.REGTYPE, os.fstat(file.fileno()).st_size
            archive.addfile(member, file)
    elif member.isdir() or _leads_inside(member):
        archive.addfile(member)


def _leads_inside(member: tarfile.TarInfo) -> bool:
    """Return whether it is a relative link that stays below the state: first up, then down by names."""
    if not member.issym() or not re.fullmatch(r"(\.\./)*[^/]+(/[^/]+)*", member.linkname):
        return False
    parts = PurePosixPath(member.linkname).parts
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    is_plain = ".." not in parts[ups:] and "." not in parts and ups < len(parts)
    return is_plain and len(PurePosixPath(member.name).parts) - 1 - ups >= 1


# Unpacking ---------------------------------------------------------------------------------------


def _verify(source: Path) -> dict[str, t.Any]:
    """Read all of a backup before anything is written, and return its manifest.

    Raises:
        DataError: it is no backup, is damaged, holds unexpected members, or more than the disk.
        ConfigError: it is of another version or kind of machine.
    """
    members = _members(source)
    archive, first = next(members)
    words = t.cast("t.IO[bytes]", archive.extractfile(first)).read()
    sizes = [(PurePosixPath(member.name), member.size) for _, member in members]
    paths = [path for path, _ in sizes]
    if PurePosixPath(ENV) not in paths or not any(path.match(f"{STATE}/postgres*/PG_VERSION") for path in paths):
        raise DataError(f"restore: {source} is damaged: it lacks the settings or PostgreSQL")
    if (size := sum(size for _, size in sizes)) > (left := disk.free()):
        needed = f"{size / disk.GIGABYTE:,.1f} GB, and {left / disk.GIGABYTE:,.1f} GB are free below {layout.STATE}"
        raise DataError(f"restore: {source} holds {needed}: free some")
    manifest: dict[str, t.Any] = json.loads(words)
    _check(source, manifest)
    return manifest


def _unpack(source: Path, folder: Path, digest: bytes | None) -> None:
    """Unpack a backup without its manifest to a folder.

    Raises:
        DataError: its digest is another one now, as somebody else can write to it.
    """
    whole = hashlib.blake2b()
    for archive, member in _members(source, whole if digest else None):
        if member.name != MANIFEST:
            _write(archive, member, folder / member.name)
    if digest and whole.digest() != digest:
        raise DataError(f"restore: {source} changed while it was read: nothing was changed")
    for cluster in (folder / STATE).glob("postgres*"):
        for name in EMPTY_SETTINGS:
            (cluster / name).touch(mode=0o600)


def _members(
    source: Path, whole: hashlib.blake2b | None = None
) -> t.Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield each member of a backup, its manifest first, and read to the last byte, so that the checksum is verified.

    Older versions packed more than PARTS names; such members are skipped.

    Args:
        source: the file.
        whole: hash that is updated by all that is read.

    Raises:
        DataError: it is no backup, or holds unexpected members.
    """
    with (
        _File(source, whole) as file,
        _Stream(fileobj=file) as stream,
        tarfile.open(fileobj=stream, mode="r:") as archive,
    ):
        first = archive.next()
        if not first or first.name != MANIFEST or not first.isreg() or first.size < 0:
            raise DataError(f"restore: {source} is no backup of this workspace")
        form = json.loads(t.cast("t.IO[bytes]", archive.extractfile(first)).read())["format"]
        yield archive, first
        links: set[PurePosixPath] = set()
        while (found := archive.next()) is not None:
            path = PurePosixPath(found.name)
            is_named = path.parts == (ENV,) or _is_named(path)
            if not _belongs(found, path, links) or not (is_named or form in OLDER_FORMATS):
                raise DataError(
                    f"restore: {source}: {found.name!r} does not belong into a backup: nothing was changed"
                )
            if found.issym():
                links.add(path)
            if is_named:
                yield archive, found
        while stream.read(PIECE_BYTES):
            pass


class _File(io.FileIO):
    """Read a file, and update a hash by what is read."""

    def __init__(self, path: Path, whole: hashlib.blake2b | None) -> None:
        super().__init__(path)
        self._whole = whole

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece."""
        piece = super().read(size)
        if self._whole:
            self._whole.update(piece)
        return piece


class _Stream(gzip.GzipFile):
    """Decompress a backup piece by piece."""

    def read(self, size: int | None = -1) -> bytes:
        """Read a piece; refuse a size as large as a damaged header of tar may give."""
        if size is None or not 0 <= size <= PIECE_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _belongs(member: tarfile.TarInfo, path: PurePosixPath, links: set[PurePosixPath]) -> bool:
    """Return whether a member is one that `back_up` writes, and its path leads through no link."""
    if member.size < 0 or not abs(member.mtime) < MAX_MTIME_SECONDS:  # which no number is that is none
        return False
    if path.parts == (ENV,):
        return member.isreg()
    is_part = len(path.parts) >= 2 and path.parts[0] == STATE
    is_plain = not path.is_absolute() and not {".", ".."} & set(member.name.split("/"))
    is_kind = member.isreg() or member.isdir() or _leads_inside(member)
    return is_part and is_plain and is_kind and links.isdisjoint((path, *path.parents))


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(member.mode & 0o777 | 0o700)
    else:
        content = t.cast("t.IO[bytes]", archive.extractfile(member))
        path.touch(mode=0o600, exist_ok=False)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, PIECE_BYTES)
        path.chmod(member.mode & 0o777)
        os.utime(path, (member.mtime, member.mtime))


def _check(source: Path, manifest: dict[str, t.Any]) -> None:
    """Refuse a backup that this version cannot use.

    Raises:
        ConfigError: it was made by a newer version, by another PostgreSQL, or on another kind of machine.
    """
    here = importlib.metadata.version("apache-airflow")
    if manifest["format"] not in {FORMAT, *OLDER_FORMATS} or Version(manifest["airflow"]) > Version(here):
        raise ConfigError(
            f"restore: {source} is of Airflow {manifest['airflow']}, format {manifest['format']!r}; this is "
            f"Airflow {here}, format {FORMAT}: restore it with the version that made it, or a newer one"
        )
    done = subprocess.run([programs.postgres_bin() / "postgres", "--version"], capture_output=True, text=True)
    major = next(iter(re.findall(r"\d+", done.stdout)), "")
    if (manifest["postgres"], manifest["machine"]) != (major, platform.machine()):
        raise ConfigError(
            f"restore: {source} holds files of PostgreSQL {manifest['postgres']!r} on {manifest['machine']!r}; this "
            f"is PostgreSQL {major} on {platform.machine()}, which cannot read them"
        )


# Taking over -------------------------------------------------------------------------------------


def _before() -> Path:
    return layout.STATE / BEFORE


def _take_over(unpacked: Path) -> None:
    """Move the unpacked parts into place, and keep the replaced ones, once."""
    mark, before = layout.STATE / UNFINISHED, _before()
    if not mark.exists():
        shutil.rmtree(before, ignore_errors=True)
        with atomic_write(mark) as path:
            path.write_text(json.dumps([one.name for one in layout.STATE.iterdir() if _holds_something(one)]))
    before.mkdir(mode=0o700, exist_ok=True)
    old = set(json.loads(mark.read_text())) - {path.name for path in before.iterdir()}
    if layout.ENV_FILE.exists() and not (before / ENV).exists():
        _copy_secret(layout.ENV_FILE, before / ENV)
    for part in sorted((unpacked / STATE).iterdir()):
        there = layout.STATE / part.name
        if part.name in old:
            there.rename(before / part.name)
        elif there.is_dir():  # of a restore that was interrupted
            shutil.rmtree(there)
        there.unlink(missing_ok=True)
        part.rename(there)
    _copy_secret(unpacked / ENV, layout.ENV_FILE)
    mark.unlink()


def _holds_something(part: Path) -> bool:
    return not part.is_dir() or any(part.iterdir())


def _copy_secret(source: Path, target: Path) -> None:
    """Copy a file atomically, readable by this user only."""
    with atomic_write(target, 0o600) as path:
        path.write_bytes(source.read_bytes())
