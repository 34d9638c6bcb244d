"""Files of a server of HTTP."""

from __future__ import annotations

import base64
import email.utils
import http.client
import os
import string
import typing as t
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote

from tap_csv.errors import InputError
from tap_csv.remote.base import CHUNK_BYTES, MAGIC, TIMEOUT_SECONDS, LostError, Remote

if t.TYPE_CHECKING:
    from collections.abc import Iterator


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
            return t.cast("http.client.HTTPResponse", urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS))  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            if error.code >= 500 or error.code in {408, 425, 429}:
                raise LostError(f"HTTP status {error.code}") from None
            raise InputError(f"is refused: HTTP status {error.code}", self.shown) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise LostError(getattr(reason, "strerror", None) or type(reason).__name__) from None

    def read(self, begin: int) -> Iterator[bytes]:
        with self.open(begin=begin) as answer:
            skip = begin if answer.status == http.client.OK else 0  # it knows no ranges, or the file is another
            if begin and answer.headers.get("ETag", "") != self.etag:
                raise InputError("was changed while it was read", self.shown)
            while True:
                try:
                    chunk = answer.read(CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise LostError(f"it broke off ({type(error).__name__})") from None
                if not chunk:
                    return
                gone = min(skip, len(chunk))
                skip -= gone
                if gone < len(chunk):
                    yield chunk[gone:]


def find(parts: SplitResult, shown: str, _: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL; see `tap_csv.remote.find`."""
    authorization = os.environ.get("TAP_CSV_HTTP_AUTHORIZATION", "")
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if MAGIC & set(parts.path):
        raise InputError("a server of HTTP lists no files: name each", shown)
    ascii_only = {name: quote(getattr(parts, name), safe=string.punctuation) for name in ("path", "query")}
    host = parts.netloc.rpartition("@")[2].encode("idna").decode()
    url = parts._replace(netloc=host, fragment="", **ascii_only).geturl()
    place = _Http(url, authorization, shown)
    try:
        answer = place.open("HEAD")
    except InputError:
        answer = place.open()  # some refuse HEAD alone
    with answer:
        length, changed = answer.headers.get("Content-Length"), answer.headers.get("Last-Modified")
        etag = answer.headers.get("ETag", "")
    try:
        mtime = email.utils.parsedate_to_datetime(changed).timestamp() if changed else 0
    except (ValueError, OverflowError):
        raise InputError(
            f"the server says a time of change that is none: Last-Modified: {str(changed)[:80]!r}", shown
        ) from None
    size = int(length) if length and length.isdecimal() and not answer.headers.get("Content-Encoding") else None
    return [Remote(shown, size, int(mtime) * 10**9, etag, _Http(url, authorization, shown, etag))]
