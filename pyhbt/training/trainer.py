"""HybridTrainer: a ``transformers.Trainer`` with hybrid batches and the fused contrastive loss.

Mixed precision, gradient accumulation, optimizers, loggers and torchrun are the Trainer's own. This adds the
sampler, the loss over all ranks, gradient caching, checkpoints that are whole or passed over, and evaluation by a
callback.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from pyhbt.arguments import renamed_arguments
from pyhbt.data.pair_set import PairSet
from pyhbt.data.teacher_scores import TeacherScores
from pyhbt.encoders import Encoder, Features
from pyhbt.evaluation.run import Evaluate
from pyhbt.files import write_atomically
from pyhbt.training import checkpoints
from pyhbt.training.adaptive import AdaptRatio, DevLosses
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.batches import Batch, BatchOfOne, DrawnExamples, Draws, PairCollator
from pyhbt.training.code_switching import CodeSwitching
from pyhbt.training.distributed import total, world_size
from pyhbt.training.gradient_cache import GradientCache
from pyhbt.training.guide import guide_vectors, load_guide
from pyhbt.training.log import Tally
from pyhbt.training.objectives import MIN_TEMPERATURE, Loss, Objective
from pyhbt.training.sampling import CrossPairs, FalseNegatives, HybridBatchSampler
from pyhbt.training.schedules import RatioSchedule

_STATE = "pyhbt_state.json"


class HybridTrainer(Trainer):
    """Trains an encoder on hybrid batches by in-batch contrastive loss.

    Args:
        encoder: the encoder, trained in place.
        args: the Trainer's arguments; ``per_device_train_batch_size`` counts pairs, ``data_seed`` (or ``seed``)
            fixes the order of batches. Without ``max_steps`` an epoch is long enough to draw every distinct
            query once.
        pairs: training pairs.
        ratio: probability that a batch is cross-lingual: a number or a schedule over the whole training.
        objective: the loss and its terms; by default InfoNCE at temperature 0.05.
        mini_batch_size: texts (queries and passages alike) embedded at a time, with gradient caching: the
            batch may then be as large as time allows. None: the whole batch with its graph, which is faster.
        language_sampling, cross_pairs, false_negatives: see :class:`HybridBatchSampler`.
        code_switching: replaces words of the texts by translations.
        teacher_scores: those of a teacher for ``pairs``, which ``objective.distil`` follows.
        dev_pairs: where an adaptive ratio reads its losses, every ``adapt_every`` steps (None: a twentieth of the
            training).
        evaluate: called with the encoder and the number of steps done whenever the Trainer evaluates
            (``eval_strategy``, ``eval_on_start``); what it returns is logged under ``eval_``. Under several ranks it is
            called on rank 0 alone.
        callbacks, optimizers: the Trainer's own.

    Logged at every ``logging_steps``: ``loss``, ``loss_monolingual`` and ``loss_cross_lingual`` (means over the
    batches of that kind since the last log, where there were any), each term of the objective where it has several,
    ``cross_lingual_share`` of batches, ``temperature`` where it is learnt, ``ratio`` and the dev losses where it is
    adaptive, and ``examples_per_second`` of this rank.

    Under several ranks the queries of each meet the passages of all, with gradients to all; loss and gradients
    are those of one process with the union batch.

    Raises:
        ValueError: ``args`` that do not join the processes that torchrun started; arguments that
            :class:`HybridBatchSampler` refuses; an adaptive ratio without ``dev_pairs``; a
            Matryoshka dimension above the encoder's; translations wanted that ``pairs`` do not have; ``teacher_scores``
            without ``objective.distil``, or the other way round.
        FileNotFoundError, ValueError: the guide of the objective cannot be loaded.
    """

    @renamed_arguments(groups="false_negatives")
    def __init__(
        self,
        encoder: Encoder,
        args: TrainingArguments,
        pairs: PairSet,
        *,
        ratio: float | str | RatioSchedule = 0.5,
        objective: Objective | None = None,
        mini_batch_size: int | None = None,
        language_sampling: float | str = "uniform",
        cross_pairs: CrossPairs = "single",
        false_negatives: FalseNegatives = "avoided",
        code_switching: CodeSwitching | None = None,
        teacher_scores: TeacherScores | None = None,
        dev_pairs: PairSet | None = None,
        adapt_every: int | None = None,
        evaluate: Evaluate | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ) -> None:
        args = _own_arguments(args)
        seed = args.seed if args.data_seed is None else args.data_seed
        self.encoder = encoder
        self.pairs = pairs
        self.sampler = _whole_training(
            args,
            partial(
                HybridBatchSampler,
                pairs,
                args.per_device_train_batch_size,
                ratio=ratio,
                seed=seed,
                language_sampling=language_sampling,
                cross_pairs=cross_pairs,
                false_negatives=false_negatives,
                num_ranks=args.world_size,
            ),
        )
        self._objective = Objective() if objective is None else objective
        self._objective.check_dim(encoder.dim)
        self.mini_batch_size = mini_batch_size
        _check_teacher(self._objective, teacher_scores)
        self.guide = None if self._objective.guide is None else load_guide(self._objective.guide, args.device)
        self._examples = DrawnExamples(
            pairs, seed, _augmentation(pairs, self._objective, code_switching), teacher_scores
        )
        self._evaluate_encoder = evaluate
        self._tally = Tally()
        self._trained = _Trained(encoder, self._objective)
        self._adaptive: AdaptRatio | None = None
        if self.sampler.schedule.kind == "adaptive":
            self._adaptive = self._controller(args, dev_pairs, adapt_every)
        super().__init__(
            model=self._trained,
            args=args,
            data_collator=BatchOfOne(PairCollator(encoder, mini_batch_size, self.guide)),  # type: ignore[arg-type]  # a dict
            train_dataset=self._examples,
            eval_dataset=[] if evaluate is not None else None,
            callbacks=[*([self._adaptive] if self._adaptive else []), *(callbacks or ())] or None,
            optimizers=optimizers,
        )

    def _controller(
        self, args: TrainingArguments, dev_pairs: PairSet | None, adapt_every: int | None
    ) -> AdaptRatio:
        if dev_pairs is None:
            raise ValueError(
                "dev_pairs: found None, expected pairs whose losses an adaptive ratio can follow"
            )
        return AdaptRatio(
            self.encoder,
            self.sampler,
            DevLosses(dev_pairs, args.per_device_train_batch_size, self.encoder, self._objective.temperature),
            every=adapt_every or max(1, args.max_steps // 20),
            # batches that the loader has drawn beyond the one in use: accelerate's one, and those of its workers
            drawn_ahead=1 + args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2),
        )

    @property
    def temperature(self) -> float:
        """The temperature of the loss as it is now."""
        with torch.no_grad():
            return float(self._trained.temperature())

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Hybrid batches, dealt out to the ranks by accelerate."""
        loader: DataLoader[Any] = DataLoader(
            self._examples,
            batch_size=1,
            sampler=Draws(self.sampler),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
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
        """The objective of one batch: this rank's share, whose mean over the ranks is the loss."""
        self._tally.begin()
        vectors, temperature = model(inputs["texts"])
        vectors = vectors.float()[inputs["order"]]
        loss = self._loss(vectors, inputs, temperature)
        self._count(inputs, loss)
        return (loss.value, {"vectors": vectors}) if return_outputs else loss.value

    def training_step(
        self,
        model: nn.Module,
        inputs: Any,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward of one batch: in one pass, or by mini-batches where ``mini_batch_size`` is set."""
        self._trained.clamp_temperature()
        if self.mini_batch_size is None:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()  # type: ignore[union-attr]  # schedule-free ones have it
        batch = cast(Batch, self._prepare_inputs(inputs))
        self._tally.begin()
        mini_batches = batch["texts"]
        with self.compute_loss_context_manager():
            # through _Trained, in whose forward accelerate puts autocast
            cache = GradientCache(lambda some: self._trained(some)[0], mini_batches, self.encoder.device)
        temperature = self._trained.temperature()
        leaves = [cache.vectors]
        if isinstance(temperature, Tensor):
            temperature = temperature.detach().requires_grad_()
            leaves.append(temperature)
        loss = self._loss(cache.vectors[batch["order"]], batch, temperature)
        gradient, *of_temperature = torch.autograd.grad(loss.value, leaves)

        def surrogate(index: int, part: Tensor) -> Tensor:
            with self.compute_loss_context_manager():
                embedded, learnt = model([mini_batches[index]])
            value: Tensor = (embedded.float() * part).sum()
            if of_temperature and index == len(mini_batches) - 1:
                value = value + learnt * of_temperature[0]
            return value / self.current_gradient_accumulation_steps

        cache.backward(
            surrogate, gradient, self.accelerator.backward, lambda: self.accelerator.no_sync(model)
        )
        self._count(batch, loss)
        return loss.value.detach() / self.current_gradient_accumulation_steps

    def _loss(self, vectors: Tensor, batch: Batch, temperature: Tensor | float) -> Loss:
        """The objective, with what the guide sees in the batch, if there is one."""
        if self.guide is None:
            return self._objective.loss(vectors, batch, temperature)
        seen = guide_vectors(self.guide, batch["guide_texts"], batch["guide_order"])
        return self._objective.loss(vectors, batch, temperature, seen)

    def _count(self, batch: Batch, loss: Loss) -> None:
        ranks = world_size()
        names = list(loss.terms)
        over_ranks = total(torch.stack([loss.value.detach(), *loss.terms.values()])) / ranks
        terms = dict(zip(names, over_ranks[1:], strict=True))
        self._tally.add(batch["cross_lingual"], over_ranks[0], terms, batch["num_queries"])

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The Trainer's choice, without the temperature."""
        return [name for name in super().get_decay_parameter_names(model) if name != "log_temperature"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the batches since the last log were to a row that carries their loss."""
        if "loss" in logs:
            logs.update(self._tally.drain())
            if self._objective.learn_temperature:
                logs["temperature"] = self.temperature
            if self._adaptive is not None:
                logs.update(self._adaptive.figures)
        super().log(logs, start_time)

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Call the ``evaluate`` callback on rank 0 and log what it returns.

        Raises:
            ValueError: the trainer was made without the callback.
        """
        if self._evaluate_encoder is None:
            raise ValueError("evaluate: found None, expected a function of (encoder, step)")
        started = time.monotonic()
        shared: list[Mapping[str, float]] = [{}]
        if self.args.process_index == 0:
            shared = [self._evaluate_encoder(self.encoder, self.state.global_step)]
        if world_size() > 1:
            torch.distributed.broadcast_object_list(shared)
        self._tally.leave_out(time.monotonic() - started)
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in shared[0].items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; ``resume_from_checkpoint`` is a checkpoint, or True for the last whole one of ``output_dir``.

        Where checkpoints are passed over because they are unfinished or damaged, a warning says so; where not even the
        first was finished, training begins anew.

        Raises:
            FileNotFoundError: True, and there is no checkpoint.
            CheckpointError: the checkpoint, or with True every one, is damaged; or one could not be written.
        """
        if isinstance(resume_from_checkpoint, bool):
            resume_from_checkpoint = self._last_checkpoint() if resume_from_checkpoint else None
        elif resume_from_checkpoint is not None:
            wrong = checkpoints.fault(Path(resume_from_checkpoint))
            if wrong is not None:
                raise checkpoints.CheckpointError(f"{resume_from_checkpoint}: {wrong}")
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _last_checkpoint(self) -> str | None:
        """The last whole checkpoint; None where the training ended before it had finished its first."""
        folder = Path(str(self.args.output_dir))
        found = checkpoints.checkpoints(folder)
        if not found:
            raise FileNotFoundError(f"{folder}: no checkpoint to resume from")
        last = checkpoints.last_whole(folder)
        if last is None and any((path / checkpoints.MANIFEST).is_file() for path in found):
            raise checkpoints.CheckpointError(f"{folder}: no whole checkpoint to resume from")
        return None if last is None else str(last)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The Trainer's checkpoint, sealed by a manifest; then older ones go.

        Raises:
            CheckpointError: it could not be written; what there is of it is removed.
        """
        folder = Path(self._get_output_dir(trial=trial))
        target = folder / f"checkpoint-{self.state.global_step}"
        self._alone(lambda: checkpoints.discard(target))
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # rotation comes after the seal
        try:
            super()._save_checkpoint(model, trial)
            self._wait()
            self._alone(lambda: checkpoints.seal(target))
        except checkpoints.WRITE_ERRORS as error:
            checkpoints.discard(target)
            raise checkpoints.CheckpointError(
                f"{target} could not be written ({error}); {checkpoints.last_in_words(folder)}"
            ) from error
        finally:
            self.args.save_total_limit = limit
        self._alone(lambda: checkpoints.keep_last(folder, limit, self.state.best_model_checkpoint))

    def _alone(self, action: Callable[[], object]) -> None:
        """Do it on the rank that writes; the others wait."""
        if self.args.should_save:
            action()
        self._wait()

    def _wait(self) -> None:
        if world_size() > 1:
            torch.distributed.barrier()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the encoder as its own folder format, which ``load_encoder`` and others read."""
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            self.encoder.save(folder)
            torch.save(self.args, folder / "training_args.bin")
            state = {
                "tally": self._tally.state(),
                "log_temperature": self._trained.log_temperature.item()
                if self._trained.log_temperature is not None
                else None,
                "adaptive": self._adaptive.state() if self._adaptive is not None else None,
            }
            with write_atomically(folder / _STATE) as temporary:
                temporary.write_text(json.dumps(state) + "\n", encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        self.encoder.load_weights(folder)
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        self._tally.restore(state["tally"])
        if self._trained.log_temperature is not None:
            with torch.no_grad():
                self._trained.log_temperature.fill_(state["log_temperature"])
        if self._adaptive is not None:
            self._adaptive.restore(state["adaptive"])

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            self.encoder.load_weights(self.state.best_model_checkpoint)


def _augmentation(
    pairs: PairSet, objective: Objective, code_switching: CodeSwitching | None
) -> Augmentation | None:
    """What is added to the pairs that are drawn; None where nothing is."""
    if not (objective.wants_parallel_queries or objective.parallel_passages or code_switching):
        return None
    return Augmentation(
        pairs,
        parallel_queries=objective.wants_parallel_queries,
        parallel_passages=objective.parallel_passages,
        code_switching=code_switching,
    )


def _check_teacher(objective: Objective, teacher_scores: TeacherScores | None) -> None:
    if (objective.distil is None) != (teacher_scores is None):
        found = "None" if teacher_scores is None else "some"
        expected = "those to follow" if teacher_scores is None else "None"
        raise ValueError(
            f"teacher_scores: found {found}, expected {expected}: distil of the objective is {objective.distil!r}"
        )


def _own_arguments(args: TrainingArguments) -> TrainingArguments:
    """A copy with what hybrid batches need.

    Raises:
        ValueError: it does not join the processes that torchrun started.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != args.world_size:
        raise ValueError(
            f"args: found world_size {args.world_size} in one of {launched} processes, expected them to be joined; "
            "on CPUs that takes use_cpu=True"
        )
    args = copy.copy(args)
    args.remove_unused_columns = False
    if args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = False  # the Trainer's default for models not its own costs a walk
    return args


def _whole_training(
    args: TrainingArguments, sampler: Callable[..., HybridBatchSampler]
) -> HybridBatchSampler:
    """The sampler whose one epoch is the whole training; sets ``max_steps`` of ``args`` where it is not given.

    So a schedule spans the training, and resuming after a checkpoint never depends on which epoch a wrapped data loader
    believes it is in.
    """
    accumulation = args.gradient_accumulation_steps
    if args.max_steps <= 0:
        args.max_steps = math.ceil(args.num_train_epochs * sampler().steps / accumulation)
    return sampler(steps=args.max_steps * accumulation)


class _Trained(nn.Module):
    """What the optimizer and DDP see: the encoder, and the temperature where it is learnt."""

    def __init__(self, encoder: Encoder, objective: Objective) -> None:
        super().__init__()
        self.encoder = encoder
        self._fixed_temperature = objective.temperature
        self.log_temperature: nn.Parameter | None = None
        if objective.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(objective.temperature)))

    def temperature(self) -> Tensor | float:
        """The temperature: a scalar with graph to the parameter, or the fixed number."""
        if self.log_temperature is None:
            return self._fixed_temperature
        return self.log_temperature.exp()

    def clamp_temperature(self) -> None:
        """Bring a learnt temperature back to its least value, if a step went below."""
        if self.log_temperature is not None:
            with torch.no_grad():
                self.log_temperature.clamp_(min=math.log(MIN_TEMPERATURE))

    def forward(self, mini_batches: Sequence[Features]) -> tuple[Tensor, Tensor | float]:
        """Vectors of all mini-batches in a row, and the temperature."""
        return self.encoder(mini_batches), self.temperature()
