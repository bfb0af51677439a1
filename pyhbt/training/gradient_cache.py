"""Gradient caching: a batch as large as time allows, at the memory of a mini-batch.

Source: Gao et al., arXiv 2101.06983, section 3.2. The vectors of the whole batch are made one mini-batch after
another without graph; the loss gives their gradient; then each mini-batch is embedded once more, with graph, and its
part of the gradient sent back. The second pass draws the dropout of the first: gradients equal those of one pass up
to rounding. Time: one forward pass more than the plain step. Memory: activations of one mini-batch, and O(t dim) for
t texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from pyhbt.encoders.base import Features


class RandomState:
    """Torch's generators of the CPU and of one device, as they stand."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draw from here inside the block; after it the generators stand where they stood before."""
        before = RandomState(self._device)
        self._set()
        try:
            yield
        finally:
            before._set()

    def _set(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


class GradientCache:
    """The first pass over the mini-batches of a batch, made at once; then :meth:`backward`, the second.

    Args:
        embed: vectors (n, dim) of the texts of some mini-batches.
        mini-batches: the batch.
        device: where the vectors are, and dropout draws.

    ``vectors``: float32 (t, dim), a leaf for autograd.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Features]], Tensor],
        mini_batches: Sequence[Features],
        device: torch.device,
    ) -> None:
        self._states: list[RandomState] = []
        parts = []
        with torch.no_grad():
            for mini_batch in mini_batches:
                self._states.append(RandomState(device))
                parts.append(embed([mini_batch]).float())
        self._sizes = [len(part) for part in parts]
        self.vectors = torch.cat(parts).requires_grad_()

    def backward(
        self,
        surrogate: Callable[[int, Tensor], Tensor],
        gradient: Tensor,
        backward: Callable[[Tensor], object],
        no_sync: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """``backward(surrogate(i, gradient of its vectors))`` for each mini-batch i, with the dropout of the first
        pass.

        All but the last mini-batch run under ``no_sync()``, so that ranks add gradients up once.
        """
        parts = torch.split(gradient, self._sizes)
        for index, (part, state) in enumerate(zip(parts, self._states, strict=True)):
            last = index == len(parts) - 1
            with nullcontext() if last else no_sync(), state():
                backward(surrogate(index, part))
