"""The tests of meltano/connectors/target-duckdb, which bears the module name of the released one in the lock.

So they run in a process that finds ours first; all else that they need is the locked environment's.
"""

from __future__ import annotations

import os

from workspace import BIN, ROOT, run

PACKAGE = ROOT / "meltano" / "connectors" / "target-duckdb"


def test_its_own_tests_pass(tmp_path):
    ours = tmp_path / "site"
    env = dict(os.environ)
    done = run(BIN / "uv", "pip", "install", "--offline", "--no-deps", "--target", ours, PACKAGE, env=env)
    assert done.returncode == 0, done.stderr
    env |= {"PYTHONPATH": str(ours)}
    done = run(BIN / "pytest", "-q", "-p", "no:cacheprovider", PACKAGE / "tests", env=env, seconds=500)
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
