"""Files of a BATCH message: checked before anything is done with them."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from target_duckdb.errors import InputError

FORMATS = ("parquet", "jsonl")
COMPRESSIONS = (None, "none", "gzip")


@dataclass(frozen=True)
class Batch:
    """What a BATCH message announces."""

    format: str
    gzip: bool
    files: tuple[Path, ...]

    @classmethod
    def from_message(cls, message: t.Mapping[str, t.Any]) -> Batch:
        """Check a BATCH message.

        Raises:
            InputError: the encoding is unknown, or a file is not there.
        """
        encoding = message.get("encoding")
        manifest = message.get("manifest")
        if not isinstance(encoding, dict) or not isinstance(manifest, list):
            raise InputError("BATCH lacks its encoding or its manifest")
        kind, compression = encoding.get("format"), encoding.get("compression")
        if kind not in FORMATS:
            raise InputError(f"BATCH has format {kind!r}; known are {' and '.join(FORMATS)}")
        if compression not in COMPRESSIONS and kind == "jsonl":
            raise InputError(f"BATCH has compression {compression!r}; known are none and gzip")
        return cls(kind, kind == "jsonl" and compression == "gzip", tuple(_local(one) for one in manifest))

    def remove(self, folder: Path) -> None:
        """Remove the files that lie below a folder; a message may name others, which are somebody's own."""
        top = folder.resolve()
        for path in self.files:
            if path.parent.resolve().is_relative_to(top):
                path.unlink(missing_ok=True)


def _local(location: object) -> Path:
    if not isinstance(location, str):
        raise InputError("BATCH has a file in its manifest that is no text")
    scheme, there, rest = location.partition("://")
    if there and scheme != "file":
        raise InputError(f"BATCH has a file on {scheme}; only local files are read")
    path = Path(rest if there else location)
    if not path.is_file():
        path = Path(unquote(str(path)))  # taps differ in whether a blank is %20
    if not path.is_file():
        raise InputError("no such file", file=str(path))
    return path
