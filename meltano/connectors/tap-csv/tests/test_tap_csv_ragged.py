"""Rows that do not fit: padded, or put in quarantine up to a limit."""

from __future__ import annotations

import logging
import tempfile
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap_csv import catalog, source
from tap_csv.config import Config
from tap_csv.errors import SettingsError
from tap_csv_harness import TEXT, discover, run

if t.TYPE_CHECKING:
    from tap_csv_harness import Sync, Synced

QUARANTINE: dict[str, t.Any] = {"ragged": "quarantine", "max_rejected": "100%"}
BATCH: t.Any = pytest.mark.parametrize("batch", [False, True])


def rows_of(got: Synced) -> tuple[list[tuple[t.Any, ...]], list[tuple[t.Any, ...]]]:
    """Rows that fit, and those that do not."""
    records = got.of_type("RECORD")
    fitting = [tuple(one["record"].values()) for one in records if one["stream"] == "things"]
    rejected = [tuple(one["record"].values()) for one in records if one["stream"] == "things__rejected"]
    return got.rows() + fitting, rejected


def how(folder: Path, *, batch: bool, **more: t.Any) -> dict[str, t.Any]:
    """Settings for RECORD or BATCH."""
    (folder / "rows").mkdir(exist_ok=True)
    storage = {"encoding": {"format": "parquet"}, "storage": {"root": str(folder / "rows")}}
    return more | ({"batch_config": storage} if batch else {})


@BATCH
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_rows_that_are_short_are_padded(sync: Sync, tmp_path: Path, line_end: str, *, batch: bool) -> None:
    content = line_end.join(("id,a,b", "1,x,2", "2", '3,"y"', "4,z,5,,", "")).encode()
    got = sync(content, settings=how(tmp_path, batch=batch), ragged="pad")
    assert got.error is None
    assert rows_of(got)[0] == [(1, "x", 2), (2, None, None), (3, "y", None), (4, "z", 5)]


def test_nothing_is_lost_by_padding(sync: Sync) -> None:
    assert "line 3, column 'a': ragged row: 3 fields" in str(sync(b"id,a\n1,x\n2,y,z\n", ragged="pad").error)
    assert "line 3, column 'id': a key must not be empty" in str(sync(b"a,id\n1,x\n2\n", ragged="pad").error)


BAD = b'id,a,n\r\n1,x,1\r\n2\r\n3,"y\r\nz",3,4\r\n# c\r\n,q,5\r\n6,r,six\r\n7,"s\r\n",seven\r\n8,t,8\r\n'
COLUMNS = {"n": "integer"}


@BATCH
def test_rows_that_do_not_fit_go_to_a_stream_of_their_own(sync: Sync, tmp_path: Path, *, batch: bool) -> None:
    got = sync(BAD, settings=how(tmp_path, batch=batch), columns=COLUMNS, comment="#", **QUARANTINE)
    fitting, rejected = rows_of(got)
    assert got.error is None
    assert fitting == [(1, "x", 1), (8, "t", 8)]
    path = str(tmp_path / "input.csv")
    no_integer = "column 'n': the value is no integer; `columns: {n: string}` in the settings gives it another type"
    assert rejected == [
        (path, 3, "column 'a': ragged row: 1 fields in the row, 3 in the header, this is the first without one", "2"),
        (
            path,
            4,
            "column 'n': ragged row: 4 fields in the row, 3 in the header, of which this is the last",
            '3,"y\r\nz",3,4',
        ),
        (path, 7, "column 'id': a key must not be empty", ",q,5"),
        (path, 8, no_integer, "6,r,six"),
        (path, 9, no_integer, '7,"s\r\n",seven'),
    ]
    streams = {one["stream"]: one for one in got.of_type("SCHEMA")}
    assert list(streams) == ["things", "things__rejected"]
    assert streams["things__rejected"]["key_properties"] == ["file", "line"]


