"""The newest Debian with its own Python: bootstrap and the proof of the pipeline, as an ordinary user there."""

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ways_in import chroot, container, debian
from workspace import PORTS

from .fresh_clone import clone_working_tree, given_to

SUITE = "trixie"
PACKAGES = ("python3", "python3-venv", "git", "ca-certificates", "libatomic1", "procps")
"""What the README asks for, and what a machine that a person works on has anyway."""
PYTHON = "3.13"
USER = 1000
pytestmark = pytest.mark.timeout(1800)  # a Debian and all packages to download


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[chroot.Chroot]:
    """A clone in that root, installed; below /var/tmp, as other users may not enter pytest's folders."""
    try:
        archive = debian.root_archive(SUITE, *PACKAGES)
    except LookupError as error:
        pytest.skip(f"no other Debian: {error}")
    base = Path("/var/tmp") / f"elt-{SUITE}-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        clone = clone_working_tree(base / "workspace", base / "home", "embedded", os.environ["PATH"])
        cache = Path(clone.env["UV_CACHE_DIR"])
        env = container.TRUST | {name: clone.env[name] for name in (*PORTS, "ELT_SUPERVISOR")}
        root = chroot.unpack(
            archive, tmp_path_factory.mktemp(SUITE), {clone.root: chroot.CLONE, cache: "/cache"}, env
        )
        root.run("bash", "-euc", f"update-ca-certificates && useradd --create-home --uid {USER} you")
        # as root, who may write to this machine's cache: whatever the user needs besides goes to one of his own
        root.run("env", "UV_CACHE_DIR=/cache", "UV_LINK_MODE=copy", "scripts/bootstrap.sh", seconds=900)
        given_to(USER, clone.root)
        root.user, root.env["HOME"] = "you", "/home/you"
        yield root
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_the_pipeline_is_proven(here):
    said = here.run("scripts/e2e.sh", "--sample")
    assert f"Python {PYTHON}" in said
    assert "known to Flower" in said
