"""What the batches since the last log were: losses by kind and by term, examples a second.

A checkpoint carries the tally, so that a resumed training logs what an uninterrupted one does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_KINDS = {False: "monolingual", True: "cross_lingual"}


class Tally:
    """Adds up from one log to the next; losses stay tensors until then, so that nothing waits for a device.

    ``finite_only``: the means leave out losses that are NaN or infinite.
    """

    def __init__(self, *, finite_only: bool = False) -> None:
        self._finite_only = finite_only
        self._losses: list[tuple[bool, Tensor]] = []
        self._terms: dict[str, list[Tensor]] = {}
        self._examples = 0
        self._since: float | None = None

    def begin(self) -> None:
        """The first batch of all begins: time counts from here."""
        if self._since is None:
            self._since = time.monotonic()

    def leave_out(self, seconds: float) -> None:
        """Time that was not spent on training."""
        if self._since is not None:
            self._since += seconds

    def add(self, cross_lingual: bool, loss: Tensor, terms: Mapping[str, Tensor], examples: int) -> None:
        """A batch: its loss and the terms of it over all ranks, and this rank's examples."""
        self._losses.append((cross_lingual, loss))
        for name, term in terms.items():
            self._terms.setdefault(name, []).append(term)
        self._examples += examples

    def drain(self) -> dict[str, float]:
        """The figures since the last call; none if there was no batch."""
        if not self._losses:
            return {}
        now = time.monotonic()
        losses = {"loss": [loss for _, loss in self._losses]}
        for kind, name in _KINDS.items():
            losses[f"loss_{name}"] = [loss for cross, loss in self._losses if cross == kind]
        losses |= {f"loss_{name}": terms for name, terms in self._terms.items()}
        figures = {name: mean for name, values in losses.items() if (mean := self._mean(values)) is not None}
        figures["cross_lingual_share"] = sum(cross for cross, _ in self._losses) / len(self._losses)
        if self._since is not None and now > self._since:
            figures["examples_per_second"] = self._examples / (now - self._since)
        self._losses, self._terms = [], {}
        self._examples, self._since = 0, now
        return figures

    def state(self) -> dict[str, Any]:
        """Numbers for JSON, from which :meth:`restore` goes on; time apart."""
        return {
            "losses": [[cross, loss.item()] for cross, loss in self._losses],
            "terms": {name: [term.item() for term in terms] for name, terms in self._terms.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._losses = [(cross, torch.tensor(loss)) for cross, loss in state["losses"]]
        self._terms = {name: [torch.tensor(term) for term in terms] for name, terms in state["terms"].items()}

    def _mean(self, values: list[Tensor]) -> float | None:
        """The mean; None where there is no value."""
        if not values:
            return None
        losses = torch.stack([value.cpu() for value in values])
        if self._finite_only:
            losses = losses[losses.isfinite()]
        return losses.mean().item() if len(losses) else None
