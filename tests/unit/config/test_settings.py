"""Settings: each value that does not fit is refused with file, field and way out."""

from __future__ import annotations

import json
import tempfile

import pytest

from elt import layout
from elt.config import env_file, process_env, settings
from elt.errors import ConfigError, SetupError


@pytest.fixture
def dotenv_file(tmp_path, monkeypatch):
    for name, _, _ in env_file.example_settings():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(layout, "ENV_FILE", tmp_path / ".env")
    monkeypatch.setattr(layout, "STATE", tmp_path / ".state")
    monkeypatch.setitem(settings.Settings.model_config, "env_file", tmp_path / ".env")
    env_file.write_env()
    return tmp_path / ".env"


def change(dotenv_file, name, value):
    lines = [
        f"{name}={value}" if line.startswith(f"{name}=") else line for line in dotenv_file.read_text().splitlines()
    ]
    dotenv_file.write_text("\n".join(lines) + "\n")


def test_every_setting_of_the_example_is_read_and_none_else(dotenv_file):
    names = {name.lower() for name, _, _ in env_file.example_settings()}
    assert names == set(settings.Settings.model_fields)
    assert settings.load().airflow_port == 8080


def test_environment_goes_before_the_file(dotenv_file, monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "18080")
    assert settings.load().airflow_port == 18080


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("AIRFLOW_PORT", "eighty", "AIRFLOW_PORT"),
        ("AIRFLOW_PORT", "80", "AIRFLOW_PORT"),
        ("FLOWER_PORT", "8080", "AIRFLOW_PORT"),
        ("BIND_ADDRESS", "localhost", "BIND_ADDRESS"),
        ("ALLOWED_USERS", "root no-such-user", "no-such-user"),
        ("ADMIN_PASSWORD", "", "ADMIN_PASSWORD"),
        ("ELT_ENVIRONMENT", "test", "ELT_ENVIRONMENT"),
        ("WORKER_CONCURRENCY", "0", "WORKER_CONCURRENCY"),
        ("TASK_RETRY_SECONDS", "soon", "TASK_RETRY_SECONDS"),
        ("ELT_SUPERVISOR", "systemd", "ELT_SUPERVISOR"),
        ("ELT_PARTS", "streamlit, metabse", "no part is called 'metabse'; there are streamlit"),
        ("POSTGRES_PASSWORD", "short", "POSTGRES_PASSWORD"),
        ("ADMIN_PASSWORD", "hunter2,x", "letters, digits and"),
        ("AIRFLOW_FERNET_KEY", "xyzxyzxyzxyzxyzxyzxyz", "Fernet key"),
    ],
)
def test_bad_value_is_refused_by_name(dotenv_file, name, value, word):
    change(dotenv_file, name, value)
    with pytest.raises(ConfigError) as error:
        settings.load()
    assert word in str(error.value)
    assert str(dotenv_file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_name_is_refused_and_a_foreign_one_is_not(dotenv_file):
    dotenv_file.write_text(dotenv_file.read_text() + "MINE=1\n")
    settings.load()
    dotenv_file.write_text(dotenv_file.read_text() + "STREAMLT_PORT=8601\n")
    with pytest.raises(ConfigError, match="did you mean STREAMLIT_PORT"):
        settings.load()


@pytest.mark.parametrize(
    ("postgres", "valkey", "listen"),
    [
        ("off", "off", {}),
        ("bi", "off", {"POSTGRES_PORT": "127.0.0.1"}),
        ("on", "on", {"POSTGRES_PORT": "192.0.2.7", "VALKEY_PORT": "192.0.2.7"}),
    ],
)
def test_the_databases_listen_where_they_are_asked_to(dotenv_file, postgres, valkey, listen):
    for name, value in {
        "BIND_ADDRESS": "192.0.2.7",
        "ADMIN_PASSWORD": "correct-horse",  # pragma: allowlist secret
        "POSTGRES_TCP": postgres,
        "VALKEY_TCP": valkey,
    }.items():
        change(dotenv_file, name, value)
    found = {name: address for name, (address, _) in settings.load().listeners().items()}
    assert {name: found[name] for name in found if name.startswith(("POSTGRES", "VALKEY"))} == listen


def test_sockets_lie_in_the_state_unless_its_path_is_too_long_or_odd(tmp_path_factory, monkeypatch):
    tmp_path = tmp_path_factory.mktemp("s")  # a short name
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert layout.sockets(tmp_path / "state") == tmp_path / "state" / "run"
    for odd in (tmp_path / ("long" * 20) / "state", tmp_path / "with a blank", tmp_path / "a,b"):
        short = layout.sockets(odd)
        assert short.parent == tmp_path
        assert short.stat().st_mode & 0o777 == 0o700
        assert layout.sockets(odd) == short
        short.chmod(0o755)  # as if somebody else had made it after the folder was cleared
        other = layout.sockets(odd)
        assert other != short
        assert other.stat().st_mode & 0o777 == 0o700
        assert layout.sockets(odd) == other


@pytest.mark.parametrize(
    ("bind", "dialled"),
    [("0.0.0.0", "127.0.0.1"), ("192.0.2.7", "192.0.2.7"), ("127.0.0.1", "127.0.0.1"), ("127.0.0.9", "127.0.0.9")],
)
def test_clients_dial_an_address_that_the_servers_listen_on(dotenv_file, bind, dialled):
    change(dotenv_file, "BIND_ADDRESS", bind)
    change(dotenv_file, "ADMIN_PASSWORD", "correct-horse")
    now = settings.load()
    env = process_env.build(now)
    assert now.url(8080) == f"http://{dialled}:8080"
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"http://{dialled}:8080/execution/"
    assert dialled in env["NO_PROXY"].split(",")
    assert [env["AIRFLOW__API__HOST"], env["AIRFLOW__CELERY__FLOWER_HOST"]] == [bind] * 2
    addresses = {name: address for name, (address, _) in now.listeners().items()}
    assert addresses == {
        **dict.fromkeys(("AIRFLOW_PORT", "FLOWER_PORT"), bind),
        **dict.fromkeys(("STREAMLIT_PORT", "POSTGRES_PORT"), "127.0.0.1"),
    }
    assert now.streamlit_url().startswith("http://127.0.0.1:")


def test_a_wide_address_with_the_default_password_is_refused(dotenv_file):
    change(dotenv_file, "BIND_ADDRESS", "0.0.0.0")
    change(dotenv_file, "ADMIN_PASSWORD", settings.DEFAULT_PASSWORD)
    with pytest.raises(ConfigError, match="ADMIN_PASSWORD is the default"):
        settings.load()


def test_missing_file_and_missing_setting_name_bootstrap(dotenv_file):
    text = dotenv_file.read_text()
    dotenv_file.write_text("\n".join(line for line in text.splitlines() if not line.startswith("VALKEY_PORT")))
    with pytest.raises(SetupError, match=r"lacks VALKEY_PORT: run scripts/bootstrap\.sh"):
        settings.load()
    dotenv_file.unlink()
    with pytest.raises(SetupError, match=r"is missing: run scripts/bootstrap\.sh"):
        settings.load()


def test_secrets_do_not_show_in_the_representation(dotenv_file):
    now = settings.load()
    assert now.postgres_password not in repr(now)
    assert now.valkey_password not in repr(now)


CONNECTION = '{"conn_type":"smtp","password":"a$HOME${HOME}#\'b","extra":{"to":"x@y.z"}}'


@pytest.mark.parametrize("quoted", [f"""'{CONNECTION.replace("'", chr(92) + "'")}'""", CONNECTION])
def test_airflows_connections_and_variables_reach_the_processes_as_they_stand(dotenv_file, quoted):
    dotenv_file.write_text(
        f"{dotenv_file.read_text()}AIRFLOW_CONN_X={quoted}\nAIRFLOW_VAR_Y='{{$z'\nAIRFLOW_CONN_EMPTY=\n"
    )
    env = process_env.build(settings.load())
    assert env["AIRFLOW_CONN_X"] == CONNECTION
    assert env["AIRFLOW_VAR_Y"] == "{$z"
    assert "AIRFLOW_CONN_EMPTY" not in env


def test_an_exported_connection_goes_before_the_file(dotenv_file, monkeypatch):
    dotenv_file.write_text(f"{dotenv_file.read_text()}AIRFLOW_CONN_X=smtp://file\n")
    monkeypatch.setenv("AIRFLOW_CONN_X", "smtp://shell")
    assert process_env.build(settings.load())["AIRFLOW_CONN_X"] == "smtp://shell"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ('{"conn_type":"smtp","password":hunter2}', "not JSON at character"),
        ('{"conn_type":"smtp","password":"hunter2 #1"}', "single quotes"),
        ('\'{"password":"hunter2"}\'', "conn_type is missing"),
        ('\'{"conn_type":"smtp","port":"hunter2"}\'', "port is not a number"),
        ('\'{"conn_type":"smtp","hunter2":"x"}\'', "1 of its fields"),
        ("hunter2", "neither JSON"),
        ("slackwebhook://:hunter2/B0/X@hooks.slack.com", "%2F"),
    ],
)
def test_a_connection_that_airflow_cannot_read_is_refused_without_its_value(dotenv_file, value, word):
    dotenv_file.write_text(f"{dotenv_file.read_text()}AIRFLOW_CONN_X={value}\n")
    with pytest.raises(ConfigError) as error:
        settings.load()
    assert f"{dotenv_file}: AIRFLOW_CONN_X: " in str(error.value)
    assert word in str(error.value)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_of_plugins_reach_meltano_by_its_own_names(dotenv_file, monkeypatch, tmp_path):
    """A secret of a source stands in `.env` or in the environment; what meltano.yml decides stays."""
    taps = [{"name": "tap-shop", "namespace": "shop"}, {"name": "tap-csv", "config": {"files": []}}]
    monkeypatch.setattr(layout, "MELTANO_YML", tmp_path / "meltano.yml")
    layout.MELTANO_YML.write_text(json.dumps({"plugins": {"extractors": taps}}))
    with dotenv_file.open("a") as file:
        file.write("TAP_SHOP_PASSWORD='a$b'\nSHOP_HOST=one\nTAP_OTHER_TOKEN=no\n")  # pragma: allowlist secret
    monkeypatch.setenv("SHOP_HOST", "two")
    monkeypatch.setenv("TAP_SHOP_USER", "me")
    monkeypatch.setenv("TAP_CSV_FILES", "[]")
    monkeypatch.setenv("TAP_CSV_FILES_0_PATH", "x")
    monkeypatch.setenv("TAP_CSV_INFER_ROWS", "5")
    env = process_env.build(settings.load())
    assert {name: value for name, value in env.items() if name.startswith(("TAP_", "SHOP_"))} == {
        "TAP_SHOP_PASSWORD": "a$b",  # pragma: allowlist secret
        "SHOP_HOST": "two",
        "TAP_SHOP_USER": "me",
        "TAP_CSV_INFER_ROWS": "5",
    }


def test_what_meltano_yml_decides_is_changed_by_the_own_file_alone(dotenv_file, monkeypatch):
    monkeypatch.setenv("TAP_CSV_INCREMENTAL", "true")
    assert "TAP_CSV_INCREMENTAL" not in process_env.build(settings.load())
    with dotenv_file.open("a") as file:
        file.write("TAP_CSV_INCREMENTAL=false\n")
    assert process_env.build(settings.load())["TAP_CSV_INCREMENTAL"] == "true"
