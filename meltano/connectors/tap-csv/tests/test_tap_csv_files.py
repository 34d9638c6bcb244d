"""Files: segments, compression, what the state remembers, and what becomes of files on their way."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import fcntl
import gzip
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_csv import catalog, source
from tap_csv.config import Config, Entity
from tap_csv.convert import Converter
from tap_csv.form import Form
from tap_csv.source import Source
from tap_csv.tap import Tap
from tap_csv.types import STRING
from tap_csv_harness import TEXT, Synced, run

if t.TYPE_CHECKING:
    from tap_csv_harness import Sync

STATEFUL: dict[str, t.Any] = {"infer_types": False}


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 99), st.text(st.sampled_from('a"\n\r, é'), max_size=9)), max_size=40),
    size=st.integers(1, 200),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    stray=st.sampled_from(["", '7,5" pipe\n']),
    batch=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_segments_change_nothing(
    rows: list[tuple[int, str]],
    size: int,
    line_end: str,
    stray: str,
    batch: bool,
    encoding: str,
    tmp_path_factory: t.Any,
) -> None:
    """However small the segments are; a quote within a field leads them astray, and the rows stay right."""
    folder = tmp_path_factory.mktemp("segments")
    path = folder / "in.csv"
    quoted = [f'{number},"{text.replace(chr(34), chr(34) * 2)}"' for number, text in rows]
    path.write_bytes(("id,a" + line_end + stray + line_end.join(quoted) + line_end).encode(encoding))
    entity = {"entity": "e", "path": str(path), "keys": ["id"], "encoding": encoding}
    config: dict[str, t.Any] = {"files": [entity], **TEXT}
    if batch:
        config["batch_config"] = {"encoding": {"format": "parquet"}, "storage": {"root": str(folder)}}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(source, "_CHUNK", 16)
        monkeypatch.setattr(source, "_TAIL", 16)
        monkeypatch.setattr(source.Source.segments, "__defaults__", (size, size))
        monkeypatch.setattr(catalog.split, "__defaults__", (size,))
        got = run(config)
    assert got.error is None
    expected = ([("7", '5" pipe')] if stray else []) + [(str(number), text) for number, text in rows]
    assert [tuple(one.values()) for one in got.records] + got.rows() == expected
    sent = {one.removeprefix("file://") for message in got.of_type("BATCH") for one in message["manifest"]}
    assert {str(one) for one in folder.glob("*.parquet")} == sent


def test_a_stray_quote_leaves_segments_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would join all that follows, and memory grow with the file; what follows is read fast too."""
    path = tmp_path / "in.csv"
    plain = b"".join(b'%d,"x\ny"\n' % number for number in range(5000))
    path.write_bytes(b"id,a\n" + (b'7,5" pipe\n' + plain) * 3)
    sizes: list[int] = []
    slow: list[int] = []
    convert, by_python = Converter.convert, Converter._by_python
    monkeypatch.setattr(Converter, "convert", lambda *words: sizes.append(len(words[1].data)) or convert(*words))
    monkeypatch.setattr(Converter, "_by_python", lambda *w: slow.append(len(w[1].data)) or by_python(*w))
    monkeypatch.setattr(source, "_CHUNK", 256)
    monkeypatch.setattr(source.Source.segments, "__defaults__", (1000, 1000))
    monkeypatch.setattr(catalog.split, "__defaults__", (1000,))
    got = run({"files": [{"entity": "e", "path": str(path), "keys": ["id"]}]} | TEXT)
    with path.open(newline="") as file:
        assert [list(one.values()) for one in got.records] == list(itertools.islice(csv.reader(file), 1, None))
    assert max(sizes) < 4000
    assert len(slow) < len(sizes) / 10


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_segments_end_where_rows_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: bytes, *, packed: bool
) -> None:
    monkeypatch.setattr(source, "_CHUNK", 256)
    monkeypatch.setattr(source, "_TAIL", 64)
    path = tmp_path / "in.csv"
    content = b"".join(b'%d,"x\ny"\n' % number for number in range(10_000))
    path.write_bytes(gzip.compress(mark + content) if packed else mark + content)
    read = Source(path, Entity("e", str(path)), hashed=True)
    parts = list(read.segments(1000, 1000))
    assert b"".join(part.data for part in parts) == content
    assert all(part.data.endswith(b'"\n') for part in parts[:-1])
    assert len(parts) >= 100
    assert all(part.quotes == part.data.count(b'"') for part in parts)
    assert [part.offset for part in parts[:2]] == [len(mark), len(mark) + len(parts[0].data)]
    assert parts[1].line == 1 + parts[0].data.count(b"\n")
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_row_may_be_longer_than_a_segment(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rows = [b"1,x\n", b"2," + b"y" * 5000 + b"\n", b'3,"' + b"z\n" * 2000 + b'"\n', b"4,x"]
    path.write_bytes(b"".join(rows))
    parts = list(Source(path, Entity("e", str(path))).segments(100, 100))
    assert b"".join(part.data for part in parts) == path.read_bytes()
    assert rows[1] in parts[1].data
    assert parts[-1].last


@pytest.mark.parametrize("name", ["in.csv.gz", "in.data"])
def test_gzip_is_known_by_its_first_bytes(sync: Sync, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"id,a\n1,x\n") + gzip.compress(b"2,y\n") + b"\0" * 10)
    assert [one["id"] for one in sync(path).records] == ["1", "2"]
    if name.endswith(".gz"):
        assert [one["id"] for one in sync(tmp_path).records] == ["1", "2"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda whole: whole[:-9], "is cut off: the gzip file lacks its end"),
        (lambda whole: whole[:-8] + b"?" * 8, "is a damaged gzip file"),
    ],
)
def test_broken_gzip(sync: Sync, broken: t.Callable[[bytes], bytes], message: str) -> None:
    got = sync(broken(gzip.compress(os.urandom(999).hex().encode() + b"\n")))
    assert f"input.csv: {message}" in str(got.error)


