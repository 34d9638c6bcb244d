"""A server of S3 on loopback, whose buckets are folders: versitygw, from PATH, or built once with Go."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from workspace import free_ports

if t.TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "v1.8.0"
"""Of versitygw, which no package registry carries."""
MISSING = "no versitygw and no Go on PATH"


def program() -> str | None:
    """Return the path of versitygw; none if it is not there and cannot be built. Building takes a minute or two."""
    if found := shutil.which("versitygw"):
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elt-tests" / f"versitygw-{VERSION}"
    built = cache / "versitygw"
    if not built.exists() and (go := shutil.which("go")):
        cache.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "GOBIN": str(cache / f"{os.getpid()}"), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
        package = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
        done = subprocess.run([go, "install", package], env=env, capture_output=True, text=True, timeout=900)
        if done.returncode:
            return None
        (cache / f"{os.getpid()}" / "versitygw").replace(built)  # two tests may build it at the same time
        (cache / f"{os.getpid()}").rmdir()
    return str(built) if built.exists() else None


@contextlib.contextmanager
def server(folder: Path, secret: str) -> Iterator[dict[str, str]]:
    """Serve the folders below `folder` as buckets, and yield the variables by which clients find and enter them.

    Raises:
        LookupError: the program is missing.
    """
    path = program()
    if not path:
        raise LookupError(MISSING)
    (port,) = free_ports(1)
    data, state = folder / "data", folder / "state"
    for path_of in (data, state):
        path_of.mkdir(parents=True, exist_ok=True)
    running = subprocess.Popen(
        [path, "--port", f"127.0.0.1:{port}", "posix", data],
        env={**os.environ, "ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": secret},
        cwd=state,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }
    finally:
        running.terminate()
        running.wait(10)
