"""The coarse form of codes, which up to four queries read first: its bounds hold, and it changes no result.

The proof is in docs/how-it-works/numerics.md, the code in csrc/cpu/first_look.cpp.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyhbt import SearchFilter
from pyhbt.ops import reference
from pyhbt.ops.codes import Codes, encode
from pyhbt.ops.exact import native_search
from pyhbt.ops.range import native_range
from pyhbt.ops.search_checks import Similarity
from tests.adversarial import BUILDERS, SIMILARITIES, Builder, Matrix, assert_same_bits, normal

LEVELS = np.array([-63, -48, -37, -29, -22, -15, -9, -3, 3, 9, 15, 22, 29, 37, 48, 63], np.float64)
LEAST_BYTES = 4 << 20
"""Of int8 codes, from which on nibbles are read."""
Doubles = npt.NDArray[np.float64]


def levels(codes: Codes, dim: int) -> Doubles:
    """(n, dim) levels times their step."""
    groups = codes.nibbles.numpy().reshape(len(codes), -1, 64)
    places = np.stack([groups & 15, groups >> 4], axis=2).reshape(len(codes), -1)[:, :dim]
    step = np.float32(2.7326 / (63 * np.sqrt(float(dim)))) * codes.code_norm.numpy()
    found: Doubles = LEVELS[places] * step.astype(np.float64)[:, None]
    return found


def centred(corpus: Matrix, codes: Codes, similarity: Similarity) -> Doubles:
    x = corpus.astype(np.float64)
    if similarity == "cosine":
        norms = reference.exact_norms(corpus)[:, None]
        x = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    found: Doubles = x - codes.centre.double().numpy()
    return found


def check_bound(queries: Matrix, corpus: Matrix, similarity: Similarity) -> None:
    """What is stored, and estimates with their bounds against scores in float64."""
    dim = corpus.shape[1]
    codes = encode(torch.from_numpy(corpus), cosine=similarity == "cosine")
    assert codes.has_nibbles
    served = np.isfinite(codes.code_norm.numpy())
    k, residual, int8_residual, scale, along = (
        part.numpy().astype(np.float64).reshape(-1)[served]
        for part in (
            codes.code_norm,
            codes.nibble_residual,
            codes.residual_norm,
            codes.inverse_scale,
            codes.along,
        )
    )
    coarse = levels(codes, dim)[served]
    centre, direction = codes.centre.double().numpy(), codes.direction.double().numpy()
    x = scale[:, None] * centred(corpus, codes, similarity)[served]
    float64 = 2.0**-51 * scale * (1 + np.linalg.norm(centre)) if similarity == "cosine" else 0.0
    assert (residual >= int8_residual).all()
    assert (np.linalg.norm(coarse, axis=1) <= (k + residual) * (1 + 2.0**-50)).all()
    assert (np.linalg.norm(x - coarse, axis=1) <= residual + float64).all()

    gamma = (dim // 4 + 16) * 2.0**-24
    for query in queries[:8].astype(np.float64):
        square = direction @ direction
        with np.errstate(over="ignore"):
            alpha = float(np.float32(query @ direction / square)) if square > 0 else 0.0
        if not np.isfinite(alpha):
            continue
        rest = query - alpha * direction
        largest = np.abs(rest).max()
        if not 2.0**-60 <= largest <= 2.0**60:
            continue
        units = 127 / largest
        t = np.rint(units * rest)
        part = abs(alpha) * np.linalg.norm(direction)
        rounding = 2.0**-18 * (units * np.linalg.norm(query) + np.linalg.norm(t)) + (2.0**-18 + gamma) * (
            units * part
        )
        half = (np.linalg.norm(units * rest - t) + rounding) * k
        half += (units * np.linalg.norm(rest) + rounding) * residual
        middle = units * alpha * along + coarse @ t
        exact = units * (x @ query)
        assert (np.abs(exact - middle) <= half * (1 + 2.0**-40)).all()


def wide(build: Builder, rows: int) -> tuple[Matrix, Matrix]:
    """A builder's vectors, repeated until they have more than 64 dims and there are so many of them."""
    queries, corpus = build(np.random.default_rng(7))
    times = 65 // corpus.shape[1] + 1
    queries, corpus = (np.tile(x, (1, times)) for x in (queries, corpus))
    return queries, np.tile(corpus, (-(-rows // len(corpus)), 1))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_bounds_of_adversarial_rows(build: Builder, similarity: Similarity) -> None:
    queries, corpus = wide(build, 1)
    check_bound(queries, np.concatenate([corpus, queries]), similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dim", [65, 127, 128, 129, 191, 193, 384, 1000, 4097])
def test_bounds_at_awkward_dims(dim: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(dim)
    corpus = normal(rng, 300, dim) + np.float32(0.3)
    check_bound(normal(rng, 8, dim), corpus, similarity)
    codes = encode(torch.from_numpy(corpus), cosine=similarity == "cosine")
    # Lloyd's 16 levels leave 0.0975 of normal numbers; a narrow bound is what they are for.
    assert bool((codes.nibble_residual[:, 0] <= 0.3 * codes.code_norm).all())
    assert float((codes.nibble_residual[:, 0] / codes.code_norm).mean()) < 0.115


def test_small_dims_and_single_searches_have_none() -> None:
    assert not encode(torch.ones(5, 64), cosine=False).has_nibbles
    assert encode(torch.ones(5, 65), cosine=False).nibbles.shape == (5, 64)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_results_of_adversarial_rows(build: Builder, similarity: Similarity) -> None:
    queries, corpus = wide(build, LEAST_BYTES // 128)
    queries = queries[3:7]
    cosine = similarity == "cosine"
    vectors, codes = torch.from_numpy(corpus), encode(torch.from_numpy(corpus), cosine=cosine)
    assert codes.codes.nbytes >= LEAST_BYTES
    scores, indices = reference.search(queries, corpus, 300, similarity=similarity)
    for nq, k, screening in ((1, 10, "auto"), (2, 1, "int8"), (3, 300, "int8"), (4, 10, "int8")):
        found = native_search(
            torch.from_numpy(queries[:nq]), vectors, codes, k, cosine=cosine, screening=screening
        )
        assert_same_bits(found[1].numpy(), indices[:nq, :k], f"indices {nq} {k}")
        assert_same_bits(found[0].numpy(), scores[:nq, :k], f"scores {nq} {k}")


N, DIM = 24_000, 130  # an odd number of tiles, and 192 bytes of codes a passage


@pytest.fixture(scope="module")
def many() -> tuple[torch.Tensor, torch.Tensor, Codes]:
    """Queries near passages that lie apart, then passages that are nearly the same, where nibbles decide nothing."""
    rng = np.random.default_rng(3)
    corpus = normal(rng, N, DIM)
    corpus[8000:16_000] = corpus[8000] + np.float32(1e-3) * corpus[8000:16_000]
    queries = corpus[[5, 9000, 20_000, 23_999]] + np.float32(0.5) * normal(rng, 4, DIM)
    vectors = torch.from_numpy(corpus)
    return torch.from_numpy(queries), vectors, encode(vectors, cosine=False)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("nq", [1, 2, 3, 4])
def test_results_with_filters_and_slices(
    many: tuple[torch.Tensor, torch.Tensor, Codes], nq: int, threads: int
) -> None:
    queries, vectors, codes = many[0][:nq], *many[1:]
    rng = np.random.default_rng(nq)
    allowed = rng.random(N) < 0.3
    allowed[:6000] = False
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for filter, accepts in (
            (None, None),
            (SearchFilter(allowed=allowed), np.broadcast_to(allowed, (nq, N))),
        ):
            expected = reference.search(queries.numpy(), vectors.numpy(), 100, accepts=accepts)
            for k in (1, 10, 100):
                found = native_search(
                    queries, vectors, codes, k, cosine=False, filter=filter, screening="int8"
                )
                assert_same_bits(found[1].numpy(), expected[1][:, :k], f"indices k={k}")
                assert_same_bits(found[0].numpy(), expected[0][:, :k], f"scores k={k}")
    finally:
        torch.set_num_threads(before)


def test_ranges(many: tuple[torch.Tensor, torch.Tensor, Codes]) -> None:
    queries, vectors, codes = many
    without = replace(codes, nibbles=codes.nibbles[:, :0], nibble_residual=codes.nibble_residual[:, :0])
    least = torch.tensor([30.0, 0.0, 40.0, torch.inf], dtype=torch.float64)
    one, other = (
        native_range(
            queries, vectors, form, least, cosine=False, max_results=1 << 20, filter=None, screening="int8"
        )[0]
        for form in (codes, without)
    )
    assert len(one.indices) > 8000
    for name in vars(one):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_few_queries_go_by_them_and_more_do_not(many: tuple[torch.Tensor, torch.Tensor, Codes]) -> None:
    """Residuals that promise too much lose passages: who reads nibbles is seen from that."""
    queries, vectors, codes = many
    wrong = replace(
        codes,
        nibbles=torch.zeros_like(codes.nibbles),
        nibble_residual=torch.zeros_like(codes.nibble_residual),
    )
    five = queries[
        [0, 2, 3, 0, 2]
    ]  # not the one whose threshold is guessed wrong: it is searched again, alone
    small = wrong.rows(0, 2000)
    for given, passages, form, misled in (
        (queries, vectors, wrong, True),
        (queries[:1], vectors, wrong, True),
        (five, vectors, wrong, False),
        (queries, vectors[:2000], small, False),  # from the cache codes come as fast
    ):
        expected = reference.search(given.numpy(), passages.numpy(), 10)[1]
        found = native_search(given, passages, form, 10, cosine=False, screening="int8")[1]
        assert (found.tolist() != expected.tolist()) == misled
