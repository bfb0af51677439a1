"""What published data hold that cannot be used: refused, or left out, counted and listed."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

_LISTED = 3


class Unusable:
    """Refuses what cannot be used, or with ``skip`` counts it."""

    def __init__(self, skip: bool) -> None:
        if not isinstance(skip, bool):
            raise TypeError(f"skip_unusable: found {skip!r}, expected True or False")
        self._skip = skip
        self._left_out: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def note(self, kind: str, identity: str, message: str) -> None:
        """One of a ``kind`` such as "documents without text" is not used.

        Raises:
            ValueError: ``message``, unless such things are skipped.
        """
        if not self._skip:
            raise ValueError(f"{message}; skip_unusable leaves it out")
        self._counts[kind] = self._counts.get(kind, 0) + 1
        listed = self._left_out.setdefault(kind, [])
        if len(listed) < _LISTED:
            listed.append(identity)

    def describe(self) -> str:
        """What was left out: how many of each kind and the first few; empty where nothing was."""
        return "; ".join(
            f"{self._counts[kind]:,} {kind} ({', '.join(listed)}{', ...' if self._counts[kind] > len(listed) else ''})"
            for kind, listed in self._left_out.items()
        )

    def report(self, source: str) -> None:
        """Warn of what was left out of ``source``."""
        if self._counts:
            logger.warning("%s: left out %s", source, self.describe())
