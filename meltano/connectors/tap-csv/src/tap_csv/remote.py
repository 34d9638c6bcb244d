"""Files that lie elsewhere: https, s3 and sftp. They are read as they come, and asked for again where they break off.

No message holds a credential: a file is named by its URL without user, password and query.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import fnmatch
import http.client
import importlib
import itertools
import os
import shutil
import stat
import tempfile
import time
import typing as t
import urllib.error
import urllib.request
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from tap_csv.errors import InputError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMES = ("https", "http", "s3", "sftp")
_TRIES = 6
_FIRST_PAUSE = 0.2
"""Seconds before the second try; each later one waits twice as long."""
_CHUNK = 1 << 22
_TIMEOUT = 60
_FREE = 256 << 20
"""Bytes of the disk that a copy leaves free."""
_MAGIC = frozenset("*?[")


class _LostError(Exception):
    """The other side broke off, or cannot be reached just now."""


class _Place(t.Protocol):
    """Where a file lies."""

    def read(self, begin: int) -> Iterator[bytes]:
        """Its bytes from one on.

        Raises:
            _LostError: it is worth another try.
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
    place: _Place = field(compare=False)
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
                while chunk := file.read(_CHUNK):
                    if shutil.disk_usage(folder).free - len(chunk) < _FREE:
                        what = f"is too large for the disk of {folder}; TMPDIR names another folder"
                        raise InputError(what, self)
                    copy.write(chunk)
            self._copies.append(path)
        return self._copies[0]


class Stream:
    """The bytes of a file, asked for again from where they broke off."""

    def __init__(self, file: Remote) -> None:
        """Begin."""
        self._file = file
        self._offset = 0
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
                    raise _LostError(f"ends after {self._offset:,} of {self._file.size:,} bytes")  # noqa: TRY301
            except _LostError as error:
                self._close()
                self._is_open = False
                if tries == _TRIES:
                    raise InputError(f"cannot be read, after {tries} tries: {error}", self._file) from None
                time.sleep(_FIRST_PAUSE * 2 ** (tries - 1))
            else:
                self._offset += len(chunk)
                return chunk
        raise AssertionError


