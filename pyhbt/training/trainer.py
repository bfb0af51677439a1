"""HybridTrainer: a ``transformers.Trainer`` with hybrid batches and the fused contrastive loss.

Mixed precision, gradient accumulation, optimizers, loggers and torchrun are the Trainer's own. This adds the
sampler, the loss over all ranks, gradient caching, checkpoints that are whole or passed over, and evaluation by a
callback.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from accelerate.utils.memory import clear_device_cache  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments

from pyhbt.arguments import check_type, renamed_arguments
from pyhbt.data import RetrievalSet
from pyhbt.data.pair_set import PairSet
from pyhbt.data.teacher_scores import TeacherScores
from pyhbt.encoders import EncoderLike, as_encoder
from pyhbt.evaluation.run import Evaluate, dev_scores
from pyhbt.files import only_writer, write_atomically
from pyhbt.options import plain_values
from pyhbt.training import checkpoints
from pyhbt.training.adaptive import AdaptRatio, DevLosses
from pyhbt.training.augmentation import Augmentation
from pyhbt.training.batches import Batch, BatchOfOne, DrawnExamples, Draws, PairCollator
from pyhbt.training.code_switching import CodeSwitching
from pyhbt.training.distributed import total, world_size
from pyhbt.training.epochs import Epochs
from pyhbt.training.exposure import Exposure, TextLengths
from pyhbt.training.fingerprint import (
    facts_of_encoder,
    fingerprint_of_lexicon,
    fingerprint_of_pairs,
    fingerprint_of_scores,
)
from pyhbt.training.gradient_cache import GradientCache
from pyhbt.training.guide import guide_vectors, load_guide
from pyhbt.training.log import Tally
from pyhbt.training.model_card import CardFacts, write_model_card
from pyhbt.training.objectives import Loss, Objective
from pyhbt.training.own_arguments import IntervalsAsAsked, own_arguments, updates_of_epoch
from pyhbt.training.record import RECORD, RunNames, RunRecord
from pyhbt.training.run_state import RunState
from pyhbt.training.sampling import (
    CrossPairs,
    FalseNegatives,
    HybridBatchSampler,
    Negatives,
    SamplerOptions,
)
from pyhbt.training.schedules import RatioSchedule
from pyhbt.training.sealed_trainer import SealedTrainer
from pyhbt.training.trained import Trained
from pyhbt.training.trainer_arguments import check_arguments
from pyhbt.training.unfilled import unfilled_in_words

logger = logging.getLogger(__name__)

_STATE = "pyhbt_state.json"


class HybridTrainer(SealedTrainer):
    """Trains an encoder on hybrid batches by in-batch contrastive loss.

    Args:
        encoder: an encoder or a live ``SentenceTransformer``, trained in place.
        args: the Trainer's arguments; ``per_device_train_batch_size`` counts pairs, ``data_seed`` (or ``seed``)
            fixes the order of batches. An epoch is long enough to draw every distinct query once.
        pairs: training pairs.
        ratio: probability that a batch is cross-lingual: a number or a schedule over the whole training.
        objective: the loss and its terms; by default InfoNCE at temperature 0.05.
        mini_batch_size: texts (queries and passages alike) embedded at a time, with gradient caching: the
            batch may then be as large as time allows. None: the whole batch with its graph, which is faster.
        language_sampling, cross_pairs, negatives, false_negatives: see :class:`HybridBatchSampler`.
        code_switching: replaces words of the texts by translations.
        teacher_scores: those of a teacher for ``pairs``, which ``objective.distil`` follows.
        dev_pairs: where an adaptive ratio reads its losses, every ``adapt_every`` steps (None: a twentieth of the
            training).
        evaluate: called with the encoder and the number of steps done whenever the Trainer evaluates
            (``eval_strategy``, ``eval_on_start``); what it returns is logged under ``eval_``. Under several ranks it is
            called on rank 0 alone.
        callbacks, optimizers: the Trainer's own.
        names: what the model card calls encoder, data and evaluation.
        lengths: tokens of the pairs' texts, which :attr:`exposure` then counts.

    Logged at every ``logging_steps``: ``loss``, ``loss_monolingual`` and ``loss_cross_lingual`` (means over the
    batches of that kind since the last log, where there were any), each term of the objective where it has several,
    ``cross_lingual_share`` of batches, ``temperature`` where it is learnt, ``ratio`` and the dev losses where it is
    adaptive, ``examples_per_second`` of this rank, and, over all batches so far, ``pairs_per_batch`` and
    ``short_batches``. A batch size that some language cannot fill is warned of.

    A checkpoint holds the record of the run (options, arguments, fingerprints of data and encoder, about a second a
    gigabyte when training begins) and a model card of its own.

    Under several ranks the queries of each meet the passages of all, with gradients to all; loss and gradients
    are those of one process with the union batch.

    Raises:
        ValueError: ``args`` that are refused by name (the reference has a table of all), or that do not join the
            processes that torchrun started; arguments that :class:`HybridBatchSampler` refuses; an adaptive ratio
            without ``dev_pairs``; a Matryoshka dimension above the encoder's; translations wanted that ``pairs`` do not
            have; ``teacher_scores`` without ``objective.distil``, or the other way round.
        TypeError: encoder, arguments or pairs of another type.
        FileNotFoundError, ValueError: the guide of the objective cannot be loaded.
    """

    @renamed_arguments(groups="false_negatives")
    def __init__(
        self,
        encoder: EncoderLike,
        args: TrainingArguments,
        pairs: PairSet,
        *,
        ratio: float | str | RatioSchedule = 0.5,
        objective: Objective | None = None,
        mini_batch_size: int | None = None,
        language_sampling: float | str = "uniform",
        cross_pairs: CrossPairs = "single",
        negatives: Negatives = "one-language",
        false_negatives: FalseNegatives = "avoided",
        code_switching: CodeSwitching | None = None,
        teacher_scores: TeacherScores | None = None,
        dev_pairs: PairSet | None = None,
        adapt_every: int | None = None,
        evaluate: Evaluate | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        names: RunNames | None = None,
        lengths: TextLengths | None = None,
    ) -> None:
        encoder = as_encoder(encoder)
        check_type("args", args, TrainingArguments)
        check_type("pairs", pairs, PairSet)
        check_arguments(args, encoder, mini_batch_size=mini_batch_size, evaluates=evaluate is not None)
        args = own_arguments(args, pairs)
        seed = args.seed if args.data_seed is None else args.data_seed
        self.encoder = encoder
        self.pairs = pairs
        self.sampler = HybridBatchSampler(
            pairs,
            args.per_device_train_batch_size,
            ratio=ratio,
            steps=args.max_steps * args.gradient_accumulation_steps,
            seed=seed,
            language_sampling=language_sampling,
            cross_pairs=cross_pairs,
            negatives=negatives,
            false_negatives=false_negatives,
            num_ranks=args.world_size,
        )
        self._draws = Draws(self.sampler, updates_of_epoch(args, pairs) * args.gradient_accumulation_steps)
        self._objective = Objective() if objective is None else objective
        self._objective.check_dim(encoder.dim)
        self.mini_batch_size = mini_batch_size
        _check_teacher(self._objective, teacher_scores)
        self.guide = None if self._objective.guide is None else load_guide(self._objective.guide, args.device)
        self._examples = DrawnExamples(
            pairs, seed, _augmentation(pairs, self._objective, code_switching), teacher_scores
        )
        self._evaluate_encoder = evaluate
        self._tally = Tally(finite_only=args.logging_nan_inf_filter)
        self._trained = Trained(encoder, self._objective)
        self._adaptive: AdaptRatio | None = None
        if self.sampler.schedule.kind == "adaptive":
            self._adaptive = self._controller(args, dev_pairs, adapt_every)
        super().__init__(
            model=self._trained,
            args=args,
            data_collator=BatchOfOne(PairCollator(encoder, mini_batch_size, self.guide)),  # type: ignore[arg-type]  # a dict
            train_dataset=self._examples,
            eval_dataset=[] if evaluate is not None else None,
            callbacks=[
                Epochs(self._draws),
                *([self._adaptive] if self._adaptive else []),
                *(callbacks or ()),
            ],
            optimizers=optimizers,
        )
        self.add_callback(IntervalsAsAsked())
        sampling = SamplerOptions(language_sampling, cross_pairs, negatives, self.sampler.false_negatives)
        options = {
            "ratio": self.sampler.schedule.label,
            "batch_size": self.sampler.batch_size,
            "num_ranks": self.sampler.num_ranks,
            **plain_values(sampling),
            "language_sampling": sampling.label,
            "mini_batch_size": mini_batch_size,
            "code_switching": code_switching.probability if code_switching else 0.0,
            "lexicon": fingerprint_of_lexicon(code_switching.lexicon) if code_switching else None,
            "adapt_every": self._adaptive.every if self._adaptive else None,
            "dev_pairs": fingerprint_of_pairs(dev_pairs) if self._adaptive and dev_pairs else None,
            "teacher_scores": fingerprint_of_scores(teacher_scores) if teacher_scores else None,
            "optimizers": [type(given).__name__ for given in optimizers if given is not None],
            **plain_values(self._objective),
            **self._guide_facts(),
        }
        self._run = RunState(encoder, pairs, options, names, lengths)
        unfilled = unfilled_in_words(self.sampler)
        if unfilled and args.process_index == 0 and self._says_warnings():
            logger.warning("%s", unfilled)

    def __repr__(self) -> str:
        return f"HybridTrainer({self.encoder.describe()}, {self.pairs!r}, {self.sampler!r})"

    def _guide_facts(self) -> dict[str, str]:
        """For the record: which encoder guides, and its weights."""
        if self.guide is None:
            return {}
        facts = facts_of_encoder(self.guide)
        return {
            "guide": f"{self._objective.guide}: {facts['encoder']}",
            "guide_weights": facts["encoder_weights"],
        }

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
            sampler=self._run.counted.watch(self._draws),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context=getattr(self.args, "dataloader_multiprocessing_context", None),
            generator=torch.Generator(),  # the workers' seeds are not drawn where dropout is
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
            # through Trained, in whose forward accelerate puts autocast
            cache = GradientCache(lambda some: self._trained(some)[0], mini_batches, self.encoder.device)
        temperature = self._trained.temperature()
        leaves = [cache.vectors]
        if isinstance(temperature, Tensor):
            temperature = temperature.detach().requires_grad_()
            leaves.append(temperature)
        loss = self._loss(cache.vectors[batch["order"]], batch, temperature)
        gradient, *of_temperature = torch.autograd.grad(loss.value, leaves)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()

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
        self._run.counted.count_to(self._batches_done)
        ranks = world_size()
        names = list(loss.terms)
        over_ranks = total(torch.stack([loss.value.detach(), *loss.terms.values()])) / ranks
        terms = dict(zip(names, over_ranks[1:], strict=True))
        self._tally.add(batch["cross_lingual"], over_ranks[0], terms, batch["num_queries"])

    def _track_num_input_tokens(self, inputs: Any) -> None:
        """Called by the Trainer after every batch: tokens of its texts, over all ranks, padding apart if wanted."""
        which = str(self.args.include_num_input_tokens_seen)
        if which == "no":
            return
        counts = [
            texts["attention_mask"].sum()
            if which == "non_padding" and "attention_mask" in texts
            else torch.tensor(texts["input_ids"].numel())
            for texts in cast(Batch, inputs)["texts"]
        ]
        tokens = torch.stack([count.to(self.args.device) for count in counts]).sum()
        self.state.num_input_tokens_seen += int(total(tokens))

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
            logs.update(self.exposure.figures)
        super().log(logs, start_time)

    def evaluate(  # type: ignore[override]
        self,
        eval_dataset: RetrievalSet | Mapping[str, RetrievalSet] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Scores of the encoder as it is, logged and returned with ``metric_key_prefix`` before their names.

        Args:
            eval_dataset: None: what the ``evaluate`` callback measures. A retrieval set: mAP and recall@10 in each
                setting, macro means over languages. Retrieval sets by name: each under ``eval_NAME_``.
            ignore_keys: None; there are no outputs with keys.
            metric_key_prefix: put before every name.

        Under several ranks rank 0 measures for all.

        Raises:
            TypeError: ``eval_dataset`` is something else.
            ValueError: None, and the trainer was made without the callback; ``ignore_keys`` that are not None.
        """
        if ignore_keys is not None:
            raise ValueError(
                f"ignore_keys: found {ignore_keys!r}, expected None: there are no outputs with keys"
            )
        if isinstance(eval_dataset, Mapping):
            for name, data in eval_dataset.items():
                _check_retrieval_set(f"eval_dataset[{name!r}]", data)
            metrics: dict[str, float] = {}
            for name, data in eval_dataset.items():
                metrics |= self.evaluate(data, metric_key_prefix=f"{metric_key_prefix}_{name}")
            return metrics
        if eval_dataset is None:
            if self._evaluate_encoder is None:
                raise ValueError("evaluate: found None, expected a function of (encoder, step)")
            measure = self._evaluate_encoder
        else:
            _check_retrieval_set("eval_dataset", eval_dataset)
            measure = dev_scores(eval_dataset)
        self._memory_tracker.start()  # type: ignore[no-untyped-call]
        metrics = self._measured(measure, metric_key_prefix)
        self._memory_tracker.stop_and_update_metrics(metrics)  # type: ignore[no-untyped-call]
        return metrics

    def _measured(self, measure: Evaluate, prefix: str) -> dict[str, float]:
        started = time.monotonic()
        shared: list[Mapping[str, float]] = [{}]
        if self.args.process_index == 0:
            shared = [measure(self.encoder, self.state.global_step)]
        if world_size() > 1:
            torch.distributed.broadcast_object_list(shared)
        self._tally.leave_out(time.monotonic() - started)
        metrics = {f"{prefix}_{name}": float(value) for name, value in shared[0].items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: an encoder has vectors and scores, no predictions.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "predict: an encoder has no predictions; expected encoder.encode(texts) for vectors, "
            "evaluate(eval_dataset) for scores"
        )

    def create_model_card(self, model_name: str | None = None) -> None:  # type: ignore[override]
        """Write our card to ``output_dir``/README.md, on the rank that writes; ``model_name``: its title."""
        if not self.is_world_process_zero():
            return
        write_model_card(str(self.args.output_dir), self.card_facts(), title=model_name)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        *args: Any,
        extend: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Train; ``resume_from_checkpoint`` is a checkpoint, or True for the last whole one of ``output_dir``.

        Where checkpoints are passed over because they are unfinished or damaged, a warning says so; where not even the
        first was finished, training begins anew.

        ``extend``: the run may have more steps than the checkpoint's had. Its schedules (learning rate, ratio, language
        sampling) then span the longer training from the checkpoint on; a warning and the model card say what that does.

        Raises:
            FileNotFoundError: True, and there is no checkpoint.
            CheckpointError: the checkpoint, or with True every one, is damaged, or has no record to compare with; or
                one could not be written.
            RunDiffersError: options, arguments, data or encoder differ from those that the run began with; nothing is
                trained or written.
            FolderInUseError: another process writes checkpoints to ``output_dir``.
            ValueError: the checkpoint was saved with ``save_only_model``; ``extend``, and no checkpoint to go on
                from.
        """
        if extend and not resume_from_checkpoint:
            raise ValueError("extend: found True, expected False where no run is resumed")
        checkpoint = self.whole_checkpoint(resume_from_checkpoint)
        if checkpoint is None:
            self._run.begin(self.args)
        else:
            self._run.go_on(checkpoint, self.args, extend=extend)
        with self._sole_writer():
            return super().train(None if checkpoint is None else str(checkpoint), *args, **kwargs)

    def _sole_writer(self) -> AbstractContextManager[None]:
        """The right to write checkpoints to ``output_dir``, on the rank that does."""
        writes = self.args.should_save and self.args.save_strategy != "no"
        return only_writer(str(self.args.output_dir)) if writes else nullcontext()

    def _says_warnings(self) -> bool:
        level: int = self.args.get_process_log_level()  # type: ignore[no-untyped-call]
        return level <= logging.WARNING

    @property
    def exposure(self) -> Exposure:
        """What the batches of the steps done held, of all ranks together."""
        return self._run.counted.count_to(self._batches_done)

    @property
    def _batches_done(self) -> int:
        return self.state.global_step * self.args.gradient_accumulation_steps

    def card_facts(self) -> CardFacts:
        """What the model card of the encoder as it is now says, from the record of its run and the step it is at."""
        return self._run.card_facts(
            self.args,
            step=self.state.global_step,
            temperature=self.temperature,
            exposure=self.exposure,
            log=self.state.log_history,
            ratio=self._adaptive.figures["ratio"] if self._adaptive else None,
        )

    @property
    def run_record(self) -> RunRecord:
        """The record of the run that is being trained, or that would begin now."""
        return self._run.record(self.args)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        self._run.extend_learning_rate(self.args, self.lr_scheduler, self.optimizer)

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
                "exposure": self.exposure.state(),
            }
            with write_atomically(folder / _STATE) as temporary:
                temporary.write_text(json.dumps(state) + "\n", encoding="utf-8")
            self.run_record.write(folder / RECORD)
            write_model_card(folder, self.card_facts())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        state = self._load_model(Path(resume_from_checkpoint))
        self._tally.restore(state["tally"])
        self._run.restore_exposure(state["exposure"])
        if self._adaptive is not None:
            self._adaptive.restore(state["adaptive"])

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is not None:
            checkpoints.check(Path(best))
            state = self._load_model(Path(best))
            self._run.restore_best(int(Path(best).name.rsplit("-", 1)[1]), state["exposure"])

    def _load_model(self, folder: Path) -> dict[str, Any]:
        """Set all that is trained to what a checkpoint has; returns what else it has."""
        self.encoder.load_weights(folder)
        state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if self._trained.log_temperature is not None:
            with torch.no_grad():
                self._trained.log_temperature.fill_(state["log_temperature"])
        return state


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


def _check_retrieval_set(name: str, data: object) -> None:
    if not isinstance(data, RetrievalSet):
        raise TypeError(f"{name}: found {type(data).__name__}, expected a RetrievalSet")
