"""Compressed files and zip files: by what they are known, which of their files are read, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import typing as t
import zipfile

import pytest
from tap_csv.errors import InputError
from tap_csv.inspection import inspect
from tap_csv_harness import TEXT, Synced, run

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if t.TYPE_CHECKING:
    from pathlib import Path

    from tap_csv_harness import Sync

PACKERS: dict[str, t.Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def batch(folder: Path) -> dict[str, t.Any]:
    return {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": str(folder)}}}


def values(got: Synced) -> list[tuple[t.Any, ...]]:
    """The rows, whichever messages carry them."""
    assert got.error is None
    return [tuple(one.values()) for one in got.records] + got.rows()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", PACKERS)
def test_packed_files(sync: Sync, tmp_path: Path, name: str, batched: bool) -> None:
    """Of several parts, as `cat a.gz b.gz` makes them; known by its first bytes, and by its name in a folder."""
    pack = PACKERS[name]
    (tmp_path / "in").mkdir()
    content = pack(b"id,a\n1,x\n") + pack(b"2,y\n")
    (tmp_path / "in" / f"in.csv.{name}").write_bytes(content)
    (tmp_path / "in.data").write_bytes(content)
    settings = TEXT | (batch(tmp_path) if batched else {})
    for path in (tmp_path / "in", tmp_path / "in.data"):
        assert values(sync(path, settings=settings)) == [("1", "x"), ("2", "y")]


@pytest.mark.parametrize("name", PACKERS)
def test_packed_files_that_are_broken(sync: Sync, name: str) -> None:
    rows = b"id\n" + b"".join(os.urandom(20).hex().encode() + b"\n" for _ in range(50_000))
    whole = PACKERS[name](rows)
    for broken in (whole[:-9], whole[:200_000]):
        assert "input.csv: is cut off: the" in str(sync(broken).error)
    for place in (len(whole) // 2, len(whole) - 3):
        bad = bytearray(whole)
        bad[place] ^= 0xFF
        assert "input.csv: is " in str(sync(bytes(bad)).error)
        assert sync(bytes(bad)).state is None


def zipped(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/") + ".csv", text)
    return path


@pytest.mark.parametrize("batched", [False, True])
def test_the_file_in_a_zip_file(sync: Sync, tmp_path: Path, batched: bool) -> None:
    path = zipped(tmp_path / "in.zip", a="id,a\n1,x\n2,y\n")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._a.csv", "what macOS adds")
    settings = {**TEXT, "add_metadata_columns": True} | (batch(tmp_path) if batched else {})
    rows = values(sync(path, settings=settings))
    assert [(*row[:3], row[-1]) for row in rows] == [("1", "x", f"{path}!a.csv", 2), ("2", "y", f"{path}!a.csv", 3)]


def test_files_in_a_zip_file_by_a_pattern(sync: Sync, tmp_path: Path) -> None:
    path = zipped(tmp_path / "in.zip", b="id,a\n2,x\n", sub__a="id,a\n3,x\n", a="id,a\n1,x\n")
    assert f'{path}: holds 3 files: set `members`, such as `members: "*.csv"`' in str(sync(path).error)
    assert [row[0] for row in values(sync(path, members="*.csv"))] == ["1", "2", "3"]
    assert [row[0] for row in values(sync(path, members="sub/*"))] == ["3"]
    assert "holds 3 files, and `members: *.txt` fits none" in str(sync(path, members="*.txt").error)
    zipped(path, a="id,a\n1,x\n", b="id,a\n2\n")
    assert f"{path}!b.csv, line 2, column 'a': ragged row" in str(sync(path, members="*").error)
    zipped(path, a="id,a\n1,x\n", b="id,c\n2,x\n")
    assert f"{path}!b.csv, line 1, column 'a': the header lacks this column" in str(sync(path, members="*").error)
    (tmp_path / "plain.csv").write_text("id\n1\n")
    assert "is no zip file" in str(sync(tmp_path / "plain.csv", members="*").error)


def test_state_of_files_in_a_zip_file(sync: Sync, tmp_path: Path) -> None:
    """A month that is added to the archive is sent alone."""
    path = zipped(tmp_path / "in.zip", a="id,a\n1,x\n")
    first = sync(path, members="*", settings={"infer_types": False})
    zipped(path, a="id,a\n1,x\n", b="id,a\n2,x\n")
    again = sync(path, members="*", settings={"infer_types": False}, state=first.state)
    assert [one["id"] for one in again.records] == ["2"]
    assert sync(path, members="*", settings={"infer_types": False}, state=again.state).records == []


def test_zip_files_that_are_broken(sync: Sync, tmp_path: Path) -> None:
    rows = "id\n" + "".join(os.urandom(20).hex() + "\n" for _ in range(5_000))
    path = zipped(tmp_path / "in.zip", a=rows)
    whole = path.read_bytes()
    assert "is a damaged zip file, or cut off" in str(sync(whole[:-30]).error)
    bad = bytearray(whole)
    bad[len(whole) // 2] ^= 0xFF
    got = sync(bytes(bad))
    assert "input.csv!a.csv: is damaged" in str(got.error)
    assert got.state is None
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    assert "input.csv!a.csv: is encrypted: unpack it" in str(sync(bytes(encrypted)).error)
    with zipfile.ZipFile(path, "w"):
        pass
    assert "holds no file" in str(sync(path).error)


def test_a_zip_bomb_fills_neither_memory_nor_disk(tmp_path: Path) -> None:
    """It is read as it is unpacked, and one line without an end is refused at `max_field_bytes`."""
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as member:
        member.write(b"id,a\n1,")
        for _ in range(300):
            member.write(b"0" * 1_000_000)
    assert path.stat().st_size < 400_000
    got = run({"files": [{"entity": "e", "path": str(path), "keys": ["id"]}]} | TEXT)
    assert got.error is not None
    assert f"{path}!a.csv, line 2" in str(got.error)


def test_a_row_without_an_end_fills_no_memory(tmp_path: Path) -> None:
    """A look at a sample reads on to the end of a row, which may be that of the file."""
    path = tmp_path / "in.csv.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(b"id,a\n1,")
        for _ in range(600):
            file.write(b"0" * 1_000_000)
    with pytest.raises(InputError, match=r"in\.csv\.gz, line 2: a row of more than 256,000,000 bytes"):
        inspect(str(path))
