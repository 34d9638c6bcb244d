"""Write `.env` from `.env.example` with random secrets, and complete it when settings are added.

Standard library only, since bootstrap writes it before the environment exists.
"""

from __future__ import annotations

import base64
import re
import secrets

from elt import layout
from elt.atomic import atomic_write
from elt.errors import SetupError

ASSIGNMENT = re.compile(
    r"^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)[^\S\n]*=[^\S\n]*(.*?)[^\S\n]*$", re.MULTILINE | re.IGNORECASE
)
"""Pattern of the name and value of a line of `.env`."""


def write_env() -> str:
    """Write `.env` from `.env.example` with random secrets, or add the settings that it lacks."""
    target = layout.ENV_FILE
    text = target.read_text() if target.exists() else ""
    have = {name.upper() for name, _ in ASSIGNMENT.findall(text)}
    lacking = [name for name, _, _ in example_settings() if name not in have]
    was_readable = target.exists() and target.stat().st_mode & 0o077
    if was_readable:
        target.chmod(0o600)
    if "POSTGRES_PASSWORD" in lacking and (lost := lost_password()):
        raise SetupError(f"{target} lacks POSTGRES_PASSWORD, and {lost}")
    if not lacking:
        return "mode set to 0600" if was_readable else "up to date"
    added = "".join(
        f"{comment}{name}={value or random_secret(name)}\n"
        for name, value, comment in example_settings()
        if name in lacking
    )
    with atomic_write(target, 0o600) as path:
        path.write_text(text + ("\n" if text and not text.endswith("\n") else "") + added.lstrip("\n"))
    if not text:
        return "written, with random secrets"
    return f"added {', '.join(lacking)}" if len(lacking) < 4 else f"added {len(lacking)} settings"


def lost_password() -> str:
    """Explain that `.env` lacks the password the data was made with; empty if there is no data."""
    data = next(layout.STATE.glob("postgres*/PG_VERSION"), None)
    if data is None:
        return ""
    return (
        f"{data.parent} was made with one: put the old file or line back, or run "
        "`scripts/bootstrap.sh --new-password`, which keeps the data"
    )


def example_settings() -> list[tuple[str, str, str]]:
    """Return name, default and preceding comment of each setting of `.env.example`."""
    found, comment = [], ""
    for line in layout.ENV_EXAMPLE.read_text().splitlines(keepends=True):
        name, equals, value = line.strip().partition("=")
        if equals and not line.startswith("#"):
            found.append((name, value, comment))
            comment = ""
        else:
            comment += line
    return found


def random_secret(name: str) -> str:
    """Return a secret of 256 bits, as a Fernet key or hexadecimal; of 96 bits if a person types it."""
    if name == "ADMIN_PASSWORD":
        return secrets.token_urlsafe(12)
    if name.endswith("FERNET_KEY"):
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(32)
