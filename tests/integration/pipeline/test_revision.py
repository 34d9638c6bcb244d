"""What prod takes: commits, and nothing else unless it is told to."""

from __future__ import annotations

import subprocess

import pytest

from elt import layout
from elt.errors import ConfigError
from elt.pipeline import revision


def git(folder, *words):
    own = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a commit that is pushed."""
    git(tmp_path, "init", "--bare", "-b", "main", "origin")
    git(tmp_path, "clone", "origin", "clone")
    here = tmp_path / "clone"
    (here / "transform").mkdir()
    (here / "transform" / "a.sql").write_text("select 1\n")
    git(here, "add", ".")
    git(here, "commit", "-m", "first")
    git(here, "push", "origin", "HEAD:main")
    monkeypatch.setattr(layout, "ROOT", here)
    return here


def test_prod_takes_what_is_committed(clone):
    assert revision.refuse_uncommitted("prod", forced=False) == ""
    commit = revision.current()
    (clone / "notes.md").write_text("is read by no run\n")
    assert (revision.refuse_uncommitted("prod", forced=False), revision.current()) == ("", commit)
    for name in "abcde":
        (clone / "transform" / f"{name}.sql").write_text("select 2\n")
    with pytest.raises(ConfigError, match=r"and transform/a.sql, transform/b.sql, transform/c.sql and 2 more is not"):
        revision.refuse_uncommitted("prod", forced=False)
    assert revision.refuse_uncommitted("prod", forced=True) == ""
    assert revision.refuse_uncommitted("dev", forced=False) == ""
    assert revision.current() == f"{commit}+"


def test_what_is_not_pushed_is_a_warning(clone):
    git(clone, "commit", "--allow-empty", "-m", "second")
    assert revision.refuse_uncommitted("prod", forced=False) == "prod works with 1 commits that are not pushed"


def test_without_git_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert (revision.refuse_uncommitted("prod", forced=False), revision.current()) == ("", "")
    monkeypatch.setenv("PATH", "")
    assert revision.current() == ""
