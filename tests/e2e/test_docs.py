"""Every command of README and docs runs as it stands, page after page, in a clone of the working tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t

import documents
import pytest
from workspace import BIN, PORTS, ROOT, free_ports

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/README.md",
    *documents.links((ROOT / "docs" / "README.md").read_text()),
]
PAGES = [name if (ROOT / name).exists() else f"docs/{name}" for name in PAGES]
SKIPS = 7
"""Blocks of commands that do not run, each with its reason in the page."""


def git(clone: Path, *words: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "core.hooksPath=/dev/null")
    subprocess.run(["git", *who, *words], cwd=clone, check=True, capture_output=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A clone with what is not committed yet, and a clean environment with ports of its own."""
    base = tmp_path_factory.mktemp("documents")
    here = base / "elt-workspace"
    git(base, "clone", "-q", str(ROOT), str(here))
    listed = ["git", "ls-files", "-mo", "--exclude-standard", "-z"]
    changed = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, changed.split("\0")):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, here / name)
        else:
            (here / name).unlink(missing_ok=True)
    git(here, "add", "-A")
    git(here, "commit", "-q", "--allow-empty", "-m", "the working tree")
    cache = subprocess.run([BIN / "uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    env = {
        "HOME": str(base),
        "PATH": os.environ["PATH"],
        "UV_CACHE_DIR": cache,
        "ELT_SUPERVISOR": "embedded",
        **ports,
    }
    yield here, env
    subprocess.run(["scripts/down.sh"], cwd=here, env=env, check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(clone, page):
    here, env = clone
    git(here, "reset", "-q", "--hard")
    git(here, "clean", "-fdq")
    for block in documents.blocks((here / page).read_text()):
        where = f"{page}, line {block.line}"
        if block.path or block.words.startswith("insert"):
            documents.write(block, here)
        elif block.is_run:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=here,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
            )
            assert (done.returncode != 0) == block.words.startswith("fails"), f"{where}:\n{done.stdout}"
            line = documents.missing(block.output or "", done.stdout, here)
            assert not line, f"{where}: the output lacks {line!r}:\n{done.stdout}"


def test_few_commands_are_left_out():
    skipped = [
        block for page in PAGES for block in documents.blocks((ROOT / page).read_text()) if "skip" in block.words
    ]
    assert len(skipped) <= SKIPS, "each command that does not run may be wrong"
