"""Read and validate the connections and variables of Airflow in `.env` and in the secrets."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from elt import layout
from elt.config import secret_files
from elt.errors import ConfigError

CONNECTION, VARIABLE = "AIRFLOW_CONN_", "AIRFLOW_VAR_"
"""Prefixes of the names of Airflow's connections and variables."""
CONNECTION_FIELDS = {"conn_type", "description", "extra", "host", "login", "password", "port", "schema"}


def airflow_names() -> dict[str, str]:
    """Return the connections and variables of Airflow in `.env` and in the secrets, without expanding `$`.

    Raises:
        ConfigError: Airflow could not read a connection, and would go on as if there was none.
    """
    lines = secret_files.lines()
    found = {name: value for name, value in lines.items() if name.startswith((CONNECTION, VARIABLE))}
    for name, value in found.items():
        if name.startswith(CONNECTION) and (problem := _problem_of_connection(value)):
            raise ConfigError(f"{layout.ENV_FILE}: {name}: {problem}")
    return found


def _problem_of_connection(value: str) -> str | None:
    """Describe what is wrong with a connection, without any part of its value, which is a secret."""
    if not value.startswith("{"):
        return _problem_of_uri(value)
    try:
        fields = json.loads(value)
    except json.JSONDecodeError as error:
        return f"not JSON at character {error.pos + 1} ({error.msg}); put the whole value in single quotes"
    if strange := len(fields.keys() - CONNECTION_FIELDS):
        return f"{strange} of its fields unknown to Airflow; there are {', '.join(sorted(CONNECTION_FIELDS))}"
    if not isinstance(fields.get("conn_type"), str):
        return "its conn_type is missing"
    if not re.fullmatch(r"\d*", str(fields.get("port") or "")):
        return "its port is not a number"
    return None


def _problem_of_uri(value: str) -> str | None:
    if "://" not in value:
        return "neither JSON in single quotes nor a URI"
    try:
        _ = urlsplit(value).port
    except ValueError:
        return "its port is not a number; in a password / is written %2F, : is %3A and @ is %40"
    return None
