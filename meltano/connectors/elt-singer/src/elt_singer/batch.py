"""Files of BATCH messages: where a tap writes them, what a message says of them, and when they go."""

from __future__ import annotations

import contextlib
import glob
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from elt_singer.errors import InputError, SettingsError
from elt_singer.scratch import STALE_SECONDS

FORMATS = ("parquet", "jsonl")
KEYS = "KEYS"
"""Type of a message of our own, of the form of BATCH: the keys of all rows that a source has of a stream."""
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

    def message(self, stream: str) -> dict[str, t.Any]:
        """Return the message that announces the files."""
        encoding = {"format": self.format, "compression": "gzip" if self.gzip else "none"}
        manifest = [f"file://{file}" for file in self.files]
        return {"type": "BATCH", "stream": stream, "encoding": encoding, "manifest": manifest}

    def remove(self, folder: Path) -> None:
        """Remove the files that lie below a folder; a message may name others, which are somebody's own."""
        top = folder.resolve()
        for path in self.files:
            if path.parent.resolve().is_relative_to(top):
                path.unlink(missing_ok=True)


def local(location: str) -> Path | None:
    """Return the path that a location names, which may be a URL of scheme `file`; none for another scheme."""
    scheme, there, rest = location.partition("://")
    if there and scheme != "file":
        return None
    return Path(rest if there else location)


def destination(setting: t.Mapping[str, t.Any] | None) -> tuple[Path | None, str]:
    """Return the folder for files of BATCH messages, if they are wanted, and what their names begin with.

    Args:
        setting: a tap's `batch_config`.

    Raises:
        SettingsError: it asks for another format than parquet, or for no local folder.
    """
    if not setting:
        return None, ""
    encoding, storage = setting.get("encoding") or {}, setting.get("storage") or {}
    if not isinstance(encoding, dict) or encoding.get("format") != "parquet":
        raise SettingsError("batch_config: encoding: format: only parquet is written")
    root = storage.get("root") if isinstance(storage, dict) else None
    if not isinstance(root, str) or not root:
        raise SettingsError("batch_config: storage: root: set the folder")
    folder = local(root)
    if folder is None:
        scheme = root.partition(":")[0]
        raise SettingsError(f"batch_config: storage: root: only local folders are written, not {scheme}")
    if not folder.is_dir():
        raise SettingsError(f"batch_config: storage: root: {folder} is no folder")
    return folder.absolute(), str(storage.get("prefix") or "")


def remove_stale(folder: Path, prefix: str) -> None:
    """Remove files that targets of other days have not read, as they failed or were killed."""
    for path in folder.glob(f"{glob.escape(prefix)}*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - STALE_SECONDS:
                path.unlink()


def _local(location: object) -> Path:
    if not isinstance(location, str):
        raise InputError("BATCH has a file in its manifest that is no text")
    path = local(location)
    if path is None:
        raise InputError(f"BATCH has a file on {location.partition(':')[0]}; only local files are read")
    if not path.is_file():
        path = Path(unquote(str(path)))  # taps differ in whether a blank is %20
    if not path.is_file():
        raise InputError("no such file", file=str(path))
    return path
