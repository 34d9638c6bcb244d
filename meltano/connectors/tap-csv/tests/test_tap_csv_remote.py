"""Files that lie elsewhere, on servers of this machine: some break off, and no message holds a credential."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import importlib.util
import shutil
import socket
import sys
import threading
import typing as t
import zipfile

import buckets
import duckdb
import pytest
from tap_csv import inspection, remote
from tap_csv.errors import InputError
from tap_csv.remote import base
from tap_csv_harness import TEXT
from workspace import free_ports

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_csv_harness import Sync

STATEFUL: dict[str, t.Any] = {"infer_types": False}
SECRET = "hunter2/x"  # noqa: S105  # pragma: allowlist secret
needs_obstore = pytest.mark.skipif(
    not importlib.util.find_spec("obstore"), reason="the group remote is not installed"
)
needs_paramiko = pytest.mark.skipif(
    not importlib.util.find_spec("paramiko"), reason="the group remote is not installed"
)
ROWS = b"id,a\n" + b"".join(b"%d,%s\n" % (number, b"x" * 80) for number in range(5000))


class Server(http.server.ThreadingHTTPServer):
    """Serves files from memory, and breaks off after some bytes of each answer if it is told to."""

    files: t.ClassVar[dict[str, bytes]]
    knows_ranges = True
    breaks_after = 0
    fails = 0
    authorization = ""
    has_tags = True
    changed = ""
    asked: t.ClassVar[list[tuple[str, str, str]]]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server

    def do_HEAD(self) -> None:
        """Say what a file is."""
        self._answer(is_head=True)

    def do_GET(self) -> None:
        """Send a file, or a part of it."""
        self._answer(is_head=False)

    def _answer(self, *, is_head: bool) -> None:
        own = self.server
        own.asked.append((self.command, self.path, self.headers.get("Range", "")))
        content = own.files.get(self.path.partition("?")[0])
        if own.fails > 0 and not is_head:
            own.fails -= 1
            self.send_error(503)
            return
        if own.authorization != self.headers.get("Authorization", ""):
            self.send_error(401)
            return
        if content is None:
            self.send_error(404)
            return
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1]) if own.knows_ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if own.changed:
            self.send_header("Last-Modified", own.changed)
        if own.has_tags:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if not is_head:
            end = begin + own.breaks_after if own.breaks_after else len(content)
            with contextlib.suppress(OSError):
                self.wfile.write(content[begin:end])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(base, "_FIRST_PAUSE_SECONDS", 0.001)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked = {"/in.csv": ROWS}, []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_of_the_web(sync: Sync, web: Server) -> None:
    got = sync(f"{web.url}/in.csv", settings={**STATEFUL, "add_metadata_columns": True})
    assert got.error is None
    assert len(got.records) == 5000
    assert got.records[0]["_sdc_source_file"] == f"{web.url}/in.csv"
    assert got.records[0]["_sdc_source_file_mtime"] is None  # the server does not say
    web.asked.clear()
    again = sync(f"{web.url}/in.csv", settings={**STATEFUL, "add_metadata_columns": True}, state=got.state)
    assert again.records == []
    web.files["/in.csv"] = ROWS.replace(b"0,xx", b"0,yy")  # of the same size
    changed = sync(f"{web.url}/in.csv", settings={**STATEFUL, "add_metadata_columns": True}, state=again.state)
    assert len(changed.records) == 5000


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_server_that_breaks_off(sync: Sync, web: Server, knows_ranges: bool) -> None:
    """It is asked for the rest, and each row comes once."""
    web.knows_ranges, web.fails = knows_ranges, 2
    web.breaks_after = 150_000 if knows_ranges else 0
    got = sync(f"{web.url}/in.csv")
    assert got.error is None
    assert [one["id"] for one in got.records] == [str(number) for number in range(5000)]
    assert any(asked for _, _, asked in web.asked) == knows_ranges


def test_a_server_that_always_breaks_off(sync: Sync, web: Server) -> None:
    web.knows_ranges, web.breaks_after = False, 100_000
    got = sync(f"{web.url}/in.csv", settings=STATEFUL)
    assert f"{web.url}/in.csv: cannot be read, after 6 tries" in str(got.error)
    assert not got.state or not got.state["bookmarks"]["things"]["files"]


def test_a_file_that_changes_meanwhile(web: Server) -> None:
    (file,) = remote.find(f"{web.url}/in.csv", ())
    web.breaks_after = 1000
    with remote.Stream(file) as stream:
        stream.read(1000)
        web.files["/in.csv"] = ROWS.replace(b"x", b"y")
        with pytest.raises(InputError, match="was changed while it was read"):
            stream.read(1000)


def test_credentials_are_in_no_message(sync: Sync, web: Server, caplog: pytest.LogCaptureFixture) -> None:
    web.authorization = "Basic bWU6aHVudGVyMi94"
    url = f"{web.url.replace('://', '://me:hunter2%2Fx@')}/in.csv?token=abc123"  # pragma: allowlist secret
    got = sync(url, settings={**STATEFUL, "add_metadata_columns": True})
    assert len(got.records) == 5000
    refused = sync(f"{web.url}/in.csv?token=abc123")
    assert str(refused.error) == f"{web.url}/in.csv: is refused: HTTP status 401"
    missing = sync(url.replace("in.csv", "no.csv"))
    assert "HTTP status 404" in str(missing.error)
    said = f"{got.messages} {refused.error} {missing.error} {caplog.text}"
    assert not any(word in said for word in ("hunter2", "abc123", "me:"))


def test_files_that_are_read_from_their_end(sync: Sync, web: Server, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.csv", "id\n1\n")
        archive.writestr("b.csv", "id\n2\n")
    with duckdb.connect() as engine:
        engine.execute(f"copy (select 7 as id) to '{tmp_path}/in.parquet'")
    for name in ("in.zip", "in.parquet"):
        web.files[f"/{name}"] = (tmp_path / name).read_bytes()
    got = sync(f"{web.url}/in.zip", members="*", settings={**TEXT, "add_metadata_columns": True})
    assert [one["id"] for one in got.records] == ["1", "2"]
    assert got.records[0]["_sdc_source_file"] == f"{web.url}/in.zip!a.csv"
    assert sync(f"{web.url}/in.parquet").records == [{"id": "7"}]


def test_a_copy_leaves_the_disk_room(sync: Sync, web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    web.files["/in.parquet"] = b"PAR1" + b"\0" * 2000
    assert "in.parquet: is too large for the disk of" in str(sync(f"{web.url}/in.parquet").error)


@pytest.mark.parametrize("changed", ["yesterday", "Mon, 01 Jan 99999 00:00:00 GMT"])
def test_a_time_of_change_that_is_none(web: Server, changed: str) -> None:
    web.changed = changed
    with pytest.raises(InputError, match="Last-Modified"):
        remote.find(f"{web.url}/in.csv", ())


def test_a_name_beyond_ascii(sync: Sync, web: Server) -> None:
    web.files["/%C3%BC%20b.csv"] = ROWS
    for url in (f"{web.url}/ü b.csv", f"{web.url}/%C3%BC%20b.csv"):
        assert len(sync(url, settings=STATEFUL).records) == 5000
    assert "http:///in.csv: names no host" in str(sync("http:///in.csv").error)


def test_what_is_not_read(sync: Sync, web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "lists no files: name each" in str(sync(f"{web.url}/*.csv").error)
    assert "only https, http, s3, gs, az, sftp and files of this machine" in str(sync("ftp://host/in.csv").error)
    assert "cannot be reached, after 6 tries" in str(sync(f"http://127.0.0.1:{free_ports(1)[0]}/in.csv").error)
    for name in ("obstore", "paramiko"):
        monkeypatch.setitem(sys.modules, name, None)
    for url in ("s3://bucket/in.csv", "sftp://host/in.csv"):
        assert f"{url}: " in str(sync(url).error)
        assert "is missing: set ELT_GROUPS=remote in .env" in str(sync(url).error)


def test_inspection(web: Server) -> None:
    found = inspection.inspect(f"{web.url}/in.csv")
    assert (found.path, found.rows) == (f"{web.url}/in.csv", 5000)
    assert [(one.name, one.type) for one in found.columns] == [("id", "integer"), ("a", "string")]


def test_globs() -> None:
    assert remote.matches("a/b/c.csv", "a/**/*.csv")
    assert remote.matches("a/c.csv", "a/**/*.csv")
    assert not remote.matches("a/b/c.csv", "a/*.csv")


@contextlib.contextmanager
def served(scheme: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[t.Callable[[str, bytes], object]]:
    """A server with the bucket `lake`, and what puts an object there."""
    from obstore.store import AzureStore

    (folder / "data" / "lake" / "sub").mkdir(parents=True)
    servers: dict[str, t.Callable[[], contextlib.AbstractContextManager[dict[str, str]]]] = {
        "s3": lambda: buckets.s3(folder, SECRET),
        "gs": lambda: buckets.google(folder, "lake"),
        "az": lambda: buckets.azure(folder, "lake"),
    }
    try:
        with servers[scheme]() as variables:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            if scheme == "az":
                endpoint = variables["AZURE_STORAGE_ENDPOINT"]
                yield AzureStore("lake", endpoint=endpoint, client_options={"allow_http": True}).put
            elif scheme == "gs":
                yield lambda name, content: buckets.put_google(variables, "lake", name, content)
            else:
                yield lambda name, content: (folder / "data" / "lake" / name).write_bytes(content)
    except LookupError as error:
        pytest.skip(str(error))


CREDENTIALS = {"s3": "AWS_SECRET_ACCESS_KEY", "az": "AZURE_STORAGE_ACCOUNT_KEY"}
"""What a wrong value of is refused; the double of Google's server asks for nothing."""


