"""The SDK's msgspec writer, which leaves it to Python when a record reaches the pipe."""

from __future__ import annotations

import sys
import typing as t

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib.encoding.simple import RecordMessage

if t.TYPE_CHECKING:
    from singer_sdk.singerlib.encoding.simple import Message


class Writer(MsgSpecWriter):
    """Flushes no record by itself: a system call for each costs as much as all the rest of the work on it."""

    def write_message(self, message: Message) -> None:
        """Write a message to stdout; one that is no record takes all records before it along."""
        sys.stdout.buffer.write(self.serialize_message(message))
        if not isinstance(message, RecordMessage):
            sys.stdout.flush()
