"""Find the settings of Meltano's plugins that reach them by environment variables, secrets above all."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

import yaml

from elt import layout
from elt.config import secret_files
from elt.errors import ConfigError

if t.TYPE_CHECKING:
    from pathlib import Path

BUCKETS = ("AWS_", "AZURE_", "GOOGLE_")
"""How the variables begin by which libraries of the plugins enter buckets."""


class _Loader(yaml.CSafeLoader):
    """Read YAML as Meltano does: by version 1.2, and no key twice.

    To PyYAML's own version, 1.1, `off` is false, `1:30` is ninety and `010` is eight.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's; those of version 1.2 are added below

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[t.Hashable, t.Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """Refuse a key that is there twice, of which PyYAML would keep the last.

        Raises:
            yaml.MarkedYAMLError: there is one.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Read a number with the prefix of its base, or a decimal one, also with zeros before it."""
        text = str(node.value).replace("_", "")
        return int(text, 0 if re.match(r"[-+]?0[box]", text) else 10)


for _first, _of in yaml.CSafeLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _of:
        if _tag.rpartition(":")[2] in ("null", "timestamp", "merge"):
            _Loader.add_implicit_resolver(_tag, _pattern, [_first])
for _kind, _text, _begins in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9_]+([eE][-+][0-9]+)?|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_text})$"), [*_begins])
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def project() -> dict[str, t.Any]:
    """Read meltano.yml and the files that its `include_paths` name, as one.

    Raises:
        ConfigError: one cannot be read.
    """
    whole: dict[str, t.Any] = {}
    for _, data in files():
        _merge(whole, data)
    return whole


def files() -> list[tuple[Path, dict[str, t.Any]]]:
    """Read meltano.yml and the files that its `include_paths` name.

    Raises:
        ConfigError: one cannot be read, or lies outside the project.
    """
    main = layout.MELTANO_YML
    with readable():
        found = [(main, _loaded(main))]
        for pattern in found[0][1].get("include_paths") or []:
            for path in sorted(main.parent.glob(str(pattern))):
                if not path.resolve().is_relative_to(main.parent.resolve()):
                    raise ConfigError(f"{main}: include_paths: {path} lies outside of {main.parent}")
                if path.is_file() and path not in [one for one, _ in found]:
                    with readable(path):
                        found.append((path, _loaded(path)))
    return found


def _loaded(path: Path) -> dict[str, t.Any]:
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {})  # noqa: S506 - a safe one


def _merge(whole: dict[str, t.Any], part: t.Mapping[str, t.Any]) -> None:
    """Add a file as Meltano does: mappings key by key, lists one behind the other, else the later one counts."""
    for key, value in part.items():
        here = whole.get(key)
        if isinstance(here, dict) and isinstance(value, dict):
            _merge(here, value)
        elif isinstance(here, list) and isinstance(value, list):
            here.extend(value)
        else:
            whole[key] = value.copy() if isinstance(value, (dict, list)) else value


def place(path: Path, *keys: str | int) -> str:
    """Return file, line and column of what a path of keys and numbers leads to, as far as it leads."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    mark = node.start_mark if node else None
    for key in keys:
        below: tuple[yaml.Node, yaml.Node] | None = None
        if isinstance(node, yaml.MappingNode):
            below = next(((name, value) for name, value in node.value if name.value == key), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            below = (node.value[key], node.value[key])
        if below is None:
            break
        mark, node = below[0].start_mark, below[1]
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)


@contextlib.contextmanager
def readable(path: Path | None = None) -> t.Iterator[None]:
    """Translate errors of reading meltano.yml, or a file that it includes, into one that names the place.

    Raises:
        ConfigError: it cannot be read.
    """
    file = path or layout.MELTANO_YML
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{file}{where}: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8: {error}") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: its plugins and jobs cannot be read: {error!r}") from error


class PluginSettings(t.NamedTuple):
    """Hold environment variables that are settings of plugins.

    Attributes:
        given: those that reach the plugins, with their values.
        ignored: names of those in the environment that must not, as meltano.yml decides on them.
    """

    given: dict[str, str]
    ignored: set[str]


def plugin_settings() -> PluginSettings:
    """Find the settings of plugins that stand in `.env`, the secrets or the environment, by Meltano's names for them.

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
            own = {variable(str(plugin[key]), "") for key in ("name", "namespace") if key in plugin}
            prefixes |= own
            decided |= {prefix + variable(setting) for prefix in own for setting in plugin.get("config") or {}}
    of_plugins = tuple(prefixes)
    lines = secret_files.lines()
    in_file = {name: value for name, value in lines.items() if name.startswith(of_plugins)}
    # Those that are exported are there anyway, and a session's change by the hour: a stack is joined all the same.
    in_file |= {name: value for name, value in lines.items() if _is_of_buckets(name)}
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


def resolved(
    project: t.Mapping[str, t.Any], kind: str, name: str, environment: str
) -> tuple[dict[str, t.Any], set[str]]:
    """Return the settings of a plugin with those that it inherits and those of the environment; and which are secret.

    Args:
        project: what `project` returned.
        kind: `extractors` or `loaders`.
        name: of the plugin.
        environment: one of those of meltano.yml.

    Raises:
        ConfigError: no plugin is called so.
    """
    with readable():
        plugins = {str(one["name"]): one for one in project["plugins"].get(kind) or []}
        environments = {str(one["name"]): one for one in project.get("environments") or []}
        here = environments.get(environment, {}).get("config") or {}
        own = {str(one["name"]): one for one in (here.get("plugins") or {}).get(kind) or []}
    chain = []
    if name not in plugins:
        raise ConfigError(f"{layout.MELTANO_YML}: plugins: {kind}: none is called {name!r}")
    while name in plugins and name not in chain:  # the last may be one of Meltano's hub
        chain.append(name)
        name = str(plugins[name].get("inherit_from", name))
    config: dict[str, t.Any] = {}
    secret: set[str] = set()
    for one in reversed(chain):
        for given in (plugins[one].get("config"), own.get(one, {}).get("config")):
            for key, value in (given or {}).items():
                _set(config, str(key), value)
        listed = plugins[one].get("settings") or []
        secret |= {str(of["name"]) for of in listed if of.get("sensitive") or of.get("kind") == "password"}
    return config, secret


def _set(config: dict[str, t.Any], key: str, value: object) -> None:
    """Set a setting as Meltano does: `a.b` is b within a, mappings are joined, and null leaves what was inherited."""
    first, _, rest = key.partition(".")
    if rest or isinstance(value, dict):
        within = config.get(first)
        config[first] = within = dict(within) if isinstance(within, dict) else {}
        for name, one in ({rest: value} if rest else t.cast("dict[str, t.Any]", value)).items():
            _set(within, str(name), one)
    elif value is not None:
        config[first] = value


def variable(*names: str) -> str:
    """Return how Meltano spells names, such as those of a plugin and its setting, in an environment variable."""
    return "_".join(re.sub(r"[^A-Za-z0-9]", "_", name).upper() for name in names)
