"""A backup holds what the platform knows, and a restore puts all of it into an empty clone or nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import stat
import tarfile
import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elt import disk, layout
from elt.errors import ConfigError, DataError, SetupError, StackError
from elt.maintenance import backup, signature
from elt.supervisor import lockfile
from elt.supervisor.control import Stack


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Clones of the test's own: call it with a name to be in that one."""

    def enter(name):
        root = tmp_path / name
        state = root / ".state"
        for one, path in {
            "STATE": state,
            "RUN": state / "run",
            "LOGS": state / "logs",
            "TOOLS": state / "tools",
            "EXTRACT": state / "extract",
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
    (root / ".state/published/dev/same.duckdb").hardlink_to(root / ".state/published/dev/marts-1.duckdb")
    (root / ".state/published/dev/elsewhere").symlink_to("/etc/passwd")
    write(root, "tools/uv", "a program")
    return backup.back_up(tmp_path / "saved.tar.gz")


def test_everything_comes_back(clone, saved):
    root = clone("new")
    backup.restore(saved)
    state = root / ".state"
    assert (state / "warehouse/warehouse_dev.duckdb").read_text() == "rows" * 1000
    assert (state / "published/dev/latest.duckdb").read_text() == "marts"
    assert (state / "published/dev/same.duckdb").read_text() == "marts"
    assert not (state / "published/dev/elsewhere").is_symlink()
    assert stat.S_IMODE((state / "postgres").stat().st_mode) == 0o700
    assert (root / ".env").read_text() == "SECRET=old\n"
    assert (state / backup.BEFORE / "env").read_text() == "SECRET=new\n"
    assert not any(
        (state / name).exists() for name in (backup.UNPACKED, backup.UNFINISHED, "run/valkey.conf", "tools/uv")
    )


def test_a_part_that_lies_elsewhere_comes_back_as_a_folder(clone, tmp_path):
    root = clone("old")
    write(root, "postgres/PG_VERSION", "18\n")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "warehouse_dev.duckdb").write_text("rows")
    (root / ".state" / "warehouse").symlink_to(tmp_path / "disk")
    (root / ".state" / "again").symlink_to("postgres")
    (root / ".state" / "nowhere").symlink_to("/nowhere")
    saved = backup.back_up(tmp_path / "saved.tar.gz")
    root = clone("new")
    backup.restore(saved)
    assert (root / ".state/warehouse/warehouse_dev.duckdb").read_text() == "rows"
    assert not (root / ".state/warehouse").is_symlink()
    assert not (root / ".state/again").exists()


def test_only_unfinished_files_of_ours_stay_out(clone, tmp_path):
    root = clone("old")
    write(root, "postgres/PG_VERSION", "18\n")
    write(root, "extract/plan.unfinished", "mine")
    write(root, f"extract/.{os.getpid()}.sales.csv.unfinished", "half")
    saved = backup.back_up(tmp_path / "saved.tar.gz")
    with tarfile.open(saved) as archive:
        assert [name for name in archive.getnames() if name.endswith(".unfinished")] == [
            "state/extract/plan.unfinished"
        ]


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
        ("text", DataError, "saved.tar.gz is damaged: Not a gzipped file"),
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
    assert contents(root / ".state") == []


