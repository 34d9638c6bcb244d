"""Objects of a bucket of S3 or Google, or of a container of Azure."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import typing as t
from dataclasses import dataclass, field

from tap_csv.errors import InputError
from tap_csv.remote.base import CHUNK_BYTES, MAGIC, LostError, Remote, chosen, library, matches

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult


_REFUSED = re.compile(r"status code: 40[13]\b|must be specified|MissingAccount")
"""What the library says, in an error of no kind, of credentials that are missing or refused."""


@dataclass(frozen=True)
class _Kind:
    """A kind of object storage.

    Attributes:
        store: the class of obstore.
        endpoints: variables that name another server than the usual one, the first that is set counts.
        endpoint: obstore's setting of that.
        bucket: obstore's setting of the bucket.
        credentials: where to look if access is refused.
    """

    store: str
    endpoints: tuple[str, ...]
    endpoint: str
    bucket: str
    credentials: str


_KINDS = {
    "s3": _Kind(
        "S3Store",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "endpoint",
        "bucket",
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    ),
    "gs": _Kind("GCSStore", ("GOOGLE_BASE_URL",), "base_url", "bucket", "GOOGLE_SERVICE_ACCOUNT"),
    "az": _Kind(
        "AzureStore",
        ("AZURE_STORAGE_ENDPOINT",),
        "endpoint",
        "container_name",
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
    ),
}


@dataclass(frozen=True)
class _Object:
    """An object of a bucket."""

    store: t.Any = field(repr=False)  # that of Azure fails
    key: str
    etag: str
    size: int
    shown: str
    credentials: str

    def read(self, begin: int) -> Iterator[bytes]:
        obstore = library("obstore", self.shown)
        if begin >= self.size:
            return
        options = {"if_match": self.etag} if self.etag else {}
        with _said(self.shown, self.credentials):
            ranged = {"range": {"offset": begin}} if begin else {}
            stream = iter(obstore.get(self.store, self.key, options={**options, **ranged}).stream(CHUNK_BYTES))
        while True:
            with _said(self.shown, self.credentials):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)


@contextlib.contextmanager
def _said(shown: str, credentials: str) -> Iterator[None]:
    """Say what a failure of the library is, without its words, which may hold parts of a request."""
    exceptions = library("obstore.exceptions", shown)
    try:
        yield
    except exceptions.PreconditionError:
        raise InputError("was changed while it was read", shown) from None
    except (exceptions.NotFoundError, FileNotFoundError):
        raise InputError("no such bucket or object", shown) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
        raise InputError(f"is refused: look at {credentials}", shown) from None
    except (exceptions.BaseError, OSError) as error:
        if _REFUSED.search(str(error)):
            raise InputError(f"is refused: look at {credentials}", shown) from None
        raise LostError(type(error).__name__) from None


def find(parts: SplitResult, shown: str, suffixes: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL; see `tap_csv.remote.find`."""
    obstore, store_module = library("obstore", shown), library("obstore.store", shown)
    kind = _KINDS[parts.scheme]
    key, bucket = parts.path.lstrip("/"), parts.netloc
    if parts.username is not None:
        raise InputError(f"credentials belong in {kind.credentials}", shown)
    endpoint = next(filter(None, map(os.environ.get, kind.endpoints)), "")
    options: dict[str, t.Any] = {"client_options": {"allow_http": endpoint.startswith("http://")}}
    if endpoint:
        options[kind.endpoint] = endpoint
    found: list[dict[str, t.Any]] = []
    with _said(shown, kind.credentials):
        store = getattr(store_module, kind.store)(**{kind.bucket: bucket}, **options)
        if MAGIC & set(key) or not key or key.endswith("/"):
            pattern = key if key and not key.endswith("/") else f"{key}**/*"
            prefix = "".join(itertools.takewhile(lambda one: one not in MAGIC, pattern)).rpartition("/")[0]
            for some in obstore.list(store, prefix or None):
                found += [dict(one) for one in some if matches(one["path"], pattern)]
            if pattern != key:
                found = [one for one in found if one["path"].lower().endswith(suffixes)]
        else:
            found = [dict(obstore.head(store, key))]
    files = []
    for one in found:
        name, etag = f"{parts.scheme}://{bucket}/{one['path']}", one["e_tag"] or ""
        place = _Object(store, one["path"], etag, one["size"], name, kind.credentials)
        files.append(Remote(name, one["size"], int(one["last_modified"].timestamp() * 1e6) * 1000, etag, place))
    return chosen(files, shown)
