"""Files that lie elsewhere, on https, sftp or in buckets: read as they come, asked for again where they break off.

No message holds a credential: a file is named by its URL without user, password and query.
"""

from __future__ import annotations

import importlib
import itertools
import typing as t
from urllib.parse import SplitResult, urlsplit

from tap_csv.errors import InputError
from tap_csv.remote.base import LostError, Remote, Stream, matches, pause

__all__ = ["SCHEMES", "Remote", "Stream", "find", "matches", "name_of"]

SCHEMES = {"https": "http", "http": "http", "s3": "bucket", "gs": "bucket", "az": "bucket", "sftp": "sftp"}
"""The module of each scheme, imported where a URL has it: the libraries of HTTP alone take a tenth of a start."""


def find(named: str, suffixes: tuple[str, ...]) -> list[Remote]:
    """List the files of a URL, sorted by their names.

    Args:
        named: a URL, but for https with `*`, `?`, `[...]` and `**`, or of a folder, which ends with `/`.
        suffixes: what a folder is searched for.

    Raises:
        InputError: there is none, the other side refuses it, or a library is missing.
    """
    parts, shown = urlsplit(named), name_of(named)
    if parts.scheme not in SCHEMES:
        raise InputError(f"only {', '.join(SCHEMES)} and files of this machine are read", shown)
    module = importlib.import_module(f"{__name__}.{SCHEMES[parts.scheme]}")
    for tries in itertools.count(1):
        try:
            return t.cast("list[Remote]", module.find(parts, shown, suffixes))
        except LostError as error:
            pause(tries, f"cannot be reached, after {tries} tries: {error}", shown)
    raise AssertionError


def name_of(named: str) -> str:
    """Return a URL without user, password and query."""
    parts = urlsplit(named)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{_port(parts)}' if _port(parts) else ''}{parts.path}"


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None
