"""Compressed files, known by their first bytes, whatever their names are."""

from __future__ import annotations

import bz2
import lzma
import sys
import typing as t
import zlib
from dataclasses import dataclass

from tap_csv.errors import InputError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_csv.files import File

MARK = 10
"""First bytes of a file that tell how it is compressed."""
_XZ_MEMORY = 256 << 20
"""Bytes that a file may ask for to be decompressed; `xz -9` asks for 65 MiB."""


class _Unpacker(t.Protocol):
    """What the compressors of Python have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gunzip:
    """A member of a gzip file, read as the other compressors read theirs."""

    def __init__(self) -> None:
        """Begin."""
        self._unpacker = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        """Whether its end was read."""
        return self._unpacker.eof

    @property
    def needs_input(self) -> bool:
        """Whether all that was handed over is used up."""
        return not self._unpacker.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        """What stands behind its end."""
        return self._unpacker.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        """At most so many bytes of it."""
        return self._unpacker.decompress(self._unpacker.unconsumed_tail + data, max_length)


def _unzstd() -> _Unpacker:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only where a file asks for it
    else:
        from backports import zstd  # noqa: PLC0415 - likewise
    return t.cast("_Unpacker", zstd.ZstdDecompressor())


@dataclass(frozen=True)
class Packing:
    """A way to compress a file."""

    name: str
    marks: tuple[bytes, ...]
    unpacker: Callable[[], _Unpacker]


_PACKINGS = (
    Packing("gzip", (b"\x1f\x8b",), _Gunzip),
    Packing("zstd", (b"\x28\xb5\x2f\xfd",), _unzstd),
    Packing(
        "bzip2",
        tuple(b"BZh%d%s" % (level, block) for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")),
        bz2.BZ2Decompressor,
    ),
    Packing("xz", (b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
)


def packing_of(begin: bytes) -> Packing | None:
    """How a file is compressed that begins so; none if it is not."""
    return next((one for one in _PACKINGS if begin.startswith(one.marks)), None)


def unpacked(packing: Packing, chunks: Iterator[bytes], size: int, file: File) -> Iterator[bytes]:
    """Return what a compressed file holds, checked against the sums that it has of it.

    Args:
        packing: how it is compressed.
        chunks: its bytes.
        size: most bytes to yield at once.
        file: for messages.

    Raises:
        InputError: it is cut off or damaged.
    """
    data = next(chunks, b"")
    try:
        while data:
            unpacker = packing.unpacker()
            while not unpacker.eof:
                plain = unpacker.decompress(data, size)
                yield plain
                data = b""
                if not unpacker.eof and unpacker.needs_input:
                    data = next(chunks, b"")
                    if not data and not plain:
                        raise InputError(f"is cut off: the {packing.name} file lacks its end", file)  # noqa: TRY301
            data = unpacker.unused_data.lstrip(b"\0")
            while not data and (chunk := next(chunks, b"")):
                data = chunk.lstrip(b"\0")  # padding, which gzip and xz pass over too
    except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise InputError(f"is a damaged {packing.name} file: {error}", file) from None
    except Exception as error:  # each library of zstd has an error of its own
        if type(error).__name__ != "ZstdError":
            raise
        raise InputError(f"is a damaged {packing.name} file: {error}", file) from None
