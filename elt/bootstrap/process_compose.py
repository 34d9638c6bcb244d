"""Find the pinned release of process-compose, or download and verify it."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import tarfile
import threading
import time

from elt import layout
from elt.bootstrap import uv

CONNECT_SECONDS = 3
REFUSAL_SECONDS = 24 * 3600
"""Seconds after a failed download in which it is not tried again."""


class ProcessCompose:
    """Find process-compose, or download it in a thread beside the other steps; remember a failure."""

    def __init__(self) -> None:
        pin = uv.project()["tool"]["elt"]["process-compose"]
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        self.platform = f"{sys.platform}_{machine}"
        self.version: str = pin["version"]
        self.sha256: str | None = pin["sha256"].get(self.platform)
        self.url: str = pin["url"].format(version=self.version, platform=self.platform)
        self.program = layout.TOOLS / "bin" / "process-compose"
        self.stamp = layout.TOOLS / "process-compose.version"
        self.refusal = layout.TOOLS / "process-compose.refused"
        self.outcome = ""
        self.connected = threading.Event()
        self.thread: threading.Thread | None = None
        if not self._known():
            self.thread = threading.Thread(target=self._download, daemon=True)
            self.thread.start()

    def _known(self) -> bool:
        """Return whether no download is needed; `outcome` then says why."""
        if found := shutil.which("process-compose"):
            self.outcome = f"found: {found}"
        elif self.program.exists() and self.stamp.exists() and self.stamp.read_text() == self.version:
            self.outcome = f"{self.version}, of this clone"
        elif self.sha256 is None:
            self.outcome = f"none for {self.platform}; the embedded supervisor runs the stack"
        elif self._refused_lately():
            self.outcome = "not reachable (remembered for a day); the embedded supervisor serves"
        return bool(self.outcome)

    def _refused_lately(self) -> bool:
        if not self.refusal.exists() or self.refusal.read_text() != self.version:
            return False
        return time.time() - self.refusal.stat().st_mtime < REFUSAL_SECONDS

    def _download(self) -> None:
        import urllib.request  # noqa: PLC0415 - 25 ms of each start, most of which have nothing to fetch

        try:
            with urllib.request.urlopen(self.url, timeout=CONNECT_SECONDS) as answer:  # noqa: S310 - https
                self.connected.set()
                body = answer.read()
        except (OSError, ValueError):
            self._refuse("its release cannot be reached")
            return
        if hashlib.sha256(body).hexdigest() != self.sha256:
            self._refuse("the download does not have the pinned checksum")
            return
        self._unpack(body)

    def _unpack(self, body: bytes) -> None:
        archive = layout.TOOLS / "process-compose.tar.gz"
        self.program.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(body)
        with tarfile.open(archive) as tar:
            member = tar.extractfile("process-compose")
            unfinished = self.program.with_suffix(".new")
            unfinished.write_bytes(member.read() if member else b"")
        unfinished.chmod(0o755)
        unfinished.replace(self.program)
        archive.unlink()
        self.stamp.write_text(self.version)
        self.outcome = f"{self.version}, downloaded and checked"

    def _refuse(self, why: str) -> None:
        layout.TOOLS.mkdir(parents=True, exist_ok=True)
        self.refusal.write_text(self.version)
        self.outcome = f"{why}; the embedded supervisor serves"

    def result(self) -> str:
        """Return the outcome; wait for a download that has begun, and not for a connection that never comes."""
        if self.thread:
            self.thread.join(CONNECT_SECONDS)
            if self.connected.is_set():
                self.thread.join(60)
            if not self.outcome:
                self._refuse("no answer")
        return self.outcome
