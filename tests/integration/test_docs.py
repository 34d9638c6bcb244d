"""The tables of the reference repeat what stands elsewhere."""

from __future__ import annotations

from workspace import apart, run


def test_generated_tables_are_fresh(state):
    done = run("python", "docs/generate.py", "--check", env=apart(state))
    assert done.returncode == 0, done.stdout + done.stderr
