"""Define the environments, each with a warehouse of its own; meltano.yml lists the same (tests/unit/config)."""

from __future__ import annotations

import typing as t

Environment = t.Literal["dev", "staging", "prod"]
ENVIRONMENTS: tuple[Environment, ...] = t.get_args(Environment)
