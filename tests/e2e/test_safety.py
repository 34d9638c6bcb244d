"""Only loopback listens, everything asks for a login, and no secret shows."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time

import chromium
import httpx
import jwt
import psutil
import psycopg2
import pytest
import yaml
from cryptography import fernet
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync import client as websocket
from workspace import copy, run, said

from elt import layout
from elt.config import env_file, process_env
from elt.orchestration import runs
from elt.services import databases

SECRETS = [name.lower() for name, value, _ in env_file.example_settings() if not value]


def family(platform):
    """Every process of the stack."""
    guard = platform.record("postgres")["guard"]
    supervisor = psutil.Process(guard).parent()
    return [supervisor, *supervisor.children(recursive=True)]


def test_only_loopback_listens(platform):
    pids = {process.pid for process in family(platform)}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in pids]
    ports = {c.laddr.port for c in listening}
    now = platform.settings
    assert ports == {now.airflow_port, now.flower_port, now.streamlit_port, now.postgres_port}
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}


def test_no_secret_in_command_lines_or_logs(platform):
    secrets = [getattr(platform.settings, name).encode() for name in SECRETS]
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline()).encode()
        except psutil.Error:
            continue
        assert not [s for s in secrets if s in line], process.name()
    files = [p for p in (platform.state / "logs").rglob("*") if p.is_file()]
    assert len(files) >= 10
    for path in files:
        text = path.read_bytes()
        assert not [s for s in secrets if s in text], path


def test_other_users_cannot_read_the_state(platform):
    assert stat.S_IMODE(platform.state.stat().st_mode) == 0o700
    for name in ("run/valkey.conf", "run/airflow_passwords.json"):
        assert stat.S_IMODE((platform.state / name).stat().st_mode) == 0o600, name


def test_nobody_else_may_change_what_is_installed_even_if_the_umask_lets_them(tmp_path):
    root = tmp_path / "clone"
    copy(root)
    command = ["bash", "-c", "umask 000; scripts/bootstrap.sh && exec .venv/bin/elt --version"]
    env = {name: value for name, value in os.environ.items() if name not in {"ELT_STATE", "UV_PROJECT_ENVIRONMENT"}}
    done = said(*command, cwd=root, env=env)
    assert done.returncode == 0, done.stdout
    assert (root / "elt" / "config" / "__pycache__").is_dir()
    assert stat.S_IMODE((root / ".state").stat().st_mode) == 0o700
    paths = [path for path in root.rglob("*") if not path.is_relative_to(root / ".state")]
    found = [path for path in paths if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert [path for path in found if path.stat().st_nlink == 1] == []  # the others are of uv's cache


def test_anybody_s_upload_fills_no_memory_of_the_dashboard(platform):
    url = platform.settings.streamlit_url()
    with websocket.connect(f"{url.replace('http', 'ws')}/_stcore/stream", proxy=None) as stream:
        asked = BackMsg()
        asked.rerun_script.query_string = ""
        stream.send(asked.SerializeToString())
        session = ""
        while not session:
            told = ForwardMsg()
            told.ParseFromString(stream.recv(30))
            session = told.new_session.initialize.session_id
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            client.get("/_stcore/health")
            headers = {"X-Xsrftoken": client.cookies["_streamlit_xsrf"]}
            answer = client.put(f"/_stcore/upload_file/{session}/one", files={"file": b"x" * 9999}, headers=headers)
            assert answer.status_code == 413


def test_anybody_s_message_or_page_fills_no_memory_of_the_dashboard(platform):
    address = f"{platform.settings.streamlit_url().replace('http', 'ws')}/_stcore/stream"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(websocket.connect(address, proxy=None))
        first.send(b"\0" * 2_000_000)
        with pytest.raises(ConnectionClosedError, match="too big"):
            first.recv(30)
        with contextlib.suppress(InvalidStatus):
            for _ in range(200):
                stack.enter_context(websocket.connect(address, proxy=None))
            pytest.fail("it takes any number of pages")


@pytest.mark.parametrize("port", ["streamlit_port", "flower_port"])
@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n"]
)
def test_anybody_s_request_without_an_end_fills_no_memory(platform, port, start):
    with socket.create_connection(("127.0.0.1", getattr(platform.settings, port)), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(start + b"x" * 9_000_000)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) in {b"", b"H"}  # refused before its end, where time-outs would fail


@pytest.mark.parametrize("login", [None, {"username": "admin", "password": "wrong"}])
def test_airflow_asks_for_a_login(platform, login):
    url = platform.settings.url(platform.settings.airflow_port)
    if login:
        assert httpx.post(f"{url}/auth/token", json=login, timeout=60, trust_env=False).status_code == 401
    headers = {"Authorization": "Bearer forged"} if login else {}
    answer = httpx.get(f"{url}/api/v2/dags", headers=headers, timeout=60, trust_env=False)
    assert answer.status_code in (401, 403)


@pytest.fixture(scope="module")
def claims(platform):
    """What a genuine token of Airflow's user says."""
    url = platform.settings.url(platform.settings.airflow_port)
    login = {"username": "admin", "password": platform.settings.admin_password}
    token = httpx.post(f"{url}/auth/token", json=login, timeout=60, trust_env=False).json()["access_token"]
    return jwt.decode(token, options={"verify_signature": False})


