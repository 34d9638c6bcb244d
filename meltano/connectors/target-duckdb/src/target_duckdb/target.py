"""The target: routes each message, and says STATE once what it covers is committed."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import logging
import time
import typing as t
from pathlib import Path

from elt_singer import scratch
from elt_singer.batch import KEYS, Batch
from elt_singer.json_schema import BIGINT
from elt_singer.messages import CONTINUES

from target_duckdb import database, messages
from target_duckdb.errors import (
    InputError,
    MissingKeyError,
    RecordBeforeSchemaError,
    SchemaError,
    SettingsError,
    UnfinishedError,
)
from target_duckdb.load import Loader
from target_duckdb.spool import Spool
from target_duckdb.stream import VERSION, Stream, read_schema, table_of

if t.TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from target_duckdb.config import Config

LOGGER = logging.getLogger("target-duckdb")

SPOOL_BYTES = 128 << 20
"""So much of records that wait is loaded, however few they are."""
_MOST_FILES = 200
"""So many streams have records that wait at the same time; each has a file open."""
_MOST_HEADS = 10_000
_KINDS = ("SCHEMA", "RECORD", "BATCH", "ACTIVATE_VERSION", KEYS)
"""Types of messages that belong to a stream."""


class Target:
    """Takes lines of Singer messages and loads them."""

    def __init__(self, config: Config, output: t.TextIO) -> None:
        """Open the database.

        Args:
            config: the settings.
            output: where STATE goes.
        """
        self._config = config
        self._output = output
        with contextlib.ExitStack() as opened:
            self._folder = opened.enter_context(scratch.folder("target-duckdb", config.temp_dir))
            self._connection, self._catalog = database.connect(config, self._folder)
            opened.callback(self._connection.close)
            self._loader = Loader(self._connection, config, self._folder)
            self._opened = opened.pop_all()
        self._streams: dict[str, Stream] = {}
        self._schemas: dict[str, t.Any] = {}
        self._heads: dict[bytes, Stream] = {}
        self._versions: dict[str, int] = {}
        """Versions that are to be activated once the SCHEMA of their stream comes."""
        self._unknown: set[str] = set()
        """Types of messages that were passed over."""
        self._line = 0
        self._waiting = 0
        self._waiting_bytes = 0
        self._waiting_streams = 0
        self._waiting_since = 0.0
        self._state = ""
        self._state_is_new = False
        self._committed = False
        self._complete = False
        """Whether the last message was a STATE, which says that the tap has sent all that comes before it."""

    def __enter__(self) -> t.Self:
        """Return the target itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database; what was not committed is gone."""
        for stream in self._streams.values():
            stream.spool.clear()
        self._opened.close()

    def run(self, source: t.BinaryIO) -> None:
        """Load all messages of the source.

        Raises:
            ConnectorError: at the first thing that does not fit; what was committed before it stays.
        """
        self.feed(messages.blocks(source))
        self.finish()

    def feed(self, blocks: Iterable[bytes]) -> None:
        """Take blocks of whole lines."""
        for block in blocks:
            if not self._take_records(block):
                for line in block[:-1].split(b"\n"):
                    self._take_line(line)
            if self._waiting and time.monotonic() - self._waiting_since > self._config.batch_wait_limit_seconds:
                self._flush()

    def finish(self) -> None:
        """Load what waits, let overwritten tables take their places, and say the last STATE."""
        self._flush()
        overwritten = [stream for stream in self._streams.values() if stream.overwrite]
        if overwritten:
            if not self._complete:
                self._loader.discard(overwritten)
                raise UnfinishedError(
                    "the input ends without a STATE after its last record, as when a tap dies: "
                    "what was to be overwritten stays as it was"
                )
            self._loader.swap(overwritten)
            for stream in overwritten:
                stream.overwrite = False
        self._say_state()
        for stream in self._streams.values():
            LOGGER.info("%s: %d rows loaded into %s", stream.name, stream.loaded, stream.goal)
            if stream.replaced:
                what = "%s: %d of these rows were replaced by later ones of the same key"
                LOGGER.warning(what, stream.name, stream.replaced)
        for name in self._versions:
            LOGGER.warning("%s: ACTIVATE_VERSION had no effect: no SCHEMA of the stream came", name)

    def _take_records(self, block: bytes) -> bool:
        """Take a block that is nothing but records of one stream: what makes most of the input, and is fast."""
        head = messages.head(block)
        stream = self._heads.get(head)
        if stream is None:
            return False
        lines = io.BytesIO(block).readlines()  # it and `startswith` take half the time of `count`
        rows = len(lines)
        if self._waiting + rows > self._config.batch_size_rows or messages.may_have_trailing_comma(block):
            return False
        if not all(map(bytes.startswith, lines, itertools.repeat(head))):
            return False
        self._add(stream, block, rows)
        return True

    def _take_line(self, line: bytes) -> None:
        stream = self._heads.get(messages.head(line))
        if stream is not None and not messages.may_have_trailing_comma(line):
            self._add(stream, line + b"\n", 1)
            return
        if not line.strip():
            self._line += 1
            return
        name, number = None, self._line + 1
        try:
            message = messages.parse(line)
            name = message.get("stream")
            self._take_message(message, line)
        except InputError as error:
            raise error.at(
                name if isinstance(name, str) else messages.guess_stream(line), number
            ) from error.__cause__
        except RecursionError:
            raise InputError("is nested too deeply").at(messages.guess_stream(line), number) from None

    def _take_state(self, message: dict[str, t.Any], line: bytes) -> None:
        if "value" not in message:
            raise InputError("STATE lacks its value")
        self._state, self._state_is_new, self._complete = messages.state_value(line), True, True
        self._line += 1
        if self._committed and not self._waiting:
            self._say_state()
            self._committed = False  # a tap may send many, and Meltano saves each

    def _take_message(self, message: dict[str, t.Any], line: bytes) -> None:
        kind = message["type"]
        if kind == "STATE":
            self._take_state(message, line)
            return
        if kind not in _KINDS:
            self._pass_over(kind)
            return
        self._complete = False
        name = message.get("stream")
        if not isinstance(name, str) or not name:
            raise InputError(f"{kind} lacks its stream")
        if kind == "SCHEMA":
            self._take_schema(name, message)
            self._line += 1
            return
        stream = self._streams.get(name)
        if kind == "ACTIVATE_VERSION":
            self._line += 1
            self._activate(name, stream, message)
        elif stream is None:
            raise RecordBeforeSchemaError(f"{kind} comes before the SCHEMA of its stream")
        elif kind == "RECORD":
            self._take_record(stream, message, line)
        else:
            batch = Batch.from_message(message)
            self._line += 1
            if kind == KEYS:
                self._reconcile(stream, batch)
            else:
                self._flush(stream, batch)

    def _pass_over(self, kind: str) -> None:
        """Say once of a type that it is unknown; singer.io lets a tap send messages of its own."""
        if kind.upper() in {"STATE", *_KINDS}:
            raise InputError(f"message type {kind!r} is to be written {kind.upper()}")
        self._line += 1
        if kind not in self._unknown:
            LOGGER.warning("line %d: messages of type %r are unknown and passed over", self._line, kind)
            self._unknown.add(kind)

    def _take_schema(self, name: str, message: dict[str, t.Any]) -> None:
        same = {key: message.get(key) for key in ("schema", "key_properties")}
        if self._schemas.get(name) == same:
            return
        columns, keys = read_schema(message, self._config)
        goal = table_of(name, self._catalog, self._config)
        before = self._streams.get(name)
        for other in self._streams.values():
            if other is not before and other.goal == goal:
                raise SchemaError(f"stream {other.name!r} goes to the same table {goal}")
        if before:
            self._flush()  # what waits belongs to the schema before
            self._heads = {head: stream for head, stream in self._heads.items() if stream is not before}
            before.spool.clear()
        spool = Spool(Path(self._folder, f"{len(self._schemas)}-{self._line}.jsonl"))
        overwrite = self._config.load_method == "overwrite"
        stream = Stream(
            name=name,
            columns=columns,
            keys=keys,
            goal=goal,
            spool=spool,
            metadata=self._config.metadata,
            versions=self._config.versions and all(column.name != VERSION for column in columns),
            overwrite=overwrite,
            upsert=self._config.load_method != "append-only",
            continues=bool(message.get(CONTINUES)),
            validator=_validator(message["schema"]) if self._config.validate_records else None,
        )
        if before:
            stream.begun, stream.versioned, stream.unversioned = before.begun, before.versioned, before.unversioned
            stream.loaded, stream.replaced = before.loaded, before.replaced
        self._streams[name] = stream
        self._schemas[name] = same
        if (version := self._versions.pop(name, None)) is not None and stream.versions:
            stream.activate = version
            self._flush()

    def _take_record(self, stream: Stream, message: dict[str, t.Any], line: bytes) -> None:
        record = message.get("record")
        if not isinstance(record, dict):
            raise InputError("RECORD lacks its record")
        for column in stream.columns:
            if column.name in stream.keys and len(column.path) == 1 and record.get(column.path[0]) is None:
                raise MissingKeyError("the record lacks a key", column=column.name)
        if stream.validator:
            for error in stream.validator.iter_errors(record):
                where = ".".join(map(str, error.absolute_path)) or None
                raise InputError(f"the record does not fit its schema: {error.validator}", column=where)
        else:
            head = messages.head(line)
            if messages.tells_stream(head, stream.name):
                if len(self._heads) >= _MOST_HEADS:  # something that changes stands before the record
                    self._heads.clear()
                self._heads[head] = stream
        self._add(stream, line + b"\n", 1)

    def _add(self, stream: Stream, block: bytes, rows: int) -> None:
        self._complete = False
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting_streams += not stream.spool.rows
        stream.spool.add(block, self._line + 1, rows)
        self._line += rows
        self._waiting += rows
        self._waiting_bytes += len(block)
        if (
            self._waiting >= self._config.batch_size_rows
            or self._waiting_bytes >= SPOOL_BYTES
            or self._waiting_streams >= _MOST_FILES
        ):
            self._flush()

    def _activate(self, name: str, stream: Stream | None, message: dict[str, t.Any]) -> None:
        version = message.get("version", "")
        if version is None:  # so a tap says that it has no versions
            LOGGER.warning("line %d: ACTIVATE_VERSION of %s has no effect: its version is null", self._line, name)
            return
        if not isinstance(version, int) or isinstance(version, bool) or version not in BIGINT:
            raise InputError("ACTIVATE_VERSION lacks its version, an integer")
        if stream is None:
            self._versions[name] = version
        elif stream.versions:
            stream.activate = version
            self._flush()

    def _reconcile(self, stream: Stream, keys: Batch) -> None:
        """Commit all that waits, then retire the rows whose keys the source no longer has."""
        if not stream.keys:
            raise InputError("KEYS of a stream that has none")
        self._flush()
        if stream.overwrite or not stream.upsert:
            LOGGER.warning("%s: KEYS have no effect with this load_method", stream.name)
        else:
            gone, back, missing = self._loader.reconcile(stream, keys)
            if gone or back:
                LOGGER.info("%s: %d rows are gone from the source, %d are there again", stream.name, gone, back)
            if missing:
                what = "%s: %d rows of the source are not in %s: load it anew by `--full-refresh`"
                LOGGER.warning(what, stream.name, missing, stream.goal)
        if self._config.batch_folder:
            keys.remove(self._config.batch_folder)

    def _flush(self, stream: Stream | None = None, batch: Batch | None = None) -> None:
        """Commit all that waits, and then a BATCH, and say the STATE that came before."""
        pending = [
            one for one in self._streams.values() if one.spool.rows or not one.fitted or one.activate is not None
        ]
        if not pending and batch is None:
            return
        self._loader.flush(pending, (stream, batch) if stream and batch else None)
        self._waiting = self._waiting_bytes = self._waiting_streams = 0
        self._say_state()
        self._committed = True
        if batch and self._config.batch_folder:
            batch.remove(self._config.batch_folder)

    def _say_state(self) -> None:
        """Write the last STATE that came, unless it was written or covers rows that are not in their place yet."""
        if not self._state_is_new or any(stream.overwrite for stream in self._streams.values()):
            return
        self._output.write(self._state + "\n")
        self._output.flush()
        self._state_is_new = False


def _validator(schema: dict[str, t.Any]) -> t.Any:  # noqa: ANN401 - of a package that may be absent
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ImportError:
        raise SettingsError("validate_records needs jsonschema: install elt-target-duckdb[validate]") from None
    return jsonschema.Draft7Validator(schema)
