"""Float16 rows: what they say of a score's error is never too little."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops.cuda.halves import accumulation_error, halve


def bounds_hold(queries: torch.Tensor, corpus: torch.Tensor, norms: torch.Tensor | None) -> None:
    q, p = halve(queries, None), halve(corpus, norms)
    scores = (q.halves.float() @ p.halves.float().T).double()
    code_error = q.error.double() + accumulation_error(queries.shape[1]) * q.size.double()
    bound = code_error[:, None] * p.size + q.size.double()[:, None] * p.error
    divided = corpus.double() / (1.0 if norms is None else torch.where(norms > 0, norms, 1.0)[:, None])
    exact = (queries.double() @ divided.T) * q.scale[:, None] * p.scale
    served = bound.isfinite()
    assert bool(((exact - scores).abs() <= bound)[served].all())


@settings(max_examples=60, deadline=None)
@given(
    dim=st.integers(1, 300),
    spread=st.sampled_from([0.0, 1.0, 8.0, 30.0]),
    cosine=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_bounds_hold(dim: int, spread: float, cosine: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = (
        torch.from_numpy(rng.standard_normal((rows, dim)) * 2.0 ** rng.normal(0, spread, (rows, dim))).float()
        for rows in (5, 40)
    )
    corpus[3] = 0
    bounds_hold(queries, corpus, corpus.double().norm(dim=1) if cosine else None)


@pytest.mark.parametrize("size", [2.0**-126, 2.0**-101, 2.0**-60, 1.0, 2.0**60, 2.0**101, 2.0**126])
def test_any_size_is_served_or_said_not_to_be(size: float) -> None:
    rows = torch.tensor([[1.0, -0.3, 0.001]]) * size
    found = halve(rows, None)
    served = bool(found.size.isfinite())
    assert served == (2.0**-91 < size < 2.0**110)
    assert bool(found.halves.isfinite().all())
    if served:
        assert 512 <= float(found.halves.abs().max()) <= 1024
        bounds_hold(rows, rows, None)


def test_zeros_are_exact() -> None:
    found = halve(torch.zeros(2, 3), torch.zeros(2, dtype=torch.float64))
    assert found.size.tolist() == found.error.tolist() == [0.0, 0.0]
