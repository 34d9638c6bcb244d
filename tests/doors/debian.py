"""Programs of Debian for tests, unpacked beside the state: nothing is installed, and no root is needed."""

from __future__ import annotations

import shutil
import subprocess
import typing as t

from workspace import alone

from elt import layout

if t.TYPE_CHECKING:
    from pathlib import Path


def unpacked(name: str) -> Path:
    """Folder of a package and of all that it needs beyond what is installed; programs are in usr/bin and usr/sbin.

    Raises:
        LookupError: this is no Debian, or its packages cannot be had.
    """
    target = layout.TOOLS / name
    with alone(target):
        if not target.exists():
            _unpack(name, target)
    return target


def _unpack(name: str, target: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise LookupError(f"no {name}, and no apt-get to get it with")
    work = target.with_name(f"{name}.new")
    shutil.rmtree(work, ignore_errors=True)
    (work / "packages").mkdir(parents=True)
    plan = _apt("-s", "--no-install-recommends", "install", name, cwd=work)
    lines = [line.split() for line in plan.splitlines() if line.startswith("Inst ")]
    new = [words[1] for words in lines if not words[2].startswith("[")]  # the others are here in an older version
    if name not in new:
        raise LookupError(f"no {name}: apt-get would not bring it")
    _apt("download", *new, cwd=work / "packages")
    for package in (work / "packages").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, work], check=True)
    shutil.rmtree(work / "packages")
    work.rename(target)


def _apt(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        ["apt-get", "-o", "Debug::NoLocking=1", *words], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise LookupError(f"no {words[-1]}, and apt-get could not bring it: {done.stderr.strip()[-300:]}")
    return done.stdout
