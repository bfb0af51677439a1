"""Code blocks of the documentation, and comments before them that say how they are run.

``<!-- given``, lines of code, ``-->``: run before the block, in its language; what a page takes for granted.
``<!-- file: PATH -->``: the block is written to a file.
``<!-- not run: REASON -->``: it is not.
``<!-- slow -->``: the page's blocks are run with the slow tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("python", "sh")
SHOWN = ("text", "{toctree}", "{math}", "mermaid")
"""Languages of blocks that are no code, or only to be looked at."""

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>\S*)\n(?P<code>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(
    r"<!-- (?P<what>given|file:|not run:|slow)(?P<value>(?:(?!-->).)*?)\s*-->\s*\Z", re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    given: str = ""
    file: str = ""
    not_run: str = ""
    slow: bool = False

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README and the pages of docs but decisions."""
    documents = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(page for page in documents if "decisions" not in page.parts)]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    end = 0
    for match in _FENCE.finditer(text):
        before, said = text[end : match.start()], {}
        while comment := _COMMENT.search(before):
            said[comment["what"].rstrip(":")] = comment["value"].strip("\n ")
            before = before[: comment.start()]
        end = match.end()
        yield Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["code"],
            given=said.get("given", ""),
            file=said.get("file", ""),
            not_run=said.get("not run", ""),
            slow="slow" in said,
        )
