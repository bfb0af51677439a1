"""What cannot be used: refused, or counted with the first few listed."""

from __future__ import annotations

import logging

import pytest

from pyhbt.data.unusable import Unusable


def test_it_is_refused_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="^f:1: bad; skip_unusable leaves it out$"):
        Unusable(skip=False).note("documents", "p1", "f:1: bad")
    skipped = Unusable(skip=True)
    skipped.report("folder")
    assert (skipped.describe(), caplog.records) == ("", [])
    for number in range(1200):
        skipped.note("documents", f"p{number}", "bad")
    skipped.note("queries", "q", "bad")
    with caplog.at_level(logging.WARNING):
        skipped.report("folder")
    assert caplog.messages == ["folder: left out 1,200 documents (p0, p1, p2, ...); 1 queries (q)"]
