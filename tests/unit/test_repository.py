"""Rules that hold for the repository as a whole."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import yaml
from workspace import ROOT, files

from elt import layout
from elt.config import services


def test_nothing_of_the_former_tools_is_locked():
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    assert not [p["name"] for p in lock["package"] if re.search("dagster|airbyte", p["name"])]


def test_every_process_is_guarded_probed_and_logged():
    processes = yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"]
    for name, process in processes.items():
        assert process["command"].startswith("elt-guard "), name
        assert process["log_location"] == f"${{ELT_STATE}}/logs/{name}.log"
        assert process["description"], name
        one_shot = process["availability"]["restart"] == "no"
        assert one_shot or process["readiness_probe"], name
        assert one_shot or process["shutdown"]["parent_only"], name


def test_folders_with_names_of_packages_hold_no_init():
    assert not [name for name in ("airflow", "meltano") if (ROOT / name / "__init__.py").exists()]


def test_scripts_are_short_strict_and_executable():
    scripts = [f for f in files() if f.endswith(".sh") or f == ".ci/run"]
    assert scripts
    for name in scripts:
        text = (ROOT / name).read_text()
        assert "set -euo pipefail" in text, name
        assert len(text.splitlines()) <= 30, name
        assert (ROOT / name).stat().st_mode & 0o111, name


def test_readme_names_only_what_exists():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!http|#)([^)#]+)", readme):
        assert (ROOT / path).exists(), path
    for name, _ in re.findall(r"\b(scripts/[a-z0-9_]+\.sh)((?=\W)|$)", readme):
        assert (ROOT / name).exists(), name
    scripts = {f for f in files() if f.startswith("scripts/")}
    assert not [name for name in scripts if name not in readme]


PRIVATE_WORDS = re.compile(r"\b(mend|mends|draft|drafts|bell|guilty|patience|leash|asker)\b", re.IGNORECASE)
"""Words for which the field has terms: fix, unfinished file, listener, offender, time-out, connection, client."""
ALLOWED_WORDS = {"drafts 3 and 4 of JSON Schema": "so the versions of that specification are called"}
"""Text of a line that may hold one of them -> the reason."""


def test_nothing_is_called_by_a_private_word():
    names = [name for name in files() if ROOT / name != Path(__file__) and (ROOT / name).is_file()]
    found = [
        (name, line.strip())
        for name in names
        for line in (ROOT / name).read_text(errors="ignore").splitlines()
        if PRIVATE_WORDS.search(line)
    ]
    assert [(name, line) for name, line in found if not any(text in line for text in ALLOWED_WORDS)] == []
    assert [text for text in ALLOWED_WORDS if not any(text in line for _, line in found)] == [], "no longer needed"


def test_words_that_readers_see_are_those_of_the_field():
    strange = re.compile(r"\b(doors?|newcomers?|leftovers?|inner (loop|run)|told (when|that|of|by))\b", re.IGNORECASE)
    pages = [name for name in files() if name.endswith(".md") and not name.startswith("tests/")]
    texts = {name: (ROOT / name).read_text() for name in [*pages, "elt/cli.py", ".env.example"]}
    assert [name for name, text in texts.items() if strange.search(text)] == []


def test_every_process_that_lasts_has_a_record_and_every_record_a_process():
    processes = yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"]
    lasting = {name for name, one in processes.items() if one["availability"]["restart"] != "no"}
    assert {one.process for one in services.SERVICES} == lasting
    optional = {name: one.get("disabled", "") for name, one in processes.items()}
    parts = {part.name: f"${{{part.variable}}}" for part in services.PARTS}
    assert {one.process: parts.get(one.part, "") for one in services.SERVICES}.items() <= optional.items()


def test_unit_tests_start_no_program():
    """What starts one, or a browser, stands in tests/integration, so that tests/unit stays quick."""
    starters = {"subprocess", "multiprocessing", "run", "said"}
    offenders = set()
    for path in (ROOT / "tests" / "unit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                if isinstance(node, ast.ImportFrom) and node.module != "workspace":
                    names = {node.module}
                offenders |= {(path.name, name) for name in names & starters}
            elif isinstance(node, ast.arg) and node.arg == "browser":
                offenders.add((path.name, node.arg))
    assert offenders == set()
