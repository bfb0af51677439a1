"""Exact search against the float64 twin, bit for bit: there is no tolerance, whatever the input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyhbt.ops import ranks, reference, search
from pyhbt.ops._native import build_info
from pyhbt.ops.exact import native_search
from pyhbt.ops.search_checks import Screening, Similarity
from tests import adversarial
from tests.adversarial import (
    BUILDERS,
    SCREENINGS,
    SIMILARITIES,
    Builder,
    assert_same_bits,
    check_search,
    normal,
)
from tests.interpreter import run_python

SIZES = (1, 2, 7, 8, 9, 31, 33, 127, 129)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("n", SIZES)
def test_awkward_sizes(n: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(n)
    for dim in (1, 7, 33):
        queries, corpus = normal(rng, 129, dim), normal(rng, n, dim)
        check_search(queries, corpus, (1, n, n + 3), rows=(1, 7, 33, 129), similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dim", [1, 2, 3, 63, 64, 65, 127, 129, 384, 1000, 4097])
def test_awkward_dims(dim: int, similarity: Similarity) -> None:
    rng = np.random.default_rng(dim)
    check_search(normal(rng, 5, dim), normal(rng, 1100, dim), (1, 20), rows=(1, 5), similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_numbers_of_queries(similarity: Similarity) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = normal(rng, 300, 9), normal(rng, 3000, 9).round(1)
    check_search(queries, corpus, (1, 10, 1000), rows=(1, 2, 3, 4, 5, 33, 64, 300), similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_adversarial_inputs(build: Builder, similarity: Similarity) -> None:
    queries, corpus = build(np.random.default_rng(7))
    check_search(queries, corpus, (1, 10, 700), rows=(1, 5, 66), similarity=similarity)


@pytest.mark.slow
def test_dims_beyond_what_int32_holds(restore_threads: None) -> None:
    torch.set_num_threads(1)
    rows = np.repeat(np.arange(1, 201) / 256, 2)[:, None] * np.tile([[-1], [1]], (200, 1))
    rows[-2:] = [[-1], [1]]  # the mean is 0
    corpus = torch.from_numpy(rows).half().expand(400, 140_000).contiguous()
    for screening in SCREENINGS:
        scores, indices = search(torch.ones(1, 140_000), corpus, 1, screening=screening)
        assert (scores.item(), indices.item()) == (140_000.0, 399)


def test_flushed_subnormals_do_not_show() -> None:
    rng = np.random.default_rng(7)
    pairs = (
        adversarial.scaled(1e-39, 1e-3)(rng),
        adversarial.scaled(1, 1e-42)(rng),
        adversarial.subnormal_integers(rng),
    )
    assert torch.set_flush_denormal(True)
    try:
        found = [
            search(*pair, 10, similarity=similarity, screening=screening)
            for pair in pairs
            for similarity in SIMILARITIES
            for screening in SCREENINGS
        ]
    finally:
        torch.set_flush_denormal(False)
    expected = [
        reference.search(*pair, 10, similarity=similarity)
        for pair in pairs
        for similarity in SIMILARITIES
        for _ in SCREENINGS
    ]
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one[1], other[1], "indices")
        assert_same_bits(one[0], other[0], "scores")


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
    for similarity in SIMILARITIES:
        check_search(queries, corpus, (max(1, n + extra),), similarity=similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("screening", SCREENINGS)
def test_threads_do_not_show(screening: Screening, similarity: Similarity, restore_threads: None) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = normal(rng, 300, 33), normal(rng, 5000, 33).round(1)
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        results.append(
            [
                search(queries[:rows], corpus, 20, similarity=similarity, screening=screening)
                for rows in (1, 5, 70, 300)
            ]
        )
    for other in results[1:]:
        for (scores, indices), (other_scores, other_indices) in zip(results[0], other, strict=True):
            assert_same_bits(other_indices, indices, "indices")
            assert_same_bits(other_scores, scores, "scores")


def test_searches_side_by_side_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(1)
    queries = normal(rng, 70, 16)
    corpora = [normal(rng, 2000 + 300 * i, 16) for i in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda corpus: search(queries, corpus, 9, screening="int8"), corpora * 4))
    for corpus, (scores, indices) in zip(corpora * 4, found, strict=True):
        expected_scores, expected_indices = reference.search(queries, corpus, 9)
        assert_same_bits(indices, expected_indices, "indices")
        assert_same_bits(scores, expected_scores, "scores")


_LEVEL_PROGRAM = """
import sys
import numpy as np
import torch
from pyhbt.ops import ranks, search
from pyhbt import ExactIndex
from pyhbt.ops.filters import SearchFilter
rng = np.random.default_rng(5)
queries = rng.standard_normal((70, 37)).astype(np.float32)
corpus = rng.standard_normal((3000, 37)).astype(np.float32)
corpus[:, 3] += 5
corpus[1000:1300] = (corpus[:1] * (1 + 1e-7 * rng.standard_normal((300, 37)))).astype(np.float32)
partitions, exclude = rng.integers(0, 4, 3000), rng.integers(-1, 3000, (70, 3))
results = {}
for pool in (False, True):
    for similarity in ("dot", "cosine"):
        for screening in ("auto", "int8", "float32"):
            for nq, dtype in zip((2, 3, 5, 70, 70), (torch.bfloat16, *[torch.float32] * 3, torch.bfloat16)):
                q, c = torch.from_numpy(queries[:nq]), torch.from_numpy(corpus).to(dtype)
                own = {"query_partitions": np.arange(nq) % 3, "exclude": exclude[:nq]}
                only = SearchFilter(passage_partitions=partitions, **own)
                options = {"similarity": similarity, "screening": screening, "filter": only if pool else None}
                scores, indices = search(q, c, 200, **options)
                name = f"{pool} {similarity} {screening} {dtype} {nq}"
                results[name + " scores"], results[name + " indices"] = scores.numpy(), indices.numpy()
                targets = indices[:, ::40].contiguous()
                results[name + " ranks"] = ranks(q, c, targets, **options).numpy()
                index, chosen = ExactIndex(c, similarity=similarity), {"filter": options["filter"]}
                again = index.search(q, 200, screening=screening, **chosen)
                results[name + " index scores"], results[name + " index"] = again[0].numpy(), again[1].numpy()
                assert (results[name + " index"] == indices.numpy()).all()
                again = index.ranks(q, targets, screening=screening, **chosen).numpy()
                assert (again == results[name + " ranks"]).all()
