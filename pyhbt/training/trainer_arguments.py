"""What becomes of each of transformers' ``TrainingArguments``: it works as there, or is refused by name and reason.

``WORKS`` and ``REFUSED`` hold every name of transformers 5; the table of docs/reference/training-arguments.md is made
from them. ``WORKS`` has what there is to say about a name, among it the values that :func:`check_arguments` refuses.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from enum import Enum, EnumMeta
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from pyhbt.encoders import Encoder


class Refusal(NamedTuple):
    """Why an argument is refused, and the values that ask for nothing, its default first."""

    reason: str
    accepted: tuple[object, ...] = (None,)


_SCRIPT = "read by scripts, not by the trainer"
_LOGGER = "handed to the loggers"
_NO_EFFECT = "changes nothing: "
_CHECKPOINTING = (
    "of the encoder's transformer; refused for encoders without one and for models that cannot do it"
)
_TWO_PASSES = "its two passes have to draw the same dropout, which compiled code does not"
_COMPILED = f"not with `mini_batch_size`: {_TWO_PASSES}"
_RANKS = "of torch's DistributedDataParallel, where there are several ranks"

WORKS = {
    "output_dir": "",
    "per_device_train_batch_size": "pairs a batch and rank",
    "num_train_epochs": (
        "an epoch draws every distinct query once, rounded up to whole updates where gradients are accumulated"
    ),
    "max_steps": "epochs go on ending where they do; 0 or less: `num_train_epochs` decides",
    "learning_rate": "",
    "lr_scheduler_type": "",
    "lr_scheduler_kwargs": "",
    "warmup_steps": "",
    "optim": (
        "not `lomo` and `adalomo`, nor the layerwise ones with `mini_batch_size`: they change weights before the "
        "gradients of all batches are there"
    ),
    "optim_args": "",
    "weight_decay": "a learnt temperature is left out, as biases and norms are",
    "adam_beta1": "",
    "adam_beta2": "",
    "adam_epsilon": "",
    "optim_target_modules": "",
    "gradient_accumulation_steps": "batches an update; negatives are those of the batch, not of the update",
    "average_tokens_across_devices": f"{_NO_EFFECT}the loss is a mean over queries, not tokens",
    "max_grad_norm": "",
    "bf16": "",
    "fp16": "refused on CPUs, which have no float16 mixed precision",
    "tf32": "",
    "activation_checkpointing": f"from transformers 5.23; {_CHECKPOINTING}",
    "activation_checkpointing_kwargs": "from transformers 5.23",
    "gradient_checkpointing": _CHECKPOINTING,
    "gradient_checkpointing_kwargs": "",
    "torch_compile": _COMPILED,
    "torch_compile_backend": _COMPILED,
    "torch_compile_mode": _COMPILED,
    "neftune_noise_alpha": "on the token embeddings of the encoder's transformer; refused for encoders without one",
    "torch_empty_cache_steps": "",
    "logging_strategy": "",
    "logging_steps": "",
    "logging_first_step": "",
    "log_on_each_node": "",
    "logging_nan_inf_filter": "losses that are not finite are left out of the means that are logged",
    "include_num_input_tokens_seen": "tokens of queries and passages; n-grams are never padded",
    "log_level": "",
    "log_level_replica": "",
    "disable_tqdm": "",
    "report_to": "",
    "run_name": _LOGGER,
    "project": _LOGGER,
    "trackio_space_id": _LOGGER,
    "trackio_bucket_id": _LOGGER,
    "trackio_static_space_id": _LOGGER,
    "eval_strategy": "needs the trainer's `evaluate`",
    "eval_steps": "",
    "eval_delay": "",
    "eval_on_start": "needs the trainer's `evaluate`",
    "save_only_model": "such a checkpoint can be loaded, not resumed from",
    "save_strategy": "",
    "save_steps": "",
    "save_on_each_node": "",
    "save_total_limit": "the last checkpoint and the best are always kept",
    "push_to_hub": "whole encoders, as `encoder.save` writes them, with our card",
    "hub_token": "",
    "hub_private_repo": "",
    "hub_model_id": "",
    "hub_strategy": "",
    "hub_always_push": "",
    "hub_revision": "",
    "load_best_model_at_end": "a learnt temperature included",
    "metric_for_best_model": "one of the names that `evaluate` returns",
    "greater_is_better": "",
    "restore_callback_states_from_checkpoint": "",
    "full_determinism": "",
    "seed": "dropout and what else is random, and the batches where there is no `data_seed`",
    "data_seed": "the batches",
    "use_cpu": "",
    "accelerator_config": (
        "not `split_batches`, `dispatch_batches` (each rank has a batch of its own) and `num_steps` "
        "(say `gradient_accumulation_steps`); `even_batches` and `use_seedable_sampler` change nothing"
    ),
    "dataloader_num_workers": "",
    "dataloader_pin_memory": "",
    "dataloader_persistent_workers": "needs workers",
    "dataloader_prefetch_factor": "",
    "dataloader_multiprocessing_context": "needs workers",
    "remove_unused_columns": f"{_NO_EFFECT}pairs have no columns",
    "ddp_find_unused_parameters": f"{_RANKS}; False unless you say otherwise",
    "ddp_bucket_cap_mb": _RANKS,
    "ddp_broadcast_buffers": _RANKS,
    "ddp_backend": "",
    "ddp_timeout": "",
    "debug": (
        "not `tpu_metrics_debug`: there is no TPU to ask; `underflow_overflow` where transformers' debugger reads the "
        "model, which it does not where attention masks are booleans"
    ),
    "skip_memory_metrics": "",
    "do_train": _SCRIPT,
    "do_eval": _SCRIPT,
    "do_predict": _SCRIPT,
    "resume_from_checkpoint": f"{_SCRIPT}: give it to `train`",
    "local_rank": _SCRIPT,
}
"""Names that work, with notes."""

_EARLY = "expected another optimizer: it changes weights before the gradients of all batches are there"
_LABELS = "pairs have no labels"
_ENCODED = "evaluation encodes texts and scores rankings; there are no predictions a batch"
_SHARDED = "weights live whole on every rank; ranks come from torchrun"

REFUSED = {
    "label_smoothing_factor": Refusal(f"{_LABELS} to smooth", (0.0,)),
    "label_names": Refusal(_LABELS),
    "bf16_full_eval": Refusal("evaluation encodes with the weights as they are", (False,)),
    "fp16_full_eval": Refusal("evaluation encodes with the weights as they are", (False,)),
    "use_liger_kernel": Refusal("Liger's kernels are for language models with a loss over tokens", (False,)),
    "liger_kernel_config": Refusal("Liger's kernels are for language models with a loss over tokens"),
    "use_cache": Refusal("a text is embedded in one pass: nothing is generated", (False,)),
    "auto_find_batch_size": Refusal(
        "a batch is a function of seed, step and batch size, so a smaller batch is another training; "
        "mini_batch_size bounds memory at the same batch",
        (False,),
    ),
    "per_device_eval_batch_size": Refusal(
        "evaluation encodes by tokens, encoder.encode_tokens at a time", (8,)
    ),
    "prediction_loss_only": Refusal(_ENCODED, (False,)),
    "eval_do_concat_batches": Refusal(_ENCODED, (True,)),
    "eval_use_gather_object": Refusal(_ENCODED, (False,)),
    "eval_accumulation_steps": Refusal(_ENCODED),
    "include_for_metrics": Refusal(_ENCODED, ([],)),
    "batch_eval_metrics": Refusal(_ENCODED, (False,)),
    "enable_jit_checkpoint": Refusal(
        "it saves in the middle of a step, from where a training does not go on as if it had not been interrupted; "
        "any checkpoint survives a kill",
        (False,),
    ),
    "ignore_data_skip": Refusal(
        "a resumed training goes on with the batch that it was to have next, and nothing is read to get there",
        (False,),
    ),
    "parallelism_config": Refusal(_SHARDED),
    "ddp_static_graph": Refusal(
        "a batch comes in as many mini-batches as its lengths ask for: its graph changes", (None, False)
    ),
    "fsdp": Refusal(_SHARDED, (None, "", False, [])),
    "fsdp_config": Refusal(
        _SHARDED,
        (
            None,
            {},
            {"min_num_params": 0, "xla": False, "xla_fsdp_v2": False, "xla_fsdp_grad_ckpt": False},
        ),
    ),
    "deepspeed": Refusal(_SHARDED),
    "dataloader_drop_last": Refusal(
        "no epoch ends with a rest: the pairs that fill no batch wait for the next pass", (False,)
    ),
    "dataloader_in_order": Refusal(
        "batches come in the order of their steps, or none is resumed from", (True,)
    ),
    "train_sampling_strategy": Refusal("HybridBatchSampler draws the batches", ("random",)),
    "length_column_name": Refusal("pairs have no columns", ("length",)),
}
"""Names that are refused."""

_BEFORE_5 = {
    "group_by_length": Refusal("HybridBatchSampler draws the batches", (False,)),
    "past_index": Refusal("encoders have no past states", (-1,)),
    "use_legacy_prediction_loop": Refusal(_ENCODED, (False,)),
    "include_inputs_for_metrics": Refusal(_ENCODED, (False,)),
    "jit_mode_eval": Refusal(_ENCODED, (False,)),
    "include_tokens_per_second": Refusal("include_num_input_tokens_seen counts tokens", (False,)),
    "mp_parameters": Refusal(_SHARDED, ("",)),
}
"""Names that are refused where transformers 4 has them."""

_LAUNCHED = {
    "fsdp": "ACCELERATE_USE_FSDP",
    "deepspeed": "ACCELERATE_USE_DEEPSPEED",
    "parallelism_config": "ACCELERATE_USE_PARALLELISM_CONFIG",
}
"""Environment variables by which accelerate's launcher asks for what is refused."""