def find(named: str, suffixes: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL, sorted by their names.

    Args:
        named: a URL, but for https with `*`, `?`, `[...]` and `**`, or of a folder, which ends with `/`.
        suffixes: what a folder is searched for.

    Raises:
        InputError: there is none, the other side refuses it, or a library is missing.
    """
    parts = urlsplit(named)
    shown = f"{parts.scheme}://{parts.hostname or ''}{f':{_port(parts)}' if _port(parts) else ''}{parts.path}"
    if parts.scheme not in SCHEMES:
        raise InputError(f"only {', '.join(SCHEMES)} and files of this machine are read", shown)
    for tries in itertools.count(1):
        try:
            return {"s3": _s3, "sftp": _sftp}.get(parts.scheme, _http)(parts, shown, suffixes)
        except _LostError as error:
            if tries == _TRIES:
                raise InputError(f"cannot be reached, after {tries} tries: {error}", shown) from None
            time.sleep(_FIRST_PAUSE * 2 ** (tries - 1))
    raise AssertionError


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None


def _library(name: str, shown: str) -> t.Any:  # noqa: ANN401 - a module, which may be missing
    """Import a library of the optional group `remote`.

    Raises:
        InputError: it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        what = f"{library} is missing: install the optional group `remote`: ELT_GROUPS=remote scripts/bootstrap.sh"
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


def _chosen(files: list[Remote], shown: str) -> list[Remote]:
    if not files:
        raise InputError("no file matches", shown)
    return sorted(files, key=lambda one: one.url)


# https


@dataclass(frozen=True)
class _Http:
    """A file of a server of HTTP."""

    url: str
    authorization: str
    shown: str
    etag: str = ""

    def open(self, method: str = "GET", begin: int = 0) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.url, method=method)  # noqa: S310 - the scheme was looked at
        if self.authorization:
            request.add_unredirected_header("Authorization", self.authorization)  # for this server alone
        if begin:
            request.add_header("Range", f"bytes={begin}-")
            if self.etag and not self.etag.startswith("W/"):
                request.add_header("If-Range", self.etag)
        try:
            return t.cast("http.client.HTTPResponse", urllib.request.urlopen(request, timeout=_TIMEOUT))  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            if error.code >= 500 or error.code in {408, 425, 429}:
                raise _LostError(f"HTTP status {error.code}") from None
            raise InputError(f"is refused: HTTP status {error.code}", self.shown) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _LostError(getattr(reason, "strerror", None) or type(reason).__name__) from None

    def read(self, begin: int) -> Iterator[bytes]:
        with self.open(begin=begin) as answer:
            skip = begin if answer.status == http.client.OK else 0  # it knows no ranges, or the file is another
            if begin and answer.headers.get("ETag", "") != self.etag:
                raise InputError("was changed while it was read", self.shown)
            while True:
                try:
                    chunk = answer.read(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _LostError(f"it broke off ({type(error).__name__})") from None
                if not chunk:
                    return
                gone = min(skip, len(chunk))
                skip -= gone
                if gone < len(chunk):
                    yield chunk[gone:]


def _http(parts: SplitResult, shown: str, _: tuple[str, ...]) -> list[Remote]:
    authorization = os.environ.get("TAP_CSV_HTTP_AUTHORIZATION", "")
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if _MAGIC & set(parts.path):
        raise InputError("a server of HTTP lists no files: name each", shown)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    place = _Http(url, authorization, shown)
    try:
        answer = place.open("HEAD")
    except InputError:
        answer = place.open()  # some refuse HEAD alone
    with answer:
        length, changed = answer.headers.get("Content-Length"), answer.headers.get("Last-Modified")
        etag = answer.headers.get("ETag", "")
    mtime = email.utils.parsedate_to_datetime(changed).timestamp() if changed else 0
    size = int(length) if length and length.isdecimal() and not answer.headers.get("Content-Encoding") else None
    return [Remote(shown, size, int(mtime) * 10**9, etag, _Http(url, authorization, shown, etag))]


# s3


@dataclass(frozen=True)
class _Object:
    """An object of S3."""

    store: t.Any
    key: str
    etag: str
    size: int
    shown: str

    def read(self, begin: int) -> Iterator[bytes]:
        obstore = _library("obstore", self.shown)
        if begin >= self.size:
            return
        options = {"if_match": self.etag} if self.etag else {}
        with _of_s3(self.shown):
            ranged = {"range": {"offset": begin}} if begin else {}
            stream = iter(obstore.get(self.store, self.key, options={**options, **ranged}).stream(_CHUNK))
        while True:
            with _of_s3(self.shown):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)


@contextlib.contextmanager
def _of_s3(shown: str) -> Iterator[None]:
    """Say what a failure of the library is, without its words, which may hold parts of a request."""
    exceptions = _library("obstore.exceptions", shown)
    try:
        yield
    except exceptions.PreconditionError:
        raise InputError("was changed while it was read", shown) from None
    except (exceptions.NotFoundError, FileNotFoundError):
        raise InputError("no such bucket or object", shown) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
        what = "is refused: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"
        raise InputError(what, shown) from None
    except (exceptions.BaseError, OSError) as error:
        raise _LostError(type(error).__name__) from None


def _s3(parts: SplitResult, shown: str, suffixes: tuple[str, ...]) -> list[Remote]:
    obstore, store_module = _library("obstore", shown), _library("obstore.store", shown)
    key, bucket = parts.path.lstrip("/"), parts.netloc
    if parts.username is not None:
        raise InputError("credentials belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", shown)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    options: dict[str, t.Any] = {"client_options": {"allow_http": endpoint.startswith("http://")}}
    if endpoint:
        options["endpoint"] = endpoint
    found: list[dict[str, t.Any]] = []
    with _of_s3(shown):
        store = store_module.S3Store(bucket, **options)
        if _MAGIC & set(key) or not key or key.endswith("/"):
            pattern = key if key and not key.endswith("/") else f"{key}**/*"
            prefix = "".join(itertools.takewhile(lambda one: one not in _MAGIC, pattern)).rpartition("/")[0]
            for some in obstore.list(store, prefix or None):
                found += [dict(one) for one in some if matches(one["path"], pattern)]
            if pattern != key:
                found = [one for one in found if one["path"].lower().endswith(suffixes)]
        else:
            found = [dict(obstore.head(store, key))]
    files = []
    for one in found:
        name, etag = f"s3://{bucket}/{one['path']}", one["e_tag"] or ""
        place = _Object(store, one["path"], etag, one["size"], name)
        files.append(Remote(name, one["size"], int(one["last_modified"].timestamp() * 1e6) * 1000, etag, place))
    return _chosen(files, shown)


