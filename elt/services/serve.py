"""Replace this process by one of the database servers of the stack."""

from __future__ import annotations

import typing as t

from elt.errors import SetupError


def serve(server: str) -> t.NoReturn:
    """Run the server of that name in place of this process.

    Raises:
        SetupError: no such server, or its data folder does not fit its version.
    """
    if server == "postgres":
        from elt.services import postgres  # noqa: PLC0415 - a start waits for it

        postgres.become_postgres()
    if server == "redis":
        from elt.services import valkey  # noqa: PLC0415

        valkey.become_valkey()
    raise SetupError(f"serve: no server {server!r}; there are postgres and redis")
