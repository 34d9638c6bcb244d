"""What is read arrives: values, columns, files and the messages around them."""

from __future__ import annotations

import json
import typing as t
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tap_csv_harness import TEXT, discover

if t.TYPE_CHECKING:
    from tap_csv_harness import Sync

DATA = Path(__file__).parent / "data"


def test_every_value_is_the_string_of_the_file(sync: Sync) -> None:
    got = sync(DATA / "customers.csv", keys=["customer_id"])
    assert got.error is None
    assert got.records == [
        {"customer_id": "1", "name": "Ada", "note": "first"},
        {"customer_id": "2", "name": "Bob", "note": ""},
        {"customer_id": "3", "name": "Chloé, Zoë", "note": "two\nlines"},
    ]


def test_schema_keys_and_state(sync: Sync) -> None:
    got = sync(b"id,a\n1,x\n")
    (schema,) = got.of_type("SCHEMA")
    assert schema["stream"] == "things"
    assert schema["key_properties"] == ["id"]
    assert schema["schema"]["properties"] == {name: {"type": ["string", "null"]} for name in ("id", "a")}
    assert [message["type"] for message in got.messages] == ["SCHEMA", "RECORD", "STATE"]
    assert got.messages[-1]["value"] == {"bookmarks": {"things": {}}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"id,a\n", [], id="header only"),
        pytest.param(b"id,a", [], id="header only without a line end"),
        pytest.param(b"\xef\xbb\xbfid,a\n1,x\n", [{"id": "1", "a": "x"}], id="byte order mark"),
        pytest.param(b'\xef\xbb\xbf"id",a\n1,x\n', [{"id": "1", "a": "x"}], id="byte order mark before a quote"),
        pytest.param(b"id,a\r\n1,x\r\n", [{"id": "1", "a": "x"}], id="CRLF"),
        pytest.param(b"id,a\r1,x\r", [{"id": "1", "a": "x"}], id="lone CR"),
        pytest.param(b"id,a\n1,x", [{"id": "1", "a": "x"}], id="no line end at the end"),
        pytest.param(b"id,a\n\n1,x\n\n\n", [{"id": "1", "a": "x"}], id="blank lines"),
        pytest.param(b'id,a\r\n1,"x\r\ny"\r\n', [{"id": "1", "a": "x\r\ny"}], id="quoted CRLF is kept"),
        pytest.param(b'id,a\n1,""\n', [{"id": "1", "a": ""}], id="empty quoted field"),
        pytest.param(b"id,a\n1,NULL\n", [{"id": "1", "a": "NULL"}], id="the word NULL"),
        pytest.param(b'id,a\n1,"say ""hi"""\n', [{"id": "1", "a": 'say "hi"'}], id="doubled quote"),
        pytest.param(b"id,a\n007, x \n", [{"id": "007", "a": " x "}], id="zeros and spaces are kept"),
        pytest.param("id,a\n1,\u2028\x0b\x85\n".encode(), [{"id": "1", "a": "\u2028\x0b\x85"}], id="no line ends"),
        pytest.param(b"id\n1\n2\n", [{"id": "1"}, {"id": "2"}], id="one column"),
    ],
)
def test_form_of_the_file(sync: Sync, content: bytes, expected: list[dict[str, str]]) -> None:
    got = sync(content)
    assert got.error is None
    assert got.records == expected
    assert len(got.of_type("SCHEMA")) == 1


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (b"id;a\n1;x,y\n", {"delimiter": ";"}),
        (b"id\ta\n1\tx,y\n", {"delimiter": "\t"}),
        (b"id,a\n1,'x,y'\n", {"quotechar": "'"}),
        (b"id,a\n1,x\\,y\n", {"escapechar": "\\"}),
        (b'id, a\n1, "x,y"\n', {"skipinitialspace": True}),
        (b'id,a\n1,"x,y"\n', {"strict": True, "doublequote": False, "escapechar": None}),
    ],
)
def test_dialect(sync: Sync, content: bytes, dialect: dict[str, t.Any]) -> None:
    assert sync(content, **dialect).records == [{"id": "1", "a": "x,y"}]


