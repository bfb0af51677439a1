"""Every code block of README and the documentation runs as it stands, but those that say why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, RUN, SHOWN, blocks_of, pages
from tests.docs.workshop import Workshop


def _pages(*, slow: bool) -> list[Path]:
    found = []
    for page in pages():
        blocks = [block for block in blocks_of(page) if block.language in RUN and not block.not_run]
        if blocks and any(block.slow for block in blocks) == slow:
            found.append(page)
    return found


def _check(page: Path, folder: Path) -> None:
    blocks = [
        block for block in blocks_of(page) if (block.language in RUN or block.file) and not block.not_run
    ]
    Workshop(folder).run(blocks)


@pytest.mark.parametrize("page", _pages(slow=False), ids=lambda page: page.stem)
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    _check(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", _pages(slow=True), ids=lambda page: page.stem)
def test_slow_blocks_run(page: Path, tmp_path: Path) -> None:
    _check(page, tmp_path)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert sum(line.startswith("```") for line in text.splitlines()) == 2 * len(list(blocks_of(page)))
    for block in blocks_of(page):
        known = block.language in (*RUN, *SHOWN) or block.file
        assert known, f"{block.where}: {block.language!r} is neither run nor shown"
        assert block.not_run == "" or len(block.not_run) > 10, f"{block.where}: a reason is missing"