def signed(platform, claims, secret="", algorithm="HS512"):
    """A token that says that; by default with the signature of Airflow itself."""
    return jwt.encode(claims, secret or platform.settings.airflow_jwt_secret, algorithm)


FORGERIES = {
    "expired": lambda platform, claims: signed(platform, claims | {"exp": int(time.time()) - 60}),
    "of tomorrow": lambda platform, claims: signed(platform, claims | {"nbf": int(time.time()) + 86_400}),
    "for ever": lambda platform, claims: signed(platform, {k: v for k, v in claims.items() if k != "exp"}),
    "of another clone": lambda platform, claims: signed(platform, claims, "another" * 10),
    "for somebody else": lambda platform, claims: signed(platform, claims | {"aud": "another"}),
    "not signed": lambda _, claims: jwt.encode(claims, None, "none"),
    "cut off": lambda platform, claims: signed(platform, claims)[:-10],
    "changed": lambda platform, claims: (
        signed(platform, claims | {"sub": "x"}).rpartition(".")[0] + "." + signed(platform, claims).rpartition(".")[2]
    ),
    "no token at all": lambda *_: "admin",
}


def answers(platform, token):
    """What the two APIs of Airflow say to a token."""
    url = platform.settings.url(platform.settings.airflow_port)
    for path in ("/api/v2/dags", "/execution/variables/some"):
        yield httpx.get(
            url + path, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        ).status_code


def test_a_token_as_airflow_makes_it_opens_one_door(platform, claims):
    assert [*answers(platform, signed(platform, claims))] == [200, 403]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_opens_none(platform, claims, forgery):
    assert set(answers(platform, FORGERIES[forgery](platform, claims))) <= {401, 403}


@pytest.mark.parametrize(
    ("port", "path"),
    [
        ("airflow_port", "/api/v2/version"),
        ("airflow_port", "/api/v2/monitor/health"),
        ("airflow_port", "/execution/health"),
        ("flower_port", "/healthcheck"),
        ("flower_port", "/metrics"),
        ("streamlit_port", "/_stcore/health"),
    ],
)
def test_what_is_open_by_design(platform, port, path):
    url = platform.settings.url(getattr(platform.settings, port))
    assert httpx.get(url + path, timeout=60, trust_env=False).status_code == 200


HANDSHAKE = (
    "GET /_stcore/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://{host}:{port}\r\n\r\n"
)


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        *(("127.0.0.1", True), ("localhost", True), ("airflow.localhost", True)),
        *(("foreign.example", False), ("127.0.0.1.foreign.example", False), ("localhost.foreign.example", False)),
    ],
)
def test_a_foreign_name_is_answered_by_nobody(platform, host, is_ours):
    now = platform.settings
    for port, *paths in (
        (now.airflow_port, "/", "/api/v2/version", "/auth/login", "/execution/health", "/static/x"),
        (now.flower_port, "/", "/api/tasks", "/metrics", "/healthcheck", "/static/css/flower.css", "/nothing"),
        (now.streamlit_port, "/", "/_stcore/health", "/_stcore/host-config", "/media/x", "/customer_segments"),
    ):
        for path in paths:
            for verb in ("GET", "POST"):
                headers = {"Host": f"{host}:{port}"}
                answer = httpx.request(verb, now.url(port) + path, headers=headers, timeout=60, trust_env=False)
                assert (answer.status_code == 400) is not is_ours, (port, verb, path)
                assert ("ALLOWED_HOSTS" in answer.text) is not is_ours, (port, verb, path)
    with socket.create_connection(("127.0.0.1", now.streamlit_port), timeout=10) as connection:
        connection.sendall(HANDSHAKE.format(host=host, port=now.streamlit_port).encode())
        assert (connection.recv(1000).split()[1] == b"101") is is_ours