np.savez(sys.argv[1], **results)
"""


def test_instruction_sets_agree_bit_for_bit(tmp_path: Any) -> None:
    results = []
    for level in build_info()["simd_supported"]:
        path = tmp_path / f"level-{level}.npz"
        run_python(_LEVEL_PROGRAM, path, PYHBT_SIMD=level)
        results.append(dict(np.load(path)))
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for name, values in results[0].items():
            assert_same_bits(other[name], values, name)


_INTERRUPT_PROGRAM = """
import os, signal, threading, time
import torch
from pyhbt.ops import ranks, search
queries = torch.randn(20_000, 64)
corpus = torch.randn(1, 64).expand(400_000, 64)  # nothing but ties: minutes
sent = 0.0
def interrupt():
    global sent
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
for screening in ("auto", "int8", "float32"):
    for call, last in ((search, 10), (ranks, torch.zeros(20_000, dtype=torch.int64))):
        threading.Timer(0.5, interrupt).start()
        try:
            call(queries, corpus, last, screening=screening)
        except KeyboardInterrupt:
            print(time.monotonic() - sent)
assert search(queries[:2], corpus[:5], 1)[1].tolist() == [[0], [0]]
"""


def test_ctrl_c_stops_a_long_call() -> None:
    seconds = [float(line) for line in run_python(_INTERRUPT_PROGRAM).stdout.splitlines()]
    assert len(seconds) == 6
    assert max(seconds) < 1


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_same_numbers_widened(dtype: torch.dtype, similarity: Similarity) -> None:
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(66, 33, generator=generator)
    corpus = torch.randn(2200, 33, generator=generator)
    corpus[:, 3] *= 30
    corpus[::50] *= 1e-6  # subnormal float16 numbers
    corpus[7::50] *= 400
    for left in (queries, queries.to(dtype)):
        check_search(left, corpus.to(dtype), (1, 10, 700), rows=(1, 4, 5, 66), similarity=similarity)
        check_search(left[:, 5:26], corpus.to(dtype)[::2, 5:26], (10,), rows=(1, 66), similarity=similarity)


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
    check_search(queries, corpus, (5,))


def test_exact_scores_are_handed_out() -> None:
    rng = np.random.default_rng(2)
    queries, corpus = normal(rng, 7, 16), normal(rng, 20, 16)
    for similarity in SIMILARITIES:
        exact = torch.empty(7, 23, dtype=torch.float64)
        _, indices = native_search(
            torch.from_numpy(queries),
            torch.from_numpy(corpus),
            None,
            23,
            cosine=similarity == "cosine",
            exact_scores=exact,
        )
        expected = np.take_along_axis(
            reference.exact_scores(queries, corpus, similarity=similarity), indices[:, :20].numpy(), axis=1
        )
        assert_same_bits(exact[:, :20].numpy(), expected, similarity)
        assert bool(exact[:, 20:].isneginf().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("screening", SCREENINGS)
@pytest.mark.parametrize("rows", [1, 9, 70])
def test_first_non_finite_row_is_named(rows: int, screening: Screening, dtype: torch.dtype) -> None:
    corpus = torch.ones(5000, 8, dtype=dtype)
    corpus[[4000, 300, 2500], [1, 7, 3]] = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=dtype)
    for similarity in SIMILARITIES:
        with pytest.raises(ValueError, match="corpus: row 300 holds a NaN or an infinity"):
            search(torch.zeros(rows, 8), corpus, 3, similarity=similarity, screening=screening)


@pytest.mark.parametrize("screening", SCREENINGS)
def test_nothing_to_search_or_to_find(screening: Screening) -> None:
    for similarity in SIMILARITIES:
        scores, indices = search(
            np.ones((2, 4), np.float32),
            np.ones((0, 4), np.float32),
            3,
            similarity=similarity,
            screening=screening,
        )
        assert np.all(np.isneginf(scores))
        assert np.all(indices == -1)
        scores, indices = search(
            np.ones((0, 4), np.float32),
            np.ones((9, 4), np.float32),
            3,
            similarity=similarity,
            screening=screening,
        )
        assert scores.shape == indices.shape == (0, 3)


def test_opcheck() -> None:
    queries, corpus = torch.randn(5, 8), torch.randn(20, 8)
    for similarity in ((), (True,)):
        torch.library.opcheck(torch.ops.pyhbt.search.default, (queries, corpus, 3, *similarity))
        torch.library.opcheck(torch.ops.pyhbt.ranks.default, (queries, corpus, torch.arange(5), *similarity))


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
            r"queries: found device meta, expected cpu or cuda; move it there with .cpu\(\)",
            (Q.to("meta"), C, 1),
        ),
        (
            TypeError,
            r"corpus: found dtype torch.float64, expected one of torch.float32, torch.float16, torch.bfloat16",
            (Q, C.double(), 1),
        ),
        (TypeError, r"queries: found dtype torch.int64, expected one of torch.float32", (Q.long(), C, 1)),
        (TypeError, r"queries: found list, expected a torch tensor or a NumPy array", ([[1.0]], C, 1)),
    ],
)
def test_errors_name_the_argument(error: type, match: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(error, match=match):
        search(*args)


@pytest.mark.parametrize("call", [search, ranks])
def test_unknown_options_are_refused(call: Any) -> None:
    last: Any = 1 if call is search else torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"similarity: found 'l2', expected one of dot, cosine"):
        call(Q, C, last, similarity="l2")
    with pytest.raises(ValueError, match=r"screening: found 'int4', expected one of auto, int8, float32"):
        call(Q, C, last, screening="int4")


def test_foreign_byte_order_is_refused() -> None:
    with pytest.raises(TypeError, match=r"queries: found dtype >f4, expected native"):
        search(np.zeros((2, 4), dtype=">f4"), np.zeros((2, 4), np.float32), 1)
