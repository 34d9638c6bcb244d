"""`elt sql` reads what was published, or the warehouse of `elt run`, and writes nothing unless told to."""

from __future__ import annotations

import shutil

from workspace import apart, run

from elt.serving import duckdb_copy as publishing
from elt.warehouse.duckdb_file import DuckDBFile


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
