"""Checks built pages: ``python docs/check_pages.py OUT`` after sphinx-build; names what is wrong and exits with 1.

* Every page has the title of its source, so none was overwritten by a page that Sphinx makes itself (its search page is
  search.html).
* Every room has a page, and every name in ``__all__`` of pyhbt and of its rooms is on a page of the reference.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pyhbt

SOURCE = Path(__file__).parent
_PLAIN = str.maketrans({"¶": None, "’": "'", "‘": "'", "“": '"', "”": '"'})  # as it is typed


class Titles(HTMLParser):
    """The texts of a page's h1 elements, without the sign that links to them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """An h1 begins."""
        if tag == "h1":
            self._inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        """An h1 ends."""
        self._inside = self._inside and tag != "h1"

    def handle_data(self, data: str) -> None:
        """A piece of text."""
        if self._inside:
            self.found[-1] += data.translate(_PLAIN)


def heading(page: Path) -> str:
    """The first heading of a source page, without markup."""
    text = page.read_text(encoding="utf-8")
    pattern = r"^# +(.+)$" if page.suffix == ".md" else r"^(\S.*)\n=+$"
    found = re.search(pattern, text, re.MULTILINE)
    return re.sub(r"[`*]", "", found[1]).strip() if found else ""


def wrong_titles(out: Path) -> Iterator[str]:
    """Pages that are not there, or that have another title than their source."""
    sources = [path for kind in ("*.md", "*.rst") for path in SOURCE.rglob(kind)]
    for source in sorted(sources):
        page = source.relative_to(SOURCE).with_suffix(".html")
        if page.parts[0] == "_build":
            continue
        if not (out / page).is_file():
            yield f"{page}: not built"
            continue
        titles = Titles()
        titles.feed((out / page).read_text(encoding="utf-8"))
        wanted = heading(source)
        if wanted not in map(str.strip, titles.found):
            yield f"{page}: found {titles.found or 'no title'}, expected {wanted!r}, the heading of its source"


def public_names() -> Iterator[str]:
    """The names of pyhbt and of its rooms, and of the packages in a room that names none itself."""
    yield from (f"pyhbt.{name}" for name in pyhbt.__all__)
    inside = [f"pyhbt.{found.name}" for found in pkgutil.iter_modules(pyhbt.__path__)]
    while inside:
        name = inside.pop()
        if name.rsplit(".", 1)[1].startswith("_"):
            continue
        module = importlib.import_module(name)
        if hasattr(module, "__all__"):
            yield from (f"{name}.{public}" for public in module.__all__)
        elif hasattr(module, "__path__") and name != "pyhbt.cli":
            inside += [f"{name}.{found.name}" for found in pkgutil.iter_modules(module.__path__)]


def missing_names(out: Path) -> Iterator[str]:
    """Rooms without a page, and public names that no page of the reference has."""
    for found in pkgutil.iter_modules(pyhbt.__path__):
        if not found.name.startswith("_") and not (out / f"reference/rooms/{found.name}.html").is_file():
            yield f"reference/rooms/{found.name}.html: not built, expected a page for the room"
    pages = [path.read_text(encoding="utf-8") for path in (out / "reference").rglob("*.html")]
    shown = {name for page in pages for name in re.findall(r'(?:id="|>)(pyhbt\.[\w.]+)["<]', page)}
    for name in sorted(set(public_names()) - shown):
        yield f"{name}: on no page of the reference"


def main() -> None:
    """Entry point."""
    out = Path(sys.argv[1])
    wrong = [*wrong_titles(out), *missing_names(out)]
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
