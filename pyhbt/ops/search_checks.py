"""What exact search and ranks take, and the border that refuses all else."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch

from pyhbt.arguments import check_choice, check_type, whole_number
from pyhbt.ops import checks
from pyhbt.ops._native import core
from pyhbt.ops.dtypes import VECTOR_DTYPES
from pyhbt.ops.filters import SearchFilter

Similarity: TypeAlias = Literal["dot", "cosine"]
Screening: TypeAlias = Literal["auto", "int8", "float32"]

_SIMILARITIES = ("dot", "cosine")


def check_vectors(tensor: torch.Tensor, name: str) -> None:
    """Refuse what is no matrix of float32, float16, bfloat16, int8 or float8 on the CPU or a CUDA device.

    Raises:
        ValueError: another device or shape.
        TypeError: another dtype.
    """
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{name}: found device {tensor.device}, expected cpu or cuda; move it there with .cpu()"
        )
    if tensor.dtype not in VECTOR_DTYPES:
        expected = ", ".join(map(str, VECTOR_DTYPES))
        raise TypeError(f"{name}: found dtype {tensor.dtype}, expected one of {expected}")
    checks.check_matrix(tensor, name)


def search_device(device: str | torch.device) -> torch.device:
    """The device of that name, with its number.

    Raises:
        ValueError: neither cpu nor cuda.
    """
    wanted = torch.device(device)
    if wanted.type not in ("cpu", "cuda"):
        raise ValueError(f"device: found {wanted}, expected cpu or cuda")
    if wanted.type == "cuda" and wanted.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return wanted


def check_embeddings(queries: torch.Tensor, corpus: torch.Tensor) -> None:
    """Refuse what :func:`search` refuses about its two matrices.

    Raises:
        ValueError: a device or shape, or two that do not fit.
        TypeError: another dtype.
    """
    check_vectors(queries, "queries")
    check_vectors(corpus, "corpus")
    checks.check_same_dim(corpus, "corpus", queries, "queries")
    if corpus.device != queries.device:
        raise ValueError(
            f"corpus: found device {corpus.device}, expected {queries.device} (the device of queries)"
        )


def check_k(k: Any, num_passages: int, name: str = "k") -> int:
    """``k``, no more than there are passages (at least 1), so that no k takes memory for nothing.

    Raises:
        TypeError: no whole number.
        ValueError: below 1.
    """
    return min(whole_number(name, k, 1), max(1, num_passages))


def check_targets(targets: torch.Tensor, queries: torch.Tensor) -> None:
    """Refuse what is not one row of int64 targets for each query, on their device.

    Raises:
        ValueError: another shape or device.
        TypeError: another dtype.
    """
    checks.check_integers(targets, "targets")
    rows = len(queries)
    if targets.ndim not in (1, 2) or targets.shape[0] != rows:
        raise ValueError(f"targets: found shape {tuple(targets.shape)}, expected ({rows},) or ({rows}, t)")
    if targets.device != queries.device:
        raise ValueError(
            f"targets: found device {targets.device}, expected {queries.device} (the device of queries)"
        )


def check_options(
    similarity: str, screening: str, device: str = "cpu", filter: SearchFilter | None = None
) -> None:
    """Refuse an unknown similarity or screening, and what is no filter.

    Raises:
        ValueError: unknown, or a kind of screening that the device has not.
        TypeError: another filter than a :class:`SearchFilter`.
    """
    check_choice("similarity", similarity, _SIMILARITIES)
    check_choice("screening", screening, core.SCREENINGS if device == "cpu" else ("auto",))
    if filter is not None:
        check_type("filter", filter, SearchFilter)
