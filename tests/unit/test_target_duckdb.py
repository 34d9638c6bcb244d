"""The loader keeps every row of every batch, whatever the tap writes beside the record."""

from __future__ import annotations

import json
import subprocess

import duckdb
import pytest
from workspace import BIN, ROOT

TEXT = {"type": ["null", "string"]}


def load(tmp_path, schema, records, **config):
    """Pipe records with the key `id` through the loader and return its table's rows."""
    settings = {"filepath": str(tmp_path / "dev.duckdb"), "default_target_schema": "raw"} | config
    (tmp_path / "config.json").write_text(json.dumps(settings))
    messages = [{"type": "SCHEMA", "stream": "things", "schema": {"properties": schema}, "key_properties": ["id"]}]
    messages += [
        {"type": "RECORD", "stream": "things", "record": record, "time_extracted": "2026-01-01T00:00:00.5+00:00"}
        for record in records
    ]
    done = subprocess.run(
        [BIN / "python", ROOT / "meltano" / "bin" / "target-duckdb", "--config", tmp_path / "config.json"],
        input="\n".join(map(json.dumps, messages)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with duckdb.connect(settings["filepath"], read_only=True) as connection:
        names = ", ".join(sorted(schema))
        return connection.execute(f"select {names} from raw.things order by id").fetchall()


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_no_row_of_a_batch_is_lost(tmp_path, metadata, batch):
    records = [{"id": str(number), "name": f"n{number}"} for number in range(7)]
    rows = load(tmp_path, {"id": TEXT, "name": TEXT}, records, add_metadata_columns=metadata, batch_size_rows=batch)
    assert rows == [(str(number), f"n{number}") for number in range(7)]


def test_a_later_record_of_a_key_replaces_the_earlier_one(tmp_path):
    schema = {"id": TEXT, "name": TEXT}
    load(tmp_path, schema, [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}])
    assert load(tmp_path, schema, [{"id": "2", "name": "c"}]) == [("1", "a"), ("2", "c")]


def test_awkward_text_arrives_as_it_is_and_an_empty_one_as_null(tmp_path):
    texts = ["id", 'a "quoted" word', "a,b", "two\nlines", "é€", "NULL", " spaced "]
    records = [{"id": str(number), "name": text} for number, text in enumerate(texts)]
    records += [{"id": "8", "name": ""}, {"id": "9"}]
    rows = load(tmp_path, {"id": TEXT, "name": TEXT}, records)
    assert rows == [*((str(number), text) for number, text in enumerate(texts)), ("8", None), ("9", None)]


def test_nested_values_are_kept_as_json(tmp_path):
    schema = {"id": TEXT, "tags": {"type": ["null", "array"]}, "zero": {"type": ["null", "integer"]}}
    rows = load(tmp_path, schema, [{"id": "1", "tags": ["a", "b"], "zero": 0}])
    assert rows == [("1", '["a", "b"]', 0)]
