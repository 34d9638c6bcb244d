"""`.env` is written once with random secrets, keeps what stands in it, and is closed to other users."""

from __future__ import annotations

import re
import stat

import pytest

from elt import layout
from elt.config import env_file, settings
from elt.errors import ConfigError, SetupError


def test_env_is_written_once_private_and_random(clone):
    env_file.write_env()
    first = layout.ENV_FILE.read_text()
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600
    assert env_file.write_env() == "up to date"
    assert layout.ENV_FILE.read_text() == first
    layout.ENV_FILE.unlink()
    env_file.write_env()
    secrets = [name for name, value, _ in env_file.example_settings() if not value]
    for name in secrets:
        old, new = (
            line
            for text in (first, layout.ENV_FILE.read_text())
            for line in text.splitlines()
            if line.startswith(f"{name}=")
        )
        assert old != new
        assert len(old) - len(name) > 16


def test_a_password_that_data_was_made_with_is_not_made_anew(clone):
    env_file.write_env()
    (clone / ".state" / "postgres").mkdir(parents=True)
    (clone / ".state" / "postgres" / "PG_VERSION").touch()
    assert env_file.write_env() == "up to date"
    layout.ENV_FILE.unlink()
    with pytest.raises(SetupError, match=r"lacks POSTGRES_PASSWORD, .*postgres was made with one: put the old"):
        env_file.write_env()
    assert not layout.ENV_FILE.exists()


def test_a_setting_that_was_cut_off_says_how_to_go_on(clone, monkeypatch):
    env_file.write_env()
    monkeypatch.setitem(settings.Settings.model_config, "env_file", layout.ENV_FILE)
    layout.ENV_FILE.write_text(re.sub("(?m)^(VALKEY_PASSWORD=.{3}).*$", r"\1", layout.ENV_FILE.read_text()))
    with pytest.raises(
        ConfigError, match=r"VALKEY_PASSWORD: .*; put the whole line back, or remove it and run scripts/boot"
    ):
        settings.load()


def test_env_gains_new_settings_and_keeps_the_old(clone):
    layout.ENV_FILE.write_text("AIRFLOW_PORT=9999\nMINE=1")
    layout.ENV_FILE.chmod(0o644)
    assert re.fullmatch(r"added \d+ settings", env_file.write_env())
    text = layout.ENV_FILE.read_text()
    assert text.startswith("AIRFLOW_PORT=9999\nMINE=1\n")
    assert text.count("AIRFLOW_PORT=") == 1
    assert "VALKEY_PORT=16379" in text
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600


def test_env_that_others_can_read_is_closed(clone):
    env_file.write_env()
    layout.ENV_FILE.chmod(0o644)
    assert env_file.write_env() == "mode set to 0600"
    assert stat.S_IMODE(layout.ENV_FILE.stat().st_mode) == 0o600
