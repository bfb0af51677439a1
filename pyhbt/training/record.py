"""The record of a run: everything that decides its outcome, in plain values, kept in every checkpoint.

A training that goes on from a checkpoint is compared with the record there. What differs and would make it another
training is refused, all of it in one message (:func:`check_resume`); what only directs output or speed may differ, and
versions of libraries are warned of. A record also says how the run came to where it is: its segments, one for each
time that it was begun, resumed or extended.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainingArguments

import pyhbt
from pyhbt.files import write_atomically

RECORD = "pyhbt_run.json"
"""The record's file in a checkpoint and in a saved encoder."""

logger = logging.getLogger(__name__)

# Arguments of the Trainer that direct output, or how fast or where it computes, and leave the outcome as it is; and
# those that options of our own say: steps and batch_size.
_MAY_CHANGE = {
    "bf16_full_eval", "debug", "disable_tqdm", "do_eval", "do_predict", "do_train", "enable_jit_checkpoint",
    "fp16_full_eval", "greater_is_better", "include_for_metrics", "include_inputs_for_metrics",
    "include_num_input_tokens_seen", "include_tokens_per_second", "local_rank", "max_steps", "metric_for_best_model",
    "no_cuda", "num_train_epochs", "output_dir", "overwrite_output_dir", "per_device_eval_batch_size",
    "per_device_train_batch_size", "prediction_loss_only", "project", "remove_unused_columns", "report_to",
    "restore_callback_states_from_checkpoint", "resume_from_checkpoint", "run_name", "skip_memory_metrics",
    "torch_empty_cache_steps", "use_cpu",
}  # fmt: skip
_MAY_CHANGE_BY_PREFIX = (
    "batch_eval_", "dataloader_", "ddp_", "eval_", "hub_", "log_", "logging_", "push_to_hub", "save_", "trackio_",
)  # fmt: skip
# Where the best model is loaded at the end, when it is measured and saved decides which one that is.
_DECIDE_THE_BEST = {
    "eval_delay", "eval_on_start", "eval_steps", "eval_strategy", "greater_is_better", "metric_for_best_model",
    "save_steps", "save_strategy",
}  # fmt: skip
# An adaptive ratio holds from the first batch that the loader has not drawn ahead.
_DECIDE_AN_ADAPTIVE_RATIO = {"dataloader_num_workers", "dataloader_prefetch_factor"}


class RunDiffersError(ValueError):
    """A training was to go on with other options, data or encoder than it began with; names each difference."""


@dataclass(frozen=True)
class RunNames:
    """What people call the encoder that a run began with, its data, and the set that it is scored on."""

    base: str = ""
    data: str = ""
    scored_on: str = ""

    def updated(self, others: RunNames) -> RunNames:
        """With the names that ``others`` gives."""
        return RunNames(**{**asdict(self), **{name: text for name, text in asdict(others).items() if text}})


@dataclass(frozen=True)
class Segment:
    """A run from where it was begun, resumed or extended: the steps done then, and those planned from then on.

    ``learning_rate``: where it was extended, the rate at ``from_step`` as planned before and as planned from then on.
    """

    from_step: int
    steps: int
    environment: Mapping[str, str] = field(default_factory=dict)
    learning_rate: tuple[float, float] | None = None