@needs_obstore
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_bucket(scheme: str, sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, by a glob and as a folder; a new object is sent alone, and a changed one."""
    monkeypatch.setattr(base, "_FIRST_PAUSE_SECONDS", 0.001)
    with served(scheme, tmp_path, monkeypatch) as put:
        for name, content in {"1.csv": ROWS, "sub/2.csv": b"id,a\n9000,x\n", "notes.txt": b"no"}.items():
            put(name, content)
        there = f"{scheme}://lake"
        assert len(sync(f"{there}/1.csv").records) == 5000
        assert [one["id"] for one in sync(f"{there}/sub/*.csv").records] == ["9000"]
        (begin,) = remote.find(f"{there}/1.csv", ())
        assert remote.Stream(begin, len(ROWS) - 9).read(1 << 20) == ROWS[-9:]
        first = sync(f"{there}/", settings=STATEFUL)
        assert first.error is None
        assert len(first.records) == 5001
        put("3.csv", b"id,a\n9001,x\n")
        again = sync(f"{there}/**/*.csv", settings=STATEFUL, state=first.state)
        assert [one["id"] for one in again.records] == ["9001"]
        assert f"{there}/9*.csv: no file matches" in str(sync(f"{there}/9*.csv").error)
        assert f"{there}/9.csv: no such bucket or object" in str(sync(f"{there}/9.csv").error)
        if scheme in CREDENTIALS:
            monkeypatch.setenv(CREDENTIALS[scheme], "d3Jvbmctb25l")
            for name in ("1.csv", "*.csv"):
                refused = str(sync(f"{there}/{name}").error)
                assert f"{there}/{name}: is refused: look at {CREDENTIALS[scheme].partition('_')[0]}" in refused
                assert "d3Jvbmctb25l" not in refused


@contextlib.contextmanager
def sftp_server(folder: Path, key: t.Any) -> Iterator[int]:  # noqa: C901 - the callbacks of one server
    """Serve a folder by SFTP to the user me, on a port of this machine."""
    import paramiko

    def attributes(path: Path) -> t.Any:
        return paramiko.SFTPAttributes.from_stat(path.stat(), path.name)

    def here(path: str) -> Path:
        return folder / path.lstrip("/")

    class Files(paramiko.SFTPServerInterface):
        def list_folder(self, path: str) -> t.Any:
            return [attributes(one) for one in here(path).iterdir()]

        def stat(self, path: str) -> t.Any:
            try:
                return attributes(here(path))
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno or 0)

        def open(self, path: str, flags: int, attr: t.Any) -> t.Any:
            handle = paramiko.SFTPHandle(flags)
            handle.readfile = here(path).open("rb")
            return handle

    class Door(paramiko.ServerInterface):
        def check_auth_password(self, username: str, password: str) -> int:
            right = (username, password) == ("me", SECRET)
            return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return paramiko.OPEN_SUCCEEDED

    transports = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    transport = paramiko.Transport(listening.accept()[0])
                    transport.add_server_key(key)
                    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
                    transports.append(transport)
                    with contextlib.suppress(EOFError, paramiko.SSHException):
                        transport.start_server(server=Door())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for transport in transports:
            transport.close()


@needs_paramiko
def test_a_server_of_sftp(sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, by a glob and as a folder; a stranger's host and a wrong password are refused."""
    import paramiko

    folder, known = tmp_path / "files", tmp_path / "known_hosts"
    (folder / "in" / "sub").mkdir(parents=True)
    (folder / "in" / "1.csv").write_bytes(ROWS)
    (folder / "in" / "sub" / "2.csv").write_bytes(b"id,a\n9000,x\n")
    known.touch()
    monkeypatch.setenv("TAP_CSV_SFTP_KNOWN_HOSTS", str(known))
    monkeypatch.setenv("TAP_CSV_SFTP_PASSWORD", SECRET)
    monkeypatch.setattr(base, "_FIRST_PAUSE_SECONDS", 0.001)
    key = paramiko.ECDSAKey.generate()
    with sftp_server(folder, key) as port:
        url = f"sftp://me@127.0.0.1:{port}/in"
        shown = url.replace("me@", "")
        assert f"{shown}/1.csv: its host is not in known_hosts" in str(sync(f"{url}/1.csv").error)
        known.write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")
        assert len(sync(f"{url}/1.csv").records) == 5000
        assert [one["id"] for one in sync(f"{url}/*/*.csv").records] == ["9000"]
        first = sync(f"{url}/", settings={**STATEFUL, "add_metadata_columns": True})
        assert len(first.records) == 5001
        assert first.records[-1]["_sdc_source_file"] == f"{shown}/sub/2.csv"
        assert sync(f"{url}/", settings={**STATEFUL, "add_metadata_columns": True}, state=first.state).records == []
        assert "9.csv: cannot be read" in str(sync(f"{url}/9.csv").error)
        wrong = str(sync(f"{url.replace('me@', 'me:wrong-one@')}/1.csv").error)
        assert f"{shown}/1.csv: is refused: look at user" in wrong
        assert "wrong-one" not in wrong
