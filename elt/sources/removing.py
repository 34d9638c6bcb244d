"""Take back what `elt source add` wrote, but for what was changed by hand since, and what that needs."""

from __future__ import annotations

import re
import typing as t

from elt import layout
from elt.atomic import atomic_write
from elt.config import meltano_plugins
from elt.errors import ConfigError
from elt.sources import inspection, pieces, yaml_text
from elt.sources.adding import NAME
from elt.sources.pieces import EXTRACTORS, JOBS, LEFT_OUT, LOADERS, SCHEDULES, Piece

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def remove(name: str, *, dry_run: bool = False) -> None:
    """Remove a source; its tables stay in the warehouses.

    Args:
        name: what it was added as.
        dry_run: show what would go, and change nothing.

    Raises:
        ConfigError: no source of this name was added.
    """
    record = pieces.record(name)
    if not NAME.fullmatch(name) or not record.exists():
        there = ", ".join(sorted(one.stem for one in pieces.record("x").parent.glob("*.txt"))) or "none"
        raise ConfigError(f"source: `elt source add` wrote none that is called {name!r}; there are {there}")
    recorded = pieces.recorded(name)
    now = {piece: text for piece in recorded if (text := piece.text()) is not None}
    stays = _staying(name, now, recorded)
    texts = _without([piece for piece in now if piece not in stays])
    pieces.show(texts)
    texts[record] = pieces.record_text(name, {piece: recorded[piece] for piece in stays}) if stays else ""
    for piece, why in stays.items():
        print(f"{piece} stays: it {why}")
    if dry_run:
        print("--dry-run: nothing is changed")
        return
    pieces.write(texts)
    pieces.clean([record.parent, pieces.staging(name)])
    if stays:
        print(f"source {name} is removed but for what stays; once that is gone, `elt source remove {name}` ends it")
    else:
        _forget_secret(name)
        print(f"source {name} is removed")
    _say_how_to_drop(name, [*recorded])


def _staying(name: str, now: dict[Piece, str], recorded: dict[Piece, str]) -> dict[Piece, str]:
    """Say of each piece that stays why it does."""
    stays = {piece: "was changed by hand" for piece, text in now.items() if pieces.digest(text) != recorded[piece]}
    for piece, user in _used(name, [*now]):
        stays.setdefault(piece, f"is used by {user}")
    waiting = [*stays]
    for piece in waiting:  # which grows
        for other in _needed(piece, now):
            if other not in stays:
                stays[other] = f"is needed by {piece.name or piece.path.name}"
                waiting.append(other)
    return stays


def _needed(piece: Piece, among: Iterable[Piece]) -> list[Piece]:
    """List the pieces without which another one cannot be."""
    below: dict[tuple[str, ...], set[tuple[str, ...]]] = {
        SCHEDULES: {JOBS},
        JOBS: {EXTRACTORS, LOADERS, inspection.FILES},
    }
    if piece.where:
        return [one for one in among if one.where in below.get(piece.where, set())]
    if piece.path.name.startswith("_"):  # the source of dbt, which the pipeline of the files must not test
        return [one for one in among if one.where == LEFT_OUT]
    if piece.path.suffix == ".sql":
        return [one for one in among if one.path.name.startswith("_")]
    return [one for one in among if one.path == piece.path.with_suffix(".sql")]


def _used(name: str, among: list[Piece]) -> Iterator[tuple[Piece, str]]:
    """Find what else in meltano.yml or in the dbt project names what was added."""
    yield from _used_by_entries(among)
    own = {piece.path for piece in among}
    models = {piece.path.stem: piece for piece in among if piece.path.suffix == ".sql"}
    source = next((piece for piece in among if piece.path.name == f"_{name}__sources.yml"), None)
    words = re.compile(rf"""\b(stg_{name}__\w+)\b|\b(source)\(\s*["']{name}["']""")
    for path in sorted(layout.DBT_PROJECT.rglob("*")):
        if path.suffix in {".sql", ".yml", ".py"} and path not in own and path.is_file():
            for model, of_source in words.findall(path.read_text(encoding="utf-8", errors="replace")):
                piece = source if of_source else models.get(model)
                if piece:
                    yield piece, str(path)


def _used_by_entries(among: list[Piece]) -> Iterator[tuple[Piece, str]]:
    """Find the schedules and jobs by hand that name a piece, without which no pipeline could be read any more."""
    pieces_of = {(one.where, one.name): one for one in among}
    for path, data in meltano_plugins.files():
        for one in data.get("schedules") or []:
            elt = (one.get("annotations") or {}).get("elt") or {}
            plugins = [(EXTRACTORS, one.get("extractor")), (LOADERS, one.get("loader"))]
            after = [(SCHEDULES, other) for other in elt.get("after") or []]
            for named in [(JOBS, one.get("job")), *plugins, *after]:
                if named in pieces_of and (SCHEDULES, one.get("name")) not in pieces_of:
                    yield pieces_of[named], f"schedule {one.get('name')} of {path}"
        for one in data.get("jobs") or []:
            words = re.findall(r"[\w.-]+", str(one.get("tasks")))
            for named in [(where, word) for word in words for where in (EXTRACTORS, LOADERS)]:
                if named in pieces_of and (JOBS, one.get("name")) not in pieces_of:
                    yield pieces_of[named], f"job {one.get('name')} of {path}"


def _without(gone: list[Piece]) -> dict[Path, str]:
    """Return the texts of files without pieces of them; empty for those that go."""
    texts = {piece.path: "" for piece in gone if not piece.where}
    for piece in gone:
        if not piece.where:
            continue
        text = texts.get(piece.path) or piece.path.read_text(encoding="utf-8")
        found = yaml_text.entry(text, piece.where, piece.name)
        assert found, piece
        before = text[: found[0]]
        if piece.where in {EXTRACTORS, LOADERS} and before.endswith("\n\n"):
            before = before[:-1]  # the blank line that was added above it
        texts[piece.path] = before + text[found[1] :]
    return texts


def _forget_secret(name: str) -> None:
    text = layout.ENV_FILE.read_text(encoding="utf-8") if layout.ENV_FILE.exists() else ""
    begin = text.find(pieces.mark(name))
    if begin >= 0:
        end = text.find("\n", begin + len(pieces.mark(name))) + 1 or len(text)
        with atomic_write(layout.ENV_FILE, 0o600) as path:
            path.write_text(text[:begin] + text[end:], encoding="utf-8")
        print(f"{layout.ENV_FILE}: its password is gone, too")


def _say_how_to_drop(name: str, among: list[Piece]) -> None:
    is_file = any(one.where == inspection.FILES or one.path == inspection.source_of(name) for one in among)
    drop = f"drop table if exists raw.{name}" if is_file else f"drop schema if exists raw_{name} cascade"
    warehouses = [*sorted(layout.WAREHOUSES.glob("*.duckdb")), *sorted(layout.LOCAL_RUN.glob("*.duckdb"))]
    if warehouses:
        print("what was loaded stays; this drops it, while no run is at work:")
    for path in warehouses:
        print(f"  .venv/bin/elt exec duckdb {path} '{drop}'")
    if warehouses and not is_file:  # else rows before its bookmarks would not come again
        print(f"the first run of a source that is called {name} later needs --full-refresh, as adding it says")
