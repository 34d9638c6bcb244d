"""The way in by VS Code: .devcontainer by the CLI of devcontainers, in a Docker engine of the test's own.

What its files say is compared with what is there in tests/unit/test_ways_in.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import typing as t
from pathlib import Path

import pytest
from ways_in import chroot, container, debian
from workspace import PACKAGES, PORTS, REMARKS, ROOT, default_packages

from .fresh_clone import clone_working_tree, given_to

if t.TYPE_CHECKING:
    from collections.abc import Iterator

VSCODE = 1000
"""User id of vscode in the Dockerfile."""
STRANGER = 1234
ONLY_OLD_PYTHON = {"async-timeout"}
"""Packages that the lock asks for below Python 3.11.3, and Debian 12 has 3.11.2."""
CONFIG = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())


@pytest.fixture(scope="module")
def engine() -> Iterator[dict[str, str]]:
    """A Docker engine that knows the stand-in base; below /var/tmp, as sockets need a short path."""
    try:
        container.cli()
        with container.engine(Path("/var/tmp") / f"elt-engine-{os.getpid()}") as env:
            container.base(env)
            yield env
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's are closed to them."""
    base = Path("/var/tmp") / f"elt-stranger-{os.getpid()}"
    base.mkdir(mode=0o755)
    yield base
    shutil.rmtree(base, ignore_errors=True)


def prepared(base: Path, engine: dict[str, str], user: int) -> container.Devcontainer:
    """A clone of that user with the stand-in base."""
    clone = clone_working_tree(base / "workspace", base / "home", "embedded", os.environ["PATH"])
    container.stand_in(clone.root)
    ports = {name: clone.env[name] for name in PORTS}  # free ones, as the container has this machine's network
    (clone.root / ".env").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))
    if user == VSCODE:  # the CLI then runs as root, and the container's user keeps his id
        cli, env = (str(container.cli()),), engine
    else:
        cli, env = container.of_user(user, base, engine)
    given_to(user, base)
    return container.Devcontainer(clone.root, env, cli)


def test_a_container_is_made_proves_itself_and_starts_again(engine, tmp_path):
    here = prepared(tmp_path, engine, VSCODE)
    said = [here.run(*words) for _, *words in container.COMMANDS]
    assert '"outcome":"success"' in said[0]
    assert "known to Flower" in said[1]
    assert re.search(r"^all \d+ checks passed$", here.exec("elt", "doctor"), re.MULTILINE)
    assert "vscode" in here.exec("id", "-un")
    assert not (here.root / ".venv").exists()
    assert not (here.root / ".state").exists()
    REMARKS.append(f"a second `devcontainer up` took {here.up():.1f} s")
    found = json.loads(here.exec("python", "-c", PACKAGES).splitlines()[-1])
    assert {name: version for name, version in found.items() if name not in ONLY_OLD_PYTHON} == default_packages()


def test_the_container_follows_another_user_id(engine, outside):
    here = prepared(outside, engine, STRANGER)
    here.up()
    assert here.exec("id", "-u").split()[-1] == str(STRANGER)
    assert "known to Flower" in here.exec("scripts/e2e.sh")
    assert (here.root / ".env").stat().st_uid == STRANGER
    assert (
        here.exec("stat", "-c", "%u", "/home/vscode/state", "/home/vscode/packages").split()[-2:]
        == [str(STRANGER)] * 2
    )


def test_its_steps_run_without_an_engine(outside, tmp_path):
    """What a machine can try on which no engine starts."""
    try:
        archive = debian.root_archive(container.SUITE)
    except LookupError as error:
        pytest.skip(f"no engine: {error}")
    clone = clone_working_tree(outside / "workspace", outside / "home", "embedded", os.environ["PATH"])
    given_to(VSCODE, clone.root)
    ports = {name: clone.env[name] for name in PORTS}
    here = chroot.build(archive, tmp_path / "root", clone.root, container.TRUST | ports)
    here.run("bash", "-euc", f"{CONFIG['updateContentCommand']}; {CONFIG['postCreateCommand']}")
    assert re.search(r"^all \d+ checks passed$", here.run("elt", "doctor"), re.MULTILINE)
    assert here.run("id", "-un").strip() == CONFIG["remoteUser"]