def test_the_run_says_how_many(sync: Sync, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sync(b"id,a\n1,x\n2\n3\n", settings={}, **QUARANTINE)
        (said,) = caplog.messages
        caplog.clear()
        sync(b"id,a\n1,x\n", settings={}, **QUARANTINE)
        assert caplog.messages == []
    assert said.startswith("things: 2 of 3 rows do not fit, and go to things__rejected; the first: ")
    assert "input.csv, line 3: column 'a': ragged row" in said


@BATCH
@pytest.mark.parametrize(
    ("limit", "bad", "is_taken"),
    [(2, 2, True), (2, 3, False), ("0", 1, False), ("20%", 2, True), ("19.9 %", 2, False)],
)
def test_above_the_limit_nothing_is_sent(
    sync: Sync, tmp_path: Path, limit: int | str, bad: int, *, is_taken: bool, batch: bool
) -> None:
    """Of ten rows in two files; the first file has none that does not fit."""
    for name, lines in (("1", ["1,x"] * 5), ("2", ["2,y"] * (5 - bad) + ["3"] * bad)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,a", *lines]))
    given = {"ragged": "quarantine", "max_rejected": limit, "keys": []}
    got = sync(tmp_path / "*.csv", settings=how(tmp_path, batch=batch), **given)
    if is_taken:
        assert got.error is None
        assert [len(rows) for rows in rows_of(got)] == [10 - bad, bad]
        assert got.state
        assert len(got.state["bookmarks"]["things"]["files"]) == 2
    else:
        said = f"2.csv, line {7 - bad}: {bad} of 10 rows do not fit, more than `max_rejected: {limit}`; this is the"
        assert said in str(got.error)
        assert {one["type"] for one in got.messages} == {"SCHEMA"}
        assert list((tmp_path / "rows").iterdir()) == []


def test_a_key_and_a_type_are_found_without_rows_that_do_not_fit(sync: Sync, tmp_path: Path) -> None:
    content = b"id,n\n1,1\nx\n2,2,\n"
    assert rows_of(sync(content, settings={}, **QUARANTINE))[0] == [(1, 1)]
    entry = {"entity": "things", "path": str(tmp_path / "input.csv"), "keys": ["id"], **QUARANTINE}
    streams = discover({"files": [entry]})["streams"]
    assert [one["stream"] for one in streams] == ["things"]
    got = sync(content, settings={}, catalog={"streams": streams}, **QUARANTINE)
    assert [len(rows) for rows in rows_of(got)] == [1, 2]


def test_what_happens_to_rows_is_part_of_the_state(sync: Sync) -> None:
    content = b"id,a\n1,x\n2\n"
    first = sync(content, settings={}, **QUARANTINE)
    assert [len(rows) for rows in rows_of(first)] == [1, 1]
    assert [len(rows) for rows in rows_of(sync(content, settings={}, state=first.state, **QUARANTINE))] == [0, 0]
    assert [len(rows) for rows in rows_of(sync(content, settings={}, state=first.state, ragged="pad"))] == [2, 0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"ragged": "drop"}, "entity 'e': ragged: refuse, pad or quarantine"),
        ({"max_rejected": 3}, "entity 'e': max_rejected: set `ragged: quarantine` too"),
        ({"ragged": "quarantine", "max_rejected": "few"}, "entity 'e': max_rejected: a number of rows, or a share"),
        ({"ragged": "quarantine", "max_rejected": "101%"}, "entity 'e': max_rejected: a number of rows, or a share"),
        ({"ragged": "quarantine", "max_rejected": -1}, "entity 'e': max_rejected: a number of rows, or a share"),
        ({"max_field_bytes": 0}, "entity 'e': max_field_bytes: from 1 to 500000000"),
    ],
)
def test_limits_that_do_not_fit(entry: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Config.from_dict({"files": [{"entity": "e", "path": "x.csv", "keys": [], **entry}]})
    assert message in str(caught.value)


def test_no_other_entity_has_the_name_of_what_is_rejected() -> None:
    files = [{"entity": name, "path": "x", "keys": [], "ragged": "quarantine"} for name in ("e", "e__rejected")]
    with pytest.raises(SettingsError, match="entity 'e__rejected': the name of the stream of what 'e' rejects"):
        Config.from_dict({"files": files})


FIELD = st.sampled_from(["x", "", "1", '"a,b"', '"c\nd"', '"e""f"'])


@settings(deadline=None, max_examples=60)
@given(
    lines=st.lists(st.lists(FIELD, min_size=1, max_size=5), max_size=12),
    size=st.sampled_from([5, 40, 1 << 20]),
    batch=st.booleans(),
)
def test_each_row_is_sent_or_rejected_as_it_stands(lines: list[list[str]], size: int, *, batch: bool) -> None:
    lines = [["k", *line] for line in lines]
    text = "".join(f"{','.join(line)}\n" for line in [["id", "a", "b"], *lines])
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(source, "_CHUNK", size)
        monkeypatch.setattr(source.Source.segments, "__defaults__", (size, size))
        monkeypatch.setattr(catalog.split, "__defaults__", (size,))
        path = Path(folder) / "in.csv"
        path.write_text(text, newline="")
        entry = {"entity": "things", "path": str(path), "keys": ["id"], **QUARANTINE}
        got = run({"files": [entry], **TEXT, **how(Path(folder), batch=batch)})
        fitting, rejected = rows_of(got)
    assert got.error is None
    plain = [tuple(field.strip('"').replace('""', '"') for field in line) for line in lines if len(line) == 3]
    assert fitting == plain
    assert [one[3] for one in rejected] == [",".join(line) for line in lines if len(line) != 3]
    assert [text.splitlines(keepends=True)[one[1] - 1].startswith(one[3].split("\n")[0]) for one in rejected] == [
        True
    ] * len(rejected)
