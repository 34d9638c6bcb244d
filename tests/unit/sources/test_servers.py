"""What names the server of MySQL: the settings of tap-mysql, and nothing else."""

from __future__ import annotations

import pytest

from elt.config import settings
from elt.errors import ConfigError, SetupError
from elt.sources import servers

SETTINGS = {
    "TAP_MYSQL_HOST": "db.example",
    "TAP_MYSQL_USER": "elt",
    "TAP_MYSQL_PASSWORD": "p",
    "TAP_MYSQL_DATABASE": "shop",
}


@pytest.fixture(autouse=True)
def given(monkeypatch):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


def test_a_server_is_named_by_the_settings_of_the_tap(monkeypatch):
    assert servers.mysql(settings.load()) == servers.Database("db.example", 3306, "elt", "p", "shop")
    monkeypatch.setenv("TAP_MYSQL_PORT", "3307")
    assert servers.mysql(settings.load()).port == 3307


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAP_MYSQL_DATABASE", "", r"\.env: TAP_MYSQL_DATABASE is missing"),
        ("TAP_MYSQL_PORT", "x", "TAP_MYSQL_PORT: 'x' is no port"),
        ("TAP_MYSQL_SSL", "true", "TAP_MYSQL_SSL: .* alone"),
        ("TAP_MYSQL_SQLALCHEMY_URL", "mysql://x", "TAP_MYSQL_SQLALCHEMY_URL: .* alone"),
    ],
)
def test_what_is_missing_or_not_understood_is_named(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        servers.mysql(settings.load())


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(servers, "_PACKAGE", "no_such_package")
    with pytest.raises(SetupError, match=r"set ELT_GROUPS=mysql in .*\.env, and run scripts/bootstrap\.sh"):
        servers.attach(None, None)
