"""The pre-commit hooks: all pass on the files as they are, each refuses what it is for, bootstrap installs them."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import typing as t

import pytest
import yaml
from workspace import BIN, ROOT, copy, said

from elt.config.env_file import random_secret

if t.TYPE_CHECKING:
    import subprocess
    from pathlib import Path

HOOKS = [hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]]
OPTIONAL = {"actionlint", "nixfmt", "statix", "deadnix"}
"""Programs that PyPI lacks; their hooks are tried where they are on PATH."""
ALL_FILES_SECONDS = 30
ONE_FILE_SECONDS = 3
"""CPU seconds: a test must not depend on what else runs on the machine."""


class Bad(t.NamedTuple):
    """A file that a hook must refuse, and what the hook has to say."""

    path: str
    text: str
    says: str
    mode: int = 0o644
    """What git is told of it."""
    replaces: str = ""
    """Text of the file as it is, in the place of which `text` stands; without it the whole file is new."""


MODIFIED = "files were modified by this hook"
BASH = "#!/usr/bin/env bash\n"
PLANTED = {
    "ruff": Bad("elt/planted.py", '"""Planted."""\n\n\ndef f(x: list[int] = []) -> None:\n    """Do."""\n', "B006"),
    "ruff-format": Bad("elt/planted.py", "x = {  'a':1}\n", MODIFIED),
    "lint-imports": Bad(
        "elt/config/planted.py", '"""Planted."""\n\nfrom elt import cli\n', "elt.config.planted -> elt.cli"
    ),
    "duplicate-code": Bad("elt/config/planted.py", (ROOT / "elt/atomic.py").read_text(), "==elt/atomic.py:["),
    "uv-lock": Bad("pyproject.toml", '"httpx>=0.1",', "error: ", replaces='"httpx",'),
    "shellcheck": Bad("scripts/planted.sh", f"{BASH}echo $1\n", "SC2086", 0o755),
    "shfmt": Bad("scripts/planted.sh", f"{BASH}if true; then\n        echo\nfi\n", MODIFIED, 0o755),
    "sqlfmt": Bad("transform/models/marts/planted.sql", "SELECT 1 AS one\n", MODIFIED),
    "dbt-parse": Bad("transform/models/marts/planted.sql", "select * from {{ ref('nowhere') }}\n", "was not found"),
    "check-yaml": Bad("transform/planted.yml", "a: [\n", "line 2"),
    "check-toml": Bad("planted.toml", "a = \n", "line 1"),
    "check-json": Bad("planted.json", '{"a": 1,}\n', "json decode"),
    "meltano-schema": Bad("meltano/meltano.yml", "extractor:", "'extractor' was unexpected", replaces="extractors:"),
    "schedules": Bad(
        "meltano/meltano.yml", "    job: nothing", "no job is called 'nothing'", replaces="    job: shop"
    ),
    "github-workflows": Bad(".github/workflows/planted.yml", "on: push\njobs: {a: {steps: []}}\n", "runs-on"),
    "dependabot": Bad(".github/dependabot.yml", "version: 3", "2 was expected", replaces="version: 2"),
    "hadolint": Bad("planted/Dockerfile", "FROM debian:latest\n", "DL3007"),
    "actionlint": Bad(
        ".github/workflows/planted.yml",
        "on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: 'echo ${{ nothing.here }}'}]}}\n",
        'undefined variable "nothing"',
    ),
    "nixfmt": Bad("planted.nix", "{a=1;}\n", "planted.nix"),
    "statix": Bad(
        "flake.nix", "unused = if lib == null then true else false;", "flake.nix", replaces="inherit (nixpkgs) lib;"
    ),
    "deadnix": Bad("planted.nix", "{ unused }: 1\n", "unused"),
    "detect-secrets": Bad("elt/planted.py", f'password = "{"k9Qz" * 6}"\n', "Secret Keyword"),
    "secrets-are-encrypted": Bad("secrets/dev.enc.env", "A=b\n", "line 1 is not encrypted"),
    "trailing-whitespace": Bad("planted.md", "a \n", MODIFIED),
    "end-of-file": Bad("planted.md", "a", MODIFIED),
    "line-endings": Bad("planted.md", "a\r\nb\r\n", "fixed mixed line endings"),
    "merge-conflict": Bad("planted.md", f"{'<' * 7} HEAD\n", "Merge conflict string"),
    "large-files": Bad("planted.csv", "1,2,3\n" * 100_000, "exceeds 500 KB"),
    "executables-have-shebangs": Bad("scripts/planted.sh", "echo\n", "no (or invalid) shebang", 0o755),
    "shebangs-are-executable": Bad("scripts/planted.sh", f"{BASH}echo\n", "not marked executable"),
    "case-conflict": Bad("README.MD", "a\n", "Case-insensitivity conflict"),
}


class Clone:
    """A repository with the files of this one, in which a test may plant, stage and commit."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"  # the space is meant
        self.env = {
            "HOME": str(folder),  # pre-commit's cache, and no configuration of the developer's
            "PATH": os.environ["PATH"],
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
            **{
                f"GIT_{who}_{what}": "tester@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        copy(self.root)
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=As it is")

    def git(self, *command: str) -> None:
        """Let git do something that must succeed."""
        done = self.run("git", *command)
        assert done.returncode == 0, done.stdout

    def run(self, *command: str | Path, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a program in the clone; `without` names variables that it does not get."""
        env = {name: value for name, value in self.env.items() if name not in without}
        return said(*command, cwd=self.root, env=env, seconds=300)

    def plant(self, bad: Bad) -> None:
        """Write a file and stage it."""
        path = self.root / bad.path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = bad.text
        if bad.replaces:
            assert bad.replaces in path.read_text()
            text = path.read_text().replace(bad.replaces, bad.text, 1)
        path.write_text(text, newline="")
        path.chmod(bad.mode)
        self.git("add", bad.path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("hooks"))


@pytest.fixture
def clone(repository):
    yield repository
    repository.git("reset", "--quiet", "--hard", "HEAD")


def cpu_seconds() -> float:
    """CPU time of all programs that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_all_files_pass_in_time(clone):
    before = cpu_seconds()
    done = clone.run(BIN / "pre-commit", "run", "--all-files", "--show-diff-on-failure", "--color=never")
    assert done.returncode == 0, done.stdout
    assert cpu_seconds() - before < ALL_FILES_SECONDS, cpu_seconds() - before


@pytest.mark.parametrize("hook", HOOKS)
def test_each_refuses_what_it_is_for(clone, hook):
    if hook in OPTIONAL and not shutil.which(hook):
        pytest.skip(f"no {hook} on PATH")
    bad = PLANTED[hook]
    clone.plant(bad)
    done = clone.run(BIN / "pre-commit", "run", hook, "--files", bad.path, "--color=never")
    assert done.returncode == 1, done.stdout
    assert f"hook id: {hook}" in done.stdout
    assert bad.says in done.stdout


def test_nothing_is_planted_for_a_hook_that_is_gone():
    assert set(PLANTED) == set(HOOKS)


def test_secrets_that_only_look_like_one_are_let_through(clone):
    clone.plant(Bad("elt/planted.py", f'password = "{"k9Qz" * 6}"  # pragma: allowlist secret\n', ""))
    clone.plant(Bad("planted.toml", f'linux_amd64 = "{"0123456789abcdef" * 4}"\n', ""))
    done = clone.run(BIN / "pre-commit", "run", "detect-secrets", "--files", "elt/planted.py", "planted.toml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("secret", [None, "admin@7fK2xQ9zL0pWvB3n"], ids=["random", "by hand"])
def test_secrets_of_a_clone_are_refused(clone, secret):
    secret = secret or random_secret("ANY")
    clone.plant(Bad("elt/planted.py", f'POSTGRES_PASSWORD = "{secret}"\n', ""))
    done = clone.run(BIN / "pre-commit", "run", "detect-secrets", "--files", "elt/planted.py")
    assert done.returncode == 1, done.stdout


def test_bootstrap_installs_them_for_any_shell_and_editor(clone):
    install = "from elt.bootstrap import git_hooks; print(git_hooks.install_hooks())"
    assert clone.run(sys.executable, "-c", install).stdout == "installed\n"
    assert clone.run(sys.executable, "-c", install).stdout == "up to date\n"
    clone.env["PATH"] = os.defpath
    before = cpu_seconds()
    clone.plant(Bad("elt/config/planted.py", '"""Planted."""\n', ""))
    commit = ("git", "commit", "--message=Planted")
    done = clone.run(*commit, without=("UV_PROJECT_ENVIRONMENT",))
    assert done.returncode == 0, done.stdout
    assert cpu_seconds() - before < ONE_FILE_SECONDS
    clone.plant(Bad("elt/planted.py", "import nothing\n", ""))
    done = clone.run(*commit, without=("UV_PROJECT_ENVIRONMENT",))
    assert done.returncode == 1, done.stdout
    assert "D100" in done.stdout


def install_from_elsewhere(clone):
    """Install the hook as somebody does whose environment is not to be had here."""
    clone.run(sys.executable, "-c", "from elt.bootstrap import git_hooks; git_hooks.install_hooks()")
    hook = clone.root / ".git" / "hooks" / "pre-commit"
    hook.write_text(hook.read_text().replace(sys.prefix, "/elsewhere"))


def test_a_hook_that_a_container_wrote_serves_its_host_and_the_other_way_round(clone):
    install_from_elsewhere(clone)
    clone.root.joinpath(".venv").symlink_to(sys.prefix)
    clone.env["PATH"] = os.defpath
    clone.plant(Bad("elt/planted.py", "import nothing\n", ""))
    commit = ("git", "commit", "--message=Planted")
    on_host = clone.run(*commit, without=("UV_PROJECT_ENVIRONMENT",))
    clone.root.joinpath(".venv").unlink()
    clone.env["PATH"] = f"{BIN}:{os.defpath}"
    in_container = clone.run(*commit)
    for done in (on_host, in_container):
        assert done.returncode == 1, done.stdout
        assert "D100" in done.stdout


def test_a_commit_without_the_environment_is_told_what_to_do(clone):
    install_from_elsewhere(clone)
    clone.env["PATH"] = os.defpath
    clone.plant(Bad("elt/config/planted.py", '"""Planted."""\n', ""))
    commit = ("git", "commit", "--allow-empty", "--message=Planted")
    clone.root.joinpath(".env").touch()
    done = clone.run(*commit, without=("UV_PROJECT_ENVIRONMENT",))
    assert done.returncode == 1
    assert done.stdout == "hook: no environment in .venv: run scripts/bootstrap.sh, or git commit --no-verify\n"
    clone.root.joinpath(".env").unlink()  # as new: README says how
    done = clone.run(*commit, without=("UV_PROJECT_ENVIRONMENT",))
    assert done.returncode == 0, done.stdout


def test_bootstrap_leaves_the_hook_of_another_alone(clone):
    hook = clone.root / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexit 0\n")
    install = "from elt.bootstrap import git_hooks; print(git_hooks.install_hooks())"
    assert "another pre-commit hook" in clone.run(sys.executable, "-c", install).stdout
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"


def test_without_the_environment_it_says_what_to_do(clone):
    done = clone.run("scripts/hook.sh", "ruff", "--version", without=("UV_PROJECT_ENVIRONMENT",))
    assert done.returncode == 1
    assert done.stdout == f"hook: no environment in {clone.root}/.venv: run scripts/bootstrap.sh\n"


@pytest.mark.parametrize("program", sorted(OPTIONAL))
def test_a_program_that_is_not_there_is_said(clone, program):
    clone.env["PATH"] = os.defpath
    done = clone.run("scripts/hook.sh", "if-there", program)
    assert done.returncode == 0
    assert done.stdout == f"skipped: {program} is not on PATH\n"
