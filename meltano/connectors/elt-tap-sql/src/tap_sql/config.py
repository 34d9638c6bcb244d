"""Settings: what there is beside a dialect's own, and one configuration checked."""

from __future__ import annotations

import logging
import typing as t
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from elt_singer.batch import destination
from elt_singer.settings import Setting, checked, warn

from tap_sql.dialects.base import Server
from tap_sql.errors import SettingsError

if t.TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tap_sql.dialects.base import Dialect

COMMON = (
    Setting("batch_config", "object", "Send BATCH messages: {encoding: {format: parquet}, storage: {root: FOLDER}}"),
    Setting("overlap_seconds", "integer", "How far back to read again where open transactions cannot be seen", 900),
    Setting("overlap_rows", "integer", "How far back to read again by a replication key that is an integer", 1000),
    Setting(
        "newest_days", "integer", "Load by a replication key that is a time only so many days at first; 0: all", 0
    ),
    Setting("reconcile", "string", "`keys`: retire rows of incremental streams that the source no longer has", ""),
    Setting("connect_timeout", "integer", "Seconds to wait for a host that is silent", 10),
    Setting("retries", "integer", "How often to begin anew after a connection that failed or broke", 4),
    Setting("max_record_count", "integer", "", obsolete="select fewer streams"),
    Setting("dates_as_string", "boolean", "", obsolete="dates that DuckDB does not hold are refused"),
)
TUNNEL = Setting("ssh_tunnel", "object", "Refused if it is enabled: open the tunnel before, and name its end as host")


@dataclass(frozen=True)
class Config:
    """One configuration, checked."""

    given: t.Mapping[str, t.Any]
    """The dialect's own settings."""
    batch_folder: Path | None
    batch_prefix: str
    overlap_seconds: int
    overlap_rows: int
    newest_days: int
    reconcile: bool
    connect_timeout: int
    retries: int

    @classmethod
    def from_dict(cls, raw: t.Mapping[str, t.Any], dialect: Dialect) -> Config:
        """Check what stands in a configuration file.

        Raises:
            SettingsError: a setting is missing or does not fit.
        """
        logger = logging.getLogger(dialect.executable)
        known = settings(dialect)
        if raw.get("stream_maps"):
            raise SettingsError("stream_maps: put a mapper behind the tap, such as meltano-map-transformer")
        if isinstance(tunnel := raw.get("ssh_tunnel"), dict) and tunnel.get("enable"):
            raise SettingsError("ssh_tunnel: open the tunnel with ssh -L before, and set host and port to its end")
        warn(raw, known, logger)
        given = checked(raw, known)
        for name in ("overlap_seconds", "overlap_rows", "newest_days", "retries"):
            if given[name] < 0:
                raise SettingsError(f"{name} must not be negative")
        if given["connect_timeout"] < 1:
            raise SettingsError("connect_timeout must be at least 1")
        folder, prefix = destination(given.get("batch_config"))
        if given["reconcile"] not in {"", "keys"}:
            raise SettingsError("reconcile: keys, or leave it out")
        if given["reconcile"] and not folder:
            raise SettingsError("reconcile: set batch_config too, since keys travel as files")
        return cls(
            given=given,
            batch_folder=folder,
            batch_prefix=prefix,
            overlap_seconds=given["overlap_seconds"],
            overlap_rows=given["overlap_rows"],
            newest_days=given["newest_days"],
            reconcile=bool(given["reconcile"]),
            connect_timeout=given["connect_timeout"],
            retries=given["retries"],
        )

    def server(self, port: int) -> Server:
        """Return where the server listens, by its URL or by the single settings.

        Args:
            port: the usual one.

        Raises:
            SettingsError: the URL is none, or the user is missing.
        """
        url = self.given.get("sqlalchemy_url")
        if not url:
            values = (str(self.given.get(name) or "") for name in ("user", "password", "database"))
            found = Server(self.given["host"], self.given["port"], *values)
        else:
            try:
                parts = urlsplit(url)
                found = Server(
                    host=parts.hostname or "localhost",
                    port=parts.port or port,
                    user=unquote(parts.username or ""),
                    password=unquote(parts.password or ""),
                    database=unquote(parts.path.lstrip("/")),
                )
            except ValueError:
                raise SettingsError("sqlalchemy_url is no URL") from None  # the reason may quote the password
        if not found.user:
            raise SettingsError("user: set it, or sqlalchemy_url")
        return found


def settings(dialect: Dialect) -> Sequence[Setting]:
    """Return all settings of a tap."""
    return (*dialect.settings, *((TUNNEL,) if dialect.name != "sqlite" else ()), *COMMON)