def test_a_backup_that_cannot_be_written_leaves_nothing(clone, saved, tmp_path):
    clone("old")
    with pytest.raises(DataError, match="cannot be written"):
        backup.back_up(tmp_path / "nowhere" / "x.tar.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "saved.tar.gz"]


def repacked(path, change):
    """Write a backup anew, each member as `change(member, content)` gives it; None leaves one out."""
    with tarfile.open(path) as archive:
        members = [(one, archive.extractfile(one).read() if one.isfile() else b"") for one in archive]
    with tarfile.open(path, "w:gz") as archive:
        for one, content in members:
            if one := change(one, content):
                archive.addfile(one, io.BytesIO(content))


def member(name, kind=tarfile.REGTYPE, link="", content=b"x"):
    one = tarfile.TarInfo(name)
    one.type, one.linkname, one.size = kind, link, len(content) if kind == tarfile.REGTYPE else 0
    return one, io.BytesIO(content)


STRANGERS = {
    "above": [member("state/../../x")],
    "absolute": [member("/tmp/x")],
    "elsewhere": [member("other/x")],
    "hard link": [member("state/x/y", tarfile.LNKTYPE, "/etc/passwd")],
    "state is a link": [member("state", tarfile.SYMTYPE, "/tmp")],
    "env is a link": [member("env", tarfile.SYMTYPE, "/etc/passwd")],
    "absolute link": [member("state/x/y", tarfile.SYMTYPE, "/etc/passwd")],
    "link that leads out": [member("state/x/y", tarfile.SYMTYPE, "../../../x")],
    "link that leads out by another": [member("state/x/y", tarfile.SYMTYPE, "warehouse/../../../../x")],
    "through a link": [member("state/x/y", tarfile.SYMTYPE, "z"), member("state/x/y/file")],
    "onto a link": [member("state/x/y", tarfile.SYMTYPE, "z"), member("state/x/y")],
    "pipe": [member("state/x/y", tarfile.FIFOTYPE)],
    "program that bootstrap runs": [member("state/tools/uv/bin/uv")],
    "socket folder": [member("state/run/x")],
    "module of Airflow": [member("state/airflow/config/airflow_local_settings.py")],
    "settings of PostgreSQL": [member("state/postgres/postgresql.auto.conf")],
    "who may connect to PostgreSQL": [member("state/postgres/pg_hba.conf")],
    "folder elsewhere": [member("state/postgres/pg_tblspc/1", tarfile.SYMTYPE, "../../extract")],
    "settings of Valkey": [member("state/valkey/valkey.conf")],
    "plugin of Meltano": [member("state/meltano/extractors/x/venv/bin/x")],
}


@pytest.mark.parametrize("case", STRANGERS)
def test_what_does_not_belong_into_a_backup_is_refused_before_anything_changes(clone, saved, tmp_path, case):
    root = clone("new")
    write(root, "extract/mine.csv", "a\n1\n")
    with tarfile.open(saved) as archive:
        members = [(one, io.BytesIO(archive.extractfile(one).read()) if one.isfile() else None) for one in archive]
    with tarfile.open(saved, "w:gz") as archive:
        for one, content in members + STRANGERS[case]:
            archive.addfile(one, content)
    with pytest.raises(DataError, match=r"does not belong into a backup: nothing was changed"):
        backup.restore(saved)
    assert (root / ".env").read_text() == "SECRET=new\n"
    assert (root / ".state/extract/mine.csv").read_text() == "a\n1\n"
    assert not (root / ".state" / backup.UNPACKED).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "saved.tar.gz"]


def test_a_backup_that_would_fill_the_disk_is_refused_before_it_is_unpacked(clone, saved, monkeypatch):
    root = clone("new")
    monkeypatch.setattr(disk, "free", lambda: 200)
    with pytest.raises(DataError, match=r"saved.tar.gz holds 0\.0 GB, and 0\.0 GB are free below .*: free some"):
        backup.restore(saved)
    assert (root / ".env").read_text() == "SECRET=new\n"
    assert contents(root / ".state") == []
    monkeypatch.setattr(disk, "free", lambda: 20_000)
    backup.restore(saved)


def test_of_a_backup_of_an_older_version_only_what_is_named_is_taken(clone, saved, monkeypatch):
    with tarfile.open(saved) as archive:
        members = [(one, io.BytesIO(archive.extractfile(one).read()) if one.isfile() else None) for one in archive]
    manifest = json.loads(members[0][1].read()) | {"format": 2}
    members[0] = member(backup.MANIFEST, content=json.dumps(manifest).encode())
    with tarfile.open(saved, "w:gz") as archive:
        added = ("airflow/config/airflow_local_settings.py", "postgres/postgresql.auto.conf", "mine/notes")
        for one, content in [*members, *(member(f"state/{name}") for name in added)]:
            archive.addfile(one, content)
    root = clone("new")
    backup.restore(saved)
    assert (root / ".state/postgres/PG_VERSION").exists()
    assert (root / ".state/postgres/postgresql.auto.conf").read_bytes() == b""
    assert not (root / ".state/airflow/config").exists()
    assert not (root / ".state/mine").exists()


def contents(state):
    return [path for path in state.rglob("*") if path.is_file() and path.name != lockfile.FILES]


def test_every_damaged_byte_is_noticed(clone, saved):
    """A flipped bit or a cut end: the checksum at the end is read before anything is unpacked."""
    state = clone("new") / ".state"
    good = saved.read_bytes()
    body = good.index(b"\0", 10) + 1  # before it stands a file name, which says nothing
    for place in range(body, len(good)):
        saved.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
        with contextlib.suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(saved.read_bytes()) == gzip.decompress(good):
                continue  # the bit says nothing: zeros are copied from elsewhere
        with pytest.raises(DataError, match=r"restore: .*(damaged|no backup|does not belong)"):
            backup.restore(saved)
        assert contents(state) == []
    for cut in (1, 4, 8, 20):
        saved.write_bytes(good[:-cut])
        with pytest.raises(DataError, match="damaged"):
            backup.restore(saved)
    saved.write_bytes(good)
    backup.restore(saved)


