"""A file that lies elsewhere, and its bytes as they come."""

from __future__ import annotations

import fnmatch
import importlib
import itertools
import shutil
import tempfile
import time
import typing as t
import weakref
from dataclasses import dataclass, field
from pathlib import Path

from tap_csv.errors import InputError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 22
TIMEOUT_SECONDS = 60
MAGIC = frozenset("*?[")
"""Characters that make a glob of a name."""
_TRIES = 6
_FIRST_PAUSE_SECONDS = 0.2
"""Before the second try; each later one waits twice as long."""
_FREE_BYTES = 256 << 20
"""What a copy leaves free of the disk."""


class LostError(Exception):
    """The other side broke off, or cannot be reached just now."""


class Place(t.Protocol):
    """Where a file lies."""

    def read(self, begin: int) -> Iterator[bytes]:
        """Its bytes from one on.

        Raises:
            LostError: it is worth another try.
            InputError: it is not.
        """


@dataclass(frozen=True)
class Remote:
    """A file that lies elsewhere."""

    url: str
    size: int | None
    """Bytes; none where the server does not say."""
    mtime_ns: int
    """When it was changed last, in nanoseconds since 1970; 0 where the server does not say."""
    etag: str
    place: Place = field(compare=False)
    _copies: list[Path] = field(default_factory=list, compare=False)

    @property
    def stem(self) -> str:
        """Its name without folder and suffix."""
        return Path(self.url).stem

    def __str__(self) -> str:
        """Its name in messages, states and metadata."""
        return self.url

    def copy(self) -> Path:
        """Copy it to this machine, for what is not read from its beginning to its end; it goes with this object.

        Raises:
            InputError: the file cannot be read, or does not fit the disk.
        """
        if not self._copies:
            folder = tempfile.mkdtemp(prefix="tap-csv-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "copy")
            with Stream(self) as file, path.open("wb") as copy:
                while chunk := file.read(CHUNK_BYTES):
                    if shutil.disk_usage(folder).free - len(chunk) < _FREE_BYTES:
                        what = f"is too large for the disk of {folder}; TMPDIR names another folder"
                        raise InputError(what, self)
                    copy.write(chunk)
            self._copies.append(path)
        return self._copies[0]


class Stream:
    """The bytes of a file, asked for again from where they broke off."""

    def __init__(self, file: Remote, begin: int = 0) -> None:
        """Begin at a byte."""
        self._file = file
        self._offset = begin
        self._chunks: Iterator[bytes] = iter(())
        self._left = memoryview(b"")
        self._is_open = False

    def __enter__(self) -> t.Self:
        """Return the stream itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._close()

    def _close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close:
            close()

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end.

        Raises:
            InputError: the file cannot be read, or breaks off again and again.
        """
        if not self._left:
            self._left = memoryview(self._next())
        found, self._left = bytes(self._left[:size]), self._left[size:]
        return found

    def _next(self) -> bytes:
        for tries in itertools.count(1):
            try:
                if not self._is_open:
                    self._chunks, self._is_open = self._file.place.read(self._offset), True
                chunk = next(self._chunks, b"")
                if not chunk and self._file.size is not None and self._offset < self._file.size:
                    raise LostError(f"ends after {self._offset:,} of {self._file.size:,} bytes")  # noqa: TRY301
            except LostError as error:
                self._close()
                self._is_open = False
                pause(tries, f"cannot be read, after {tries} tries: {error}", self._file)
            else:
                self._offset += len(chunk)
                return chunk
        raise AssertionError


def pause(tries: int, what: str, where: object) -> None:
    """Wait before another try.

    Args:
        tries: how many failed.
        what: why, if no other shall follow.
        where: the file.

    Raises:
        InputError: there were enough.
    """
    if tries >= _TRIES:
        raise InputError(what, where) from None
    time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (tries - 1))


def library(name: str, shown: str) -> t.Any:  # noqa: ANN401 - a module, which may be missing
    """Import a library of the optional group `remote`.

    Raises:
        InputError: it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        what = f"{library} is missing: set ELT_GROUPS=remote in .env, and run scripts/bootstrap.sh"
        raise InputError(what, shown) from None


def matches(name: str, pattern: str) -> bool:
    """Whether a path is one of a glob; `**` stands for any folders."""
    return _match(name.split("/"), pattern.split("/"))


def _match(names: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_match(names[skipped:], patterns[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _match(names[1:], patterns[1:])


def chosen(files: list[Remote], shown: str) -> list[Remote]:
    """Sort files by their names.

    Raises:
        InputError: there is none.
    """
    if not files:
        raise InputError("no file matches", shown)
    return sorted(files, key=lambda one: one.url)
