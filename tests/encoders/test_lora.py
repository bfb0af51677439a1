"""Options of low-rank adapters, as text and as values."""

from __future__ import annotations

import pytest

from pyhbt.encoders import LoraOptions


def test_options_are_read() -> None:
    assert LoraOptions.parse("r=16,alpha=32,targets=query,value,dropout=0.1") == LoraOptions(
        16, 32.0, ("query", "value"), 0.1
    )
    assert LoraOptions.parse("r=4") == LoraOptions(4, 8.0, ("all-linear",), 0.0)
    assert LoraOptions.parse("targets=q_proj, r=2 ,alpha=1.5") == LoraOptions(2, 1.5, ("q_proj",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found '' in '', expected NAME=VALUE"),
        ("16", "found '16' in '16', expected NAME=VALUE"),
        ("alpha=3", "found 'alpha=3', expected r=NUMBER"),
        ("r=two", "r: found 'two', expected a number"),
        ("r=2.5", "r: found '2.5', expected a number"),
        ("r=0", "r: found 0, expected at least 1"),
        ("r=1,r=2", "found r twice"),
        ("r=1,alfa=2", r"found alfa; did you mean alpha\?, expected r, alpha"),
        ("r=1,alpha=0", "alpha: found 0.0, expected a number above 0"),
        ("r=1,alpha=nan", "alpha: found nan"),
        ("r=1,dropout=1", r"dropout: found 1.0, expected a number in \[0, 1\)"),
        ("r=1,targets=", r"targets: found \[''\], expected names"),
        ("r=1,2", "found '2' in 'r=1,2', expected NAME=VALUE"),
    ],
)
def test_what_is_no_lora_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"lora: {message}"):
        LoraOptions.parse(text)
