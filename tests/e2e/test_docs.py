"""Every command of README and docs runs as it stands, page after page, in a clone of the working tree."""

from __future__ import annotations

import typing as t

import buckets
import documents
import pytest
from workspace import ROOT

from .fresh_clone import below, shell

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .fresh_clone import FreshClone

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/README.md",
    *documents.links((ROOT / "docs" / "README.md").read_text()),
]
PAGES = [name if (ROOT / name).exists() else f"docs/{name}" for name in PAGES]
SKIPS = 9
"""Blocks of commands that do not run, each with its reason in the page."""


@pytest.fixture(scope="module")
def clone(fresh_clone) -> Iterator[FreshClone]:
    """The fresh clone; whatever the pages started is stopped at the end."""
    yield fresh_clone
    done = fresh_clone.run("scripts/down.sh", seconds=120)
    assert done.returncode == 0, done.stdout
    assert below(fresh_clone.root) == []


@pytest.fixture
def bucket(clone, page, tmp_path) -> Iterator[None]:
    """For a page that reads from s3://shop: the bucket, with orders of three months."""
    if "s3://shop/" not in (ROOT / page).read_text():
        yield
        return
    orders = tmp_path / "data" / "shop" / "orders"
    orders.mkdir(parents=True)
    for month in (1, 2, 3):
        rows = (f"{month}{n:03},2024-{month:02}-{n:02},{n}.50\n" for n in range(1, 29))
        (orders / f"2024-{month:02}.csv").write_text("order_id,ordered_on,amount\n" + "".join(rows))
    before = dict(clone.env)
    try:
        with buckets.s3(tmp_path) as variables:
            clone.env |= variables
            yield
    except LookupError as error:
        pytest.skip(str(error))
    finally:
        clone.env.clear()
        clone.env |= before


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("bucket")
def test_the_commands_of_a_page_run(clone, page):
    here = clone.root
    clone.begin_anew()
    for block in documents.blocks((here / page).read_text()):
        where = f"{page}, line {block.line}"
        if block.path or block.words.startswith("insert"):
            documents.write(block, here)
        elif block.is_run:
            done = clone.run(*shell(block.text), seconds=300)
            assert (done.returncode != 0) == block.words.startswith("fails"), f"{where}:\n{done.stdout}"
            line = documents.missing(block.output or "", done.stdout, here)
            assert not line, f"{where}: the output lacks {line!r}:\n{done.stdout}"


def test_few_commands_are_left_out():
    skipped = [
        block for page in PAGES for block in documents.blocks((ROOT / page).read_text()) if "skip" in block.words
    ]
    assert len(skipped) <= SKIPS, "each command that does not run may be wrong"
