"""Which files the path of an entity stands for, and how each of them is opened."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import os
import typing as t
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tap_csv import remote
from tap_csv.errors import InputError
from tap_csv.remote import Remote, Stream

SUFFIXES = tuple(f".csv{packing}" for packing in ("", ".gz", ".zst", ".bz2", ".xz", ".zip"))
"""What a folder is searched for; a file or a glob is taken as named."""
_ZIP = (b"PK\3\4", b"PK\5\6")
"""First bytes of a zip file, and of an empty one."""
_WORKBOOK = "xl/workbook.xml"
"""A member by which a zip file is a workbook of Excel."""
_PACKED_BY = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_ENCRYPTED = 1


class Facts(t.NamedTuple):
    """What tells that a file did not change."""

    size: int
    """Bytes."""
    mtime_ns: int
    """When it was changed last, in nanoseconds since 1970; 0 if that is unknown."""
    etag: str = ""
    """By what a server tells versions of a file apart."""


@dataclass(frozen=True)
class Member:
    """A file in a zip file."""

    archive: Path | Remote
    name: str
    info: zipfile.ZipInfo = field(compare=False)
    opened: zipfile.ZipFile = field(compare=False)

    @property
    def stem(self) -> str:
        """Its name without folder and suffix."""
        return Path(self.name).stem

    def __str__(self) -> str:
        """Its name in messages, states and metadata."""
        return f"{self.archive}!{self.name}"


File: t.TypeAlias = "Path | Member | Remote"
"""What is read as one file; its text names it."""


def opened(file: File) -> t.IO[bytes] | _Checked | Stream:
    """Open a file to read its bytes; those of a member are checked against its sum at the end.

    Raises:
        InputError: it is a member that cannot be read.
        OSError: it cannot be read.
    """
    if isinstance(file, Path):
        return file.open("rb", buffering=0)
    if isinstance(file, Remote):
        return Stream(file)
    if file.info.flag_bits & _ENCRYPTED:
        raise InputError("is encrypted: unpack it, and name the folder", file)
    if file.info.compress_type not in _PACKED_BY:
        raise InputError("is packed in a way that is not known here: unpack it, and name the folder", file)
    return _Checked(file)


def local(file: File) -> Path:
    """Return the path of a file that can be read anywhere in it.

    Raises:
        InputError: it has none.
    """
    if isinstance(file, Remote):
        return file.copy()
    if not isinstance(file, Path):
        raise InputError("is within a zip file, and read from its end: unpack it, and name the folder", file)
    return file


def size_of(file: File) -> int:
    """Bytes of a file of which pieces can be read; 0 if that is not known, or it is a member of a zip file."""
    if isinstance(file, Remote):
        return file.size or 0
    return file.stat().st_size if isinstance(file, Path) else 0


def piece(file: Path | Remote, begin: int, size: int) -> bytes:
    """Read so many bytes from one on, or what there is of them.

    Raises:
        InputError: they cannot be read.
    """
    found = b""
    with Stream(file, begin) if isinstance(file, Remote) else file.open("rb") as opened:
        if isinstance(file, Path):
            t.cast("t.IO[bytes]", opened).seek(begin)
        while len(found) < size and (chunk := opened.read(size - len(found))):
            found += chunk
    return found


class SeveralMembersError(InputError):
    """A zip file holds several files, and no setting says which are meant."""

    def __init__(self, number: int, pattern: str, path: Path) -> None:
        """Keep the pattern that all of them fit; empty if there is none."""
        super().__init__(f'holds {number} files: set `members`, such as `members: "{pattern or "*.csv"}"`', path)
        self.pattern = pattern


class _Checked:
    """A member that is read; what is wrong with it is said as of a file."""

    def __init__(self, member: Member) -> None:
        """Open it.

        Raises:
            InputError: it is damaged.
        """
        self._member = member
        self._file = self._said(lambda: member.opened.open(member.info))

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes.

        Raises:
            InputError: the member is cut off or damaged.
        """
        return bytes(self._said(lambda: self._file.read(size)))

    def _said(self, action: t.Callable[[], t.Any]) -> t.Any:  # noqa: ANN401 - what the action gives
        try:
            return action()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise InputError(f"is damaged: {error or 'its end is missing'}", self._member) from None


