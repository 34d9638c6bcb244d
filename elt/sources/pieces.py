"""Know what was added for a source, piece by piece: files, and entries of lists in files.

`meltano/sources/NAME.txt` has a line for each, with the SHA-256 of its text, so that removing knows what was changed
by hand since.
"""

from __future__ import annotations

import difflib
import hashlib
import sys
import typing as t
from pathlib import Path  # noqa: TC003 - a named tuple reads its annotations

from elt import layout
from elt.atomic import atomic_write
from elt.sources import yaml_text

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXTRACTORS: tuple[str, ...] = ("plugins", "extractors")
LOADERS: tuple[str, ...] = ("plugins", "loaders")
JOBS: tuple[str, ...] = ("jobs",)
SCHEDULES: tuple[str, ...] = ("schedules",)
LEFT_OUT: tuple[str, ...] = ("selectors", "files", "definition", "union", "exclude")
"""Where dbt's selectors say what the pipeline of the files does not build."""
COLOURS = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"}


class Piece(t.NamedTuple):
    """Name a file, or an entry of a list in one."""

    path: Path
    where: tuple[str, ...] = ()
    name: str = ""

    def text(self, whole: str | None = None) -> str | None:
        """Return what it holds, in a file of that text or as it is now; None if it is gone."""
        if whole is None:
            if not self.path.is_file():
                return None
            whole = self.path.read_text(encoding="utf-8")
        if not self.where:
            return whole
        found = yaml_text.entry(whole, self.where, self.name)
        return whole[slice(*found)] if found else None

    def __str__(self) -> str:
        """Return its name for messages."""
        return f"{self.path}: {': '.join([*self.where, self.name])}" if self.where else str(self.path)


def pipeline(name: str) -> str:
    """Return the name of a source's schedule, by which `elt pipeline` finds it."""
    return f"{name}_elt_pipeline"


def staging(name: str) -> Path:
    """Return the folder of a source's staging models."""
    return layout.DBT_PROJECT / "models" / "staging" / name


def mark(name: str) -> str:
    """Return the line of `.env` that stands above a secret which was added."""
    return f"# of `elt source add {name}`\n"


def record(name: str) -> Path:
    """Return the file that says what was written for a source."""
    return layout.MELTANO_PROJECT / "sources" / f"{name}.txt"


def record_text(name: str, digests: Mapping[Piece, str]) -> str:
    """Write that file's text."""
    head = f"# What `elt source add {name}` wrote: SHA-256, file; of an entry of a list also the list and its name.\n"
    lines = (
        [
            digest,
            one.path.relative_to(layout.ROOT).as_posix(),
            *(("/".join(one.where), one.name) if one.where else ()),
        ]
        for one, digest in digests.items()
    )
    return head + "".join(f"{' '.join(line)}\n" for line in lines)


def recorded(name: str) -> dict[Piece, str]:
    """Return what was written for a source, each piece with its digest."""
    lines = [line.split() for line in record(name).read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    return {
        Piece(layout.ROOT / path, tuple(more[0].split("/")) if more else (), more[1] if more else ""): digest
        for digest, path, *more in lines
    }


def digest(text: str) -> str:
    """Return by what one sees that a text was changed."""
    return hashlib.sha256(text.encode()).hexdigest()


def show(texts: Mapping[Path, str]) -> None:
    """Print how files change, in colours on a terminal; an empty text stands for a file that goes."""
    for path, new in texts.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        label = path.relative_to(layout.ROOT) if path.is_relative_to(layout.ROOT) else path
        sides = (f"a/{label}" if old else "/dev/null", f"b/{label}" if new else "/dev/null")
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), *sides, lineterm=""):
            colour = COLOURS.get(line[:1], "") if sys.stdout.isatty() else ""
            print(f"{colour}{line}\033[0m" if colour else line)


def write(texts: Mapping[Path, str]) -> None:
    """Write files; an empty text stands for a file that goes, and its folder with the last one."""
    for path, text in texts.items():
        if not text:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def clean(folders: Iterable[Path]) -> None:
    """Remove folders that are empty."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