@pytest.mark.parametrize("settings", [{}, {"infer_types": False}, {"add_metadata_columns": True}])
@pytest.mark.parametrize("escapechar", [None, "\\"])
def test_quotes_without_a_meaning(sync: Sync, settings: dict[str, t.Any], escapechar: str | None) -> None:
    content = b'id\ta\n1\t"x\n2\t"y" z\n3\ty"\n4\t"w"\n'
    got = sync(content, delimiter="\t", quotechar="", escapechar=escapechar, settings=settings)
    assert [record["a"] for record in got.records] == ['"x', '"y" z', 'y"', '"w"']
    assert "the header is one column" in str(sync(b'"a\tb"\n', quotechar="").error)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin1", "cp1252", "utf-16", "utf-16-le"])
def test_encoding(sync: Sync, encoding: str) -> None:
    assert sync("id,a\n1,é\n".encode(encoding), encoding=encoding).records == [{"id": "1", "a": "é"}]


def test_metadata_columns_name_the_line_where_a_row_begins(sync: Sync, tmp_path: Path) -> None:
    got = sync(b'id,a\r\n1,"x\r\ny"\r\n\r\n2,z\r\n', settings={**TEXT, "add_metadata_columns": True})
    file = tmp_path / "input.csv"
    assert [record["_sdc_source_lineno"] for record in got.records] == [2, 5]
    assert {record["_sdc_source_file"] for record in got.records} == {str(file)}
    mtime = datetime.fromisoformat(got.records[0]["_sdc_source_file_mtime"])
    assert mtime == datetime.fromtimestamp(file.stat().st_mtime, UTC)
    properties = got.of_type("SCHEMA")[0]["schema"]["properties"]
    assert properties["_sdc_source_lineno"] == {"type": ["integer", "null"]}
    assert properties["_sdc_source_file_mtime"]["format"] == "date-time"


def test_a_folder_is_searched_through_in_order(sync: Sync, tmp_path: Path) -> None:
    for name, row in {"b.csv": "2,b", "a/z.CSV": "1,a", "a/notes.txt": "9,no"}.items():
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"id,a\n{row}\n")
    assert [record["id"] for record in sync(tmp_path / "in").records] == ["1", "2"]


def test_a_glob_takes_any_suffix(sync: Sync, tmp_path: Path) -> None:
    for name in ("2017-02.txt", "2017-01.txt", "2018-01.txt"):
        (tmp_path / name).write_text(f"id,a\n{name},x\n")
    got = sync(tmp_path / "2017-*.txt")
    assert [record["id"] for record in got.records] == ["2017-01.txt", "2017-02.txt"]


def test_a_name_that_exists_is_no_glob(sync: Sync, tmp_path: Path) -> None:
    (tmp_path / "data[1].csv").write_text("id,a\n1,x\n")
    assert len(sync(tmp_path / "data[1].csv").records) == 1


def test_files_may_order_their_columns_differently(sync: Sync) -> None:
    got = sync(DATA / "orders", keys=["order_id"], delimiter=";")
    assert got.records == [
        {"order_id": "10", "customer_id": "1", "total": "9.50"},
        {"order_id": "11", "customer_id": "2", "total": "1;5"},
        {"order_id": "12", "customer_id": "3", "total": "3.25"},
    ]


def test_deselected_columns_are_left_out(sync: Sync, tmp_path: Path) -> None:
    content = b"id,a,secret\n1,x,s\n"
    (tmp_path / "input.csv").write_bytes(content)
    catalog = discover({"files": [{"entity": "things", "path": str(tmp_path / "input.csv"), "keys": ["id"]}]})
    for entry in catalog["streams"][0]["metadata"]:
        entry["metadata"]["selected"] = "secret" not in entry["breadcrumb"]
    assert sync(content, catalog=catalog).records == [{"id": 1, "a": "x"}]