def test_a_browser_shows_no_page_under_a_foreign_name(platform, browser):
    now = platform.settings
    page = browser.new_page()
    try:
        for port in (now.airflow_port, now.flower_port, now.streamlit_port):
            assert page.goto(f"http://{chromium.FOREIGN}:{port}/").status == 400
        assert page.goto(now.airflow_url()).status == 200
    finally:
        page.close()


FOREIGN_PAGE = """<!doctype html><iframe src="{airflow}/"></iframe><iframe src="/nothing"></iframe><script>
fetch("{airflow}/api/v2/connections/defaults", {{method: "POST", mode: "no-cors", credentials: "include"}})
  .finally(() => document.title = "sent")
</script>"""
"""A page that shows Airflow in a frame, and sends it a request that needs no body."""


@pytest.mark.parametrize("name", ["airflow.localhost", chromium.FOREIGN])
def test_a_foreign_page_changes_nothing_in_airflow_and_shows_it_in_no_frame(platform, browser, claims, name):
    token, now = signed(platform, claims), platform.settings
    url = f"{now.url(now.airflow_port)}/api/v2/connections"

    def connections():
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)
        return answer.json()["total_entries"]

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"nothing" if self.path != "/" else FOREIGN_PAGE.format(airflow=now.airflow_url()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    before = connections()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server, browser.new_context() as context:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context.add_cookies([{"name": "_token", "value": token, "url": now.airflow_url()}])
        page = context.new_page()
        page.goto(f"http://{name}:{server.server_port}/", wait_until="load")
        page.wait_for_function("document.title == 'sent'")
        frames = [frame.url for frame in page.frames[1:]]
        server.shutdown()
    assert [url.startswith("chrome-error:") for url in frames] == [True, False]
    assert connections() == before


@pytest.mark.parametrize(
    ("origin", "code"), [("http://foreign.example", 403), ("null", 403), ("", 404), ("{own}", 404)]
)
def test_a_foreign_page_changes_nothing_where_browsers_send_no_sec_fetch_site(platform, claims, origin, code):
    own = platform.settings.url(platform.settings.airflow_port)
    headers = {"Cookie": f"_token={signed(platform, claims)}"} | (
        {"Origin": origin.format(own=own)} if origin else {}
    )
    answer = httpx.post(f"{own}/api/v2/assets/0/materialize", headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == code, answer.text


@pytest.mark.parametrize("auth", [None, ("admin", "wrong")])
def test_flower_asks_for_a_login(platform, auth):
    url = platform.settings.url(platform.settings.flower_port)
    for path in ("/", "/api/tasks", "/api/workers", "/workers", "/tasks", "/broker"):
        assert httpx.get(url + path, auth=auth, timeout=60, trust_env=False).status_code == 401, path
    for path in ("/api/worker/shutdown/any", "/api/task/send-task/any"):
        assert httpx.post(url + path, auth=auth, timeout=60, trust_env=False).status_code == 401, path


def test_whoever_logs_in_to_flower_only_looks(platform):
    url = platform.settings.url(platform.settings.flower_port)
    auth = ("admin", platform.settings.admin_password)
    assert httpx.get(f"{url}/api/tasks", auth=auth, timeout=60, trust_env=False).status_code == 200
    for path in (
        *("task/send-task/any", "task/apply/any", "task/async-apply/any", "task/revoke/any", "task/abort/any"),
        *("task/timeout/any", "task/rate-limit/any", "worker/shutdown/any", "worker/pool/restart/any"),
        *("worker/pool/grow/any", "worker/pool/autoscale/any", "worker/queue/add-consumer/any"),
    ):
        assert httpx.post(f"{url}/api/{path}", auth=auth, timeout=60, trust_env=False).status_code == 403, path


def test_flower_shows_no_password_and_no_token(platform):
    url, auth = platform.settings.url(platform.settings.flower_port), ("admin", platform.settings.admin_password)
    runs.run_pipeline(platform.api, 120)
    with httpx.Client(base_url=url, auth=auth, timeout=60, trust_env=False) as client:
        workers = client.get("/api/workers", params={"refresh": "true"}).json()
        (worker,) = workers
        (task, *_) = tasks = client.get("/api/tasks").json()
        paths = ("/", "/broker", "/tasks", f"/worker/{worker}", f"/task/{task}", f"/api/task/info/{task}")
        texts = [client.get(path).raise_for_status().text for path in paths]
        columns = {"draw": 1, "start": 0, "length": 9, "order[0][column]": 0, "columns[0][data]": "name"}
        rows = [
            client.get("/tasks/datatable", params={**columns, "search[value]": words}).raise_for_status().json()
            for words in ("", "eyJ", "args:eyJ", "args:token")
        ]
    told = "\n".join([json.dumps([workers, tasks, rows]), *texts])
    assert [len(one["data"]) > 0 for one in rows] == [True, False, False, True]
    assert "redis+socket://:***@" in workers[worker]["stats"]["broker"]["hostname"]
    assert "eyJ" not in told
    assert not [name for name in SECRETS if getattr(platform.settings, name) in told]


def test_the_login_is_printed(platform):
    assert platform.elt("status").count(f"admin / {platform.settings.admin_password}") == 2


def test_valkey_asks_for_a_password(platform):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(platform.settings.valkey_socket))
        connection.sendall(b"CLIENT LIST\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")
        connection.sendall(b"AUTH wrong\r\n")
        assert connection.recv(100).startswith(b"-WRONGPASS")


def connect(platform, role, password, database, host="127.0.0.1"):
    """Connect to PostgreSQL, with nothing that the environment offers."""
    port = platform.settings.postgres_port
    return psycopg2.connect(host=host, port=port, user=role, password=password, dbname=database, passfile=os.devnull)


@pytest.mark.parametrize("password", ["", "wrong"])
@pytest.mark.parametrize("role", ["elt", "bi", "postgres", "root"])
@pytest.mark.parametrize("database", [*process_env.DATABASES, "postgres", "template1"])
def test_postgres_asks_for_a_password(platform, role, password, database):
    with pytest.raises(psycopg2.OperationalError, match="password"):
        connect(platform, role, password, database, host=str(platform.settings.sockets))
    words = "password" if (role, database) == ("bi", "marts") else "no pg_hba.conf entry"
    with pytest.raises(psycopg2.OperationalError, match=words):
        connect(platform, role, password, database)


@pytest.mark.parametrize("database", [*process_env.DATABASES, "postgres", "template1"])
def test_the_role_of_readers_sees_the_marts_alone(platform, database):
    password = platform.settings.bi_password
    for host, words in (("127.0.0.1", "no pg_hba.conf entry"), (str(platform.settings.sockets), "permission denied")):
        if database == "marts":
            connect(platform, "bi", password, database, host).close()
        else:
            with pytest.raises(psycopg2.OperationalError, match=words):
                connect(platform, "bi", password, database, host)


def test_the_owner_comes_by_the_socket_alone(platform):
    password = platform.settings.postgres_password
    connect(platform, "elt", password, "airflow", str(platform.settings.sockets)).close()
    with pytest.raises(psycopg2.OperationalError, match=r"no pg_hba\.conf entry"):
        connect(platform, "elt", password, "airflow")


def test_what_airflow_keeps_of_a_connection_is_encrypted(platform, claims):
    url = f"{platform.settings.url(platform.settings.airflow_port)}/api/v2/connections"
    told = "horse-battery"
    fields = {
        "connection_id": "a_shop",
        "conn_type": "generic",
        "password": told,
        "extra": f'{{"key": "{told}"}}',
    }
    headers = {"Authorization": f"Bearer {signed(platform, claims)}"}
    made = httpx.post(url, json=fields, headers=headers, trust_env=False)
    assert made.status_code == 201, made.text
    try:
        with contextlib.closing(databases.connect(platform.settings, "airflow")) as connection:
            cursor = connection.cursor()
            cursor.execute("select password, extra, connection::text from connection where conn_id = 'a_shop'")
            ((password, extra, row),) = cursor.fetchall()
    finally:
        httpx.delete(f"{url}/a_shop", headers=headers, trust_env=False)
    key = fernet.Fernet(platform.settings.airflow_fernet_key)
    assert key.decrypt(password).decode() == told
    assert told in key.decrypt(extra).decode()
    assert told not in row


STRANGER = """
import os, socket, sys
state, env, port, *pids = sys.argv[1:]
seen = []
for name, look in {
    state: os.listdir,
    env: lambda path: open(path).read(),
    state + "/run/valkey.conf": lambda path: open(path).read(),
    state + "/logs": os.listdir,
    **{
        f"{state}/run/{name}": lambda path: socket.socket(socket.AF_UNIX).connect(path)
        for name in ("supervisor.sock", "valkey.sock", ".s.PGSQL." + port)
    },
    **{f"/proc/{pid}/environ": lambda path: open(path).read() for pid in pids},
}.items():
    try:
        seen.append(f"{name}: {look(name)!r}"[:200])
    except PermissionError:
        pass
    except (FileNotFoundError, ProcessLookupError):
        if not name.startswith("/proc/"):  # a probe that has ended meanwhile
            raise
sys.exit("\\n".join(seen) or 0)
"""
"""A program that tries to read what is somebody else's; it says what it could."""


THIEF = """
import socket, struct, sys
port, token = sys.argv[1:]

def ask(verb, path, body=""):
    connection = socket.create_connection(("127.0.0.1", int(port)), 60)
    words = f"{verb} {path} HTTP/1.1\\r\\nHost: airflow.localhost\\r\\nX-Forwarded-For: 192.0.2.1\\r\\n"
    words += f"Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n"
    connection.sendall(f"{words}Cookie: _token={token}\\r\\nAuthorization: Bearer {token}\\r\\n\\r\\n{body}".encode())
    return connection

for verb, path in (("GET", "/api/v2/dags"), ("GET", "/"), ("POST", "/auth/token")):
    print(ask(verb, path).recv(1000).split()[1].decode())
for number in range(100):  # he does not wait for the answer
    connection = ask("POST", "/api/v2/variables", '{"key": "of_a_thief", "value": "x"}')
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", number % 2, 0))  # 1: reset
    connection.close()
"""
"""A program that has a token of Airflow's."""


def as_another_user(program, *words):
    """Run a program as nobody, to its end."""
    python = os.path.realpath(shutil.which("python3", path="/usr/bin:/bin") or sys.executable)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_another_user_gets_nothing_of_airflow_with_a_token(platform, claims):
    token, port = signed(platform, claims), str(platform.settings.airflow_port)
    done = as_another_user(THIEF, port, token)
    assert (done.stdout.split(), done.stderr) == (["403"] * 3, "")
    url, headers = f"{platform.settings.url(port)}/api/v2/variables", {"Authorization": f"Bearer {token}"}
    time.sleep(2)
    known = httpx.get(url, headers=headers, timeout=60, trust_env=False).json()["variables"]
    assert "of_a_thief" not in [one["key"] for one in known]
    own = subprocess.run([sys.executable, "-c", THIEF, port, token], capture_output=True, text=True, timeout=60)
    assert own.stdout.split()[:2] == ["200", "200"], own.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
@pytest.mark.parametrize("process", ["worker", "trigger"])
def test_another_user_cannot_answer_for_the_log_of_a_running_task(platform, process):
    port = platform.elt("exec", "airflow", "config", "get-value", "logging", f"{process}_log_server_port").strip()
    program = "import socket, sys; socket.create_server(('0.0.0.0', int(sys.argv[1])))"
    assert "PermissionError" in as_another_user(program, port).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="not run as root")
def test_another_user_reads_nothing(platform):
    pids = [str(process.pid) for process in family(platform)]
    assert len(pids) > 20
    words = (platform.state, layout.ENV_FILE, str(platform.settings.postgres_port), *pids)
    done = as_another_user(STRANGER, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600


def test_the_verbs_on_a_running_stack(platform):
    assert "running already" in platform.elt("up")
    assert platform.elt("status").count("yes") == len(yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"])
    assert platform.elt("logs", "flower", "-n", "3").count("\n") == 3
    before = platform.record("flower")["main"]
    platform.elt("restart", "flower")
    assert platform.record("flower")["main"] != before
    done = run("elt", "restart", "nobody", env=platform.env)
    assert done.returncode == 1
    assert "nobody" in done.stderr
