"""Files of a server of SFTP."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import typing as t
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote

from tap_csv.errors import InputError
from tap_csv.remote.base import CHUNK_BYTES, MAGIC, TIMEOUT_SECONDS, LostError, Remote, chosen, library, matches

if t.TYPE_CHECKING:
    from collections.abc import Iterator


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
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk


@contextlib.contextmanager
def _of_sftp(shown: str) -> Iterator[None]:
    paramiko = library("paramiko", shown)
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
        raise LostError(type(error).__name__) from None


@contextlib.contextmanager
def _connected(parts: SplitResult, shown: str) -> Iterator[t.Any]:
    paramiko = library("paramiko", shown)
    client = paramiko.SSHClient()
    with _of_sftp(shown):
        client.load_system_host_keys(os.environ.get("TAP_CSV_SFTP_KNOWN_HOSTS") or None)
        password = unquote(parts.password) if parts.password else os.environ.get("TAP_CSV_SFTP_PASSWORD")
        client.connect(
            parts.hostname or "",
            parts.port or 22,
            unquote(parts.username) if parts.username else None,
            password,
            timeout=TIMEOUT_SECONDS,
            look_for_keys=password is None,
            allow_agent=password is None,
        )
    try:
        with _of_sftp(shown):
            sftp = client.open_sftp()
            sftp.get_channel().settimeout(TIMEOUT_SECONDS)
        yield sftp
    finally:
        client.close()


def find(parts: SplitResult, shown: str, suffixes: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL; see `tap_csv.remote.find`."""
    path = unquote(parts.path)
    is_folder = path.endswith("/")
    pattern = f"{path}**/*" if is_folder else path
    base = shown.removesuffix(parts.path)
    with _connected(parts, shown) as client, _of_sftp(shown):
        if MAGIC & set(pattern):
            top = "".join(itertools.takewhile(lambda one: one not in MAGIC, pattern)).rpartition("/")[0] or "/"
            found = [one for one in _walked(client, top, "**" in pattern, pattern) if matches(one[0], pattern)]
            if is_folder:
                found = [one for one in found if one[0].lower().endswith(suffixes)]
        else:
            found = [(path, client.stat(path))]
    files = [
        Remote(f"{base}{name}", one.st_size, int(one.st_mtime or 0) * 10**9, "", _Sftp(parts, name, f"{base}{name}"))
        for name, one in found
    ]
    return chosen(files, shown)


def _walked(client: t.Any, folder: str, is_deep: bool, pattern: str) -> Iterator[tuple[str, t.Any]]:  # noqa: ANN401, FBT001
    for one in client.listdir_attr(folder):
        path = f"{folder.rstrip('/')}/{one.filename}"
        if not stat.S_ISDIR(one.st_mode or 0):
            yield path, one
        elif is_deep or path.count("/") < pattern.count("/"):
            yield from _walked(client, path, is_deep, pattern)
