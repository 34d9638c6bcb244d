"""Objects of a bucket of S3."""

from __future__ import annotations

import contextlib
import itertools
import os
import typing as t
from dataclasses import dataclass

from tap_csv.errors import InputError
from tap_csv.remote.base import CHUNK_BYTES, MAGIC, LostError, Remote, chosen, library, matches

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult


@dataclass(frozen=True)
class _Object:
    """An object of S3."""

    store: t.Any
    key: str
    etag: str
    size: int
    shown: str

    def read(self, begin: int) -> Iterator[bytes]:
        obstore = library("obstore", self.shown)
        if begin >= self.size:
            return
        options = {"if_match": self.etag} if self.etag else {}
        with _of_s3(self.shown):
            ranged = {"range": {"offset": begin}} if begin else {}
            stream = iter(obstore.get(self.store, self.key, options={**options, **ranged}).stream(CHUNK_BYTES))
        while True:
            with _of_s3(self.shown):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)


@contextlib.contextmanager
def _of_s3(shown: str) -> Iterator[None]:
    """Say what a failure of the library is, without its words, which may hold parts of a request."""
    exceptions = library("obstore.exceptions", shown)
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
        raise LostError(type(error).__name__) from None


def find(parts: SplitResult, shown: str, suffixes: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL; see `tap_csv.remote.find`."""
    obstore, store_module = library("obstore", shown), library("obstore.store", shown)
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
        name, etag = f"s3://{bucket}/{one['path']}", one["e_tag"] or ""
        place = _Object(store, one["path"], etag, one["size"], name)
        files.append(Remote(name, one["size"], int(one["last_modified"].timestamp() * 1e6) * 1000, etag, place))
    return chosen(files, shown)
