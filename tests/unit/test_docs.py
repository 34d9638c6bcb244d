"""The documents hold together: links lead somewhere, and paths exist."""

from __future__ import annotations

import re

import documents
import pytest
from workspace import ROOT, files

PAGES = [ROOT / name for name in files() if name.endswith(".md") and (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text()
    for link in documents.links(text):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in documents.anchors(there.read_text()), f"{there.name} has no heading {anchor!r}"
    made = {block.path for block in documents.blocks(text) if block.path}
    for path in documents.paths(text) - made:
        assert (ROOT / path).exists() or (page.parent / path).exists(), f"{path} does not exist"


def test_what_security_says_is_held_by_tests_that_exist():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    sources = (path.read_text() for path in [ROOT / name for name in files() if re.search(r"/test_\w+\.py$", name)])
    there = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    assert len(named) > 10
    assert named <= there


def test_a_broken_page_is_noticed():
    assert documents.links("[a](b.md) `[c](d.md)`\n```sh\n[e](f.md)\n```\n") == ["b.md"]
    assert documents.anchors("# One, two\n## A `b` c\n") == {"one-two", "a-b-c"}
    with pytest.raises(ValueError, match="no directive"):
        documents.blocks("<!-- test: fail -->\n```sh\nfalse\n```\n")
    with pytest.raises(ValueError, match="should follow"):
        documents.blocks("<!-- test: fails -->\nwords\n")
    assert documents.missing("ready 3.1 s\n...\nb ... c\n", "x\n ready  9.22 s\nq\nb 17 c\n", ROOT) == ""
    assert documents.missing("b\na\n", "a\nb\n", ROOT) == "a"


def test_no_page_needs_a_file_of_the_sample():
    """The tests of the pages hold for a project that has taken its place (docs/cookbooks/make-it-yours.md)."""
    own = ROOT / "docs" / "cookbooks" / "make-it-yours.md"
    (removal,) = (block.text for block in documents.blocks(own.read_text()) if "git rm" in block.text)
    removed = {word for word in removal.split() if "/" in word and "." in word.rpartition("/")[2]}
    assert "transform/checks/completejourney.py" in removed
    for page in PAGES:
        if page != own:
            assert not documents.paths(page.read_text()) & removed, page
