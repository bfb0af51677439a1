"""Error rates of aligned pairs against a plain count, on vectors and on Tatoeba."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt import ExactIndex, load_encoder
from pyhbt.data.records import columns, read_lines
from pyhbt.mining import BitextErrorRates, bitext_error_rates
from tests.mining.bitext_oracle import MARGINS, errors
from tests.mining.test_bitext import whole

LANGUAGES = ("deu", "spa", "cmn", "jpn", "hin", "tur")


@pytest.mark.parametrize(("margin", "k"), list(itertools.product(MARGINS, [1, 2, 4, 99])))
def test_counts(margin: Any, k: int) -> None:
    """Ties too, which go to the lower position."""
    for seed, n in enumerate((1, 2, 7, 40)):
        x, y = whole(n, n, 3, seed)
        found = bitext_error_rates(x, y, k=k, margin=margin, similarity="dot")
        assert (found.forward_errors, found.backward_errors) == errors(
            x, y, k=k, margin=margin, similarity="dot"
        )
        assert found.pairs == n


def test_shares() -> None:
    rates = BitextErrorRates(8, 2, 4)
    assert (rates.forward, rates.backward, rates.mean) == (0.25, 0.5, 0.375)
    x = np.eye(5, dtype=np.float32)
    assert bitext_error_rates(x, x) == BitextErrorRates(5, 0, 0)
    assert bitext_error_rates(x, x[[1, 0, 2, 3, 4]]) == BitextErrorRates(5, 2, 2)
    # equal targets: the lower one is everybody's
    assert bitext_error_rates(x[:2], x[[0, 0]], margin="absolute") == BitextErrorRates(2, 1, 1)
    indexes = [ExactIndex(rows, similarity="cosine") for rows in (x, x[::-1].copy())]
    assert bitext_error_rates(*indexes) == BitextErrorRates(5, 4, 4)


def test_wrong_arguments() -> None:
    x = np.eye(5, dtype=np.float32)
    with pytest.raises(ValueError, match=r"targets: found 4 vectors, expected 5 \(one for each source\)"):
        bitext_error_rates(x, x[:4])
    with pytest.raises(ValueError, match="sources: found none, expected at least one"):
        bitext_error_rates(x[:0], x[:0])
    with pytest.raises(ValueError, match="margin: found 'xsim'"):
        bitext_error_rates(x, x, margin="xsim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k: found 0"):
        bitext_error_rates(x, x, k=0)


def test_tatoeba(data_dir: Path, models_dir: Path) -> None:
    """Four layers of E5, 300 pairs a language: counts of a plain scan, fewer errors by margins than by cosine."""
    encoder = load_encoder(models_dir / "e5-small-4L-f26k-fp16", query_prefix="query: ")
    for language in LANGUAGES:
        file = data_dir / "tatoeba-v1" / f"{language}-eng.tsv"
        rows = [columns(where, line, ("source", "target")) for where, line in read_lines(file)][:300]
        sources, targets = (encoder.encode(side, "query").numpy() for side in zip(*rows, strict=True))
        rates = {}
        for margin in MARGINS:
            found = bitext_error_rates(sources, targets, margin=margin)  # type: ignore[arg-type]
            assert (found.forward_errors, found.backward_errors) == errors(sources, targets, margin=margin)
            rates[margin] = found
        for margin in ("ratio", "distance"):
            assert rates[margin].forward_errors < rates["absolute"].forward_errors
            assert rates[margin].backward_errors < rates["absolute"].backward_errors
