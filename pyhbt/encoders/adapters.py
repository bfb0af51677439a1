"""Low-rank adapters (LoRA, arXiv 2106.09685) around a transformers model, by PEFT.

The model's own weights are frozen; what PEFT puts around it saves the adapter alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from pyhbt.encoders.lora import ALL_LINEAR, LoraOptions
from pyhbt.reading import read_tensors

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_POOLER = r"(.*\.)?pooler\..*"  # no vector comes from it


def adapted(model: PreTrainedModel, options: LoraOptions, *, seed: int) -> PeftModel:
    """``model`` with its weights frozen and adapters in it; their weights are those of ``seed``, their updates 0.

    Raises:
        ValueError: a target is the end of no linear layer's name.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if options.targets != ALL_LINEAR:
        for target in options.targets:
            if not any(name == target or name.endswith(f".{target}") for name in linear):
                ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
                raise ValueError(
                    f"lora: targets: found {target!r}, expected the end of a linear layer's name: {', '.join(ends)}"
                )
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,  # type: ignore[arg-type]  # a float serves as well
        lora_dropout=options.dropout,
        target_modules=ALL_LINEAR[0] if options.targets == ALL_LINEAR else list(options.targets),
        exclude_modules=_POOLER if getattr(model, "pooler", None) is not None else None,
        task_type="FEATURE_EXTRACTION",
    )
    with torch.random.fork_rng(), _quiet():
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def with_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """``model``, frozen, with the adapter that a PEFT checkpoint holds, which training goes on with."""
    with _quiet():
        wrapped: PeftModel = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    return wrapped


def load_adapter(model: PeftModel, folder: Path) -> None:
    """Replace the adapter's weights by those that a model with the same adapter saved to ``folder``.

    Raises:
        ValueError: they are of another adapter.
    """
    result: Any = set_peft_model_state_dict(model, read_tensors(folder / ADAPTER_WEIGHTS))
    wrong = [*(name for name in result.missing_keys if "lora_" in name), *result.unexpected_keys]
    if wrong:
        raise ValueError(f"{folder / ADAPTER_WEIGHTS}: of another adapter: {wrong[0]} does not fit")


def in_words(model: PeftModel) -> str:
    """The adapter in a phrase, all of it that its weights do not say."""
    config = model.active_peft_config
    if not isinstance(config, LoraConfig):
        return f"{config.peft_type} adapter"
    targets = config.target_modules
    ends = {targets} if isinstance(targets, str) else {name.rsplit(".", 1)[-1] for name in targets or ()}
    named = ",".join(sorted(ends))
    return f"LoRA r={config.r},alpha={config.lora_alpha:g},targets={named},dropout={config.lora_dropout:g}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that PEFT asks transformers for a property by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
