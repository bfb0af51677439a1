"""What is stored with the int8 codes holds, in float64: the proof of exact search rests on it.

The proof is in docs/how-it-works/numerics.md.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyhbt.ops import reference
from pyhbt.ops.codes import Codes, allocate, encode, encode_into, encoded
from pyhbt.ops.exact import native_ranks, native_search
from pyhbt.ops.search_checks import Similarity
from tests.adversarial import BUILDERS, SIMILARITIES, Builder, Matrix, assert_same_bits, normal

U = 2.0**-24


def check_codes(codes: Codes, corpus: Matrix, similarity: Similarity) -> None:
    n, dim = corpus.shape
    k = codes.codes.numpy()
    assert k.shape == (n, -(-dim // 64) * 64)
    assert not k[:, dim:].any()
    assert k.min(initial=0) >= -127
    np.testing.assert_array_equal(codes.code_sum.numpy(), k.sum(axis=1, dtype=np.int64))
    norms = reference.exact_norms(corpus)
    assert_same_bits(codes.norm.numpy(), norms, "norm")

    code_norm, residual_norm, along, scale = (
        part.numpy().astype(np.float64)
        for part in (codes.code_norm, codes.residual_norm, codes.along, codes.inverse_scale)
    )
    served = np.isfinite(code_norm)
    assert not k[~served].any()
    centre, direction = codes.centre.double().numpy(), codes.direction.double().numpy()
    x = corpus.astype(np.float64)
    if similarity == "cosine":
        x = np.divide(x, norms[:, None], out=np.zeros_like(x), where=norms[:, None] > 0)
    scaled = (scale[:, None] * (x - centre))[served]
    k, code_norm, residual_norm, along = (
        part[served] for part in (k[:, :dim], code_norm, residual_norm, along)
    )
    # c / |c| - m in float64, here and there; the slack of scores has room for it.
    float64 = 2.0**-51 * scale[served] * (1 + np.linalg.norm(centre)) if similarity == "cosine" else 0.0
    assert (np.linalg.norm(k, axis=1) <= code_norm).all()
    assert (np.linalg.norm(scaled - k, axis=1) <= residual_norm + float64).all()
    # Coded queries allow this much for the part along the direction.
    rounding = (2.0**-20 + (dim / 4 + 16) * U) * (code_norm + residual_norm)
    assert (np.abs(along - scaled @ direction) <= np.linalg.norm(direction) * (rounding + float64)).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_bounds_of_adversarial_rows(build: Builder, similarity: Similarity) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = build(rng)
    corpus = np.concatenate([corpus, queries])
    codes = encode(torch.from_numpy(corpus), cosine=similarity == "cosine")
    check_codes(codes, corpus, similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dim", [1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 129, 384, 1000, 4097])
def test_bounds_at_awkward_dims(dim: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(dim)
    corpus = normal(rng, 300, dim) + np.float32(0.3)
    codes = encode(torch.from_numpy(corpus), cosine=similarity == "cosine")
    check_codes(codes, corpus, similarity)
    # Halves of one code at most, so that the bound is narrow as well.
    assert bool((codes.residual_norm <= dim**0.5 / 2 + 1e-3 * codes.code_norm).all())
    assert bool((codes.code_norm <= 1.001 * codes.codes.double().norm(dim=1)).all())


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_bounds_where_all_passages_are_one(similarity: Similarity) -> None:
    """After centring nothing is left but rounding."""
    for dim in (1, 2, 33):
        corpus = np.abs(normal(np.random.default_rng(dim), 400, 1)) * np.ones((1, dim), np.float32)
        check_codes(encode(torch.from_numpy(corpus), cosine=similarity == "cosine"), corpus, similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("distance", [0.01, 1.0, 1e4])
def test_bounds_of_a_narrow_cone(distance: float, spread: float, similarity: Similarity) -> None:
    rng = np.random.default_rng(7)
    corpus = (distance * (rng.standard_normal(48) + spread * rng.standard_normal((500, 48)))).astype(
        np.float32
    )
    codes = encode(torch.from_numpy(corpus), cosine=similarity == "cosine")
    check_codes(codes, corpus, similarity)


def around(corpus: Matrix, centre: Matrix, direction: Matrix, similarity: Similarity) -> Codes:
    out = replace(allocate(len(corpus), torch.from_numpy(centre)), direction=torch.from_numpy(direction))
    encode_into(out, torch.from_numpy(corpus), cosine=similarity == "cosine")
    return out


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(("centre", "direction"), [(0, 0), (0, 3), (1, 1), (1000, 1e-3), (1e-3, 1000)])
def test_any_centre_and_direction_will_do(centre: float, direction: float, similarity: Similarity) -> None:
    rng = np.random.default_rng(7)
    queries, corpus = normal(rng, 66, 33), normal(rng, 2200, 33)
    codes = around(
        corpus, np.float32(centre) * normal(rng, 33), np.float32(direction) * normal(rng, 33), similarity
    )
    check_codes(codes, corpus, similarity)
    targets = rng.integers(-1, 2200, (66, 2))
    scores, indices = reference.search(queries, corpus, 10, similarity=similarity)
    expected = reference.ranks(queries, corpus, targets, similarity=similarity)
    for nq in (1, 4, 5, 66):
        pair, cosine = (torch.from_numpy(queries[:nq]), torch.from_numpy(corpus)), similarity == "cosine"
        found = native_search(*pair, codes, 10, cosine=cosine)
        assert_same_bits(found[1].numpy(), indices[:nq], "indices")
        assert_same_bits(found[0].numpy(), scores[:nq], "scores")
        ranked = native_ranks(*pair, codes, torch.from_numpy(targets[:nq]), cosine=cosine)
        assert_same_bits(ranked.numpy(), expected[:nq], "ranks")


def served(factors: list[float], similarity: Similarity) -> list[bool]:
    corpus = np.array(factors, np.float32)[:, None] * np.array([[1, -0.5, 0.25]], np.float32)
    zeros = np.zeros(3, np.float32)
    codes = around(corpus, zeros, zeros, similarity)
    check_codes(codes, corpus, similarity)
    assert not codes.codes[codes.code_norm.isinf()].any()
    return codes.code_norm.isfinite().tolist()


def test_rows_beyond_codes_are_never_excluded() -> None:
    factors = [2.0**60, 2.0**61, 3e38, 2.0**-60, 2.0**-61, 1e-45, 0.0]
    assert served(factors, "dot") == [True, False, False, True, True, True, True]
    factors = [2.0**59, 2.0**60, 3e38, 2.0**-60, 2.0**-61, 1e-45, 0.0]
    assert served(factors, "cosine") == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_first_non_finite_row_is_named(similarity: Similarity, dtype: torch.dtype) -> None:
    corpus = torch.ones(5000, 20, dtype=dtype)
    corpus[[4000, 300, 2500], [1, 17, 3]] = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=dtype)
    out = allocate(5000, torch.zeros(20))
    cosine = similarity == "cosine"
    with pytest.raises(
        ValueError, match="corpus: row 300 holds a NaN or an infinity, expected finite numbers"
    ):
        encode_into(out, corpus, cosine=cosine)
    with pytest.raises(ValueError, match="corpus: row 700300 holds a NaN"):
        encode_into(out, corpus, cosine=cosine, first_row=700_000)
    with pytest.raises(ValueError, match="corpus: row 300 "):
        encode(corpus, cosine=cosine)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_half_precision_gives_the_same_codes(similarity: Similarity, dtype: torch.dtype) -> None:
    corpus = torch.randn(1000, 70, generator=torch.Generator().manual_seed(1))
    corpus[::9] *= 1e-6
    corpus[::10] *= 1e3
    corpus = corpus.to(dtype)[:, 3:]
    cosine = similarity == "cosine"
    narrow, wide = encode(corpus, cosine=cosine), encode(corpus.float(), cosine=cosine)
    for field in fields(Codes):
        left: npt.NDArray[np.generic] = getattr(narrow, field.name).numpy()
        assert_same_bits(left, getattr(wide, field.name).numpy(), field.name)


def test_threads_do_not_show() -> None:
    corpus = torch.randn(3000, 40, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(encode(corpus, cosine=True))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for field in fields(Codes):
            assert torch.equal(getattr(other, field.name), getattr(found[0], field.name)), field.name


def test_rows_by_parts_are_the_whole() -> None:
    corpus = torch.randn(1000, 40, generator=torch.Generator().manual_seed(1))
    whole = encode(corpus, cosine=False)
    parts = allocate(1000, whole.centre)
    for start in range(0, 1000, 300):
        encode_into(
            parts.rows(start, start + 300), corpus[start : start + 300], cosine=False, first_row=start
        )
    for field in fields(Codes):
        assert torch.equal(getattr(parts, field.name), getattr(whole, field.name)), field.name


def test_memory_of_one_search_is_not_that_of_another() -> None:
    corpora = [torch.randn(n, 40, generator=torch.Generator().manual_seed(n)) for n in (500, 2000, 100)]
    with pytest.raises(RuntimeError, match="as if"), encoded(corpora[0], cosine=False):
        raise RuntimeError("as if interrupted")
    with encoded(corpora[0], cosine=False):  # its memory is kept,
        pass
    with encoded(corpora[1], cosine=False) as first, encoded(corpora[2], cosine=False) as second:
        for codes, corpus in ((first, corpora[1]), (second, corpora[2])):
            assert torch.equal(codes.codes, encode(corpus, cosine=False).codes)
