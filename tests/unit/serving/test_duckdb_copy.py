"""Publishing beside readers: no read fails, no figure is torn; and the prompt on what was published."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import time

import duckdb
import pytest
from workspace import DEADLINE, apart, run

from elt.errors import DataError, StackError
from elt.serving import duckdb_copy as publishing
from elt.warehouse.duckdb_file import DuckDBFile

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


def fill(warehouse, version):
    """Two marts whose every row carries the same number."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("create schema if not exists marts")
        for mart, rows in (("small", 3), ("large", 5000)):
            connection.execute(
                f"create or replace table marts.{mart} as from range({rows}), (select {version}) as v(version)"
            )
        connection.execute("create schema if not exists raw")
        connection.execute("create or replace table raw.secret as select 1")


@pytest.fixture
def warehouse(tmp_path):
    path = tmp_path / "staging.duckdb"
    fill(path, 0)
    return path


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
        when, environment, counts = connection.execute("from published").fetchone()
    assert environment == "staging"
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


def test_what_a_killed_publish_left_is_cleared(warehouse, tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    (published / ".marts-1.duckdb.building").write_text("half")
    (published / ".marts-1.duckdb.building.wal").write_text("half")
    (published / f".{publishing.LINK}").symlink_to("marts-1.duckdb")
    path = publishing.publish(DuckDBFile(warehouse), published)
    assert sorted(entry.name for entry in published.iterdir()) == [".lock", publishing.LINK, path.name]


def test_sql_reads_what_was_published(warehouse, state):
    published = state / "published" / "dev"
    env = apart(state) | {"ELT_ENVIRONMENT": "dev"}
    missing = run("elt", "sql", "from small", env=env)
    assert missing.returncode == 1
    assert "yet: `elt pipeline` on a running stack" in missing.stderr
    publishing.publish(DuckDBFile(warehouse), published)
    answer = run("elt", "sql", "select sum(version) + 42 as answer from small", env=env)
    assert answer.returncode == 0
    assert "42" in answer.stdout
    assert "UTC from staging" in answer.stderr
    wrong = run("elt", "sql", "selec 1", env=env)
    assert wrong.returncode == 1
    assert "syntax error" in wrong.stderr
    refused = run("elt", "sql", "delete from small", env=env)
    assert refused.returncode == 1
    assert "read-only" in refused.stderr
    made = state / "made"
    for query in (f"-- x\ncopy small to '{made}'", f"attach '{made}'", f".shell touch {made}", f".output {made}"):
        refused = run("elt", "sql", query, env=env)
        assert (refused.returncode, made.exists()) == (1, False), query
        assert "disabled by configuration" in refused.stderr or "in -safe mode" in refused.stderr
    for query in ("select content from read_text('/etc/hosts')", "set enable_external_access = true", "load httpfs"):
        assert run("elt", "sql", query, env=env).returncode == 1, query
    written = run("elt", "sql", "--environment", "dev", "--unsafe", f"copy small to '{made}'", env=env)
    assert (written.returncode, made.exists()) == (0, True), written.stderr


def test_sql_local_reads_the_warehouse_of_elt_run(warehouse, state):
    env = apart(state) | {"ELT_ENVIRONMENT": "dev"}
    missing = run("elt", "sql", "--local", "from small", env=env)
    assert missing.returncode == 1
    assert "run `elt run` first" in missing.stderr
    (state / "inner").mkdir(parents=True)
    shutil.copy(warehouse, state / "inner" / "warehouse_dev.duckdb")
    answer = run("elt", "sql", "--local", "select count(*) as rows from large", env=env)
    assert answer.returncode == 0, answer.stderr
    assert "5000" in answer.stdout
    for begin in ("-- how many\n", "--how many, --local\n", "/* how many */ ", "  \n  -- how many\n", "-- a=b\n"):
        answer = run("elt", "sql", f"{begin}select count(*) as rows from large", "--local", env=env)
        assert (answer.returncode, "5000" in answer.stdout) == (0, True), (begin, answer.stderr)
    former_name = run("elt", "sql", "--inner", "select count(*) as rows from large", env=env)
    assert former_name.stdout == answer.stdout
    misspelt = run("elt", "sql", "--locla", "from large", env=env)
    assert misspelt.returncode == 2
    assert "No such option: --locla" in misspelt.stderr