@dataclass(frozen=True)
class RunRecord:
    """What decides the outcome of a run: ``options`` (of our own, and fingerprints of data and encoder) and the
    Trainer's ``arguments``, by name, as JSON holds them; ``names`` for people; ``segments`` in their order."""

    options: Mapping[str, Any]
    arguments: Mapping[str, Any]
    names: RunNames
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, options: Mapping[str, Any], args: TrainingArguments, names: RunNames) -> RunRecord:
        """The record of a run that begins; ``options`` must say ``steps`` and ``ratio``."""
        plain = _plain(options)
        decide = arguments_that_decide(args, adaptive=str(plain["ratio"]).startswith("adaptive"))
        return cls(plain, decide, names, (Segment(0, plain["steps"], environment(args)),))

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """The record in a file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it holds no record; names the file.
        """
        text = path.read_text(encoding="utf-8")
        try:
            found = json.loads(text)
            segments = tuple(
                Segment(**{**part, "learning_rate": _pair(part["learning_rate"])})
                for part in found["segments"]
            )
            return cls(found["options"], found["arguments"], RunNames(**found["names"]), segments)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: found no record of a run ({error!r}), expected one by PyHBT") from None

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        with write_atomically(path) as temporary:
            text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    @property
    def steps(self) -> int:
        """Steps planned."""
        return int(self.options["steps"])

    def differences(self, found: RunRecord) -> dict[str, tuple[Any, Any]]:
        """What decides the outcome and differs: name -> (as found, as the run has it), None where there is none.

        Arguments that one of two versions of transformers does not have are passed over.
        """
        known = self.arguments.keys() & found.arguments.keys()
        names = [*self.options, *(name for name in found.options if name not in self.options)]
        pairs = {name: (found.options.get(name), self.options.get(name)) for name in names}
        pairs |= {name: (found.arguments[name], self.arguments[name]) for name in sorted(known)}
        return {name: (new, old) for name, (new, old) in pairs.items() if new != old}

    def going_on(self, from_step: int, found: RunRecord) -> RunRecord:
        """The record from ``from_step`` on, in the environment, with the names and to the steps of ``found``."""
        last = found.segments[-1]
        segments = self.segments
        if from_step < found.steps:
            segments += (Segment(from_step, found.steps, last.environment),)
        return replace(
            self,
            options={**self.options, "steps": found.steps},
            names=self.names.updated(found.names),
            segments=segments,
        )

    def with_learning_rate(self, before: float, after: float) -> RunRecord:
        """The last segment extends the run: the rate where it begins, as planned before and from then on."""
        last = replace(self.segments[-1], learning_rate=(before, after))
        return replace(self, segments=(*self.segments[:-1], last))


def check_resume(run: RunRecord, found: RunRecord, *, extend: bool, where: str) -> None:
    """Refuse to go on with a run as ``found`` where that would make it another one.

    ``extend``: more steps may be planned than the run has.

    Raises:
        RunDiffersError: names ``where``, and of each difference what was found and what the run has.
    """
    differing = run.differences(found)
    hint = ""
    if "steps" in differing:
        if found.steps < run.steps:
            hint = "; a run is never shortened"
        elif extend:
            del differing["steps"]
        else:
            hint = "; more steps take extend"
    if differing:
        listed = "; ".join(
            f"{name}: found {new!r}, the run has {old!r}" for name, (new, old) in differing.items()
        )
        raise RunDiffersError(f"{where} is of another training: {listed}{hint}")


def warn_of_environment(run: RunRecord, found: RunRecord, *, where: str) -> None:
    """Warn where a run goes on with other versions or on another device, which is no other training."""
    before, now = run.segments[-1].environment, found.segments[-1].environment
    changed = [
        f"{name} {now.get(name)}, before {before.get(name)}"
        for name in before
        if before[name] != now.get(name)
    ]
    if changed:
        logger.warning("%s: goes on with %s: the end may differ in its bits", where, "; ".join(changed))


def extension_in_words(record: RunRecord, number: int) -> str:
    """What segment ``number``, which extends the run, does to its schedules, in one line."""
    segment, planned = record.segments[number], record.segments[number - 1].steps
    parts = [f"at step {segment.from_step} from {planned} to {segment.steps} steps"]
    if segment.learning_rate is not None:
        before, after = segment.learning_rate
        kind = record.arguments.get("lr_scheduler_type")
        parts.append(f"learning rate there {before:g} -> {after:g} ({kind} over {segment.steps} steps)")
    for name in ("ratio", "language_sampling"):
        schedule = str(record.options[name])
        if schedule.startswith("adaptive"):
            parts.append(f"{name} {schedule} goes on")
        elif ":" in schedule:
            parts.append(
                f"{name} {schedule} spans {segment.steps} steps from there on; batches before were drawn with it over "
                f"{planned}"
            )
    return "; ".join(parts)


def arguments_that_decide(args: TrainingArguments, *, adaptive: bool) -> dict[str, Any]:
    """The Trainer's arguments that bear on the outcome, by name, as JSON holds them; ``adaptive``: the ratio is."""
    decide = _DECIDE_AN_ADAPTIVE_RATIO if adaptive else set()
    if args.load_best_model_at_end:
        decide = decide | _DECIDE_THE_BEST
    given: dict[str, Any] = args.to_dict()  # type: ignore[no-untyped-call]
    return _plain(
        {
            name: value
            for name, value in given.items()
            if name in decide or not (name in _MAY_CHANGE or name.startswith(_MAY_CHANGE_BY_PREFIX))
        }
    )


def environment(args: TrainingArguments) -> dict[str, str]:
    """What a training runs on, as far as its bits may depend on it."""
    return {
        "pyhbt": pyhbt.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": args.device.type,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As it is after writing and reading."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))