def test_unchanged_files_are_not_sent_again(sync: Sync, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.csv").write_text(f"id,a\n{number},x\n")
    first = sync(tmp_path, settings=STATEFUL)
    assert len(first.of_type("STATE")) == 2  # after each file
    assert sync(tmp_path, settings=STATEFUL, state=first.state).records == []
    os.utime(tmp_path / "1.csv", (1, 1))  # touched, which its hash tells
    touched = sync(tmp_path, settings=STATEFUL, state=first.state)
    assert touched.records == []
    assert touched.state != first.state
    (tmp_path / "1.csv").write_text("id,a\n9,x\n")
    (tmp_path / "3.csv").write_text("id,a\n3,x\n")
    changed = sync(tmp_path, settings=STATEFUL, state=first.state)
    assert [one["id"] for one in changed.records] == ["9", "3"]
    (tmp_path / "2.csv").unlink()
    gone = sync(tmp_path, settings=STATEFUL, state=changed.state)
    assert gone.records == []
    assert [Path(one).name for one in files_of(gone)] == ["1.csv", "3.csv"]


def files_of(got: Synced) -> dict[str, t.Any]:
    """The files that the last state of a run knows."""
    assert got.state
    return t.cast("dict[str, t.Any]", got.state["bookmarks"]["things"]["files"])


def test_all_is_sent_again_when_rows_take_another_form(sync: Sync) -> None:
    first = sync(b"id,a\n1,x\n", settings=STATEFUL)
    again = sync(b"id,a\n1,x\n", settings=STATEFUL, state=first.state, columns={"id": "integer"})
    assert again.records == [{"id": 1, "a": "x"}]
    assert len(sync(b"id,a\n1,x\n", settings=TEXT, state=first.state).records) == 1


def test_no_state_moves_past_what_was_sent(sync: Sync, tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,a\n1,x\n")
    (tmp_path / "2.csv").write_text("id,a\n2\n")
    got = sync(tmp_path, settings=STATEFUL)
    assert "2.csv, line 2" in str(got.error)
    assert [Path(one).name for one in files_of(got)] == ["1.csv"]
    (tmp_path / "2.csv").write_text("id,a\n2,x\n")
    assert [one["id"] for one in sync(tmp_path, settings=STATEFUL, state=got.state).records] == ["2"]


def test_a_file_of_another_stream_stays_in_the_state(sync: Sync) -> None:
    state = {"bookmarks": {"others": {"files": {}}}}
    assert sync(b"id,a\n1,x\n", state=state).state == {"bookmarks": {"others": {"files": {}}, "things": {}}}


def test_deselected_stream(tmp_path: Path, sync: Sync) -> None:
    entry = {"tap_stream_id": "things", "metadata": [{"breadcrumb": [], "metadata": {"selected": False}}]}
    assert sync(b"id,a\n1,x\n", catalog={"streams": [entry]}).messages == []
    entry = {"tap_stream_id": "nothing", "metadata": []}
    assert "the catalog is not of the form" in str(sync(b"id\n", catalog={"streams": [{"metadata": []}]}).error)
    assert "the catalog has stream 'nothing'" in str(sync(b"id\n", catalog={"streams": [entry]}).error)
    entry = {"tap_stream_id": "things", "metadata": [], "schema": {"properties": {"id": {"type": 1}}}}
    assert "neither a name nor a list of names" in str(sync(b"id\n1\n", catalog={"streams": [entry]}).error)


def start(tmp_path: Path, *flags: str, **settings: t.Any) -> subprocess.Popen[bytes]:
    """The tap as a program, on a file of half a million rows."""
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,a\n" + b"".join(b"%d,abcdefghij\n" % number for number in range(500_000)))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"files": [{"entity": "e", "path": str(path), "keys": ["id"]}], **settings}))
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tap_csv.cli", "--config", str(config), *flags],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    tap = start(tmp_path)
    assert tap.stdout
    assert tap.stderr
    tap.stdout.readline()
    tap.stdout.close()
    assert tap.stderr.read().splitlines()[-1] == b"tap-csv: output closed by the target"
    tap.stderr.close()
    assert tap.wait() == 1
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_tap_that_is_terminated_leaves_no_file(tmp_path: Path, number: signal.Signals) -> None:
    tap = start(tmp_path)
    assert tap.stdout
    tap.stdout.readline()  # the rest does not fit into the pipe
    tap.send_signal(number)
    time.sleep(0.1)
    assert tap.communicate()[1].splitlines()[-1] == f"tap-csv: ended by {number.name}".encode()
    assert tap.returncode == 128 + number
    assert list((tmp_path / "tmp").iterdir()) == []


def test_folders_of_taps_that_were_killed_are_cleared(tmp_path: Path) -> None:
    folders = {name: tmp_path / "tmp" / f"tap-csv-{name}" for name in ("held", "young", "empty", "unlocked")}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        if name != "empty":
            (folder / "in-use").touch()
        if name != "young":
            os.utime(folder, (time.time() - 90_000,) * 2)
    with (folders["held"] / "in-use").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert start(tmp_path).communicate()[0]
    assert {path.name for path in (tmp_path / "tmp").iterdir()} == {"tap-csv-held", "tap-csv-young"}


def test_closed_output_is_refused(tmp_path: Path) -> None:
    start(tmp_path).communicate()
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "tap_csv.cli", "--config"]
    done = subprocess.run([*command, str(tmp_path / "config.json")], stderr=subprocess.PIPE, check=False)
    assert done.stderr.splitlines()[-1] == b"tap-csv: standard output is closed: send it to /dev/null to drop it"
    assert done.returncode == 1


@pytest.mark.parametrize(("flag", "messages"), [("--test=records", []), ("--test=schema", ["SCHEMA", "STATE"])])
def test_trying_out(tmp_path: Path, flag: str, messages: list[str]) -> None:
    (tmp_path / "batch").mkdir()
    storage = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path / "batch")}}
    said, _ = start(tmp_path, flag, batch_config=storage, incremental=False).communicate()
    assert [json.loads(line)["type"] for line in io.BytesIO(said)] == messages
    assert list((tmp_path / "batch").iterdir()) == []


