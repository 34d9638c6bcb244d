"""A devcontainer for tests: a Docker engine of their own, a base image made by debootstrap, the CLI of devcontainers.

What is not the real thing, and why: the base image stands in for the one that the Dockerfile names by its digest, as
no image registry can be reached from everywhere; and containers use this machine's network, as an engine that makes
bridges changes the machine's firewall.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import documents
from workspace import ROOT, said

from elt import layout

from . import debian

COMMANDS = [
    line.split()[1:]
    for block in documents.blocks((ROOT / "docs" / "cookbooks" / "devcontainer.md").read_text())
    for line in block.text.splitlines()
    if line.startswith("npx ")
]
"""Commands of the page: the CLI with its version, and the words behind it."""
CLI = COMMANDS[0][0]
BASE = "stand-in:bookworm"
SUITE = "bookworm"


@dataclass
class Devcontainer:
    """A clone and the container that its .devcontainer makes.

    Args:
        root: the clone, its .devcontainer changed to the stand-in base.
        env: finds the engine.
        cli: the program `devcontainer`, and what to put before it.
    """

    root: Path
    env: dict[str, str]
    cli: tuple[str, ...]

    def up(self) -> float:
        """Create or start the container; returns the seconds."""
        begin = time.monotonic()
        self.run("up", "--workspace-folder", ".")
        return time.monotonic() - begin

    def exec(self, *command: str) -> str:
        """Output of a command in the container, which must succeed."""
        return self.run("exec", "--workspace-folder", ".", *command)

    def run(self, *words: str) -> str:
        """Output of the CLI in the clone, which must succeed."""
        done = said(*self.cli, *words, cwd=self.root, env=self.env, seconds=400)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout


@contextlib.contextmanager
def engine(work: Path) -> t.Iterator[dict[str, str]]:
    """A Docker engine with nothing in it; gone at the end with its containers and mounts.

    Args:
        work: its folder, which is made; a short path, since sockets lie below.

    Yields:
        The environment in which `docker` finds it.

    Raises:
        LookupError: it cannot be had or cannot start here.
    """
    if os.geteuid() != 0:
        raise LookupError("not run as root")
    package = debian.unpacked("docker.io")
    folders = [str(package / "usr" / name) for name in ("bin", "sbin")]
    env = os.environ | {
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "LD_LIBRARY_PATH": ":".join(map(str, package.glob("usr/lib/*-linux-gnu"))),
        "DOCKER_HOST": f"unix://{work / 'sock'}",
        "DOCKER_CONFIG": str(work / "config"),
    }
    work.mkdir(parents=True)
    command = ["dockerd", "--data-root", work / "data", "--exec-root", work / "exec", "--pidfile", work / "pid"]
    command += ["-H", env["DOCKER_HOST"], "--bridge=none", "--iptables=false", "--ip6tables=false"]
    command += ["--storage-driver=overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"]
    with (work / "log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(process, env, work / "log")
        yield env
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            for container in _docker(env, "ps", "-aq").split():
                _docker(env, "rm", "-f", container)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{work}/")), key=len, reverse=True):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(work, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], env: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + 30
    while subprocess.run(["docker", "info"], env=env, capture_output=True).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise LookupError(f"no Docker engine starts here: {log.read_text().strip()[-300:]}")
        time.sleep(0.1)


def _docker(env: dict[str, str], *words: str, seconds: float = 60) -> str:
    return subprocess.run(
        ["docker", *words], env=env, check=True, capture_output=True, text=True, timeout=seconds
    ).stdout


TRUST = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/etc/ssl/certs/ca-certificates.crt")
"""What the base sets, so that programs with certificates of their own trust what this machine does."""


def base(env: dict[str, str]) -> None:
    """Import Debian 12 as an image.

    Raises:
        LookupError: it cannot be had.
    """
    trust = "ENV " + " ".join(f"{name}={value}" for name, value in TRUST.items())
    _docker(env, "import", "--change", trust, str(debian.root_archive(SUITE)), BASE, seconds=120)


def stand_in(root: Path) -> None:
    """Let the .devcontainer of a clone use the stand-in base and this machine's network."""
    dockerfile = root / ".devcontainer" / "Dockerfile"
    dockerfile.write_text(re.sub(r"(?m)^FROM .*$", f"FROM {BASE}", dockerfile.read_text(), count=1))
    file = root / ".devcontainer" / "devcontainer.json"
    config = json.loads(file.read_text())
    config["build"]["options"] = ["--network=host"]
    config["runArgs"] = [*config.get("runArgs", []), "--network=host"]
    file.write_text(json.dumps(config, indent=2))


def of_user(user: int, base: Path, env: dict[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The CLI for a user that this machine need not know: programs that he may read, and a name for him.

    Args:
        user: his id.
        base: a folder of his.
        env: finds the engine, whose socket he may use from now on.

    Returns:
        The CLI with what to put before it, and its environment.
    """
    for name in ("docker", "npm"):
        (base / name).mkdir()
    shutil.copy2(t.cast("str", shutil.which("docker", path=env["PATH"])), base / "docker" / "docker")
    program = cli()
    shutil.copytree(program.parent.parent, base / "npm" / "node_modules", symlinks=True)
    Path(env["DOCKER_HOST"].removeprefix("unix://")).chmod(0o666)
    passwd = base / "passwd"
    passwd.write_text(f"{Path('/etc/passwd').read_text()}stranger:x:{user}:{user}::{base}:/bin/sh\n")
    mount = (
        f"mount --bind '{passwd}' /etc/passwd; exec setpriv --reuid={user} --regid={user} --clear-groups -- \"$@\""
    )
    prefix = ("unshare", "--mount", "sh", "-euc", mount, "-")
    node = Path(t.cast("str", shutil.which("node")))
    changed = {
        "PATH": os.pathsep.join((str(base / "docker"), str(node.parent), "/usr/bin:/bin")),
        "HOME": str(base),
        "DOCKER_CONFIG": str(base / "docker" / "config"),
    }
    return (*prefix, str(base / "npm" / "node_modules" / ".bin" / "devcontainer")), env | changed


def cli() -> Path:
    """The program `devcontainer`.

    Raises:
        LookupError: npm is not here, or cannot bring it.
    """
    home = layout.TOOLS / "devcontainers-cli"
    program = home / "node_modules" / ".bin" / "devcontainer"
    if program.exists():
        return program
    if not shutil.which("npm"):
        raise LookupError("no npm on PATH to get the devcontainer CLI with")
    command = ["npm", "install", "--loglevel=error", "--no-save", "--prefix", str(home), CLI]
    env = {"NODE_EXTRA_CA_CERTS": TRUST["SSL_CERT_FILE"]} | os.environ
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    if done.returncode:
        raise LookupError(f"no devcontainer CLI: {done.stderr[-300:]}")
    return program
