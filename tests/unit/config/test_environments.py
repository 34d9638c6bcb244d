"""elt/config/environments.py: the environments are those of Meltano."""

from __future__ import annotations

from elt.config.environments import ENVIRONMENTS
from elt.config.meltano_plugins import project


def test_meltano_has_the_same_environments():
    assert tuple(one["name"] for one in project()["environments"]) == ENVIRONMENTS