def test_members_of_a_gzip_file_stand_behind_any_padding(tmp_path: Path, sync: Sync) -> None:
    one, two = gzip.compress(b"id,a\n1,x\n"), gzip.compress(b"2,y\n")
    for size in (1, (4 << 20) - len(one), 5 << 20):
        path = tmp_path / "in.csv.gz"
        path.write_bytes(one + bytes(size) + two)
        assert [row["id"] for row in sync(path).records] == ["1", "2"]


def test_a_gzip_file_is_cut_into_segments_of_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"id,a\n" + b"1,xxxxxxxxxxxxxx\n" * 1_000_000))
    entity = Entity("things", str(path), ("id",))
    sizes = [len(one.data) for one in Source(path, entity).segments(1 << 20, 1 << 20)]
    assert max(sizes) <= (1 << 20) + (4 << 20)
    assert sum(sizes) == 5 + 17 * 1_000_000


def test_a_link_that_leads_round_and_round_gives_each_file_once(tmp_path: Path, sync: Sync) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_text("id,a\n1,x\n")
    (tmp_path / "folder" / "loop").symlink_to(".")
    assert len(sync(tmp_path / "folder" / "**" / "*.csv").records) == 1
    (tmp_path / "folder" / "b.csv").symlink_to("nowhere")
    assert "is a link to nothing" in str(sync(tmp_path / "folder" / "*.csv").error)


