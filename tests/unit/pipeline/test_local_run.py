"""What a local run looks at to know that nothing is to be loaded."""

from __future__ import annotations

import json

from elt import layout
from elt.pipeline import local_run


def test_files_that_meltano_yml_includes_are_inputs_of_a_load(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MELTANO_YML", tmp_path / "meltano.yml")
    layout.MELTANO_YML.write_text("include_paths: ['more*.yml']\nplugins: {}\n")
    (tmp_path / "more.yml").write_text("plugins: {}\n")
    before = local_run._inputs([])
    assert {str(tmp_path / name) for name in ("meltano.yml", "more.yml")} <= json.loads(before).keys()
    (tmp_path / "more.yml").write_text("plugins: {extractors: []}\n")
    assert local_run._inputs([]) != before
