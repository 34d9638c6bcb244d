"""Servers of buckets on loopback: of S3 (versitygw), of Azure (Microsoft's Azurite), of Google (fake-gcs-server).

No package registry of Python carries them: Go builds the first and the last, npm has Azurite; each once, in a
minute. The last is a double, since Google gives no server away: it checks no credentials, and no If-Match.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from workspace import alone, free_ports

from elt import layout

if t.TYPE_CHECKING:
    from collections.abc import Iterator
GO = {
    "versitygw": ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    "fake-gcs-server": ("github.com/fsouza/fake-gcs-server", "v1.54.0"),
}
"""Package and version of each program."""
AZURITE = "3.35.0"
MISSING = "no server of buckets"
SECRET = base64.b64encode(b"a key of this test alone, 32 byte").decode()


def _from_go(name: str) -> str:
    """Return the path of a program, which is built if it is not there.

    Raises:
        LookupError: it is not, and cannot be.
    """
    if found := shutil.which(name):
        return found
    package, version = GO[name]
    folder = layout.TOOLS / f"{name}-{version}"
    with alone(folder):
        if not (folder / name).exists():
            go = shutil.which("go")
            if not go:
                raise LookupError(f"{MISSING}: no {name} and no Go on PATH")
            env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
            _run(name, go, "install", f"{package}@{version}", env=env)
    return str(folder / name)


BUNDLES = ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt")
"""Where systems keep certificates, a proxy's among them; Node does not look there by itself."""


def _azurite() -> str:
    if found := shutil.which("azurite-blob"):
        return found
    folder = layout.TOOLS / f"azurite-{AZURITE}"
    with alone(folder):
        if not (folder / "node_modules" / ".bin" / "azurite-blob").exists():
            npm = shutil.which("npm")
            if not npm:
                raise LookupError(f"{MISSING}: no azurite-blob and no npm on PATH")
            folder.mkdir(exist_ok=True)
            found = [path for path in BUNDLES if Path(path).exists()]
            env = dict(os.environ)
            if found:
                env.setdefault("NODE_EXTRA_CA_CERTS", found[0])
            options = ("--prefix", str(folder), "--no-fund", "--no-audit", "--ignore-scripts")
            _run("azurite", npm, "install", *options, f"azurite@{AZURITE}", env=env)
    return str(folder / "node_modules" / ".bin" / "azurite-blob")


def _run(name: str, *command: str, env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise LookupError(f"{MISSING}: {name} cannot be had: {done.stderr.strip()[-200:]}")


@contextlib.contextmanager
def _served(folder: Path, port: int, *command: str | Path, **variables: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, env={**os.environ, **variables}, cwd=folder, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        running.terminate()
        running.wait(10)


@contextlib.contextmanager
def s3(folder: Path, secret: str = SECRET) -> Iterator[dict[str, str]]:
    """Serve the folders of `folder` / data as buckets, and yield the variables by which clients enter them.

    Raises:
        LookupError: the program is missing.
    """
    program, (port,) = _from_go("versitygw"), free_ports(1)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    keys = {"ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": secret}
    with _served(folder / "state", port, program, "--port", f"127.0.0.1:{port}", "posix", data, **keys):
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def google(folder: Path, bucket: str) -> Iterator[dict[str, str]]:
    """Serve a bucket of Google, which is empty; see `s3`."""
    program, (port,) = _from_go("fake-gcs-server"), free_ports(1)
    address = f"127.0.0.1:{port}"
    options = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory")
    account = {"gcs_base_url": f"http://{address}", "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    with _served(folder / "state", port, program, *options, "-public-host", address):
        _ask(port, "POST", "/storage/v1/b", json.dumps({"name": bucket}).encode())
        yield {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_BASE_URL": f"http://{address}"}


def put_google(variables: dict[str, str], bucket: str, name: str, content: bytes) -> None:
    """Put an object into a bucket of the double, which takes none by the interface that obstore writes with."""
    port = int(variables["GOOGLE_BASE_URL"].rpartition(":")[2])
    _ask(port, "POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", content)


@contextlib.contextmanager
def azure(folder: Path, container: str) -> Iterator[dict[str, str]]:
    """Serve a container, which is empty, and yield the variables by which clients enter it; see `s3`."""
    program, (port,) = _azurite(), free_ports(1)
    address = ("--blobHost", "127.0.0.1", "--blobPort", str(port))
    options = ("--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry")
    with _served(folder / "state", port, program, *address, *options, AZURITE_ACCOUNTS=f"test:{SECRET}"):
        _make_container(port, container)
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": "test",
            "AZURE_STORAGE_ACCOUNT_KEY": SECRET,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/test",
        }


def _make_container(port: int, name: str) -> None:
    """Make a container by Azure's REST interface (Put Container), with a signature by Shared Key."""
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    signed = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n/test/test/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(SECRET), signed.encode(), hashlib.sha256).digest()
    headers = {"x-ms-date": date, "x-ms-version": version, "Content-Length": "0"}
    headers["Authorization"] = f"SharedKey test:{base64.b64encode(digest).decode()}"
    _ask(port, "PUT", f"/test/{name}?restype=container", headers=headers)


def _ask(port: int, method: str, path: str, body: bytes | None = None, headers: t.Mapping[str, str] = {}) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    assert answer.status in {http.HTTPStatus.OK, http.HTTPStatus.CREATED}, answer.read()
    connection.close()