def test_a_pipe_in_a_folder_is_passed_over(tmp_path: Path, sync: Sync) -> None:
    (tmp_path / "a.csv").write_text("id,a\n1,x\n")
    os.mkfifo(tmp_path / "b.csv")
    assert len(sync(tmp_path).records) == 1


@pytest.mark.parametrize("text", ["\ufeffx", "\ufeff"])
def test_a_mark_at_the_start_of_a_segment_is_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(f"id,a\n1,y\n{text},z\n")
    header, segments, *_ = catalog.split(
        Source(path, Entity("things", str(path), ())), Entity("things", str(path), ())
    )
    form = Form(path, Entity("things", str(path), ()).dialect, tuple(header), (), dict.fromkeys(header, STRING))
    first = next(segments)
    last = first.without(4, b'"')
    goal = tmp_path / "rows.jsonl"
    Converter(tmp_path).convert(last, dataclasses.replace(form, stream="things"), goal)
    assert json.loads(goal.read_text())["record"]["id"] == text


def test_a_byte_order_mark_is_dropped_whatever_the_encoding(tmp_path: Path, sync: Sync) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes("\ufeffid,a\n1,x\n".encode("utf-16-le"))
    assert sync(path, encoding="utf-16-le").records == [{"id": "1", "a": "x"}]
    for whole, at in (("\ufeffid,a\n1,x\n".encode(), 0), ("\ufeffid,a\n1,x\n".encode(), 2)):  # in pieces of gzip
        path.write_bytes(gzip.compress(whole[:at]) + gzip.compress(whole[at:]))
        assert sync(path).records == [{"id": "1", "a": "x"}]


def test_a_row_over_many_segments_takes_time_in_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment is read again a few times, not once for each that follows."""
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,a\n" + b'1,"x\\"\n' * 4000)
    read: list[int] = []
    convert = Converter.convert
    monkeypatch.setattr(Converter, "convert", lambda *words: read.append(len(words[1].data)) or convert(*words))
    monkeypatch.setattr(Source.segments, "__defaults__", (200, 200))
    run({"files": [{"entity": "things", "path": str(path), "keys": [], "escapechar": "\\"}]} | TEXT)
    assert sum(read) < 6 * path.stat().st_size


def test_values_like_rows_are_read_fast_however_long_the_segment_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 8 MB on DuckDB looks for beginnings of rows in the middle, unless it is told not to."""
    path = tmp_path / "in.csv"
    path.write_text("id,a\n" + "".join(f'{number},"\n{number},b"\n' for number in range(700_000)), newline="")
    monkeypatch.setattr(Converter, "_by_python", lambda *_: pytest.fail("DuckDB refused it"))
    sizes: list[int] = []
    convert = Converter.convert
    monkeypatch.setattr(Converter, "convert", lambda *words: sizes.append(len(words[1].data)) or convert(*words))
    (tmp_path / "batch").mkdir()
    storage = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path / "batch")}}
    got = run({"files": [{"entity": "e", "path": str(path), "keys": ["id"]}], "batch_config": storage} | TEXT)
    assert (got.error, max(sizes) > 10_000_000) == (None, True)
    with path.open(newline="") as file:
        assert got.rows() == list(map(tuple, itertools.islice(csv.reader(file), 1, None)))


