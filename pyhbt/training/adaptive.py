"""The adaptive ratio: a controller that gives more batches to the kind that the model is worse at.

With m and c the mean contrastive losses of monolingual and of cross-lingual batches of a dev set, the gap
g = (c - m) / (c + m) lies in [-1, 1]. The ratio aimed at is

    aim = middle + half_width * clip(gain * g, -1, 1)

between the schedule's bounds, and the ratio moves to it by exponential smoothing: r <- r + smoothing * (aim - r).
It is proportional, without integral part: equal losses hold the middle of the range, a gap of 1 / gain or more its end,
and nothing winds up while a gap cannot be closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from pyhbt.arguments import check_at_least
from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import Encoder
from pyhbt.ops import contrastive_loss
from pyhbt.training.batches import Batch, Examples, PairCollator
from pyhbt.training.distributed import first_ranks
from pyhbt.training.sampling import HybridBatchSampler

_BATCHES = 4


@dataclass(frozen=True)
class RatioController:
    """Moves a ratio between ``low`` and ``high`` after the gap of two losses.

    Raises:
        ValueError: bounds that are not 0 <= low < high <= 1, a gain not above 0, a smoothing outside (0, 1].
    """

    low: float
    high: float
    gain: float = 2.0
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low, high: found {self.low}, {self.high}, expected 0 <= low < high <= 1")
        if not 0 < self.gain < float("inf"):
            raise ValueError(f"gain: found {self.gain}, expected a number above 0")
        if not 0 < self.smoothing <= 1:
            raise ValueError(f"smoothing: found {self.smoothing}, expected a number in (0, 1]")

    def next(self, ratio: float, monolingual: float, cross_lingual: float) -> float:
        """The ratio that follows ``ratio`` on these dev losses; it stays where they are not finite or both 0."""
        total = monolingual + cross_lingual
        if not 0 < total < float("inf"):
            return ratio
        gap = (cross_lingual - monolingual) / total
        middle, half_width = (self.low + self.high) / 2, (self.high - self.low) / 2
        aim = middle + half_width * min(1.0, max(-1.0, self.gain * gap))
        moved = ratio + self.smoothing * (aim - ratio)
        return min(self.high, max(self.low, moved))


class DevLosses:
    """Mean in-batch loss of fixed monolingual and cross-lingual batches of ``pairs``.

    Up to four batches of ``batch_size`` pairs a kind, the same at every call; plain InfoNCE at the temperature given.
    Dropout is off and no random number is drawn, so that a training goes on as if it had not been called.

    Raises:
        ValueError: ``pairs`` lack one of the kinds.
    """

    def __init__(self, pairs: PairSet, batch_size: int, encoder: Encoder, temperature: float) -> None:
        self._temperature = temperature
        collate = PairCollator(encoder)
        self._batches: dict[str, list[Batch]] = {}
        for kind, ratio in (("monolingual", 0.0), ("cross-lingual", 1.0)):
            sampler = HybridBatchSampler(pairs, batch_size, ratio=ratio, steps=_BATCHES)
            self._batches[kind] = [collate(Examples.of(pairs, batch)) for batch in sampler]

    @torch.no_grad()
    def __call__(self, encoder: Encoder) -> tuple[float, float]:
        """(monolingual, cross-lingual) loss of the encoder as it is."""
        was_training = encoder.training
        encoder.eval()
        try:
            return self._mean(encoder, "monolingual"), self._mean(encoder, "cross-lingual")
        finally:
            encoder.train(was_training)

    def _mean(self, encoder: Encoder, kind: str) -> float:
        losses = [_loss(encoder, batch, self._temperature) for batch in self._batches[kind]]
        return sum(losses) / len(losses)


class AdaptRatio(TrainerCallback):
    """Sets the sampler's ratio after every ``every`` steps, from dev losses.

    Args:
        encoder: in training.
        sampler: with an adaptive schedule.
        dev_losses: of the encoder.
        every: steps between two settings.
        drawn_ahead: batches that the data loader has drawn beyond the one in use; a new ratio holds from the first
            that it has not, so that a resumed training draws the same batches.
    """

    def __init__(
        self,
        encoder: Encoder,
        sampler: HybridBatchSampler,
        dev_losses: DevLosses,
        *,
        every: int,
        drawn_ahead: int,
    ) -> None:
        check_at_least("adapt_every", every, 1)
        self._encoder = encoder
        self._sampler = sampler
        self._dev_losses = dev_losses
        self.every = every
        self._drawn_ahead = drawn_ahead
        self._ratio = sampler.ratio(0)
        self._controller = RatioController(*sampler.schedule.bounds)
        self.figures: dict[str, float] = {"ratio": self._ratio}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure and set, where it is time."""
        if state.global_step % self.every:
            return
        monolingual, cross_lingual = first_ranks(torch.tensor(self._dev_losses(self._encoder))).tolist()
        self._ratio = self._controller.next(self._ratio, monolingual, cross_lingual)
        self._sampler.set_ratio(
            self._ratio, state.global_step * args.gradient_accumulation_steps + self._drawn_ahead
        )
        self.figures = {
            "ratio": self._ratio,
            "dev_loss_monolingual": monolingual,
            "dev_loss_cross_lingual": cross_lingual,
        }

    def state(self) -> dict[str, Any]:
        """Numbers for JSON, from which :meth:`restore` goes on."""
        return {"figures": self.figures, "ratio_changes": self._sampler.ratio_changes}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.figures = dict(state["figures"])
        self._ratio = self.figures["ratio"]
        self._sampler.ratio_changes = state["ratio_changes"]


def _loss(encoder: Encoder, batch: Batch, temperature: float) -> float:
    texts = [{name: value.to(encoder.device) for name, value in part.items()} for part in batch["texts"]]
    vectors = encoder(texts).float()[batch["order"].to(encoder.device)]
    queries, passages = vectors[: batch["num_queries"]], vectors[batch["num_queries"] :]
    loss = contrastive_loss(
        queries,
        passages,
        batch["positives"].to(encoder.device),
        temperature=temperature,
        query_groups=batch["query_groups"].to(encoder.device),
        passage_groups=batch["passage_groups"].to(encoder.device),
    )
    return float(loss)
