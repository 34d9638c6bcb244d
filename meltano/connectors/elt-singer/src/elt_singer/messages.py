"""Messages that a tap writes, but for RECORD, which DuckDB writes faster."""

from __future__ import annotations

import json
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    Json = dict[str, t.Any]


CONTINUES = "x-singer.continues"
"""Key of a SCHEMA message whose rows follow on those of an earlier run, without which they are a part alone."""


def schema(stream: str, found: Json, keys: Sequence[str], *, continues: bool = False) -> Json:
    """Return a SCHEMA message."""
    message = {"type": "SCHEMA", "stream": stream, "schema": found, "key_properties": keys}
    return message | ({CONTINUES: True} if continues else {})


def state(value: Json) -> Json:
    """Return a STATE message."""
    return {"type": "STATE", "value": value}


def write(output: t.BinaryIO, message: Json) -> None:
    """Write a message and flush it, so that the target begins with it."""
    output.write(json.dumps(message).encode() + b"\n")
    output.flush()
