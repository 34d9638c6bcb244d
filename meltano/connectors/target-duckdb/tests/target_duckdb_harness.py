"""Messages to send to the target, and a warehouse for it to load into."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import typing as t
from dataclasses import dataclass

import duckdb
from elt_singer.errors import ConnectorError
from target_duckdb.config import Config
from target_duckdb.target import Target

if t.TYPE_CHECKING:
    from pathlib import Path

Message = dict[str, t.Any]


def schema(
    properties: dict[str, t.Any] | None = None, *, stream: str = "things", keys: t.Sequence[str] = ("id",)
) -> Message:
    """A SCHEMA message, of an id and a text unless told otherwise."""
    properties = properties or {"id": {"type": "integer"}, "a": {"type": ["null", "string"]}}
    return {"type": "SCHEMA", "stream": stream, "schema": {"properties": properties}, "key_properties": list(keys)}


def record(values: dict[str, t.Any], *, stream: str = "things", **extra: t.Any) -> Message:
    """A RECORD message."""
    return {"type": "RECORD", "stream": stream, "record": values, **extra}


def state(value: t.Any) -> Message:
    """A STATE message."""
    return {"type": "STATE", "value": value}


def lines(messages: t.Iterable[Message | str | bytes]) -> bytes:
    """Messages as a target reads them; text and bytes are taken as they are."""
    parts = (json.dumps(one) if isinstance(one, dict) else one for one in messages)
    return b"".join((one.encode() if isinstance(one, str) else one) + b"\n" for one in parts)


@dataclass
class Loaded:
    """What one run of the target gave."""

    states: list[t.Any]
    error: ConnectorError | None


@dataclass
class Warehouse:
    """A database file and a target that loads into it."""

    path: Path

    def load(self, *messages: Message | str | bytes, **settings: t.Any) -> Loaded:
        """Run the target in this process."""
        output = io.StringIO()
        error = None
        config = Config.from_dict({"path": str(self.path), "primary_key_required": False, **settings})
        try:
            with Target(config, output) as target:
                target.run(io.BytesIO(lines(messages)))
        except ConnectorError as caught:
            error = caught
        return Loaded([json.loads(line) for line in output.getvalue().splitlines()], error)

    def run(
        self,
        *messages: Message | str | bytes,
        program: tuple[str, str] = ("-m", "target_duckdb.cli"),
        **settings: t.Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run the target as a program."""
        config = self.path.with_suffix(".json")
        config.write_text(json.dumps({"path": str(self.path), "primary_key_required": False, **settings}))
        return subprocess.run(
            [sys.executable, *program, "--config", str(config)],
            input=lines(messages).decode(),
            capture_output=True,
            text=True,
            check=False,
        )

    def rows(self, query: str) -> list[tuple[t.Any, ...]]:
        """What a query gives."""
        with duckdb.connect(str(self.path)) as connection:
            return connection.execute(query).fetchall()

    def types(self, table: str = "things") -> dict[str, str]:
        """Types of a table's columns."""
        query = (
            f"select column_name, data_type from duckdb_columns() where table_name = '{table}' order by column_index"
        )
        return dict(self.rows(query))