def test_the_list_may_stand_in_a_file(tmp_path: Path) -> None:
    definition = tmp_path / "files.json"
    definition.write_text(json.dumps([{"entity": "c", "path": str(DATA / "customers.csv"), "keys": ["customer_id"]}]))
    catalog = discover({"csv_files_definition": str(definition), "files": []})
    assert [one["stream"] for one in catalog["streams"]] == ["c"]


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("other", ["", 'x"y'])
def test_a_long_field_loads_by_any_route(sync: Sync, other: str, *, metadata: bool) -> None:
    """Longer than Python's csv module takes by default, and than DuckDB's longest line."""
    long = ["10.5 47.25," * 22_000, "é" * 3_000_000]
    content = "id,a,b\n" + "".join(f'{number},"{text}",{other}\n' for number, text in enumerate(long))
    got = sync(content.encode(), settings={**TEXT, "add_metadata_columns": metadata})
    assert got.error is None
    assert [record["a"] for record in got.records] == long


def test_no_keys(sync: Sync) -> None:
    got = sync(b"id,a\n,x\n,x\n", keys=[])
    assert got.of_type("SCHEMA")[0]["key_properties"] == []
    assert len(got.records) == 2


def test_every_record_arrives_in_order(sync: Sync) -> None:
    rows = 25_000  # more than the buffer of stdout holds, and than the SDK sends between two states
    got = sync(b"id,a\n" + b"".join(b"%d,x\n" % number for number in range(rows)))
    assert [record["id"] for record in got.records] == [str(number) for number in range(rows)]


LONGEST = 1_000
LONG: dict[str, tuple[str, dict[str, t.Any]]] = {
    "in one line": ("x" * LONGEST, {}),
    "beside CRLF": ("x" * (LONGEST - 4) + "\r\n\n\r", {}),
    "of letters of two bytes": ("é" * (LONGEST // 2), {}),
    "that JSON writes longer": ("\x01" * LONGEST, {"columns": {"a": "string"}}),
    "in a row that is longer": ("x" * LONGEST, {"columns": {"b": "integer"}}),
}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(("value", "entry"), LONG.values(), ids=LONG)
def test_the_longest_value_depends_on_its_bytes_alone(
    sync: Sync, tmp_path: Path, value: str, entry: dict[str, t.Any], line_end: str, *, metadata: bool, batch: bool
) -> None:
    (tmp_path / "rows").mkdir()
    settings: dict[str, t.Any] = {"incremental": False, "add_metadata_columns": metadata}
    if batch:
        settings["batch_config"] = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path / "rows")}}
    for text, fits in ((value, True), (value + "x", False)):
        content = line_end.join(("id,a,b,c", f'1,"{text}",2,{"y" * LONGEST}', "2,z,,", "")).encode()
        got = sync(content, settings=settings, max_field_bytes=LONGEST, **entry)
        if fits:
            rows = got.rows() if batch else [tuple(one.values()) for one in got.records]
            assert got.error is None
            assert [row[1] for row in rows] == [value, "z"]
        else:
            assert "line 2: a field of more than 1,000 bytes; is a quote left open?" in str(got.error)


def test_a_value_of_the_default_length_is_taken_whatever_it_holds(sync: Sync) -> None:
    value = "\x01" * 31_999_998 + "\r\n"
    got = sync(b'id,a\n1,"' + value.encode() + b'"\n2,b\n', settings={**TEXT, "add_metadata_columns": True})
    assert got.error is None
    assert [one["a"] for one in got.records] == [value, "b"]


def test_types_are_found_behind_a_row_that_is_longer_than_a_sample(sync: Sync) -> None:
    got = sync(b'id,a\n1,"' + b"x" * (1 << 24) + b'"\n2,b\n', settings={})
    assert got.error is None
    assert [(one["id"], len(one["a"])) for one in got.records] == [(1, 1 << 24), (2, 1)]