def wrong_kind(name: str, value: object) -> str | None:
    """Why a value is none of the kind that an argument is declared with, where that is a number, on or off, or one of
    a few words; None where it may be.
    """
    from transformers import TrainingArguments

    declared = get_type_hints(TrainingArguments)[name]
    kinds = get_args(declared) or (declared,)
    enums: list[Any] = [kind for kind in kinds if isinstance(kind, EnumMeta)]
    words = [word.value for kind in enums for word in kind]
    if words:
        known = value in words or isinstance(value, Enum)
        return None if known else f"found {name}={value!r}, expected one of {', '.join(map(str, words))}"
    if value is None and NoneType in kinds:
        return None
    expected = {bool: "true or false", int: "a whole number", float: "a number"}
    plain = [kind for kind in kinds if kind in expected]
    if not plain or set(kinds) - {*plain, NoneType}:
        return None
    fitting = [*plain, int] if float in plain else plain
    if type(value) in fitting:
        return None
    return f"found {name}={value!r}, expected {' or '.join(expected[kind] for kind in plain)}"


def refusal(name: str, value: object) -> str | None:
    """Why ``value`` is refused for the argument ``name``, in words; None where it is not, whatever else there is."""
    found = (REFUSED | _BEFORE_5).get(name)
    if found is None or value in found.accepted:
        return None
    return f"{name}: found {value!r}, expected {found.accepted[0]!r}: {found.reason}"


