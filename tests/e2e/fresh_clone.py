"""A fresh clone as a new contributor has it: the working tree, a clean environment, ports of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
from workspace import BIN, PORTS, ROOT, copy, files, free_ports, said

GIT = ("git", "-c", "safe.directory=*")
ON_TERMINAL = (
    sys.executable,
    "-c",
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
)
"""Before a command: it runs on a terminal, as under a person's hands, and programs behave as they do there."""


@dataclass
class FreshClone:
    """A clone, and the environment in which its commands run."""

    root: Path
    env: dict[str, str]
    commit: str = ""
    """What stands in the working tree."""

    def run(self, *command: str | Path, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a program in the clone to its end; standard error is part of its output."""
        return said(*command, cwd=self.root, env=self.env, seconds=seconds)

    def git(self, *words: str) -> str:
        """Run git in the clone; it must succeed."""
        done = self.run(*GIT, *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def begin_anew(self) -> None:
        """Undo what was done to the files, commits included; what git ignores stays."""
        self.git("reset", "-q", "--hard", self.commit)
        self.git("clean", "-fdq")

    def prove(self, prefix: tuple[str, ...] = (), *words: str) -> str:
        """Run scripts/e2e.sh with some words; it must pass, leave no process and no change."""
        done = self.run(*prefix, self.root / "scripts/e2e.sh", *words)
        assert done.returncode == 0, done.stdout
        assert below(self.root) == []
        assert self.git("status", "--porcelain") == ""
        return done.stdout


def clone_working_tree(root: Path, home: Path, supervisor: str, path: str) -> FreshClone:
    """Clone what stands in the working tree, files that git does not know yet included.

    Args:
        root: where the clone goes.
        home: the user's home, which is made.
        supervisor: the one to use.
        path: its PATH; nothing else is the developer's but the cache of packages.
    """
    home.mkdir()
    cache = subprocess.run([BIN / "uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    env = {"HOME": str(home), "PATH": path, "UV_CACHE_DIR": cache, "ELT_SUPERVISOR": supervisor, **ports}
    (home / ".gitconfig").write_text("[user]\nname = contributor\nemail = contributor@localhost\n")
    subprocess.run([*GIT, "clone", "-q", "--no-hardlinks", ROOT, root], check=True)
    clone = FreshClone(root, env)
    for name in files():  # those that are gone from the working tree, but not yet for git
        if not (ROOT / name).is_file():
            (root / name).unlink(missing_ok=True)
    copy(root)
    clone.git("add", "--all")
    clone.git("commit", "-q", "--allow-empty", "-m", "The working tree")
    clone.commit = clone.git("rev-parse", "HEAD").strip()
    return clone


def below(folder: Path) -> list[psutil.Process]:
    """Processes that run out of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
            if process.status() != psutil.STATUS_ZOMBIE and any(word.startswith(str(folder)) for word in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def given_to(user: int, folder: Path) -> None:
    """Let a folder with all that is in it belong to another user."""
    for above, _, names in os.walk(folder):
        for name in (".", *names):
            os.chown(Path(above, name), user, user, follow_symlinks=False)


def shell(words: str) -> tuple[str, ...]:
    """How the commands of a page run."""
    return ("bash", "-euo", "pipefail", "-c", words)
