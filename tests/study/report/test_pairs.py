"""The heat map of language pairs."""

from __future__ import annotations

import pytest

from pyhbt.study.report.canvas import DARK, LIGHT, png_bytes
from pyhbt.study.report.pairs import pair_heat_map
from tests.study.synthetic_study import HOSTILE


@pytest.mark.parametrize("size", [2, 14, 15, 43])
def test_heat_map_of_any_size(size: int) -> None:
    languages = {f"l{i}": ("seen", "low-resource", "zero-shot")[i * 3 // size] for i in range(size)}
    values = {(q, p): 0.4 for q in languages for p in languages if q != p}
    figure = pair_heat_map(values, languages, "pairs", LIGHT)
    assert figure is not None
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(languages)
    squares = [text for text in axes.texts if text.get_text() == "0.40"]
    assert len(squares) == (size * (size - 1) if size <= 14 else 0)
    png_bytes(figure)


def test_a_map_without_differences() -> None:
    values = dict.fromkeys([("en", "de"), ("de", "en")], 0.0)
    figure = pair_heat_map(values, {"en": "seen", "de": "seen"}, "flat", LIGHT, diverging=True)
    assert figure is not None
    png_bytes(figure)


def test_nothing_to_draw() -> None:
    assert pair_heat_map({}, {"en": "seen"}, "empty", DARK) is None
    assert pair_heat_map({("en", "en"): 0.5}, {"en": "seen"}, "one language", DARK) is None


@pytest.mark.parametrize("text", [HOSTILE, "$x^{$", "中文", "x" * 500])
def test_any_text_can_be_drawn(text: str) -> None:
    languages = {text: "seen", "other": "zero-shot"}
    values = {(text, text): 0.5, (text, "other"): -0.2, ("other", text): 0.1}
    figure = pair_heat_map(values, languages, text, DARK, diverging=True)
    assert figure is not None
    png_bytes(figure)
