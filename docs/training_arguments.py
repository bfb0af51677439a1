"""``python docs/training_arguments.py``: write the table of reference/training-arguments.md anew.

To be run when what becomes of an argument changes; a test compares the table with the code.
"""

from __future__ import annotations

from pathlib import Path

from pyhbt.training.trainer_arguments import REFUSED, WORKS

PAGE = Path(__file__).parent / "reference/training-arguments.md"
_BEGIN = "| argument | | |\n"


def table() -> str:
    """The rows of all arguments in alphabetical order, with heading."""
    rows = {name: ("works", note) for name, note in WORKS.items()}
    rows |= {name: ("**refused**", refused.reason) for name, refused in REFUSED.items()}
    lines = (f"| `{name}` | {kind} | {note} |\n" for name, (kind, note) in sorted(rows.items()))
    return f"{_BEGIN}|---|---|---|\n{''.join(lines)}"


if __name__ == "__main__":
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    PAGE.write_text(before + table(), encoding="utf-8")