FIELDS = {
    "name": (0, 100),
    "mode": (100, 108),
    "uid": (108, 116),
    "size": (124, 136),
    "mtime": (136, 148),
    "type": (156, 157),
    "link": (157, 257),
    "magic": (257, 265),
    "prefix": (345, 500),
}
"""Where the fields of a tar header lie that say something of a file."""


def base_256(number, width):
    """A number as tar writes those that do not fit into octal digits."""
    return (number % (1 << 8 * width) | 1 << 8 * width - 1).to_bytes(width, "big")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    st.integers(0, 99),
    st.sampled_from(sorted(FIELDS)).flatmap(
        lambda name: st.tuples(st.just(name), st.binary(min_size=1, max_size=FIELDS[name][1] - FIELDS[name][0]))
    ),
)
@example(3, ("mtime", base_256(1 << 80, 12)))
@example(3, ("mtime", base_256(-1 << 80, 12)))
@example(3, ("size", base_256(-512, 12)))
@example(0, ("size", base_256(-512, 12)))
@example(3, ("size", base_256(1 << 62, 12)))
@example(5, ("size", base_256(1 << 62, 12)))
@example(3, ("name", b"state/" + b"x" * 90 + b"\xff\0"))
def test_a_damaged_field_is_refused_or_harmless(clone, saved, number, change):
    """With a checksum that fits, as a damage before packing leaves it."""
    good = saved.read_bytes()
    content = bytearray(gzip.decompress(good))
    with tarfile.open(saved) as archive:
        headers = sorted({place for one in archive for place in (one.offset, one.offset_data - 512)})
    begin = headers[number % len(headers)]
    field, value = change
    at = begin + FIELDS[field][0]
    content[at : at + len(value)] = value
    content[begin + 148 : begin + 156] = b" " * 8
    content[begin + 148 : begin + 156] = b"%06o\0 " % sum(content[begin : begin + 512])
    root = clone("new")
    saved.write_bytes(gzip.compress(content, 1))
    refusals = []
    try:
        backup.restore(saved)
    except (DataError, ConfigError) as error:
        refusals.append(str(error))
    for refusal in refusals:
        assert "\n" not in refusal
        assert contents(root / ".state") == []
        assert (root / ".env").read_text() == "SECRET=new\n"
    saved.write_bytes(good)
    shutil.rmtree(root)


@pytest.mark.parametrize("moment", ["nan", "inf", "-inf", "1e300"])
def test_a_date_that_is_none_is_refused(clone, saved, moment):
    clone("new")

    def change(one, _):
        one.pax_headers = {"mtime": moment} if one.name == "env" else {}
        return one

    repacked(saved, change)
    with pytest.raises(DataError, match="'env' does not belong"):
        backup.restore(saved)


@pytest.mark.parametrize("lacks", ["env", "state/postgres/PG_VERSION"])
def test_a_backup_without_what_it_is_for_is_refused(clone, saved, lacks):
    clone("new")
    repacked(saved, lambda one, _: None if one.name == lacks else one)
    with pytest.raises(DataError, match="it lacks the settings or PostgreSQL"):
        backup.restore(saved)


def test_what_was_there_is_kept(clone, saved):
    root = clone("new")
    write(root, "extract/mine.csv", "mine")
    clone("old")
    write(clone("old"), "extract/theirs.csv", "theirs")
    saved.unlink()
    backup.back_up(saved)
    clone("new")
    backup.restore(saved)
    state = root / ".state"
    assert (state / "extract/theirs.csv").read_text() == "theirs"
    assert (state / backup.BEFORE / "extract/mine.csv").read_text() == "mine"
    assert (state / backup.BEFORE / "env").read_text() == "SECRET=new\n"
    assert stat.S_IMODE((state / backup.BEFORE / "env").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / ".env").stat().st_mode) == 0o600


@pytest.mark.parametrize("moves", range(4))
def test_a_restore_that_was_killed_is_repeated_and_no_stack_starts_before(clone, saved, monkeypatch, moves):
    root = clone("new")
    done = []

    rename = type(root).rename

    def killed(self, target):
        if len(done) == moves:
            raise SystemExit(137)
        done.append(target)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(root), "rename", killed)
        with pytest.raises(SystemExit):
            backup.restore(saved)
    state = root / ".state"
    assert (state / backup.UNFINISHED).exists()
    with pytest.raises(SetupError, match="repeat scripts/restore"):
        Stack(layout.ROOT / "process-compose.yaml", state, root, state / "tools")._refuse_half_files()
    with pytest.raises(DataError, match="has not come to its end"):
        backup.back_up()
    backup.restore(saved)
    assert not (state / backup.UNFINISHED).exists()
    assert (root / ".env").read_text() == "SECRET=old\n"
    assert (state / "warehouse/warehouse_dev.duckdb").read_text() == "rows" * 1000
    assert (state / backup.BEFORE / "env").read_text() == "SECRET=new\n"
    assert not (state / backup.BEFORE / "warehouse").exists()


