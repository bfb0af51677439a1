"""The CUDA kernels emulated on the CPU everywhere, on the device where there is one (-m gpu)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt.ops import _contrastive_op, exact
from pyhbt.ops.cuda import contrastive as cuda_contrastive
from pyhbt.ops.cuda import search as cuda_search
from pyhbt.ops.cuda.kernels import Kernels
from tests import adversarial, losses
from tests.emulated import emulated_kernels


def _emulate(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets operations on CPU tensors take the CUDA path."""

    def corpus_of(corpus: torch.Tensor, cosine: bool) -> cuda_search.Corpus:
        return cuda_search.Corpus.of(kernels, exact.with_dense_rows(corpus), cosine=cosine)

    def found(
        queries: torch.Tensor, corpus: torch.Tensor, codes: object, k: int, *, cosine: bool, **others: Any
    ) -> Any:
        others.pop("screening", None)
        return cuda_search.search(
            kernels, exact.with_dense_rows(queries), corpus_of(corpus, cosine), k, **others
        )

    def ranked(
        queries: torch.Tensor,
        corpus: torch.Tensor,
        codes: object,
        targets: Any,
        *,
        cosine: bool,
        **others: Any,
    ) -> Any:
        others.pop("screening", None)
        return cuda_search.ranks(
            kernels, exact.with_dense_rows(queries), corpus_of(corpus, cosine), targets, **others
        )

    monkeypatch.setattr(exact, "native_search", found)
    monkeypatch.setattr(exact, "native_ranks", ranked)
    monkeypatch.setattr(exact, "encoding_pays", lambda *_: False)  # no codes: nothing would read them
    monkeypatch.setattr(_contrastive_op, "_native", partial(cuda_contrastive.contrastive_loss, kernels))


def _moved(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    return value.cuda() if isinstance(value, torch.Tensor) else value


def _on_device(operation: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        result = operation(*map(_moved, args), **{name: _moved(value) for name, value in kwargs.items()})
        return tuple(part.cpu() for part in result) if isinstance(result, tuple) else result.cpu()

    return run


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small panels and tiles, so that there are several, and the operations on the device or on the emulator."""
    monkeypatch.setattr(cuda_contrastive, "PANEL_BYTES", 1 << 16)
    monkeypatch.setattr(cuda_search, "SPARE", 256)
    monkeypatch.setattr(cuda_search, "QUERIES_AT_ONCE", 50)
    if request.param == "emulated":
        _emulate(emulated_kernels(), monkeypatch)
    else:
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        for module, name in ((adversarial, "search"), (adversarial, "ranks"), (losses, "contrastive_loss")):
            monkeypatch.setattr(module, name, _on_device(getattr(module, name)))
    return str(request.param)