@pytest.mark.parametrize(
    "state",
    [
        {"bookmarks": "x"},
        {"bookmarks": {"things": "x"}},
        {"bookmarks": {"things": {"files": None}}},
        {"bookmarks": {"things": {"files": {"input.csv": {}}}}},
        {"bookmarks": {"things": {"files": {"input.csv": None}}}},
        [1],
    ],
)
def test_a_damaged_state_is_refused(tmp_path: Path, sync: Sync, state: t.Any) -> None:
    good = sync(b"id,a\n1,x\n", settings=STATEFUL).state
    assert good
    form = good["bookmarks"]["things"]["form"]
    text = json.dumps(state).replace("input.csv", str(tmp_path / "input.csv"))
    state = json.loads(text.replace('"files":', f'"form": "{form}", "files":'))
    got = sync(b"id,a\n1,x\n", settings=STATEFUL, state=state)
    assert "is not of the form in which this tap says it" in str(got.error)


def test_what_an_empty_value_means_is_part_of_the_state(sync: Sync) -> None:
    first = sync(b"id,a\nx,\n", settings={})
    assert first.records == [{"id": "x", "a": None}]
    assert sync(b"id,a\nx,\n", settings=STATEFUL, state=first.state).records == [{"id": "x", "a": ""}]


def test_a_catalog_that_chooses_no_column_or_leaves_out_a_key_is_refused(sync: Sync) -> None:
    properties = {"id": {"type": "string"}, "a": {"type": "string"}}
    entry = {"tap_stream_id": "things", "schema": {"properties": {"a": properties["a"]}}}
    assert "lacks the column id, which is a key" in str(sync(b"id,a\n1,x\n", catalog={"streams": [entry]}).error)
    none = [{"breadcrumb": ["properties", name], "metadata": {"selected": False}} for name in properties]
    entry = {"tap_stream_id": "things", "schema": {"properties": properties}, "metadata": none}
    got = sync(b"id,a\n1,x\n", catalog={"streams": [entry]}, keys=[])
    assert (got.messages, "no column that is selected" in str(got.error)) == ([], True)


def test_a_file_that_nobody_will_read_is_removed(tmp_path: Path) -> None:
    class Closed(io.BytesIO):
        def flush(self) -> None:
            if b"BATCH" in self.getvalue():
                raise BrokenPipeError

    (tmp_path / "in.csv").write_text("id,a\n1,x\n")
    (tmp_path / "batch").mkdir()
    storage = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path / "batch")}}
    files = [{"entity": "things", "path": str(tmp_path / "in.csv"), "keys": ["id"]}]
    tap = Tap(Config.from_dict({"files": files, "batch_config": storage}), Closed())
    with pytest.raises(BrokenPipeError), tap:
        tap.sync()
    assert list((tmp_path / "batch").iterdir()) == []


def test_files_that_a_target_left_are_gone_after_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "batch"
    folder.mkdir()
    old, new, other = (folder / name for name in ("p-tap-csv-1.parquet", "p-tap-csv-2.parquet", "p-3.parquet"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    (tmp_path / "in.csv").write_text("id,a\n1,x\n")
    files = [{"entity": "things", "path": str(tmp_path / "in.csv"), "keys": ["id"]}]
    storage = {"encoding": {"format": "parquet"}, "storage": {"root": str(folder), "prefix": "p-"}}
    got = run({"files": files, "batch_config": storage})
    assert len(got.rows()) == 1
    assert [path.exists() for path in (old, new, other)] == [False, True, True]