def _plain(value: object) -> object:
    """The text of an enumeration's member."""
    return getattr(value, "value", value)


def check_arguments(
    args: TrainingArguments, encoder: Encoder, *, mini_batch_size: int | None, evaluates: bool
) -> None:
    """Refuse arguments that would not do with ``encoder`` what they do in transformers.

    ``evaluates``: whether the trainer has something to evaluate.

    Raises:
        ValueError: the first such argument, with its value and the reason.
    """
    for wrong in _faults(args, encoder, mini_batch_size, evaluates):
        raise ValueError(wrong)


def _faults(
    args: TrainingArguments, encoder: Encoder, mini_batch_size: int | None, evaluates: bool
) -> Iterator[str]:
    for name in REFUSED | _BEFORE_5:
        if hasattr(args, name) and (wrong := refusal(name, getattr(args, name))):
            yield wrong
    for name, variable in _LAUNCHED.items():
        if os.environ.get(variable, "false").lower() == "true":
            yield f"{name}: found {variable}=true, expected false: {REFUSED[name].reason}"
    yield from _wrong_numbers(args)
    yield from _wrong_schedule(args)
    yield from _wrong_for_encoder(args, encoder)
    yield from _wrong_together(args, mini_batch_size, evaluates)
    yield from _wrong_for_accelerate(args)


