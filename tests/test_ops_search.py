"""Exact search against the float64 twin, bit for bit: there is no tolerance, whatever the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import ranks, reference, search
from pyhbt.ops._native import build_info

from .interpreter import run_python

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)
Matrix = npt.NDArray[np.float32]


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def normal(rng: np.random.Generator, *shape: int) -> Matrix:
    return rng.standard_normal(shape).astype(np.float32)


def check(queries: Matrix, corpus: Matrix, k: int) -> None:
    scores, indices = search(queries, corpus, k)
    expected_scores, expected_indices = reference.search(queries, corpus, k)
    assert scores.dtype == np.float32
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("n", SIZES)
def test_awkward_sizes(n: int) -> None:
    rng = np.random.default_rng(n)
    for nq in (1, 7, 33, 129):
        for dim in (1, 7, 33):
            for k in (1, n, n + 3):
                check(normal(rng, nq, dim), normal(rng, n, dim), k)


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_larger_corpus(k: int) -> None:
    rng = np.random.default_rng(k)
    check(normal(rng, 140, 65), normal(rng, 3000, 65), k)


@pytest.mark.parametrize("k", [1, 40, 400])
def test_small_integers_tie_often(k: int) -> None:
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, (33, 5)).astype(np.float32)
    check(queries, rng.integers(-2, 3, (1500, 5)).astype(np.float32), k)


def near_ties(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    base = normal(rng, 1, 64)
    return normal(rng, 9, 64), (base * (1 + 1e-7 * rng.standard_normal((2000, 1)))).astype(np.float32)


def duplicates(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 9, 33), np.repeat(normal(rng, 2, 33), (2000, 1000), axis=0)


def wild_norms(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    factors = np.exp(rng.uniform(-9, 9, (1500, 1))).astype(np.float32)
    return normal(rng, 9, 33) * factors[:9], normal(rng, 1500, 33) * factors


def outlier_dimension(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, 9, 33), normal(rng, 1500, 33)
    corpus[:, 5] += 1000
    return queries, corpus


def zero_rows(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, 9, 33), normal(rng, 1500, 33)
    queries[3] = 0
    corpus[::3] = 0
    return queries, corpus


def subnormal(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 9, 33) * np.float32(1e-39), normal(rng, 1500, 33) * np.float32(1e-3)


def tiny_products(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 9, 33) * np.float32(1e-22), normal(rng, 1500, 33) * np.float32(1e-23)


def all_negative(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return np.abs(normal(rng, 9, 33)), -np.abs(normal(rng, 1500, 33))


def overflowing(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    return normal(rng, 9, 33) * np.float32(1e30), normal(rng, 1500, 33) * np.float32(1e30)


def norms_beyond_float32(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    corpus = normal(rng, 1500, 33)
    corpus[40:90] = np.float32(3e38) * np.sign(corpus[40:90])
    return normal(rng, 9, 33) * np.float32(1e-3), corpus


def cancelling(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    half = normal(rng, 1500, 16) * np.float32(1e6)
    tail = normal(rng, 1500, 1)
    return np.ones((9, 33), np.float32), np.concatenate([half, -half, tail], axis=1)


def overflowing_in_part(rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    queries, corpus = normal(rng, 9, 33), normal(rng, 1500, 33)
    corpus[700:710] *= np.float32(3e37)
    queries[4] *= np.float32(3e37)
    return queries, corpus


ADVERSARIAL = (
    near_ties,
    duplicates,
    wild_norms,
    outlier_dimension,
    zero_rows,
    subnormal,
    tiny_products,
    all_negative,
    overflowing,
    overflowing_in_part,
    norms_beyond_float32,
    cancelling,
)


@pytest.mark.parametrize("k", [1, 10, 700])
@pytest.mark.parametrize("build", ADVERSARIAL)
def test_adversarial_inputs(build: Callable[[np.random.Generator], tuple[Matrix, Matrix]], k: int) -> None:
    queries, corpus = build(np.random.default_rng(7))
    with np.errstate(over="ignore"):
        check(queries, corpus, k)


def test_flushed_subnormals_do_not_show() -> None:
    queries, corpus = subnormal(np.random.default_rng(7))
    assert torch.set_flush_denormal(True)
    try:
        scores, indices = search(queries, corpus, 10)
    finally:
        torch.set_flush_denormal(False)
    expected_scores, expected_indices = reference.search(queries, corpus, 10)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(scores, expected_scores)


@settings(max_examples=60, deadline=None)
@given(
    nq=st.integers(0, 40),
    n=st.integers(0, 60),
    dim=st.integers(1, 20),
    extra=st.integers(-59, 3),
    integers=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_small_shape(nq: int, n: int, dim: int, extra: int, integers: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, corpus = normal(rng, nq, dim), normal(rng, n, dim)
    if integers:
        queries, corpus = queries.round(), corpus.round()
    check(queries, corpus, max(1, n + extra))


def test_threads_do_not_show(restore_threads: None) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 70, 33), normal(rng, 3000, 33).round(1)
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        results.append([search(queries[:rows], corpus, 20) for rows in (1, 5, 70)])
    for other in results[1:]:
        for (scores, indices), (other_scores, other_indices) in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(indices, other_indices)
            np.testing.assert_array_equal(scores, other_scores)


_LEVEL_PROGRAM = """
import sys
import numpy as np
from pyhbt.ops import ranks, search
rng = np.random.default_rng(5)
queries = rng.standard_normal((40, 37)).astype(np.float32)
corpus = rng.standard_normal((900, 37)).astype(np.float32)
scores, indices = search(queries, corpus, 50)
np.savez(sys.argv[1], scores=scores, indices=indices, ranks=ranks(queries, corpus, indices))
"""


def test_instruction_sets_agree_bit_for_bit(tmp_path: Any) -> None:
    results = []
    for level in build_info()["simd_supported"]:
        path = tmp_path / f"level-{level}.npz"
        run_python(_LEVEL_PROGRAM, path, PYHBT_SIMD=level)
        results.append(np.load(path))
    for other in results[1:]:
        for name in ("scores", "indices", "ranks"):
            np.testing.assert_array_equal(results[0][name], other[name])


def test_torch_numpy_and_mixed() -> None:
    rng = np.random.default_rng(2)
    queries, corpus = normal(rng, 7, 8), normal(rng, 31, 8)
    scores, indices = search(queries, corpus, 3)
    pairs: tuple[tuple[Any, Any], ...] = (
        (torch.from_numpy(queries), torch.from_numpy(corpus)),
        (torch.from_numpy(queries), corpus),
        (queries, torch.from_numpy(corpus).requires_grad_()),
    )
    for pair in pairs:
        found = search(*pair, 3)
        assert all(isinstance(value, torch.Tensor) for value in found)
        np.testing.assert_array_equal(found[0].numpy(), scores)
        np.testing.assert_array_equal(found[1].numpy(), indices)


def test_strided_and_read_only_arrays() -> None:
    rng = np.random.default_rng(2)
    queries, corpus = normal(rng, 14, 16)[::2, ::-2], normal(rng, 8, 31).T
    corpus.flags.writeable = False
    check(queries, corpus, 5)


@pytest.mark.parametrize("rows", [1, 4, 5, 17])
def test_few_queries_and_many_agree(rows: int) -> None:
    rng = np.random.default_rng(rows)
    for dim in (1, 8, 33):
        check(normal(rng, rows, dim), normal(rng, 1500, dim).round(1), 40)


@pytest.mark.parametrize("rows", [1, 9])
def test_first_non_finite_row_is_named(rows: int) -> None:
    corpus = np.ones((5000, 8), np.float32)
    corpus[[4000, 300, 2500], [1, 7, 3]] = np.nan, np.inf, -np.inf
    with pytest.raises(ValueError, match="corpus: row 300 holds a NaN or an infinity"):
        search(np.zeros((rows, 8), np.float32), corpus, 3)


def test_empty_corpus_pads() -> None:
    scores, indices = search(np.ones((2, 4), np.float32), np.ones((0, 4), np.float32), 3)
    assert np.all(np.isneginf(scores))
    assert np.all(indices == -1)


def test_opcheck() -> None:
    queries, corpus = torch.randn(5, 8), torch.randn(20, 8)
    torch.library.opcheck(torch.ops.pyhbt.search.default, (queries, corpus, 3))
    torch.library.opcheck(torch.ops.pyhbt.ranks.default, (queries, corpus, torch.arange(5)))


@pytest.mark.filterwarnings("ignore")  # of the compiler stack itself
def test_compiles_without_graph_break() -> None:
    queries, corpus = torch.randn(5, 8), torch.randn(20, 8)

    def first(q: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = search(q * 2, c, 3)[1]
        return ranks(q, c, found) + 0

    assert torch.equal(
        torch.compile(first, fullgraph=True, backend="aot_eager")(queries, corpus), first(queries, corpus)
    )


Q, C = torch.zeros(3, 4), torch.zeros(5, 4)


def with_value(matrix: torch.Tensor, row: int, value: float) -> torch.Tensor:
    changed = matrix.clone()
    changed[row, 2] = value
    return changed


@pytest.mark.parametrize(
    ("error", "match", "args"),
    [
        (ValueError, r"k: found 0, expected at least 1", (Q, C, 0)),
        (ValueError, r"corpus: found dim 3, expected 4", (Q, C[:, :3], 1)),
        (ValueError, r"queries: found 1 dimensions, expected 2", (Q[0], C, 1)),
        (ValueError, r"queries: found dim 0, expected at least 1", (Q[:, :0], C[:, :0], 1)),
        (ValueError, r"corpus: row 4 holds a NaN or an infinity", (Q, with_value(C, 4, float("nan")), 1)),
        (ValueError, r"corpus: row 2 holds a NaN or an infinity", (Q, with_value(C, 2, -float("inf")), 1)),
        (ValueError, r"queries: row 1 holds a NaN or an infinity", (with_value(Q, 1, float("inf")), C, 1)),
        (
            ValueError,
            r"queries: found device meta, expected cpu; move it there with .cpu\(\)",
            (Q.to("meta"), C, 1),
        ),
        (TypeError, r"corpus: found dtype torch.float64, expected torch.float32", (Q, C.double(), 1)),
        (TypeError, r"queries: found dtype torch.int64, expected torch.float32", (Q.long(), C, 1)),
        (TypeError, r"queries: found list, expected a torch tensor or a NumPy array", ([[1.0]], C, 1)),
    ],
)
def test_errors_name_the_argument(error: type, match: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(error, match=match):
        search(*args)


def test_foreign_byte_order_is_refused() -> None:
    with pytest.raises(TypeError, match=r"queries: found dtype >f4, expected native"):
        search(np.zeros((2, 4), dtype=">f4"), np.zeros((2, 4), np.float32), 1)
