"""An index over a tensor on a GPU, whose kernels are emulated here: nothing comes to the CPU before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pyhbt import ExactIndex
from pyhbt.retrieval.index import exact, on_device
from pyhbt.retrieval.index.on_device import OnDevice
from tests.emulated import emulated_kernels


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tensors stand for those of a device; lengths of what was encoded on the CPU."""
    native, found = emulated_kernels(), []
    refer_to = on_device.refer_to

    def counted(vectors: torch.Tensor, **options: Any) -> Any:
        found.append(len(vectors))
        return refer_to(vectors, **options)

    monkeypatch.setattr(on_device, "kernels", lambda _: native)
    monkeypatch.setattr(exact, "on_device", lambda _: True)
    monkeypatch.setattr(on_device, "refer_to", counted)
    monkeypatch.setattr(exact, "refer_to", None)  # the way by the CPU
    monkeypatch.setattr(ExactIndex, "_kernels", lambda _: native)
    return found


def passages(rows: int = 60) -> torch.Tensor:
    return torch.randn(rows, 12, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_searches_need_nothing_of_the_cpu(similarity: Any, encoded: list[int]) -> None:
    vectors = passages()
    index = ExactIndex(vectors, similarity=similarity)
    assert (len(index), index.dim, index.dtype) == (60, 12, torch.float32)
    found = index.search(vectors[:5], 3)
    ranked = index.ranks(vectors[:5], found[1])
    assert encoded == []
    assert index._held.vectors.data_ptr() == vectors.data_ptr()
    codes = index.codes  # asked for, made once
    assert index.codes is codes
    assert encoded == [60]
    expected = OnDevice(vectors, cosine=similarity == "cosine").parts
    assert torch.equal(codes.codes, expected.codes.codes)
    assert isinstance(ranked, torch.Tensor)
    assert ranked.tolist() == [[1, 2, 3]] * 5


def test_saved_and_added_to(encoded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = passages()
    index = ExactIndex(vectors)
    index.save(tmp_path / "saved")
    assert encoded == [60]
    index.add(passages(7))
    assert len(index) == 67
    found = index.search(vectors[:5], 4)
    monkeypatch.undo()
    direct = ExactIndex(torch.cat([vectors, passages(7)])).search(vectors[:5], 4)
    assert torch.equal(found[1], direct[1])
    assert torch.equal(found[0], direct[0])
    assert len(ExactIndex.open(tmp_path / "saved")) == 60


def test_refuses_as_on_the_cpu(encoded: list[int]) -> None:
    vectors = passages()
    vectors[17, 3] = torch.nan
    with pytest.raises(ValueError, match="corpus: row 17 holds a NaN"):
        ExactIndex(vectors)
    with pytest.raises(TypeError, match="corpus"):
        ExactIndex(passages().long())
    assert encoded == []


def test_only_a_tensor_of_a_device_that_has_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not on_device.on_device(passages())
    assert not on_device.on_device([[1.0]])
    monkeypatch.setattr(on_device, "kernels", lambda _: None)
    with pytest.raises(RuntimeError, match="found no kernels"):
        OnDevice(passages(), cosine=False).corpus()
