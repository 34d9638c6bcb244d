"""What uv prints is passed on without its list of packages, and the lock holds a wheel for every system."""

from __future__ import annotations

import io
import re
import tomllib
from collections import defaultdict

import pytest
from packaging.markers import Marker
from workspace import ROOT

from elt import layout
from elt.bootstrap import uv
from elt.errors import SetupError

UV_SAYS = (
    b"Resolved 300 packages in 1ms\r\n\x1b[2K\x1b[37m[1/2]\x1b[0m Installing wheels...\r\n\x1b[2mInstalled "
    b"\x1b[1m2 packages\x1b[0m in 5ms\x1b[0m\r\n"
)
UV_LISTS = b" \x1b[32m+\x1b[39m apache-airflow==3.3.2\r\n + duckdb==1.5.5 Installed \r\n"
UV_FAILS = b"error: failed to fetch `left-pad`\r\n  Caused by: nobody answers"


@pytest.mark.parametrize(("said", "shown"), [(UV_SAYS + UV_LISTS, UV_SAYS), (UV_FAILS, UV_FAILS), (b"", b"")])
def test_the_list_of_packages_is_left_out_wherever_the_words_of_uv_are_cut(said, shown):
    """A terminal hands them over in pieces, and the line before the list may come in several."""
    for size in range(1, len(said) + 2):
        terminal = io.BytesIO()
        assert uv._pass_on((said[at : at + size] for at in range(0, len(said), size)), terminal) == said
        assert terminal.getvalue() == shown, size


@pytest.mark.parametrize(
    ("line", "variable", "groups"),
    [
        ("", None, []),
        ('ELT_GROUPS=""', None, []),
        ("ELT_GROUPS=remote", None, ["remote"]),
        ('export elt_groups = "remote, remote"', None, ["remote", "remote"]),
        ("ELT_GROUPS=remote", "", []),
        ('ELT_GROUPS=""', "remote", ["remote"]),
    ],
)
def test_the_environment_goes_before_the_file_in_which_groups_are_installed(
    clone, monkeypatch, line, variable, groups
):
    layout.ENV_FILE.write_text(f"AIRFLOW_PORT=8080\n{line}\n")
    monkeypatch.delenv("ELT_GROUPS", raising=False)
    if variable is not None:
        monkeypatch.setenv("ELT_GROUPS", variable)
    assert uv.optional_groups() == groups


def test_a_group_that_does_not_exist_is_refused(clone, monkeypatch):
    monkeypatch.delenv("ELT_GROUPS", raising=False)
    layout.ENV_FILE.write_text("ELT_GROUPS=remtoe\n")
    with pytest.raises(SetupError, match=r"\.env: ELT_GROUPS: no group is called 'remtoe'; there are .*remote"):
        uv.optional_groups()


SYSTEMS = {
    "Linux on x86-64": ({"sys_platform": "linux", "platform_machine": "x86_64"}, r"linux.*x86_64"),
    "Linux on aarch64": ({"sys_platform": "linux", "platform_machine": "aarch64"}, r"linux.*aarch64"),
    "macOS on arm64": ({"sys_platform": "darwin", "platform_machine": "arm64"}, r"macosx.*(arm64|universal2)"),
}
"""What markers ask of each system that the README names, and how the names of its wheels end."""


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_package_has_a_wheel(system, version):
    """Nothing is compiled at an installation, nor got from beyond the index."""
    variables, ending = SYSTEMS[system]
    environment = {"python_version": version, "python_full_version": f"{version}.9", **variables}
    environment |= {
        "os_name": "posix",
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[variables["sys_platform"]],
    }
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {one["name"]: one for one in lock["package"]}
    wheels: dict[str, list[str]] = defaultdict(list)  # of all versions, as there may be one for each Python
    for one in lock["package"]:
        wheels[one["name"]] += [wheel["url"] for wheel in one.get("wheels", [])]
    own = {name for name, one in packages.items() if "registry" not in one["source"]}
    met: set[str] = set()
    ahead = sorted(own)
    while ahead:
        package = packages[ahead.pop()]
        groups = [package.get("dependencies", []), *package.get("dev-dependencies", {}).values()]
        groups += package.get("optional-dependencies", {}).values()
        for one in (one for group in groups for one in group):
            holds = "marker" not in one or Marker(one["marker"]).evaluate(environment)
            if holds and one["name"] not in met:
                met.add(one["name"])
                ahead.append(one["name"])
    assert len(met) > 200
    python = version.replace(".", "")
    fits = re.compile(rf"-(py3|py2\.py3|cp{python}|cp3\d+-abi3)[^/]*(none-any|{ending})[^/]*\.whl")
    assert [name for name in sorted(met - own) if not any(map(fits.search, wheels[name]))] == []
