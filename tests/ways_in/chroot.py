"""Another Debian in a root made by debootstrap, or a devcontainer without an engine: the Dockerfile's steps in one.

It takes root and a kernel that allows a mount and a process namespace of one's own, which end with the command and
take all mounts and processes along. Network and limits are this machine's.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import typing as t
from dataclasses import dataclass, field

from workspace import said

if t.TYPE_CHECKING:
    from pathlib import Path

PREPARE = """
root=$1 user=$2; shift 2
mount -t overlay overlay -o "lowerdir=$root/base,upperdir=$root/upper,workdir=$root/work" "$root/merged"
mount -t proc proc "$root/merged/proc"
mount --rbind /dev "$root/merged/dev"
mount -t tmpfs tmpfs "$root/merged/run"
while [ "$1" != -- ]; do
  mkdir -p "$root/merged$2"
  mount --bind "$1" "$root/merged$2"
  shift 2
done
shift
cd /
chroot --userspec="$user" "$root/merged" env -C /workspaces/clone "$@" ||
  exit # and not exec before: the first process of a namespace has to collect those whose parent is gone
"""
CLONE = "/workspaces/clone"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Chroot:
    """A root in which commands run.

    Args:
        folder: holds the root and what lies over it.
        binds: this machine's folders that are seen there, and where; one is the clone, which is /workspaces/clone.
        env: as the Dockerfile sets it.
        user: as the Dockerfile sets it.
    """

    folder: Path
    binds: dict[Path, str]
    env: dict[str, str]
    user: str = "root"
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])

    def run(self, *command: str, seconds: float = 400) -> str:
        """Output of a command in the clone, which must succeed."""
        namespace = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", PREPARE, "-"]
        variables = [f"{name}={value}" for name, value in self.env.items()]
        binds = [str(word) for pair in self.binds.items() for word in pair]
        where = (str(self.folder), f"{self.user}:{self.user}", *binds, "--")
        done = said(*namespace, *where, "-i", *variables, *command, cwd=self.folder, seconds=seconds)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout


def unpack(archive: Path, folder: Path, binds: dict[Path, str], env: dict[str, str]) -> Chroot:
    """Unpack a root.

    Args:
        archive: its tar file.
        folder: where it goes; removed by whoever called.
        binds: this machine's folders that are seen there, and where.
        env: the environment in which commands run.
    """
    for name in ("base", "upper", "work", "merged"):
        (folder / name).mkdir(parents=True)
    subprocess.run(["tar", "-C", folder / "base", "-xf", archive], check=True)
    shutil.copy("/etc/resolv.conf", folder / "base" / "etc" / "resolv.conf")
    return Chroot(folder, binds, {"PATH": PATH, "HOME": "/root", **env})


def build(archive: Path, folder: Path, clone: Path, env: dict[str, str]) -> Chroot:
    """Run the steps of the clone's Dockerfile.

    Args:
        archive: tar file of the base root.
        folder: where the root goes; removed by whoever called.
        clone: the clone.
        env: what the base image sets.

    Raises:
        ValueError: the Dockerfile has an instruction that is not known here.
    """
    made = unpack(archive, folder, {clone: CLONE}, env)
    for word, words in instructions((clone / ".devcontainer" / "Dockerfile").read_text()):
        if word == "SHELL":
            made.shell = json.loads(words)
        elif word == "USER":
            made.user = words
            made.env["HOME"] = f"/home/{words}"
        elif word == "ENV":
            for assignment in shlex.split(words):
                name, _, value = assignment.partition("=")
                made.env[name] = re.sub(r"\$\{?(\w+)\}?", lambda match: made.env.get(match[1], ""), value)
        elif word == "RUN":
            made.run(*made.shell, words)
        elif word != "FROM":
            raise ValueError(f"Dockerfile: {word} is not known here")
    return made


def instructions(text: str) -> t.Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its words, lines put together."""
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    for found in re.finditer(r"(?m)^([A-Z]+)[ \t]+((?:.*\\\n)*.*)$", lines):
        yield found[1], found[2].replace("\\\n", " ").strip()
