"""Bounds of an incremental load, and the bookmark that it leaves."""

# ruff: noqa: S608 - names and values of the queries are quoted by the dialect

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from datetime import datetime, timedelta

from tap_sql.errors import SettingsError, SourceError
from tap_sql.model import TIMES

if t.TYPE_CHECKING:
    import logging

    from tap_sql.catalog import Stream
    from tap_sql.config import Config
    from tap_sql.dialects.base import Ask, Dialect
    from tap_sql.model import Horizon

    Json = dict[str, t.Any]


_YEAR = 4
"""Digits of the years of all clocks."""


@dataclass(frozen=True)
class Part:
    """What of a table is read, and the bookmark once it is sent."""

    where: str
    bookmark: Json | None
    version: int | None
    """That of the rows; none if the state is one of an earlier version of the tap."""
    is_whole: bool = True
    """Whether all rows are read, so that those of other versions are gone."""
    is_empty: bool = False


def part(
    stream: Stream,
    bookmark: object,
    horizon: Horizon,
    dialect: Dialect,
    config: Config,
    ask: Ask,
    logger: logging.Logger,
    version: int,
) -> Part:
    """Find what of a table is new: from the bookmark, inclusive, up to the greatest key of the snapshot.

    Args:
        stream: the stream, with its replication key.
        bookmark: what the state has of it.
        horizon: read before the snapshot began.
        dialect: the kind of database.
        config: the settings.
        ask: runs statements in the snapshot.
        logger: told of keys that are null.
        version: that of the rows if all are read; later loads keep it.

    Raises:
        SettingsError: the state is damaged.
        SourceError: the bookmark is one of another type.
    """
    assert stream.key
    name, bound = stream.key.name, stream.key.kind.bound
    key, table = dialect.quote(name), dialect.place(stream.table)
    since = _since(stream, bookmark, logger)
    at = dialect.ordered(key, bound)
    begin = _window(horizon, bound, config) if since is None else _back(since, stream, config)
    lower = [f"{at} >= {dialect.literal(begin, bound)}"] if begin else []
    where = f" where {lower[0]}" if lower else ""
    shown = dialect.text(f"max({at})", bound)
    ((greatest,),) = ask(f"select {shown} as k from {table}{where}")
    if stream.key.is_nullable:
        ((nulls,),) = ask(f"select cast(count(*) as {dialect.count}) as n from {table} where {key} is null")
        if int(nulls):
            when = "they are not sent" if lower else "they are sent this time, and not by later runs"
            logger.warning("%s: %s rows have no %r, the replication key; %s", stream.table.label, nulls, name, when)
    if greatest is None:
        kept = bookmark if since is not None and isinstance(bookmark, dict) else None
        return Part(where, kept, version, is_whole=since is None, is_empty=since is not None)
    reached = min(greatest, horizon.for_bound(bound), key=_moment) if bound in TIMES else greatest
    if since is not None and bound in TIMES:
        reached = max(reached, since, key=_moment)
    own = bookmark.get("version") if since is not None and isinstance(bookmark, dict) else version
    reached_at = {"replication_key": name, "replication_key_value": reached}
    return Part(where, reached_at if own is None else reached_at | {"version": own}, own, is_whole=since is None)


def _moment(text: str) -> tuple[int, str]:
    """Order times as a server writes them: years may have five digits, and there are `infinity` and `-infinity`."""
    return len(text.partition("-")[0]), text


def _since(stream: Stream, bookmark: object, logger: logging.Logger) -> str | None:
    assert stream.key
    if not bookmark:
        return None
    if not isinstance(bookmark, dict):
        raise SettingsError(f"the state of stream {stream.name!r} is not of the form in which this tap says it")
    if "replication_key_value" not in bookmark:
        return None
    if bookmark.get("replication_key") != stream.key.name:
        logger.warning("%s: the replication key is another one than before: all is read", stream.table.label)
        return None
    value = bookmark["replication_key_value"]
    if value is None:
        return None
    if stream.key.kind.bound in TIMES and _moment(str(value))[0] > _YEAR:
        logger.warning(
            "%s: the bookmark is past the year 9999, and so all other rows: all is read", stream.table.label
        )
        return None
    return str(value)


def _window(horizon: Horizon, bound: str, config: Config) -> str:
    """Return where a load of all begins that is limited to the newest days; empty without a limit."""
    if not config.newest_days or bound not in TIMES:
        return ""
    now = datetime.fromisoformat(horizon.for_bound(bound))
    begin = now - timedelta(days=config.newest_days)
    return begin.date().isoformat() if bound == "date" else begin.isoformat()


def _back(since: str, stream: Stream, config: Config) -> str:
    """Go back a number of rows where the key is an integer, since a sequence hands out keys before their commits."""
    assert stream.key
    if stream.key.kind.bound != "integer":
        return since
    try:
        return str(int(since) - config.overlap_rows)
    except ValueError:
        what = "the bookmark is no integer, as the replication key is now: remove it from the state"
        raise SourceError(what, table=stream.table.label, column=stream.key.name) from None
