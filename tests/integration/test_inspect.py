"""`elt inspect`: what it finds of a file, and what it writes is what loads it."""

from __future__ import annotations

import gzip
import subprocess
import sys
import typing as t

import pytest
import yaml
from workspace import ROOT, apart, copy

from elt import layout
from elt.errors import ConfigError, DataError
from elt.sources import inspection, meltano_yml

if t.TYPE_CHECKING:
    from pathlib import Path

SHOPS = "id;Straße;seit;Miete\n" + "".join(f"{n};Weg {n};2024-01-{n:02};{n}.50\n" for n in range(1, 29))


def look(path: Path, **more: t.Any) -> dict[str, t.Any]:
    return inspection.inspect(path, **({"rows": None, "encoding": None, "delimiter": None} | more))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Copies of meltano.yml and of a dbt project to write to."""
    for name, path in (
        ("MELTANO_PROJECT", tmp_path / "meltano"),
        ("MELTANO_YML", tmp_path / "meltano" / "meltano.yml"),
        ("DBT_PROJECT", tmp_path / "transform"),
        ("EXTRACT", tmp_path / "extract"),
    ):
        monkeypatch.setattr(layout, name, path)
    (tmp_path / "meltano").mkdir()
    (tmp_path / "extract").mkdir()
    (tmp_path / "transform" / "models" / "staging").mkdir(parents=True)
    layout.MELTANO_YML.write_text((ROOT / "meltano" / "meltano.yml").read_text())
    return tmp_path


@pytest.mark.parametrize(("encoding", "named"), [("utf-8", "utf-8"), ("latin-1", "cp1252"), ("utf-16", "utf-16")])
def test_encoding_delimiter_types_and_keys(tmp_path, encoding, named):
    path = tmp_path / "shops.csv"
    path.write_text(SHOPS, encoding=encoding)
    found = look(path)
    assert (found["encoding"], found["delimiter"], found["rows"], found["is_whole"]) == (named, ";", 28, True)
    assert [(one["name"], one["type"]) for one in found["columns"]] == [
        ("id", "integer"),
        ("Straße", "string"),
        ("seit", "date"),
        ("Miete", "decimal(16,2)"),
    ]
    assert found["keys"] == [["id"], ["Straße"], ["seit"], ["Miete"]]


def test_the_value_that_decided_is_the_last_that_ruled_out_a_narrower_type(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("n,t,d\n1,1,2024-01-01\n2.5,1.5,2024-01-02\n3,x,2024-01-02 10:00:00\n4.12345,2,2024-01-03\n")
    found = {one["name"]: one for one in look(path)["columns"]}
    assert (found["n"]["type"], found["n"]["line"], found["n"]["value"]) == ("number", 5, "4.12345")
    assert (found["t"]["type"], found["t"]["line"], found["t"]["value"]) == ("string", 4, "x")
    assert (found["d"]["type"], found["d"]["value"]) == ("date-time", "2024-01-02 10:00:00")


def test_what_a_load_would_refuse_is_found_beyond_the_sample(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("id,code\n" + "".join(f"{n},{n}\n" for n in range(30_000)) + "30000,00501\n")
    found = look(path)
    code = found["columns"][1]
    assert (code["type"], code["doubt"]) == ("integer", "00501")
    assert code["where"] == f"near byte {path.read_text().index('30000,00501'):,}"
    assert inspection.entry(found)["columns"] == {"code": "string"}
    assert look(path, rows=-1)["columns"][1]["type"] == "string"


def test_a_pair_of_columns_may_be_the_key(tmp_path):
    path = tmp_path / "lines.csv"
    path.write_text("basket,line,x\n" + "".join(f"{n // 3},{n % 3},\n" for n in range(30)))
    assert look(path)["keys"] == [["basket", "line"]]


def test_a_gzip_file_is_inspected_from_its_beginning(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a\tb\n" + b"1\tx\n" * 30_000))
    found = look(path)
    assert (found["delimiter"], found["is_whole"], [one["type"] for one in found["columns"]]) == (
        "\t",
        False,
        ["integer", "string"],
    )
    assert inspection.name_of(path) == "a"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"a,a\n1,2\n", "names it 2 times"),
        (b"a,b\n1,2,3\n", "line 2"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, said):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^inspect: .*a.csv.*{said}") as error:
        look(path)
    assert "\n" not in str(error.value)


def test_a_folder_and_an_address_are_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder: name one of its files"):
        look(tmp_path)
    with pytest.raises(DataError, match="only files of this machine"):
        look(t.cast("t.Any", "https://example.com/a.csv"))


def test_what_is_written_is_added_once_and_nothing_else_changes(project, capsys):
    path = project / "extract" / "Shops 2024.csv"
    path.write_text(SHOPS, encoding="latin-1")
    before = layout.MELTANO_YML.read_text()
    found = look(path)
    inspection.write(found)
    written = layout.MELTANO_YML.read_text()
    added = yaml.safe_load(written)["plugins"]["extractors"][0]["config"]["files"][-1]
    assert added == {
        "entity": "shops_2024",
        "path": "$ELT_EXTRACT/Shops 2024.csv",
        "keys": ["id"],
        "columns": {"Miete": "decimal(16,2)"},
        "delimiter": ";",
        "encoding": "cp1252",
    }
    lines = written.splitlines()
    assert [line for line in before.splitlines() if line not in lines] == []
    assert len(lines) == len(before.splitlines()) + 7
    assert [one.table for one in meltano_yml.listed()][-1] == "shops_2024"
    source = yaml.safe_load((layout.DBT_PROJECT / "models/staging/_shops_2024__sources.yml").read_text())["sources"][
        0
    ]
    assert source["tables"][0]["columns"][:2] == [
        {"name": "id", "description": "id (integer).", "data_tests": ["not_null", "unique"]},
        {"name": "straße", "description": "Straße (string)."},
    ]
    inspection.write(found)
    assert layout.MELTANO_YML.read_text() == written
    assert capsys.readouterr().out.count("left as it is") == 2


def test_a_list_that_cannot_be_added_to_is_named(project):
    path = project / "a.csv"
    path.write_text("a\n1\n")
    layout.MELTANO_YML.write_text("plugins: {extractors: [{name: tap-csv, config: {files: []}}]}")
    with pytest.raises(ConfigError, match="has no list `files` with an item a line to add to: paste the entry"):
        inspection.write(look(path))


def test_what_it_wrote_is_loaded_by_a_run(tmp_path, state):
    """In a copy of the clone: the command, then the local run."""
    clone = tmp_path / "clone"
    copy(clone)
    (clone / ".env").write_text((ROOT / ".env").read_text())
    (clone / "meltano" / "extract" / "shops.csv").write_text(SHOPS, encoding="latin-1")
    env = apart(state)
    command = (sys.executable, "-c", "from elt.cli import main; main()")
    done = subprocess.run(
        [*command, "inspect", "meltano/extract/shops.csv", "--write"],
        cwd=clone,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for words in (("seed", "--example"), ("run",)):
        done = subprocess.run([*command, *words], cwd=clone, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "raw.shops: 28 rows" in done.stdout