def test_a_backup_keeps_a_stack_and_another_backup_away(clone, saved):
    root = clone("old")
    lock = lockfile.take(layout.RUN, lockfile.FILES)
    try:
        with pytest.raises(StackError, match="another backup or restore is at work"):
            backup.back_up()
        stack = Stack(layout.ROOT / "process-compose.yaml", root / ".state", root, root / ".state/tools")
        with pytest.raises(SetupError, match="a backup or a restore is at work"):
            stack._refuse_half_files()
    finally:
        os.close(lock)


def test_unfinished_files_of_killed_processes_are_removed(clone, saved, tmp_path):
    dead = 2**22 + 1  # above what Linux gives to any process
    left, ours = tmp_path / f".{dead}.x.unfinished", tmp_path / f".{os.getpid()}.x.unfinished"
    left.touch()
    ours.touch()
    clone("old")
    backup.back_up(tmp_path / "again.tar.gz")
    assert not left.exists()
    assert ours.exists()


@pytest.mark.parametrize(("key", "value"), [("postgres", "9"), ("machine", "sparc")])
def test_files_that_this_machine_cannot_read_are_refused(clone, saved, key, value):
    clone("new")

    with tarfile.open(saved) as archive:
        members = [(one, archive.extractfile(one).read() if one.isfile() else b"") for one in archive]
    with tarfile.open(saved, "w:gz") as archive:
        for one, content in members:
            if one.name == "manifest.json":
                content = json.dumps(json.loads(content) | {key: value}).encode()  # noqa: PLW2901
                one.size = len(content)
            archive.addfile(one, io.BytesIO(content))
    with pytest.raises(ConfigError, match=r"which cannot read them"):
        backup.restore(saved)


@pytest.fixture
def signed(clone, tmp_path):
    """A signed backup, and the public key."""
    write(clone("old"), "postgres/PG_VERSION", "18\n")
    key = tmp_path / "key"
    return backup.back_up(tmp_path / "signed.tar.gz", key, new_key=True), signature.of_key(key)


def test_a_signed_backup_comes_back_by_its_key(clone, signed):
    root = clone("new")
    backup.restore(*signed)
    assert (root / ".state/postgres/PG_VERSION").read_text() == "18\n"


def test_a_backup_that_its_key_has_not_signed_is_refused(clone, signed):
    saved, public = signed
    root = clone("new")
    good = saved.read_bytes()
    for damage in (
        lambda: repacked(saved, lambda one, content: (one, content)[0]),  # a backup like any other
        lambda: saved.write_bytes(good + b"\0"),  # which no checksum of the archive tells
        signature.of_file(saved).unlink,
    ):
        damage()
        with pytest.raises(DataError, match=r"is not what was signed|is not signed"):
            backup.restore(saved, public)
        assert contents(root / ".state") == []
        assert (root / ".env").read_text() == "SECRET=new\n"
    saved.write_bytes(good)
    backup.restore(saved)


def test_a_backup_that_is_exchanged_once_it_was_verified_is_refused(clone, signed, monkeypatch):
    saved, public = signed
    root = clone("new")
    check = backup._verify

    def exchange(source):
        manifest = check(source)
        repacked(source, lambda one, _: one)
        return manifest

    monkeypatch.setattr(backup, "_verify", exchange)
    with pytest.raises(DataError, match="changed while it was read"):
        backup.restore(saved, public)
    assert contents(root / ".state") == []


def test_a_key_that_does_not_fit_is_told_before_anything_is_packed(clone, signed, tmp_path):
    clone("old")
    for key, words in ((tmp_path / "none", "cannot be read"), (signed[1], "is no secret key")):
        with pytest.raises(ConfigError, match=words):
            backup.back_up(tmp_path / "more.tar.gz", key)
    assert not (tmp_path / "more.tar.gz").exists()


@pytest.mark.parametrize("field", ["created", "postgres", "machine", "format"])
def test_a_manifest_writes_nothing_to_the_terminal_but_words(clone, saved, capsys, field):
    clone("new")

    def change(one, content):
        if one.name != backup.MANIFEST:
            return one, content
        changed = json.dumps(json.loads(content) | {field: "\x1b]0;mine\x07"}).encode()
        one.size = len(changed)
        return one, changed

    with tarfile.open(saved) as archive:
        members = [(one, archive.extractfile(one).read() if one.isfile() else b"") for one in archive]
    with tarfile.open(saved, "w:gz") as archive:
        for one, content in (change(*member) for member in members):
            archive.addfile(one, io.BytesIO(content))
    with pytest.raises((DataError, ConfigError)) as error:
        backup.restore(saved)
    assert "\x1b" not in str(error.value) + capsys.readouterr().out
