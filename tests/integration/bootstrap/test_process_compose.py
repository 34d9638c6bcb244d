"""process-compose is downloaded, checked against its pin and found again; a refusal is remembered."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading

import pytest

from elt import layout
from elt.bootstrap import prepare, process_compose, uv


@pytest.fixture
def release(clone, monkeypatch):
    """A server on loopback that stands for the place of process-compose's releases, which cannot be reached here."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        body = b"#!/bin/sh\necho fake\n"
        member = tarfile.TarInfo("process-compose")
        member.size = len(body)
        tar.addfile(member, io.BytesIO(body))
    body = archive.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(prepare.shutil, "which", lambda _: None)
    yield f"http://127.0.0.1:{server.server_port}/x", hashlib.sha256(body).hexdigest()
    server.shutdown()
    thread.join()
    server.server_close()


def attempt(url, sha256, monkeypatch):
    original = uv.tomllib.loads

    def pinned(text):
        project = original(text)
        pin = project["tool"]["elt"]["process-compose"]
        pin["url"], pin["sha256"] = url, dict.fromkeys(pin["sha256"], sha256)
        return project

    with monkeypatch.context() as patch:
        patch.setattr(uv.tomllib, "loads", pinned)
        return process_compose.ProcessCompose()


def test_process_compose_is_downloaded_checked_and_found_again(release, monkeypatch):
    url, sha256 = release
    assert "downloaded and checked" in attempt(url, sha256, monkeypatch).result()
    program = layout.TOOLS / "bin" / "process-compose"
    assert subprocess.run([program], capture_output=True, text=True).stdout == "fake\n"
    assert attempt("http://127.0.0.1:1/", sha256, monkeypatch).result().endswith("of this clone")


def test_a_wrong_checksum_is_refused(release, monkeypatch):
    assert "does not have the pinned checksum" in attempt(release[0], "0" * 64, monkeypatch).result()
    assert not (layout.TOOLS / "bin" / "process-compose").exists()


def test_a_refusal_is_remembered_for_a_day(clone, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "which", lambda _: None)
    assert "cannot be reached" in attempt("http://127.0.0.1:1/", "0", monkeypatch).result()
    again = attempt("http://127.0.0.1:1/", "0", monkeypatch)
    assert again.thread is None
    assert "remembered" in again.result()
    long_ago = layout.TOOLS / "process-compose.refused"
    os.utime(long_ago, (0, 0))
    assert attempt("http://127.0.0.1:1/", "0", monkeypatch).thread is not None
