"""The bill of materials holds every package of the lock, with hashes, and the licence of each that is installed."""

from __future__ import annotations

import json
import tomllib

import pytest
from workspace import ROOT, packages

from elt.errors import SetupError
from elt.maintenance import sbom


def test_every_package_of_the_lock_is_in_it(tmp_path, capsys):
    goal = tmp_path / "deep" / "sbom.json"
    sbom.write(goal)
    bill = json.loads(goal.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    found = {one["name"]: one for one in bill["components"]}
    locked = {one["name"]: one for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    assert found.keys() <= locked.keys()
    assert {"apache-airflow", "dbt-duckdb", "meltano", "duckdb", "pytest"} <= found.keys()
    assert found["duckdb"]["version"] == packages()["duckdb"]
    assert any(ref.get("hashes") for ref in found["duckdb"]["externalReferences"])
    assert found["duckdb"]["licenses"] == [{"license": {"name": sbom.licence("duckdb")}}]
    shown = capsys.readouterr().out
    assert f"sbom: {len(bill['components'])} packages in {goal}" in shown
    assert "MIT" in shown


def test_licences_are_what_packages_say():
    assert sbom.licence("apache-airflow") == "Apache-2.0"
    assert "MIT" in sbom.licence("duckdb")
    assert sbom.licence("no-such-package") == ""


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"sbom: .*/file/sbom.json cannot be written: File exists"):
        sbom.write(tmp_path / "file" / "sbom.json")
