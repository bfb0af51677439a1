"""What an interrupted command says: how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

INTERRUPTED: Final = 130
TERMINATED: Final = 143


def interrupted(arguments: Sequence[str]) -> str:
    """One line for a command that Ctrl-C ended, with the command that goes on where there is one.

    A study and a search go on with what is finished when they are called again; a training does with ``--resume``,
    from its last checkpoint.
    """
    command = arguments[0] if arguments else ""
    again = [argument for argument in arguments if argument != "--overwrite"]
    if command == "train":
        again += [] if "--resume" in again else ["--resume"]
        return (
            f"interrupted; go on from its last checkpoint, if it wrote one, with: pyhbt {shlex.join(again)}"
        )
    if command in ("study", "search"):
        return f"interrupted; go on with: pyhbt {shlex.join(again)}"
    return "interrupted"
