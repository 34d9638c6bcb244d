"""The list of extracts follows meltano.yml, and what is missing or wrong there is named."""

from __future__ import annotations

import gzip

import pytest
import yaml

from elt import layout
from elt.errors import ConfigError, DataError
from elt.sources import meltano_yml, seed


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A Meltano project and a folder of extracts of the test's; call it with the entries of `files`."""
    monkeypatch.setattr(layout, "MELTANO_PROJECT", tmp_path / "meltano")
    monkeypatch.setattr(layout, "EXTRACT", tmp_path / "extract")
    monkeypatch.setattr(layout, "MELTANO_YML", tmp_path / "meltano" / "meltano.yml")
    (tmp_path / "meltano").mkdir()
    (tmp_path / "extract").mkdir()

    def write(*files):
        config = {"plugins": {"extractors": [{"name": "tap-csv", "config": {"files": list(files)}}]}}
        layout.MELTANO_YML.write_text(yaml.safe_dump(config))
        return tmp_path

    return write


def test_paths_count_from_the_project_or_are_the_extract_folder(project):
    folder = project(
        {"entity": "a", "path": "$ELT_EXTRACT/a.csv"}, {"entity": "b", "path": "extract/b.csv", "delimiter": ";"}
    )
    a, b = meltano_yml.listed(folder / "extract")
    assert (a.table, a.path, a.delimiter) == ("a", folder / "extract" / "a.csv", ",")
    assert (b.table, b.path, b.delimiter) == ("b", folder / "meltano" / "extract" / "b.csv", ";")


def test_a_file_a_folder_and_a_glob_are_counted(project, tmp_path):
    (tmp_path / "extract" / "days").mkdir()
    (tmp_path / "extract" / "days" / "1.csv").write_text('\ufeffid;text\n1;"two\nlines"\n\n2;x\n')
    (tmp_path / "extract" / "days" / "2.CSV.gz").write_bytes(gzip.compress(b"id;text\n3;y\n"))
    project(
        *(
            {"entity": "t", "path": f"$ELT_EXTRACT/{path}", "delimiter": ";"}
            for path in ("days/1.csv", "days", "days/*", "days/[2].CSV.gz")
        )
    )
    assert [one.rows() for one in meltano_yml.listed(layout.EXTRACT)] == [2, 3, 3, 1]
    assert [*meltano_yml.listed(layout.EXTRACT)[1].records(("text", "id"))] == [
        ("two\nlines", "1"),
        ("x", "2"),
        ("y", "3"),
    ]


def test_what_is_missing_is_named_with_the_way_out(project, tmp_path):
    project({"entity": "mine", "path": "extract/mine.csv"})
    with pytest.raises(
        DataError, match=r"meltano/extract/mine.csv is missing: put the extract of table mine there, or"
    ):
        seed.ensure()
    project({"entity": "transactions", "path": "$ELT_EXTRACT/transactions.csv"})
    (tmp_path / "extract" / "products.csv").touch()  # a part of the sample is somebody's loss, not an empty clone
    with pytest.raises(DataError, match=r"scripts/seed.sh writes those of the grocery data"):
        seed.ensure()


def test_a_broken_list_is_named(project):
    project({"entity": "a"})
    with pytest.raises(ConfigError, match=r"meltano.yml: its plugins and jobs cannot be read: KeyError\('path'\)"):
        meltano_yml.listed()
    layout.MELTANO_YML.write_text("plugins:\n  extractors:\n    - name: tap-csv\n   - name: other\n")
    with pytest.raises(ConfigError, match=r"meltano.yml, line 4, column 4: did not find expected key"):
        meltano_yml.listed()


def test_what_is_there_twice_is_refused_as_meltano_does(project, tmp_path):
    project()
    layout.MELTANO_YML.write_text("jobs: []\nplugins:\n  loaders: []\njobs: [{name: a, tasks: [b c]}]\n")
    with pytest.raises(ConfigError, match=r"meltano.yml, line 4, column 1: 'jobs' is there twice"):
        meltano_yml.loads("a")


def test_what_is_loaded_stands_in_a_job(project):
    project()
    with pytest.raises(ConfigError, match=r"jobs: extract_load must list what is loaded, such as `tasks: \[tap-csv "):
        meltano_yml.loads()
    with pytest.raises(ConfigError, match=r"meltano.yml: no job is called 'shpo'; there are "):
        meltano_yml.loads("shpo")
    tasks = ["tap-a mapper target-a", ["tap-b", "target-b"]]
    layout.MELTANO_YML.write_text(yaml.safe_dump({"jobs": [{"name": "extract_load", "tasks": tasks}], "plugins": {}}))
    assert meltano_yml.loads() == ["tap-a", "mapper", "target-a", "tap-b", "target-b"]
    assert meltano_yml.states() == ["tap-a-to-target-a", "tap-b-to-target-b"]
    assert meltano_yml.listed() == []
    assert not meltano_yml.is_of_files()
    files = {"jobs": [{"name": "extract_load", "tasks": ["tap-csv target-a"]}], "plugins": {}}
    layout.MELTANO_YML.write_text(yaml.safe_dump(files))
    assert meltano_yml.is_of_files()


def test_settings_that_choose_rows_are_known(project):
    """Records of such an entry are not counted, since the count would not be that of the tap."""
    project({"entity": "a", "path": "a.csv", "keys": ["id"]}, {"entity": "b", "path": "b.zip", "members": "*"})
    assert [one.other for one in meltano_yml.listed()] == [(), ("members",)]
    project({"entity": "a", "path": "s3://lake/*.csv", "keys": ["id"]})
    assert meltano_yml.listed()[0].uncounted() == "its entry sets a `path` elsewhere"
