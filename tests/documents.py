r"""The Markdown pages as tests see them: their links, and their commands.

What a page may hold, besides words:

| in the page | in the test |
|---|---|
| a block `sh` | runs in bash, in the root of the clone; it must succeed |
| a block `text` directly below | its lines must be in the output, in this order; a number is any, `...` is anything |
| a block with a path, such as `sql transform/models/marts/x.sql` | is written to that file |
| a block `diff PATH` | replaces its lines with `-` or no sign, which must be there, by those with `+` or no sign |
| a block `console`, or any other | does not run |

The comment `<!-- test: WORDS -->` directly above a block changes that, unseen by the reader:

| words | meaning |
|---|---|
| `fails` | the commands must fail |
| `skip, REASON` | the commands do not run |
| `insert into PATH before LINE` | the block comes above the one line of the file that is LINE, indentation aside |
| `run` or `fails`, and commands on the lines below | the same as a block of these commands |
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOME = "/home/you/elt-workspace"
"""How the pages write the folder of the clone."""
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<info>.*)$")
COMMENT = re.compile(r"^ *<!-- test: (?P<words>[^\n]*?)(?: -->|\n(?P<commands>.*?)\n? *-->)$", re.DOTALL)
WORDS = re.compile(r"fails$|run$|skip, .+|insert into \S+ before .+")


@dataclass(frozen=True)
class Block:
    """A fenced block, or commands hidden in a comment."""

    line: int
    """Of its first line in the page, from 1."""
    language: str
    path: str
    """The file that it belongs to; empty if it names none."""
    words: str
    """Of the comment above."""
    text: str
    output: str | None = None
    """The block `text` directly below."""

    @property
    def is_run(self) -> bool:
        """Whether it holds commands that the test runs."""
        return self.language == "sh" and not self.words.startswith("skip")


def blocks(text: str) -> list[Block]:
    """All blocks of a page, in their order.

    Raises:
        ValueError: a comment's words are not known, or nothing follows them.
    """
    found: list[Block] = []
    words, near = "", False  # words of the comment above; whether nothing but blank lines lies between
    for line, kind, head, body in _parts(text):
        if kind == "comment":
            if not WORDS.match(head):
                raise ValueError(f"line {line}: {head!r} is no directive")
            if body:
                found.append(Block(line, "sh", "", head, body))
            words, near = ("" if body else head), bool(body)
        elif kind == "block":
            language, _, path = head.partition(" ")
            if language == "text" and near and found[-1].language == "sh":
                found[-1] = Block(**(vars(found[-1]) | {"output": body}))
            else:
                found.append(Block(line, language, path.strip(), words, body))
            words, near = "", True
        elif words:
            raise ValueError(f"line {line}: a block should follow the comment {words!r}")
        else:
            near = False
    return found


def _parts(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Comments, blocks and other lines: number of the line, kind, words, text."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        begin = at
        at += 1
        if opened := FENCE.match(lines[begin]):
            while lines[at].strip() != opened["fence"]:
                at += 1
            indent = len(opened["indent"])
            yield (
                begin + 1,
                "block",
                opened["info"].strip(),
                "".join(f"{line[indent:]}\n" for line in lines[begin + 1 : at]),
            )
            at += 1
        elif lines[begin].lstrip().startswith("<!-- test:"):
            while not lines[at - 1].endswith("-->"):
                at += 1
            comment = COMMENT.match("\n".join(lines[begin:at]))
            if not comment:
                raise ValueError(f"line {begin + 1}: the comment cannot be read")
            yield begin + 1, "comment", comment["words"], f"{comment['commands']}\n" if comment["commands"] else ""
        elif lines[begin].strip():
            yield begin + 1, "line", lines[begin], ""


# Files -------------------------------------------------------------------------------------------


def write(block: Block, root: Path) -> None:
    """Do to the file what the block says.

    Raises:
        ValueError: the file does not hold the place that the block names.
    """
    if block.words.startswith("insert"):
        path, _, line = block.words.removeprefix("insert into ").partition(" before ")
        lines = (root / path).read_text().splitlines(keepends=True)
        places = [place for place, one in enumerate(lines) if one.strip() == line.strip()]
        if len(places) != 1:
            raise ValueError(f"line {block.line}: {path} holds the line {line!r} {len(places)} times")
        lines.insert(places[0], block.text)
        (root / path).write_text("".join(lines))
    elif block.language == "diff":
        lines = block.text.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if not line.startswith("+"))
        new = "".join(line[1:] for line in lines if not line.startswith("-"))
        text = (root / block.path).read_text()
        if text.count(old) != 1:
            raise ValueError(f"line {block.line}: {block.path} holds the old lines {text.count(old)} times")
        (root / block.path).write_text(text.replace(old, new))
    else:
        target = root / block.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text)


# Output ------------------------------------------------------------------------------------------


def missing(shown: str, said: str, root: Path) -> str:
    """The first line of a block `text` that the output does not hold where it should; nothing if all are there."""
    lines = iter([_masked(line) for line in said.replace(str(root), HOME).splitlines()])
    for line in shown.splitlines():
        parts = [re.escape(part) for part in _masked(line).split("...")]
        wanted = re.compile(".*".join(parts))
        if _masked(line) not in {"", "..."} and not any(wanted.fullmatch(one) for one in lines):
            return line
    return ""


def _masked(line: str) -> str:
    """A line whose numbers, times and spaces are as any."""
    return re.sub(r"[\s─━┏┓┡┩┃│└┘┴┳╇┬┌┐├┤┼]+", " ", re.sub(r"\d+([.,:]\d+)*", "0", line)).strip()


# Links -------------------------------------------------------------------------------------------


def links(text: str) -> list[str]:
    """Targets of all links of a page, code aside."""
    return re.findall(r"\]\(([^)\s]+)\)", _prose(text))


def anchors(text: str) -> set[str]:
    """What a link to this page may name after `#`: its headings, as GitHub calls them."""
    found: set[str] = set()
    for title in re.findall(r"(?m)^#{1,6} +(.+?) *$", re.sub(r"(?ms)^ *(```+).*?^ *\1$", "", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(next(one for one in (name, *(f"{name}-{n}" for n in range(1, 99))) if one not in found))
    return found


def paths(text: str) -> set[str]:
    """Files and folders of the repository that a page names as code."""
    tops = "airflow|dashboard|docs|elt|meltano|scripts|tests|transform"
    return set(re.findall(rf"`((?:{tops})/[\w./-]*\w/?)`", re.sub(r"(?ms)^ *(```+).*?^ *\1$", "", text)))


def _prose(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^ *(```+).*?^ *\1$", "", text))