# sftp


@dataclass(frozen=True)
class _Sftp:
    """A file of a server of SFTP."""

    parts: SplitResult
    path: str
    shown: str

    def read(self, begin: int) -> Iterator[bytes]:
        with _connected(self.parts, self.shown) as client, _of_sftp(self.shown):
            size = client.stat(self.path).st_size or 0
            with client.open(self.path, "rb") as file:
                file.seek(begin)
                file.prefetch(size)
                while chunk := file.read(_CHUNK):
                    yield chunk


@contextlib.contextmanager
def _of_sftp(shown: str) -> Iterator[None]:
    paramiko = _library("paramiko", shown)
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"cannot be read: {error.strerror}", shown) from None
    except paramiko.AuthenticationException:
        raise InputError("is refused: look at user, key and TAP_CSV_SFTP_PASSWORD", shown) from None
    except paramiko.BadHostKeyException:
        raise InputError("is of another host than its key in known_hosts says", shown) from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        if "not found in known_hosts" in str(error):
            what = "its host is not in known_hosts: connect once by ssh, or set TAP_CSV_SFTP_KNOWN_HOSTS"
            raise InputError(what, shown) from None
        raise _LostError(type(error).__name__) from None


@contextlib.contextmanager
def _connected(parts: SplitResult, shown: str) -> Iterator[t.Any]:
    paramiko = _library("paramiko", shown)
    client = paramiko.SSHClient()
    with _of_sftp(shown):
        client.load_system_host_keys(os.environ.get("TAP_CSV_SFTP_KNOWN_HOSTS") or None)
        password = unquote(parts.password) if parts.password else os.environ.get("TAP_CSV_SFTP_PASSWORD")
        client.connect(
            parts.hostname or "",
            parts.port or 22,
            unquote(parts.username) if parts.username else None,
            password,
            timeout=_TIMEOUT,
            look_for_keys=password is None,
            allow_agent=password is None,
        )
    try:
        with _of_sftp(shown):
            sftp = client.open_sftp()
            sftp.get_channel().settimeout(_TIMEOUT)
        yield sftp
    finally:
        client.close()


def _sftp(parts: SplitResult, shown: str, suffixes: tuple[str, ...]) -> list[Remote]:
    path = unquote(parts.path)
    is_folder = path.endswith("/")
    pattern = f"{path}**/*" if is_folder else path
    base = shown.removesuffix(parts.path)
    with _connected(parts, shown) as client, _of_sftp(shown):
        if _MAGIC & set(pattern):
            top = "".join(itertools.takewhile(lambda one: one not in _MAGIC, pattern)).rpartition("/")[0] or "/"
            found = [one for one in _walked(client, top, "**" in pattern, pattern) if matches(one[0], pattern)]
            if is_folder:
                found = [one for one in found if one[0].lower().endswith(suffixes)]
        else:
            found = [(path, client.stat(path))]
    files = [
        Remote(f"{base}{name}", one.st_size, int(one.st_mtime or 0) * 10**9, "", _Sftp(parts, name, f"{base}{name}"))
        for name, one in found
    ]
    return _chosen(files, shown)


def _walked(client: t.Any, folder: str, is_deep: bool, pattern: str) -> Iterator[tuple[str, t.Any]]:  # noqa: ANN401, FBT001
    for one in client.listdir_attr(folder):
        path = f"{folder.rstrip('/')}/{one.filename}"
        if not stat.S_ISDIR(one.st_mode or 0):
            yield path, one
        elif is_deep or path.count("/") < pattern.count("/"):
            yield from _walked(client, path, is_deep, pattern)