def _wrong_numbers(args: TrainingArguments) -> Iterator[str]:
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if getattr(args, name) < 1:
            yield f"{name}: found {getattr(args, name)}, expected at least 1"
    if args.max_steps <= 0 and not args.num_train_epochs > 0:
        yield f"num_train_epochs: found {args.num_train_epochs}, expected a number above 0"
    if args.data_seed is not None and args.data_seed < 0:
        yield f"data_seed: found {args.data_seed}, expected at least 0"


def _wrong_schedule(args: TrainingArguments) -> Iterator[str]:
    """By making the schedule of one weight, as the trainer will."""
    from torch.nn import Parameter
    from torch.optim import SGD
    from transformers import get_scheduler

    kind, options = _plain(args.lr_scheduler_type), args.lr_scheduler_kwargs
    given: Any = options or {}  # transformers has made a mapping of a text
    try:
        get_scheduler(args.lr_scheduler_type, SGD([Parameter()], lr=1.0), 0, 1000, dict(given))
    except (TypeError, ValueError, AttributeError) as error:
        yield f"lr_scheduler_kwargs: found {options!r}, not what lr_scheduler_type {kind!r} takes: {error}"


def _wrong_for_encoder(args: TrainingArguments, encoder: Encoder) -> Iterator[str]:
    model = encoder.backbone
    if args.gradient_checkpointing and not getattr(model, "supports_gradient_checkpointing", False):
        kind = "no transformer" if model is None else f"{type(model).__name__}, which cannot"
        yield (
            "gradient_checkpointing (activation_checkpointing): found True, expected False: "
            f"the encoder has {kind}"
        )
    known = {*inspect.signature(checkpoint).parameters, "preserve_rng_state", "every_n_layers", "offload"}
    for name in args.gradient_checkpointing_kwargs or {}:
        if name not in known - {"function", "args", "kwargs"}:
            yield (
                f"gradient_checkpointing_kwargs (activation_checkpointing_kwargs): found {name!r}, expected options "
                "of torch.utils.checkpoint.checkpoint, every_n_layers, offload"
            )
    if args.neftune_noise_alpha is not None and model is None:
        yield (
            f"neftune_noise_alpha: found {args.neftune_noise_alpha}, expected None: the encoder has no transformer"
        )
    if args.fp16 and args.device.type == "cpu":
        yield "fp16: found True on the CPU, expected False: it has no float16 mixed precision; bf16 works"


def _wrong_together(args: TrainingArguments, mini_batch_size: int | None, evaluates: bool) -> Iterator[str]:
    if not evaluates:
        if args.eval_strategy != "no":
            yield f"eval_strategy: found {_plain(args.eval_strategy)!r} without evaluate, expected 'no'"
        if args.eval_on_start:
            yield "eval_on_start: found True without evaluate, expected False"
    if mini_batch_size is not None:
        if args.torch_compile:
            yield f"torch_compile: found True with mini_batch_size {mini_batch_size}, expected False: {_TWO_PASSES}"
        if "layerwise" in str(_plain(args.optim)):
            yield f"optim: found {_plain(args.optim)!r} with mini_batch_size {mini_batch_size}, {_EARLY}"
    if args.dataloader_num_workers == 0:
        if args.dataloader_persistent_workers:
            yield "dataloader_persistent_workers: found True with dataloader_num_workers 0, expected False"
        if context := getattr(args, "dataloader_multiprocessing_context", None):
            yield (
                f"dataloader_multiprocessing_context: found {context!r} with dataloader_num_workers 0, expected None"
            )


def _wrong_for_accelerate(args: TrainingArguments) -> Iterator[str]:
    config: Any = args.accelerator_config
    for name in ("split_batches", "dispatch_batches"):
        if getattr(config, name):
            yield f"accelerator_config: found {name}=True, expected False: each rank has a batch of its own"
    steps = (config.gradient_accumulation_kwargs or {}).get("num_steps", 1)
    if steps != 1:
        yield f"accelerator_config: found num_steps={steps}, expected 1: say gradient_accumulation_steps={steps}"
    if args.optim in ("lomo", "adalomo"):
        yield f"optim: found {_plain(args.optim)!r}, {_EARLY}"
    for option in args.debug:
        if option == "tpu_metrics_debug":
            yield "debug: found 'tpu_metrics_debug', expected 'underflow_overflow' or nothing: there is no TPU"