def facts(file: File) -> Facts:
    """Return what tells that a file did not change.

    Raises:
        InputError: it cannot be read.
    """
    origin = file.archive if isinstance(file, Member) else file
    if isinstance(origin, Remote):
        size = file.info.file_size if isinstance(file, Member) else origin.size or 0
        return Facts(size, origin.mtime_ns, origin.etag)
    try:
        found = origin.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file) from None
    return Facts(file.info.file_size if isinstance(file, Member) else found.st_size, found.st_mtime_ns)


def find(named: str, members: str | None = None) -> list[File]:
    """Return the files, sorted so that two runs read them in the same order.

    Args:
        named: a file, a folder or a glob.
        members: pattern of the names of files within zip files; without it such a file must hold one.

    Raises:
        InputError: nothing is there, a folder cannot be listed, or a zip file is damaged.
    """
    if "://" in named:
        return [file for one in remote.find(named, SUFFIXES) for file in _elsewhere(one, members)]
    return [file for path in _paths(named) for file in _within(path, members)]


def _paths(named: str) -> list[Path]:
    path = Path(named)
    # What exists under the very name goes first: a name may hold a bracket and be no glob.
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return [path]
    if not glob.has_magic(named):
        reason = "is a link to nothing" if path.is_symlink() else "no such file or folder"
        raise InputError(reason, path)
    found: dict[Path, Path] = {}
    for one in sorted(map(Path, glob.glob(named, recursive=True))):  # noqa: PTH207 - the pattern may be absolute
        if one.is_symlink() and not one.exists():
            raise InputError("is a link to nothing", one)
        if one.is_file():
            found.setdefault(one.resolve(), one)  # `**` follows links, round and round
    if not found:
        raise InputError("no file matches", path)
    return list(found.values())


def _elsewhere(file: Remote, pattern: str | None) -> list[File]:
    """List the file, or those in it if it is named as a zip file; such is copied, since it is read from its end."""
    if pattern is None and not file.url.lower().endswith(".zip"):
        return [file]
    found = _within(file.copy(), pattern)
    return [dataclasses.replace(one, archive=file) for one in found if isinstance(one, Member)]


def _within(path: Path, pattern: str | None) -> list[File]:
    """Return the file, or those in it if it is a zip file."""
    try:
        if not path.is_file():  # a pipe is read once
            is_zip = False
        else:
            with path.open("rb") as file:
                is_zip = file.read(4) in _ZIP
        archive = zipfile.ZipFile(path) if is_zip else None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(f"is a damaged zip file, or cut off: {error}", path) from None
    if archive is None or _WORKBOOK in archive.namelist():
        if pattern is not None:
            raise InputError("is no zip file, and `members` chooses files of one", path)
        return [path]
    return _members(path, archive, pattern)


def _members(path: Path, archive: zipfile.ZipFile, pattern: str | None) -> list[File]:
    # macOS adds a file of its own beside each.
    held = {one.filename: one for one in archive.infolist() if not (one.is_dir() or "__MACOSX/" in one.filename)}
    chosen = sorted(name for name in held if pattern is None or fnmatch.fnmatchcase(name, pattern))
    if not chosen:
        what = "holds no file" if pattern is None else f"holds {len(held)} files, and `members: {pattern}` fits none"
        raise InputError(what, path)
    if pattern is None and len(chosen) > 1:
        suffixes = {Path(name).suffix for name in chosen}
        raise SeveralMembersError(len(held), f"*{suffixes.pop()}" if len(suffixes) == 1 else "", path)
    if twice := [name for name in chosen if archive.namelist().count(name) > 1]:
        raise InputError(f"holds two files of the name {twice[0]}", path)
    return [Member(path, name, held[name], archive) for name in chosen]


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, which could be waited for in vain."""
    return path.exists() and not path.is_file()


def _in_folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> t.NoReturn:
        raise InputError(f"cannot be listed: {error.strerror}", error.filename)

    found = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if name.lower().endswith(SUFFIXES) and not _is_special(Path(parent, name))
    )
    if not found:
        raise InputError("the folder holds no .csv file, compressed or not", folder)
    return found
