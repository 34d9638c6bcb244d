"""What tests take from Debian: programs, unpacked beside the state so that nothing is installed; and whole roots."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from workspace import alone, said

from elt import layout

CERTIFICATES = Path("usr/local/share/ca-certificates")
"""What this machine trusts beyond Debian: a root reaches the package index through the same proxy."""


def root_archive(suite: str, *packages: str) -> Path:
    """A tar file of a Debian, made by debootstrap at the first call.

    Args:
        suite: its code name.
        packages: what it holds besides the smallest set of packages.

    Raises:
        LookupError: debootstrap or Debian's packages cannot be had, or root is needed.
    """
    archive = layout.TOOLS / f"{suite}.tar"
    with alone(archive):
        if not archive.exists():
            _bootstrap(suite, packages, archive)
    return archive


def _bootstrap(suite: str, packages: tuple[str, ...], archive: Path) -> None:
    if os.geteuid() != 0:
        raise LookupError("not run as root")
    program = unpacked("debootstrap")
    root = layout.TOOLS / f"{suite}.root"
    shutil.rmtree(root, ignore_errors=True)
    command = [program / "usr" / "sbin" / "debootstrap", "--variant=minbase"]
    command += [f"--include={','.join(packages)}"] if packages else []
    env = os.environ | {"DEBOOTSTRAP_DIR": str(program / "usr" / "share" / "debootstrap")}
    done = said(*command, suite, root, cwd=layout.TOOLS, env=env, seconds=300)
    if done.returncode:
        raise LookupError(f"no debootstrap: {done.stdout[-300:]}")
    if Path("/", CERTIFICATES).is_dir():
        shutil.copytree(Path("/", CERTIFICATES), root / CERTIFICATES, dirs_exist_ok=True)
    unfinished = archive.with_suffix(".new")
    subprocess.run(["tar", "-C", root, "-cf", unfinished, "."], check=True)
    shutil.rmtree(root)
    unfinished.rename(archive)


def unpacked(name: str) -> Path:
    """Folder of a package and of all that it needs beyond what is installed; programs are in usr/bin and usr/sbin.

    Where it is installed, that is the root of this machine.

    Raises:
        LookupError: this is no Debian, or its packages cannot be had.
    """
    if _is_installed(name):
        return Path("/")
    target = layout.TOOLS / name
    with alone(target):
        if not target.exists():
            _unpack(name, target)
    return target


def _is_installed(name: str) -> bool:
    if not shutil.which("dpkg-query"):
        return False
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    return subprocess.run(command, capture_output=True, text=True).stdout == "installed"


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
