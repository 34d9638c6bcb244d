"""Airflow's connections and variables out of Vault, as the cookbook says, up to the call of its server.

The double answers as Vault's key-value store of version 2; it knows one token, and neither policies, leases nor TLS.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import documents
import pytest
from workspace import ROOT, apart

from elt.config import process_env, settings

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("hvac"), reason="the group vault is not installed"
)  # its provider is of a namespace that is always there
CONFIG = ROOT / "airflow" / "airflow.cfg"
KEPT = {"connections/web": {"conn_uri": "http://ann@example.invalid/"}, "variables/token": {"value": "from vault"}}
ASK = """
import json
from airflow.models import Connection, Variable
from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded
(of_workers, *_) = ensure_secrets_backend_loaded()
found = of_workers.get_connection("web")
print("RESULT" + json.dumps([
    Connection.get_connection_from_secrets("web").host, Variable.get("token"), found and found.host,
    Variable.get("unknown", default_var=None),
]))
"""


@pytest.fixture
def vault():
    """A server that knows two secrets and one token; what it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("X-Vault-Token")))
            name = self.path.removeprefix("/v1/secret/data/airflow/")
            is_known = self.headers.get("X-Vault-Token") == "of-this-stack" and name in KEPT
            body = {"data": {"data": KEPT[name], "metadata": {"version": 1}}} if is_known else {"errors": []}
            self.send_response(200 if is_known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_connections_and_variables_come_from_vault(tmp_path, vault):
    address, asked = vault
    page = (ROOT / "docs/cookbooks/secrets.md").read_text()
    (block,) = (one for one in documents.blocks(page) if one.language == "ini")
    added = block.text.replace("https://vault.example.com", address)
    (tmp_path / "airflow.cfg").write_text(f"{CONFIG.read_text()}\n{added}")
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read(tmp_path / "airflow.cfg")  # a section that is there twice would be refused
    assert parsed["secrets"]["backend"].endswith("VaultBackend")
    env = apart(tmp_path / "state") | process_env.build(settings.load())
    env |= {"AIRFLOW_CONFIG": str(tmp_path / "airflow.cfg"), "VAULT_TOKEN": "of-this-stack"}
    env |= {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://", "AIRFLOW_CONN_WEB": "http://other.invalid/"}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, timeout=120)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), "")
    assert line, done.stdout + done.stderr
    assert json.loads(line.removeprefix("RESULT"))[:3] == ["example.invalid", "from vault", "example.invalid"]
    assert {token for _, token in asked} == {"of-this-stack"}
    assert {path for path, _ in asked} >= {f"/v1/secret/data/airflow/{name}" for name in KEPT}
