"""Which weights transformers made at random because a checkpoint lacks them; it only says so in its log."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGER = "transformers.modeling_utils"
_ROW = re.compile(r"^(\S+)\s*\|[^|]*MISSING", re.MULTILINE)  # of the table of version 5
_LIST = re.compile(r"newly initialized: (\[.*?\])", re.DOTALL)  # of version 4


@contextmanager
def weights_reported() -> Iterator[list[str]]:
    """The names of weights that models loaded within lack; a list that fills as they are loaded.

    The report itself is kept out of the log, whatever level the log has; other messages pass.
    """
    logger = logging.getLogger(_LOGGER)
    missing: list[str] = []
    level, propagate = logger.level, logger.propagate
    passes = logger.getEffectiveLevel()
    handler = _Reports(missing, logger.parent, passes)
    logger.addHandler(handler)
    if passes > logging.WARNING:
        logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield missing
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Reports(logging.Handler):
    """Reads reports of weights and hands on what is none."""

    def __init__(self, missing: list[str], parent: logging.Logger | None, passes: int) -> None:
        super().__init__()
        self._missing = missing
        self._parent = parent
        self._passes = passes

    def emit(self, record: logging.LogRecord) -> None:
        """Take the names out of a report."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())  # colours
        if "LOAD REPORT" in text or "newly initialized" in text:
            self._missing += _ROW.findall(text)
            for names in _LIST.findall(text):
                self._missing += ast.literal_eval(names)
        elif self._parent is not None and record.levelno >= self._passes:
            self._parent.handle(record)
