"""The way in by Nix: flake.nix with a double of nixpkgs, whose packages are this machine's programs.

It proves that the flake evaluates, that its lock fits and what its shell starts; not that nixpkgs has these packages.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import typing as t
from pathlib import Path

import documents
import pytest
from ways_in import nix as nix_way
from workspace import PACKAGES, REMARKS, ROOT, copy, default_packages

from .fresh_clone import FreshClone, clone_working_tree

PAGE = (ROOT / "docs" / "cookbooks" / "nix.md").read_text()
COMMANDS = {
    " ".join(words): words[1:]
    for block in documents.blocks(PAGE)
    for line in block.text.splitlines()
    if block.language == "sh" and (words := shlex.split(line.partition("  # ")[0]))
}
"""The words behind `nix` of each command of the page."""
SAID = {
    "elt doctor": ("(ELT_POSTGRES_BIN", "(ELT_VALKEY_SERVER"),
    "scripts/e2e.sh": ("known to Flower",),
    "--help": ("--timeout",),
}
OPTIONAL = {"process-compose", "jre_headless", *nix_way.LINTERS}
"""What a machine may lack, and the double then leaves out."""


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> nix_way.Nix:
    try:
        return nix_way.nix(tmp_path_factory.mktemp("nix"))
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> FreshClone:
    """A clone of its own: this Nix refuses paths with a space."""
    base = tmp_path_factory.mktemp("flake")
    return clone_working_tree(base / "elt-workspace", base / "home", "embedded", os.environ["PATH"])


@pytest.fixture
def flake(here: FreshClone) -> t.Iterator[Path]:
    """flake.nix of the clone, to be spoiled."""
    path = here.root / "flake.nix"
    before = path.read_text()
    yield path
    path.write_text(before)


def spoil(flake: Path, old: str, new: str) -> None:
    """Put other words into flake.nix."""
    text = flake.read_text()
    assert old in text
    flake.write_text(text.replace(old, new, 1))


def with_double(nix: nix_way.Nix, here: FreshClone, *words: str) -> tuple[int, str]:
    """Exit code and output of a nix command; a shell gets the environment of a new contributor, but for PATH."""
    verb = 2 if words[0] == "flake" else 1
    kept = [word for name in here.env for word in ("--keep", name) if name != "PATH"]
    alone = ("--ignore-environment", *kept) if words[0] == "develop" else ()
    command = (*words[:verb], *nix.double, *alone, *words[verb:])
    done = nix(*command, cwd=here.root, env=here.env, seconds=400)
    return done.returncode, done.stdout


def test_the_lock_fits_the_flake(nix, here, flake):
    command = ("flake", "metadata", "--offline", "--no-update-lock-file", "--json", ".")
    done = nix(*command, cwd=here.root)
    assert done.returncode == 0, done.stdout
    locks = json.loads(done.stdout[done.stdout.index("{") :])["locks"]
    assert sorted(locks["nodes"]) == ["nixpkgs", "root"]
    spoil(flake, "nixos-26.05", "nixos-25.11")
    assert nix(*command, cwd=here.root).returncode != 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(nix, here, command):
    code, output = with_double(nix, here, *COMMANDS[command])
    assert code == 0, output
    for end, words in SAID.items():
        assert all(said in output for said in words) or not command.endswith(end), output


def test_the_double_says_what_it_leaves_out(nix):
    if nix.is_real:
        REMARKS.append(f"Nix with {nix_way.NIXPKGS}")
    else:
        REMARKS.append(f"the double of nixpkgs left out {len(nix.absent)} programs: {', '.join(nix.absent)}")
        REMARKS.append("the hash of Metabase has the form of one; whether it is the file's, only a download shows")
    assert set(nix.absent) <= OPTIONAL


def test_a_misspelt_attribute_fails(nix, here, flake):
    spoil(flake, "inherit (pkgs) ruff uv;", "inherit (pkgs) ruff uvv;")
    code, output = with_double(nix, here, "flake", "check")
    assert code != 0
    assert "uvv" in output


@pytest.mark.parametrize(
    ("old", "new", "says"), [("sha256-", "sha256-A", "SRI hash"), ("com/v", "com/v9", "is not at")]
)
def test_metabase_has_a_hash_and_the_address_of_its_version(nix, here, flake, old, new, says):
    spoil(flake, old, new)
    _, output = with_double(nix, here, "eval", "--raw", ".#devShells.x86_64-linux.bi.drvPath")
    assert nix.is_real or says in output, output  # nixpkgs itself compares no address


def test_an_unused_binding_fails(nix, here, flake):
    if "deadnix" in nix.absent:
        pytest.skip("no deadnix on PATH")
    spoil(flake, "      systems = [", "      nobody = 1;\n      systems = [")
    code, output = with_double(nix, here, "flake", "check")
    assert code != 0
    assert "nobody" in output


@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-linux", "aarch64-darwin"])
def test_every_system_has_shells_and_programs(nix, here, system):
    code, output = with_double(nix, here, "flake", "show", "--json")
    assert code == 0, output
    shown = json.loads(output[output.index("{") :])
    assert sorted(shown["devShells"][system]) == ["bi", "default"]
    assert sorted(shown["apps"][system]) == ["down", "e2e", "up"]
    assert system in shown["formatter"]


def test_the_shell_uses_its_own_programs_and_keeps_libraries_from_itself(nix, here):
    script = (
        'echo "shell ${LD_LIBRARY_PATH-none}"; echo "uv $(command -v uv)"; echo "duckdb $(command -v duckdb)"; '
        'elt exec bash -c \'echo "elt $LD_LIBRARY_PATH"; echo "elt-uv $(command -v uv)"\''
    )
    code, output = with_double(nix, here, "develop", "-c", "bash", "-c", script)
    assert code == 0, output
    lines = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
    store = str(nix.store)
    assert lines["shell"] == "none"
    assert lines["uv"].startswith(store)
    assert lines["duckdb"] == str(here.root / ".venv" / "bin" / "duckdb")
    assert lines["elt"].startswith(store)
    assert lines["elt-uv"].startswith(store)


def test_the_shell_gives_what_the_scripts_read(nix, here):
    script = "import json, os, sys; print(json.dumps([sys._base_executable, dict(os.environ)]))"
    code, output = with_double(nix, here, "develop", "-c", str(here.root / ".venv/bin/python"), "-c", script)
    assert code == 0, output
    base, env = json.loads(output.splitlines()[-1])
    given = {name: env[name] for name in env.keys() - here.env.keys() if name.startswith(("ELT_", "UV_"))}
    assert given.pop("UV_PYTHON_DOWNLOADS") == "never"
    assert Path(given.pop("ELT_LOADER")).exists()
    folders = {name: value.split(":") for name, value in given.items()}
    assert sorted(folders) == [
        "ELT_LIBRARY_PATH",
        "ELT_POSTGRES_BIN",
        "ELT_PROGRAMS",
        "ELT_VALKEY_SERVER",
        "UV_PYTHON",
    ]
    assert [one for many in folders.values() for one in many if not one.startswith(f"{nix.store}/")] == []
    assert Path(given["UV_PYTHON"]).samefile(base)
    held = [{path.name for path in Path(folder).iterdir()} for folder in folders["ELT_LIBRARY_PATH"]]
    needed = nix_way.needed_libraries().keys()
    assert needed - set().union(*held) == set(), "wheels need it"
    assert [names for names in held if not names & needed] == [], "no wheel needs it"
    assert {path.name for folder in folders["ELT_PROGRAMS"] for path in Path(folder).iterdir()} >= {"ruff", "uv"}


@pytest.mark.parametrize("is_repository", [True, False])
def test_outside_of_a_clone_nothing_of_others_runs(nix, here, tmp_path, is_repository):
    """Another repository may have scripts of the same names."""
    for name in ("bootstrap", "up"):
        script = tmp_path / "scripts" / f"{name}.sh"
        script.parent.mkdir(exist_ok=True)
        script.write_text("#!/bin/sh\necho foreign\n")
        script.chmod(0o755)
    if is_repository:
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    elsewhere = dataclasses.replace(here, root=tmp_path)
    code, output = with_double(
        nix, elsewhere, "develop", str(here.root), "-c", "sh", "-c", "echo open; elt --version"
    )
    assert code == 127  # no elt on PATH
    assert "go into a clone of it" in output
    assert "open" in output
    refused = with_double(nix, elsewhere, "run", f"{here.root}#up")
    assert refused[0] == 1
    assert "foreign" not in output + refused[1]


def test_a_folder_without_git_is_refused(nix, here, tmp_path):
    """Nix would copy it whole to the store, which everybody may read."""
    copy(tmp_path)
    unpacked = dataclasses.replace(here, root=tmp_path)
    for words in (("develop", "path:.", "-c", "true"), ("run", "path:.#up")):
        code, output = with_double(nix, unpacked, *words)
        assert code == (words[0] == "run"), output
        assert f"Nix would copy all of {tmp_path}, secrets too" in output
    assert not (tmp_path / ".env").exists()
    assert not (tmp_path / ".venv").exists()


def test_a_shell_in_which_bootstrap_fails_opens_to_mend_it(nix, here):
    project = here.root / "pyproject.toml"
    before = project.read_text()
    project.write_text(before.replace('"duckdb==1.5.5"', '"duckdb>=1.5.5"'))
    code, output = with_double(nix, here, "develop", "-c", "bash", "-c", "command -v uv && elt --version")
    refused = with_double(nix, here, "develop", "-c", "scripts/up.sh")
    project.write_text(before)
    assert code == 0, output
    assert "uv.lock does not fit" in output
    assert "fix that, then scripts/bootstrap.sh" in output
    assert f"{nix.store}/" in output
    assert refused[0] == 1


def test_the_packages_are_those_of_every_way_in(nix, here):
    code, output = with_double(nix, here, "develop", "-c", str(here.root / ".venv/bin/python"), "-c", PACKAGES)
    assert code == 0, output
    assert json.loads(output.splitlines()[-1]) == default_packages()


def test_a_program_of_a_wheel_starts_by_the_loader_of_the_shell(nix, here):
    """After e2e above, so that something is published."""
    code, output = with_double(nix, here, "develop", "-c", "elt", "sql", "select 6 * 7 as answer")
    assert code == 0, output
    assert "answer" in output
    said = with_double(nix, here, "develop", "-c", "bash", "-c", 'ELT_LOADER=/nowhere elt sql "select 1"')
    assert said[0] != 0


def test_a_folder_of_the_servers_of_another_door_is_left_alone(here):
    """After e2e above: the servers that the shell brought have folders of their own."""
    assert (here.root / ".state" / "postgres.host" / "PG_VERSION").exists()
    assert not (here.root / ".state" / "postgres").exists()
