"""Every kind of bad input and setting is refused in one line that says where."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from tap_csv.config import Config
from tap_csv.convert import Converter
from tap_csv.errors import SettingsError
from tap_csv_harness import discover

if t.TYPE_CHECKING:
    from tap_csv_harness import Sync

BAD_HEADERS = {
    "zero bytes": (b"", "the file is empty"),
    "byte order mark alone": (b"\xef\xbb\xbf", "the file holds no header"),
    "blank first line": (b"\nid,a\n", "line 1: column 1 of the header has no name"),
    "name missing": (b"id,,b\n", "line 1: column 2 of the header has no name"),
    "name of spaces": (b"id, \n", "line 1: column 2 of the header has no name"),
    "name twice": (b"id,a,a\n1,2,3\n", "line 1, column 'a': the header names it 2 times"),
    "key absent": (b"no,a\n1,x\n", "line 1, column 'id': the key is no column of the header (no, a)"),
    "semicolons": (b"id;a\n1;x\n", 'line 1: the header is one column, which holds ";"; set `delimiter: ";"`'),
    "tabs": (b"nr\tid\n1\tx\n", 'line 1: the header is one column, which holds "\\t"; set `delimiter: "\\t"`'),
    "bars": (b"nr|id\n1|x\n", 'line 1: the header is one column, which holds "|"; set `delimiter: "|"`'),
    "open quote": (b'id,"a\n1,x\n', "line 1: a quote or an escape is still open at the end of the file"),
    "NUL": (b"id,\0\n", "line 1: NUL at character 4 of the line"),
}
BAD_ROWS = {
    "too few fields": (
        b"id,a,b\n1,x,y\n2\n",
        "line 3, column 'a': ragged row: 1 fields in the row, 3 in the header, this is the first without one",
    ),
    "too many fields": (
        b"id,a\n1,x\n2,y,z\n",
        "line 3, column 'a': ragged row: 3 fields in the row, 2 in the header, of which this is the last",
    ),
    "line of spaces": (b"id,a\n1,x\n \n", "line 3, column 'a': ragged row: 1 fields in the row"),
    "after quoted line ends": (b'id,a\r\n1,"x\r\n\r\ny"\r\n\r\n2\r\n', "line 6, column 'a': ragged row"),
    "with quoted line ends": (b'id,a\n1,x\n2,"x\ny\nz",3\n', "line 3, column 'a': ragged row"),
    "key empty": (b"id,a\n1,x\n,y\n", "line 3, column 'id': a key must not be empty"),
    "NUL": (b"id,a\n1,x\n2,y\0\n", "line 3: NUL at character 4 of the line"),
    "quote open in the last column": (b'id,a\n1,x\n2,"y\n3,z\n', "line 3: a quote or an escape is still open"),
    "quote open in the first column": (b'id,a\n1,x\n"2,y\n3,z\n', "line 3: a quote or an escape is still open"),
    "cut off after a quote": (b'id,a\n1,x\n"', "line 3: a quote or an escape is still open"),
    "cut off within quotes": (b'id,a\n1,x\nx","', "line 3: a quote or an escape is still open"),
    "nothing but a quote": (b'"', "line 1: a quote or an escape is still open"),
    "surplus delimiter beside quotes within values": (b'id,a\n1,2,\nx"q,w"y\n', "line 2, column 'a': ragged row"),
    "escape open": (b"id,a\n1,x\n2,y\\", "line 3: a quote or an escape is still open"),
    "quote open for long": (
        b'id,a\n1,x\n2,"y' + b"y" * 32_000_000,
        "line 3: a field of more than 32,000,000 bytes; is a quote left open? If not, raise `max_field_bytes`",
    ),
}


def write(folder: Path, content: bytes) -> str:
    """The path of a file of these bytes."""
    path = folder / "input.csv"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(("content", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_header_is_refused_before_anything_is_sent(sync: Sync, content: bytes, message: str) -> None:
    got = sync(content)
    assert message in str(got.error)
    assert "input.csv" in str(got.error)
    assert got.messages == []


@pytest.mark.parametrize(("content", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row_is_refused_where_it_stands(sync: Sync, content: bytes, message: str) -> None:
    dialect: dict[str, t.Any] = {"escapechar": "\\"} if b"\\" in content else {}
    got = sync(content, **dialect)
    assert message in str(got.error)
    assert all(record["id"] == "1" for record in got.records)
    assert not got.of_type("STATE")


def test_each_key_of_several_must_hold_a_value(sync: Sync) -> None:
    assert "line 2, column 'b': a key" in str(sync(b"id,b\n1,\n", keys=["id", "b"]).error)


def test_strict_refuses_text_after_a_closing_quote(sync: Sync) -> None:
    content = b'id,a\n1,"x"y\n'
    assert sync(content).records == [{"id": "1", "a": "xy"}]
    assert "input.csv, line 2: ',' expected after '\"'" in str(sync(content, strict=True).error)


def test_no_message_quotes_a_value(sync: Sync) -> None:
    assert "4111" not in str(sync(b"id,card\n1,4111,4111\n").error)


@pytest.mark.parametrize("rows_before", [0, 1, 50_000])
def test_wrong_encoding_names_offset_and_line(sync: Sync, rows_before: int) -> None:
    before = b"id,a\r\n" + b"1,\xc3\xa9\r\n" * rows_before
    got = sync(before + b"2,\xe9\r\n")
    place = f"line {rows_before + 2}: is not utf-8, set its encoding: byte 0xe9 at offset {len(before) + 2}"
    assert place in str(got.error)


def test_offset_counts_the_byte_order_mark(sync: Sync) -> None:
    got = sync(b"\xef\xbb\xbfid,a\n1,\xe9\n")
    assert "line 2: is not utf-8, set its encoding: byte 0xe9 at offset 10" in str(got.error)


def test_truncated_character_at_the_end(sync: Sync) -> None:
    assert "line 2: is not utf-8, set its encoding: byte 0xc3 at offset 7" in str(sync(b"id,a\n1,\xc3").error)


def test_utf_16_without_its_mark(sync: Sync) -> None:
    assert "line 1: is not utf-16" in str(sync(b"id,a\n1,x\n", encoding="utf-16").error)


def test_utf_16_read_as_utf_8(sync: Sync) -> None:
    assert "line 1: is not utf-8" in str(sync("id,a\n".encode("utf-16")).error)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.csv", "no such file or folder"), ("none-*.csv", "no file matches"), ("link.csv", "is a link to nothing")],
)
def test_nothing_there(sync: Sync, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone")
    got = sync(tmp_path / name)
    assert str(got.error) == f"{tmp_path / name}: {message}"
    assert got.messages == []


def test_folder_without_csv(sync: Sync, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    assert str(sync(tmp_path / "in").error) == f"{tmp_path / 'in'}: the folder holds no .csv file, compressed or not"


def test_unreadable_file(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(self: Path, *arguments: t.Any, **named: t.Any) -> t.Any:
        if self.name != "in.csv":
            return opened(self, *arguments, **named)
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "in.csv").write_text("id\n")
    monkeypatch.setattr(Path, "open", refuse)  # root may read whatever the mode says
    assert str(sync(tmp_path / "in.csv").error) == f"{tmp_path / 'in.csv'}: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("id\n", "column 'a': the header lacks this column, which"),
        ("id,a,b\n", "column 'b': the header has this column"),
    ],
)
def test_files_of_an_entity_must_have_the_same_columns(sync: Sync, tmp_path: Path, second: str, message: str) -> None:
    (tmp_path / "1.csv").write_text("id,a\n1,x\n")
    (tmp_path / "2.csv").write_text(second)
    got = sync(tmp_path)
    assert message in str(got.error)
    assert str(got.error).startswith(f"{tmp_path / '2.csv'}, line 1")
    assert got.messages == []


def test_metadata_column_that_is_in_the_file_too(sync: Sync) -> None:
    assert "column '_sdc_source_file'" in str(
        sync(b"id,_sdc_source_file\n1,x\n", settings={"add_metadata_columns": True}).error
    )


def test_a_header_that_lacks_what_the_catalog_has(sync: Sync, tmp_path: Path) -> None:
    catalog = discover({"files": [{"entity": "things", "path": write(tmp_path, b"id,a\n1,x\n"), "keys": ["id"]}]})
    got = sync(b"id\n1\n", catalog=catalog)
    assert "line 1, column 'a': the header lacks this column, which the catalog has" in str(got.error)


def test_a_file_that_changes_while_it_is_read(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = Converter.convert

    def late(self: Converter, *arguments: t.Any) -> int:
        with (tmp_path / "input.csv").open("ab") as file:
            file.write(b"2,y\n")
        return convert(self, *arguments)

    monkeypatch.setattr(Converter, "convert", late)
    got = sync(b"id,a\n1,x\n", settings={})
    assert "input.csv: was changed while it was read" in str(got.error)
    assert got.state is None


FILE = {"entity": "e", "path": "x.csv", "keys": []}
BATCH = {"encoding": {"format": "parquet"}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no files: set `files` or `csv_files_definition`"),
        ({"files": []}, "no files"),
        ({"files": [FILE, FILE]}, "entity 'e' stands 2 times"),
        ({"files": [FILE | {"encoding": "klingon"}]}, "entity 'e': unknown encoding 'klingon'"),
        ({"files": [FILE | {"encoding": "base64"}]}, "entity 'e': unknown encoding 'base64'"),
        ({"files": [FILE | {"delimiter": "ab"}]}, "entity 'e': \"delimiter\" must be a"),
        ({"csv_files_definition": "none.json"}, "csv_files_definition none.json: No such file"),
        ({"files": [FILE | {"delimeter": ";"}]}, "files[0]: unknown setting 'delimeter'"),
        ({"files": [{"entity": "e"}]}, "files[0]: set 'path'"),
        ({"files": [FILE | {"keys": "id"}]}, "files[0]: keys must be of type array"),
        ({"files": [FILE | {"keys": [1]}]}, "entity 'e': keys: must be a list of names"),
        (
            {"files": [FILE | {"columns": {"a": "text"}}]},
            "entity 'e': columns: 'a': a type is one of integer, number",
        ),
        ({"files": [FILE | {"columns": {"a": "decimal(40,2)"}}]}, "columns: 'a': a type is one of"),
        ({"files": [FILE], "filesystem": "ftp"}, "filesystem: only local files"),
        ({"files": [FILE], "infer_rows": 0}, "infer_rows: a number of rows, or -1 for all"),
        ({"files": [FILE], "stream_maps": {"e": None}}, "stream_maps: put a mapper behind the tap"),
        ({"files": [FILE], "batch_config": {"encoding": {"format": "jsonl"}}}, "format: only parquet is written"),
        ({"files": [FILE], "batch_config": {"encoding": {"format": "parquet"}}}, "storage: root: set the folder"),
        ({"files": [FILE], "batch_config": BATCH | {"storage": {"root": "s3://b"}}}, "not s3"),
        ({"files": [FILE], "batch_config": BATCH | {"storage": {"root": "none"}}}, "none is no folder"),
    ],
)
def test_settings_that_do_not_fit(config: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Config.from_dict(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{]", "is no JSON"),
        ('[{"entity": "e"}]', "[0]: set 'path'"),
        ("{}", "must be a list"),
        ("[1]", "[0]: must be"),
    ],
)
def test_definition_that_does_not_fit(tmp_path: Path, content: str, message: str) -> None:
    definition = tmp_path / "files.json"
    definition.write_text(content)
    with pytest.raises(SettingsError) as caught:
        Config.from_dict({"csv_files_definition": str(definition)})
    assert message in str(caught.value)


@pytest.mark.parametrize("discovers", [True, False])
@pytest.mark.parametrize("debug", [True, False])
def test_command_line(tmp_path: Path, discovers: bool, debug: bool) -> None:
    (tmp_path / "in.csv").write_text("no\n")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"files": [{"entity": "e", "path": "in.csv", "keys": ["id"]}]}))
    done = subprocess.run(
        [sys.executable, "-m", "tap_csv.cli", "--config", "config.json", *(["--discover"] if discovers else [])],
        cwd=tmp_path,
        env={"TAP_CSV_LOGLEVEL": "debug" if debug else "info"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert ("Traceback" in done.stderr) is debug
    assert "in.csv, line 1, column 'id': the key is no column of the header (no)" in done.stderr
