"""How an index comes to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pyhbt.retrieval.index.building import build_files, check_block, read_blocks, refer_to
from pyhbt.retrieval.index.storage import Parts


def parts_of(vectors: torch.Tensor) -> Parts:
    return refer_to(vectors, cosine=False, progress=False)


def test_a_matrix_is_referred_to() -> None:
    vectors = torch.randn(20, 4)
    assert parts_of(vectors).vectors.data_ptr() == vectors.data_ptr()


def test_blocks_in_memory_and_in_files_are_one_index(tmp_path: Path) -> None:
    vectors = torch.randn(50, 4)

    def pieces() -> Iterator[torch.Tensor]:
        yield from vectors.split(20)

    in_memory = read_blocks(pieces(), cosine=True, progress=False)
    in_files = build_files(pieces(), tmp_path / "index", None, similarity="cosine", progress=False)
    for name, tensor in vars(in_memory.codes).items():
        assert torch.equal(tensor, getattr(in_files.codes, name)), name
    assert torch.equal(in_memory.vectors, vectors)
    assert torch.equal(in_files.vectors, vectors)


def test_no_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="corpus: found no block"):
        read_blocks(iter(()), cosine=False, progress=False)
    with pytest.raises(ValueError, match="corpus: found no block"):
        build_files(iter(()), tmp_path / "index", None, similarity="dot", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_does_not_go_on_is_refused() -> None:
    parts = parts_of(torch.randn(3, 4))
    with pytest.raises(ValueError, match="corpus: found dim 5, expected 4"):
        check_block(torch.randn(1, 5), parts)
    with pytest.raises(TypeError, match=r"corpus: found dtype torch.float16, expected torch.float32"):
        check_block(torch.randn(1, 4).half(), parts)
