"""One table of dtypes, for Python and every native module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyhbt import ExactIndex, contrastive_loss, ranks, search, search_range
from pyhbt.ops._native import core
from pyhbt.ops.checks import as_tensor
from pyhbt.ops.dtypes import DTYPES, VECTOR_DTYPES, in_two_bytes
from pyhbt.ops.search_checks import Similarity
from tests.emulated import emulated_kernels


def test_the_table_is_that_of_the_native_module() -> None:
    assert list(DTYPES.values()) == list(core.DTYPES) == ["float32", "float16", "bfloat16"]
    assert all(str(dtype) == f"torch.{name}" for dtype, name in DTYPES.items())


def test_the_cuda_module_has_the_same() -> None:
    assert list(emulated_kernels().module.DTYPES) == list(core.DTYPES)
    assert set(DTYPES) == {torch.float32, torch.float16, torch.bfloat16}


BYTES = (torch.int8, torch.float8_e4m3fn, torch.float8_e5m2)


def every_byte(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(256, dtype=torch.uint8).view(dtype)


def test_vectors_may_have_one_byte_a_number() -> None:
    assert list(VECTOR_DTYPES.values()) == list(core.VECTOR_DTYPES)
    assert set(VECTOR_DTYPES) == {*DTYPES, *BYTES}


@pytest.mark.parametrize("dtype", BYTES)
def test_every_byte_has_its_value(dtype: torch.dtype) -> None:
    """Its product with 1, in a row of its own, is the number that torch reads."""
    numbers = every_byte(dtype)
    finite = numbers.float().isfinite()
    assert finite.sum() >= 248
    rows = numbers[finite][:, None]
    for screening in ("int8", "float32"):
        scores, indices = search(torch.ones(1, 1), rows, len(rows), screening=screening)  # type: ignore[call-overload]
        assert torch.equal(scores[0], rows.float()[indices[0], 0])
    for row in range(256):
        if not finite[row]:
            with pytest.raises(ValueError, match="corpus: row 0 holds a NaN or an infinity"):
                search(torch.ones(1, 1), numbers[row, None, None], 1, screening="int8")
            with pytest.raises(ValueError, match="queries: row 0 holds a NaN or an infinity"):
                search(numbers[row, None, None], torch.ones(1, 1), 1)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("dtype", BYTES)
def test_search_reads_bytes_as_the_numbers_they_are(dtype: torch.dtype, similarity: Similarity) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(1400, 37, generator=generator) * (40 if dtype == torch.int8 else 1)
    corpus, targets = numbers.to(dtype), torch.randint(0, 1400, (70, 3), generator=generator)
    queries = corpus[::20].float() + 0.1
    for q in (queries, queries.to(dtype)):
        wide = q.float(), corpus.float()
        for screening in ("auto", "int8", "float32"):
            options = {"similarity": similarity, "screening": screening}
            for found, expected in zip(
                search(q, corpus, 20, **options), search(*wide, 20, **options), strict=True
            ):  # type: ignore[call-overload]
                assert torch.equal(found, expected)
            assert torch.equal(
                torch.as_tensor(ranks(q, corpus, targets, **options)),  # type: ignore[arg-type]
                torch.as_tensor(ranks(*wide, targets, **options)),  # type: ignore[arg-type]
            )
        found, expected = (search_range(*both, 5.0, similarity=similarity) for both in ((q, corpus), wide))
        assert torch.equal(torch.as_tensor(found.indices), torch.as_tensor(expected.indices))


@pytest.mark.parametrize("dtype", BYTES)
def test_an_index_of_bytes(dtype: torch.dtype, tmp_path: Path) -> None:
    corpus = (torch.randn(1300, 20) * 10).to(dtype)
    queries = torch.randn(66, 20)
    expected = search(queries, corpus.float(), 10)
    index = ExactIndex(corpus[:900])
    index.add(corpus[900:])
    index.save(tmp_path / "saved")
    ExactIndex(iter(corpus.split(500)), path=tmp_path / "built")
    for here in (index, *(ExactIndex.open(tmp_path / name, verify=True) for name in ("saved", "built"))):
        assert here.dtype == dtype
        assert torch.equal(as_tensor(here.vectors, "vectors").float(), corpus.float())
        for one, other in zip(here.search(queries, 10), expected, strict=True):
            assert torch.equal(one, other)
    with pytest.raises(TypeError, match=f"corpus: found dtype torch.float32, expected {dtype}"):
        index.add(corpus.float())


def test_the_loss_takes_none_of_them() -> None:
    with pytest.raises(TypeError, match=r"queries: found dtype torch.int8"):
        contrastive_loss(torch.ones(2, 4, dtype=torch.int8), torch.ones(2, 4, dtype=torch.int8))


@pytest.mark.parametrize("dtype", BYTES)
def test_two_bytes_hold_every_number(dtype: torch.dtype) -> None:
    numbers = every_byte(dtype)
    wide = numbers.float()
    assert torch.equal(in_two_bytes(numbers).float().nan_to_num(7), wide.nan_to_num(7))
    assert in_two_bytes(numbers).dtype == torch.float16
    assert in_two_bytes(wide) is wide
