"""HybridTrainer: a ``transformers.Trainer`` with hybrid batches and the fused contrastive loss.

Checkpoints, resume, mixed precision, gradient accumulation, loggers and torchrun are the Trainer's own; this adds
the sampler, the collator, the loss, what is logged of them, and evaluation by a callback.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from pyhbt.collate import Batch, PairCollator
from pyhbt.data.types import PairSet
from pyhbt.encoders import Encoder
from pyhbt.ops import contrastive_loss
from pyhbt.sampling import CrossPairs, GroupPolicy, HybridBatchSampler
from pyhbt.schedules import RatioSchedule

Evaluate = Callable[[Encoder, int], Mapping[str, float]]


class HybridTrainer(Trainer):
    """Trains an encoder on hybrid batches by in-batch contrastive loss.

    Args:
        encoder: the encoder, trained in place.
        args: the Trainer's arguments; ``per_device_train_batch_size`` counts pairs, ``data_seed`` (or ``seed``)
            fixes the order of batches. Without ``max_steps`` an epoch is long enough to draw every distinct
            query once.
        pairs: training pairs.
        ratio: probability that a batch is cross-lingual: a number or a schedule over the whole training.
        temperature: divides the scores in the loss.
        symmetric: add the passage-to-query direction.
        language_sampling, cross_pairs, groups: see :class:`HybridBatchSampler`.
        evaluate: called with the encoder and the number of steps done whenever the Trainer evaluates
            (``eval_strategy``, ``eval_on_start``); what it returns is logged under ``eval_``.
        callbacks, optimizers: the Trainer's own.

    Logged at every ``logging_steps``: ``loss``, ``loss_monolingual`` and ``loss_cross_lingual`` (means over the
    batches of that kind since the last log, where there were any), ``cross_lingual_share`` of batches, and
    ``examples_per_second`` of this rank.

    Each rank contrasts the passages of its own batch.

    Raises:
        ValueError: arguments that :class:`HybridBatchSampler` refuses.
    """

    def __init__(
        self,
        encoder: Encoder,
        args: TrainingArguments,
        pairs: PairSet,
        *,
        ratio: float | str | RatioSchedule = 0.5,
        temperature: float = 0.05,
        symmetric: bool = False,
        language_sampling: float | Literal["uniform", "size"] = "uniform",
        cross_pairs: CrossPairs = "single",
        groups: GroupPolicy = "distinct",
        evaluate: Evaluate | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        args = copy.copy(args)
        args.remove_unused_columns = False
        accumulation = args.gradient_accumulation_steps

        def sampler(steps: int | None) -> HybridBatchSampler:
            return HybridBatchSampler(
                pairs,
                args.per_device_train_batch_size,
                ratio=ratio,
                steps=steps,
                seed=args.seed if args.data_seed is None else args.data_seed,
                language_sampling=language_sampling,
                cross_pairs=cross_pairs,
                groups=groups,
                num_ranks=args.world_size,
            )

        # The whole training is one epoch of the sampler: a schedule spans it, and resuming after a checkpoint
        # never depends on which epoch a wrapped data loader believes it is in.
        if args.max_steps <= 0:
            args.max_steps = math.ceil(args.num_train_epochs * sampler(None).steps / accumulation)
        self.sampler = sampler(args.max_steps * accumulation)
        self.encoder = encoder
        self.pairs = pairs
        self.temperature = temperature
        self.symmetric = symmetric
        self._evaluate_encoder = evaluate
        self._tally = _Tally()
        super().__init__(
            model=encoder,
            args=args,
            data_collator=PairCollator(encoder),  # type: ignore[arg-type]  # a Batch is a dict
            train_dataset=pairs,
            eval_dataset=[] if evaluate is not None else None,
            callbacks=list(callbacks) if callbacks is not None else None,
            optimizers=optimizers,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Hybrid batches, dealt out to the ranks by accelerate."""
        loader: DataLoader[Any] = DataLoader(
            self.pairs,  # type: ignore[arg-type]  # a Sequence is a map-style dataset
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        self.accelerator.even_batches = False  # the sampler gives every rank as many batches as any other
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,  # type: ignore[override]
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The contrastive loss of one batch, scores masked by passage group."""
        self._tally.begin()
        queries, passages = model(inputs["queries"], inputs["passages"])
        loss = contrastive_loss(
            queries.float(),
            passages.float(),
            temperature=self.temperature,
            symmetric=self.symmetric,
            query_groups=inputs["query_groups"],
            passage_groups=inputs["passage_groups"],
        )
        self._tally.add(bool(inputs["cross_lingual"]), loss.detach(), len(queries))
        return (loss, {"queries": queries, "passages": passages}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the batches since the last log were to a row that carries their loss."""
        if "loss" in logs:
            logs.update(self._tally.drain())
        super().log(logs, start_time)

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Call the ``evaluate`` callback and log what it returns.

        Raises:
            ValueError: the trainer was made without the callback.
        """
        if self._evaluate_encoder is None:
            raise ValueError("evaluate: found None, expected a function of (encoder, step)")
        started = time.monotonic()
        measured = self._evaluate_encoder(self.encoder, self.state.global_step)
        self._tally.leave_out(time.monotonic() - started)
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in measured.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the encoder as its own folder format, which ``load_encoder`` and others read."""
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            self.encoder.save(folder)
            torch.save(self.args, folder / "training_args.bin")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.encoder.load_weights(resume_from_checkpoint)


class _Tally:
    """Losses by batch kind, examples and time since the last log."""

    def __init__(self) -> None:
        self._losses: dict[bool, list[Tensor]] = {False: [], True: []}
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

    def add(self, cross_lingual: bool, loss: Tensor, examples: int) -> None:
        self._losses[cross_lingual].append(loss)
        self._examples += examples

    def drain(self) -> dict[str, float]:
        """The figures since the last call; none if there was no batch."""
        batches = sum(map(len, self._losses.values()))
        if not batches or self._since is None:
            return {}
        now = time.monotonic()
        figures = {
            f"loss_{'cross_lingual' if cross else 'monolingual'}": torch.stack(losses).mean().item()
            for cross, losses in self._losses.items()
            if losses
        }
        figures["cross_lingual_share"] = len(self._losses[True]) / batches
        figures["examples_per_second"] = self._examples / max(now - self._since, 1e-9)
        self._losses = {False: [], True: []}
        self._examples, self._since = 0, now
        return figures
