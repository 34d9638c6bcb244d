"""The input as blocks of whole lines, and what one line says."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import typing as t
from collections import Counter

from target_duckdb.errors import InputError

if t.TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 20
_STREAM = re.compile(rb'"stream"\s*:\s*"([^"\\]+)"')
_TRAILING_COMMA = re.compile(rb",\s*[}\]]")
_ENDS = (re.compile(rb"\}(?<=[,\s]\})"), re.compile(rb"\](?<=[,\s]\])"))
"""Ends that one may stand before: a pattern that begins with a letter is searched for much faster."""
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SET_PIPE_SIZE = 1031
"""F_SETPIPE_SZ of Linux, which Python's fcntl does not name in every version."""


def blocks(source: t.BinaryIO) -> Iterator[bytes]:
    """Blocks that end at the end of a line; the last line gets an end if it lacks one."""
    _enlarge_pipe(source)
    rest: list[bytes] = []
    read = getattr(source, "read1", source.read)
    while chunk := read(BLOCK):
        end = chunk.rfind(b"\n") + 1
        if not end:
            rest.append(chunk)
            continue
        yield b"".join((*rest, chunk[:end]))
        rest = [chunk[end:]]
    if last := b"".join(rest):
        yield last + b"\n"


def _enlarge_pipe(source: t.BinaryIO) -> None:
    """Enlarge a pipe where Linux allows it: for its 64 KiB the tap and this program would take turns."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every platform

        with contextlib.suppress(OSError, ValueError):
            fcntl.fcntl(source.fileno(), _SET_PIPE_SIZE, BLOCK)


def parse(line: bytes) -> dict[str, t.Any]:
    """Return the message of a line.

    Raises:
        InputError: it is not JSON, or no message, or names a key twice; of other keys of a RECORD, DuckDB says so.
    """
    twice: set[str] = set()
    anywhere: set[str] = set()

    def once(members: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
        twice.clear()  # the message itself comes last
        if len(found := dict(members)) < len(members):
            twice.update(name for name, times in Counter(name for name, _ in members).items() if times > 1)
            anywhere.update(twice)
        return found

    try:
        message = json.loads(line, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError:
        raise InputError("is not JSON: wrong encoding") from None
    except RecursionError:
        raise InputError("is nested too deeply") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InputError("is no Singer message: it lacks its type")
    kind = message["type"]
    if wrong := anywhere if kind == "SCHEMA" else twice & {"type", "stream"} if kind == "RECORD" else twice:
        raise InputError(f"the key {min(wrong)!r} stands twice")
    return message


def state_value(line: bytes) -> str:
    """Return the value of a STATE message as it is written, since Python would round a long fraction; in ASCII."""
    text, decoder = line.decode(json.detect_encoding(line), "surrogatepass"), json.JSONDecoder()
    at, found = text.index("{") + 1, ""
    while text[at:].lstrip()[:1] not in {"}", ""}:
        at = text.index('"', at)
        name, at = decoder.raw_decode(text, at)
        begin = len(text) - len(text[at:].lstrip(" \t\r\n:"))  # a value begins with no colon
        _, at = decoder.raw_decode(text, begin)
        found = text[begin:at] if name == "value" else found
    return _NOT_ASCII.sub(lambda char: json.dumps(char[0])[1:-1], found)


def may_have_trailing_comma(block: bytes) -> bool:
    """Whether a comma seems to stand before the end of an object or an array, if not in a text; DuckDB takes that."""
    brace, bracket = _ENDS
    if not brace.search(block) and (b"]" not in block or not bracket.search(block)):
        return False
    return _TRAILING_COMMA.search(block) is not None


def head(line: bytes) -> bytes:
    """Return the beginning of a line, up to where a record's own members begin if the record comes last but one."""
    return line[: line.find(b"{", 1) + 1]


def tells_stream(beginning: bytes, stream: str) -> bool:
    """Whether a line that begins so is a RECORD of the stream, whatever follows."""
    try:
        message = json.loads(beginning + b"}}")
    except ValueError:
        return False
    return (
        isinstance(message, dict)
        and message.get("type") == "RECORD"
        and message.get("stream") == stream
        and message.get("record") == {}
    )


def guess_stream(line: bytes) -> str | None:
    """Return the stream that a line seems to be of, which is no JSON."""
    found = _STREAM.search(line)
    return found[1].decode(errors="replace") if found else None
