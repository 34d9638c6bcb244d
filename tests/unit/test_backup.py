"""A backup holds what the platform knows, and a restore puts all of it into an empty clone or nothing."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile

import pytest

from elt import backup, layout
from elt.errors import ConfigError, DataError, StackError
from elt.supervisor import lockfile


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Clones of the test's own: call it with a name to be in that one."""

    def enter(name):
        root = tmp_path / name
        state = root / ".state"
        for one, path in {
            "STATE": state,
            "RUN": state / "run",
            "POSTGRES_DATA": state / "postgres",
            "VALKEY_DATA": state / "valkey",
            "WAREHOUSES": state / "warehouse",
            "PUBLISHED": state / "published",
            "ENV_FILE": root / ".env",
        }.items():
            monkeypatch.setattr(layout, one, path)
        if not root.exists():
            state.mkdir(parents=True)
            (root / ".env").write_text(f"SECRET={name}\n")
        return root

    return enter


def write(root, name, text, mode=0o600):
    path = root / ".state" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def saved(clone, tmp_path):
    """A backup of a clone that has run."""
    root = clone("old")
    write(root, "postgres/PG_VERSION", "18\n")
    (root / ".state/postgres").chmod(0o700)
    write(root, "warehouse/warehouse_dev.duckdb", "rows" * 1000)
    write(root, "published/dev/marts-1.duckdb", "marts", 0o400)
    (root / ".state/published/dev/latest.duckdb").symlink_to("marts-1.duckdb")
    write(root, "run/valkey.conf", "requirepass 1")
    write(root, "tools/uv", "a program")
    return backup.back_up(tmp_path / "saved.tar.gz")


def test_everything_comes_back(clone, saved):
    root = clone("new")
    backup.restore(saved)
    state = root / ".state"
    assert (state / "warehouse/warehouse_dev.duckdb").read_text() == "rows" * 1000
    assert (state / "published/dev/latest.duckdb").read_text() == "marts"
    assert stat.S_IMODE((state / "postgres").stat().st_mode) == 0o700
    assert (root / ".env").read_text() == "SECRET=old\n"
    assert (state / backup.OLD_ENV).read_text() == "SECRET=new\n"
    assert sorted(path.name for path in state.iterdir()) == [backup.OLD_ENV, "postgres", "published", "warehouse"]


def test_it_is_readable_for_this_user_only_and_names_no_other(saved):
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    with tarfile.open(saved) as archive:
        assert {(one.uid, one.gid, one.uname) for one in archive} == {(0, 0, "")}
        assert not [one.name for one in archive if "run" in one.name or "tools" in one.name]


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_a_running_stack_is_refused(clone, saved, verb):
    clone("new")
    lock = lockfile.take(layout.RUN)
    assert lock is not None
    try:
        with pytest.raises(StackError, match=rf"{verb}: the stack runs, .*: scripts/down.sh first"):
            backup.back_up() if verb == "backup" else backup.restore(saved)
    finally:
        os.close(lock)


def test_a_clone_with_data_is_left_alone(clone, saved):
    root = clone("new")
    write(root, "warehouse/warehouse_dev.duckdb", "mine")
    with pytest.raises(DataError, match=r"warehouse holds data: restore into a new clone, or move .*\.state away"):
        backup.restore(saved)
    assert (root / ".state/warehouse/warehouse_dev.duckdb").read_text() == "mine"


def test_nothing_to_back_up_and_a_name_that_is_taken(clone, saved):
    clone("new")
    with pytest.raises(DataError, match="holds no PostgreSQL: nothing ran here yet"):
        backup.back_up()
    clone("old")
    with pytest.raises(DataError, match=r"saved.tar.gz is there already"):
        backup.back_up(saved)


def damaged(path, how):
    content = gzip.decompress(path.read_bytes())
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "text":
        path.write_text("no archive")
    elif how == "newer":
        path.write_bytes(gzip.compress(content.replace(b'"airflow": "3', b'"airflow": "9')))
    elif how == "other":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(__file__, "a.py")
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("cut", DataError, "saved.tar.gz is damaged"),
        ("text", DataError, "saved.tar.gz is damaged: not a gzip file"),
        ("other", DataError, "saved.tar.gz is no backup of this workspace"),
        ("newer", ConfigError, "is of Airflow 9.*restore it with the version that made it, or a newer one"),
        ("missing", DataError, "saved.tar.gz cannot be restored: .*No such file"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_the_clone_as_it_was(clone, saved, how, error, said):
    root = clone("new")
    damaged(saved, how)
    with pytest.raises(error, match=said):
        backup.restore(saved)
    assert (root / ".env").read_text() == "SECRET=new\n"
    assert list((root / ".state").iterdir()) == []


def test_a_backup_that_cannot_be_written_leaves_nothing(clone, saved, tmp_path):
    clone("old")
    with pytest.raises(DataError, match="cannot be written"):
        backup.back_up(tmp_path / "nowhere" / "x.tar.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "saved.tar.gz"]
