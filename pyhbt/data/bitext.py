"""Files of sentence pairs with scores: ``score TAB source TAB target`` as LASER writes them, or JSON lines.

A line of ``.jsonl`` has the fields ``score``, ``source`` and ``target``, so ``pyhbt train --columns
query=source,passage=target`` reads it. Files are written whole or not at all. O(size of the file).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pyhbt.files import check_file_target, write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

_SUFFIXES = (".tsv", ".jsonl")
_PARTING = str.maketrans(dict.fromkeys("\t\n\r", " "))


def write_bitext(path: str | os.PathLike[str], pairs: Iterable[tuple[float, str, str]]) -> int:
    """Write (score, source, target) in their order; returns how many. A score reads back as the same float64.

    In ``.tsv`` tabs and line breaks of a text become spaces.

    Raises:
        ValueError: as :func:`check_bitext_target` does.
        OSError: the file cannot be written.
    """
    target = check_bitext_target(path)
    written = 0
    with write_atomically(target) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as lines:
        for pair in pairs:
            lines.write(_record(*pair) if target.suffix == ".jsonl" else _columns(*pair))
            written += 1
    return written


def check_bitext_target(path: str | os.PathLike[str]) -> Path:
    """``path`` as a Path; what is no name for such a file is refused.

    Raises:
        ValueError: ``path`` ends in neither .tsv nor .jsonl.
        OSError: a folder is there, or no file can be written.
    """
    if Path(path).suffix not in _SUFFIXES:
        raise ValueError(f"out: found {str(path)!r}, expected a name that ends in {' or '.join(_SUFFIXES)}")
    return check_file_target("out", path)


def _record(score: float, source: str, target: str) -> str:
    return json.dumps({"score": score, "source": source, "target": target}, ensure_ascii=False) + "\n"


def _columns(score: float, source: str, target: str) -> str:
    return f"{score!r}\t{source.translate(_PARTING)}\t{target.translate(_PARTING)}\n"
