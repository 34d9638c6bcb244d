"""Publishing beside readers: no read fails, no figure is torn."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from unittest import mock

import duckdb
import pytest
from workspace import DEADLINE

from elt import layout
from elt.errors import DataError, StackError
from elt.pipeline import revision
from elt.serving import duckdb_copy as publishing
from elt.warehouse.duckdb_file import DuckDBFile

from .conftest import fill

READER = """
import json, os, sys
import duckdb
link, stop = sys.argv[1:]
reads, versions = 0, set()
print("reading", flush=True)
while not os.path.exists(stop):
    with duckdb.connect(os.path.realpath(link), read_only=True) as connection:
        row = connection.execute(
            "select min(version), max(version), count(*), any_value(row_counts['small'] + row_counts['large'])"
            " from (from marts.small union all from marts.large), published"
        ).fetchone()
    low, high, rows, counted = row
    if low != high or rows != counted or rows != 5003:
        sys.exit(f"torn: {row}")
    reads += 1
    versions.add(low)
print(json.dumps([reads, len(versions)]))
"""


def copies(folder):
    return sorted(path.name for path in folder.glob("marts-*.duckdb"))


def test_readers_never_fail_and_never_see_two_versions(warehouse, tmp_path):
    published, stop = tmp_path / "published", tmp_path / "stop"
    publishing.publish(DuckDBFile(warehouse), published)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, published / publishing.LINK, stop],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout.readline() == "reading\n"
        for version in range(1, 21):
            fill(warehouse, version)
            publishing.publish(DuckDBFile(warehouse), published)
            time.sleep(0.1)
    finally:
        stop.touch()
        ends = [reader.communicate(timeout=DEADLINE) for reader in readers]
    for reader, (out, err) in zip(readers, ends, strict=True):
        assert reader.returncode == 0, err
        reads, versions = json.loads(out)
        assert reads >= 20
        assert versions > 2
    assert len(copies(published)) == 3
    assert (published / publishing.LINK).readlink().name == copies(published)[-1]


def test_a_copy_is_read_only_complete_and_says_where_it_is_from(warehouse, tmp_path):
    published = tmp_path / "published"
    path = publishing.publish(DuckDBFile(warehouse), published)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute("select table_name from duckdb_tables() order by 1").fetchall()
        assert tables == [("large",), ("published",), ("small",)]
        when, environment, counts, commit = connection.execute("from published").fetchone()
    assert (environment, commit) == ("staging", revision.current() or None)
    assert counts == {"large": 5000, "small": 3}
    assert path.name == f"marts-{when:%Y%m%dT%H%M%S%f}.duckdb"
    assert sorted(entry.name for entry in published.iterdir()) == [".lock", publishing.LINK, path.name]


def test_a_failed_publish_leaves_what_was_published(warehouse, tmp_path):
    published = tmp_path / "published"
    before = publishing.publish(DuckDBFile(warehouse), published)
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, warehouse], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(StackError, match="lock"):
            publishing.publish(DuckDBFile(warehouse), published)
        writer.communicate(timeout=DEADLINE)
    assert (published / publishing.LINK).resolve() == before
    assert copies(published) == [before.name]
    assert not list(published.glob(".marts*"))


def test_without_marts_nothing_is_published(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.duckdb is missing: run the pipeline first"):
        publishing.publish(DuckDBFile(tmp_path / "nowhere.duckdb"), tmp_path / "published")
    duckdb.connect(str(tmp_path / "empty.duckdb")).close()
    with pytest.raises(DataError, match="holds no marts"):
        publishing.publish(DuckDBFile(tmp_path / "empty.duckdb"), tmp_path / "published")
    assert not (tmp_path / "published" / publishing.LINK).exists()


def test_a_source_without_marts_is_no_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layout, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(publishing.factory, "stack_warehouse", lambda _: DuckDBFile(tmp_path / "empty.duckdb"))
    duckdb.connect(str(tmp_path / "empty.duckdb")).close()
    publishing.to_all_readers("dev", mock.Mock(), may_be_none=True)
    assert "holds no marts yet: readers see what they saw before" in capsys.readouterr().out
    with pytest.raises(DataError, match="holds no marts: run"):
        publishing.to_all_readers("dev", mock.Mock())


def test_what_a_killed_publish_left_is_cleared(warehouse, tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    (published / ".marts-1.duckdb.building").write_text("half")
    (published / ".marts-1.duckdb.building.wal").write_text("half")
    (published / f".{publishing.LINK}").symlink_to("marts-1.duckdb")
    path = publishing.publish(DuckDBFile(warehouse), published)
    assert sorted(entry.name for entry in published.iterdir()) == [".lock", publishing.LINK, path.name]
