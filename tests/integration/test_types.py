"""The types of the repository fit, and those of the programs that its pages show."""

from __future__ import annotations

import subprocess

import documents
from workspace import BIN, ROOT


def test_types_fit(tmp_path):
    """Mypy is too slow for a git hook; test_hooks.py sees to the rest."""
    done = subprocess.run([BIN / "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = [block for page in (ROOT / "docs").rglob("*.md") for block in documents.blocks(page.read_text())]
    files = []
    for number, block in enumerate(block for block in blocks if block.language == "python" and block.path):
        files.append(tmp_path / f"shown_{number}.py")
        files[-1].write_text(block.text)
    done = subprocess.run([BIN / "mypy", *files], cwd=ROOT, capture_output=True, text=True)
    assert files
    assert done.returncode == 0, done.stdout + done.stderr
