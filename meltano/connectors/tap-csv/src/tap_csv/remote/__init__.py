"""Files that lie elsewhere, on https, sftp or in buckets: read as they come, asked for again where they break off.

No message holds a credential: a file is named by its URL without user, password and query.
"""

from __future__ import annotations

import importlib
import itertools
import typing as t
from urllib.parse import urlsplit

from tap_csv.errors import InputError
from tap_csv.remote.base import LostError, Remote, Stream, matches, pause

__all__ = ["SCHEMES", "Remote", "Stream", "find", "matches", "name_of"]

SCHEMES = {"https": "http", "http": "http", "s3": "bucket", "gs": "bucket", "az": "bucket", "sftp": "sftp"}
"""The module of each scheme, imported where a URL has it: the libraries of HTTP alone take a tenth of a start."""

_HIDDEN = "://..."
"""What is shown of a URL that cannot be taken apart."""


def find(named: str, suffixes: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL, sorted by their names.

    Args:
        named: a URL, but for https with `*`, `?`, `[...]` and `**`, or of a folder, which ends with `/`.
        suffixes: what a folder is searched for.

    Raises:
        InputError: there is none, the other side refuses it, or a library is missing.
    """
    shown = name_of(named)
    if shown.endswith(_HIDDEN):
        what = "is no URL; within a user or a password `/` is written %2F, `#` %23, `?` %3F and `@` %40"
        raise InputError(what, shown)
    parts = urlsplit(named)
    if parts.scheme not in SCHEMES:
        raise InputError(f"only {', '.join(SCHEMES)} and files of this machine are read", shown)
    if not parts.hostname:
        raise InputError("names no host: `https://HOST/FILE`, `s3://BUCKET/FILE`", shown)
    module = importlib.import_module(f"{__name__}.{SCHEMES[parts.scheme]}")
    for tries in itertools.count(1):
        try:
            return t.cast("list[Remote]", module.find(parts, shown, suffixes))
        except LostError as error:
            pause(tries, f"cannot be reached, after {tries} tries: {error}", shown)
    raise AssertionError


def name_of(named: str) -> str:
    """Return a URL without user, password and query; of what is none, nothing that may be part of a secret."""
    try:
        parts = urlsplit(named)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return named.partition("://")[0] + _HIDDEN
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
