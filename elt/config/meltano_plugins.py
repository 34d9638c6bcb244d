"""Find the settings of Meltano's plugins that reach them by environment variables, secrets above all."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

import yaml
from dotenv import dotenv_values

from elt import layout
from elt.errors import ConfigError

BUCKETS = ("AWS_", "AZURE_", "GOOGLE_")
"""How the variables begin by which libraries of the plugins enter buckets."""


def project() -> dict[str, t.Any]:
    """Read meltano.yml.

    Raises:
        ConfigError: it cannot be read.
    """
    with readable():
        return dict(yaml.load(layout.MELTANO_YML.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


@contextlib.contextmanager
def readable() -> t.Iterator[None]:
    """Translate errors of reading meltano.yml into one that names the place.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{layout.MELTANO_YML}{place}: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{layout.MELTANO_YML} is not UTF-8: {error}") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"{layout.MELTANO_YML}: its plugins and jobs cannot be read: {error!r}") from error


class PluginSettings(t.NamedTuple):
    """Hold environment variables that are settings of plugins.

    Attributes:
        given: those that reach the plugins, with their values.
        ignored: names of those in the environment that must not, as meltano.yml decides on them.
    """

    given: dict[str, str]
    ignored: set[str]


def plugin_settings() -> PluginSettings:
    """Find the settings of plugins that stand in `.env` or in the environment, by Meltano's names for them.

    A setting `password` of the plugin `tap-postgres` is TAP_POSTGRES_PASSWORD. Keys of buckets begin as BUCKETS says.
    The environment goes before `.env`, but for what only meltano.yml itself says, in `config`: a variable that
    somebody exports for other purposes must not change that.

    Raises:
        ConfigError: meltano.yml cannot be read.
    """
    prefixes: set[str] = set()
    decided: set[str] = set()
    with readable():
        for plugin in _plugins():
            own = {f"{_variable(str(plugin[key]))}_" for key in ("name", "namespace") if key in plugin}
            prefixes |= own
            decided |= {prefix + _variable(setting) for prefix in own for setting in plugin.get("config") or {}}
    of_plugins = tuple(prefixes)
    lines = dotenv_values(layout.ENV_FILE, interpolate=False)
    in_file = {name: value for name, value in lines.items() if value and name.startswith(of_plugins)}
    # Those that are exported are there anyway, and a session's change by the hour: a stack is joined all the same.
    in_file |= {name: value for name, value in lines.items() if value and _is_of_buckets(name)}
    exported = {name: value for name, value in os.environ.items() if name.startswith(of_plugins)}
    ignored = {
        name
        for name in exported.keys() - in_file
        if any(name == one or name.startswith(f"{one}_") for one in decided)
    }
    return PluginSettings(
        {name: value for name, value in (in_file | exported).items() if name not in ignored}, ignored
    )


def _is_of_buckets(name: str) -> bool:
    return name.startswith(BUCKETS) and name not in os.environ


def _plugins() -> t.Iterator[dict[str, t.Any]]:
    for kind in ("extractors", "loaders"):
        yield from project()["plugins"].get(kind) or []


def _variable(name: str) -> str:
    """Return how Meltano spells a name in an environment variable."""
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()
