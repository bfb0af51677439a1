"""sentence-transformers checkpoints: where a name leads, whether what lies there can be served, and loading it.

A hub name is resolved to the folder of its snapshot first, so that a name and a folder mean the same. Whatever a folder
says is read by sentence-transformers; here it is only checked that nothing of it would be passed over in silence. Code
that a checkpoint carries never runs, and weights are read from safetensors alone.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import snapshot_download
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as served
from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS
from torch import nn
from transformers import AutoConfig, AutoModel

from pyhbt.data.hub import is_hub_name
from pyhbt.encoders.adapters import with_adapter
from pyhbt.encoders.loading_report import weights_reported
from pyhbt.reading import naming, read_json

MODULES_NAME = "modules.json"
ADAPTER_NAME = "adapter_config.json"
SERVED: tuple[type[nn.Module], ...] = (
    served.Transformer,
    served.WeightedLayerPooling,
    served.Pooling,
    served.Dense,
    served.LayerNorm,
    served.Normalize,
    served.Dropout,
)
"""Modules of sentence-transformers that an encoder may be made of; the first is the transformer."""

_MODEL_NAME = "config_sentence_transformers.json"
_CONFIGURED = ("Pooling", "Dense", "LayerNorm", "WeightedLayerPooling", "Dropout")
_WEIGHTED = ("Dense", "LayerNorm", "WeightedLayerPooling")
_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.codes", "*.spm"]


def checkpoint_folder(spec: str | Path) -> Path:
    """The folder that a path or a hub name leads to; a name is fetched to the hub's cache where it is not there.

    Raises:
        FileNotFoundError: a path that is nowhere, or a name that neither the cache nor the hub has; says which folder
            beside it may be meant.
        NotADirectoryError: a file.
    """
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return folder
    name = str(spec)
    if folder.exists():
        raise NotADirectoryError(f"encoder: {spec} is not a folder, but a file")
    if folder.is_absolute() or name.startswith((".", "~")) or not is_hub_name(name):
        raise FileNotFoundError(
            f"encoder: {spec} is not a folder, nor a name that the hub could have{_meant(spec)}"
        )
    organisation = SentenceTransformer.default_huggingface_organization
    if "/" not in name and organisation and name.lower() not in ORIGINAL_TRANSFORMER_MODELS:
        name = f"{organisation}/{name}"
    try:
        cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")  # None: the hub's own
        return Path(snapshot_download(name, cache_dir=cache, allow_patterns=_PATTERNS))
    except Exception as error:  # the hub's client, its transport and the file system have many
        raise FileNotFoundError(
            f"encoder: no folder {spec} here and no model of that name in the cache or the hub "
            f"({_first_line(error)}){_meant(spec)}"
        ) from error


def _meant(spec: str | Path) -> str:
    """The folder beside ``spec`` that may be meant, or the embedded encoder."""
    folder = Path(spec).expanduser()
    try:
        beside = [str(path.name) for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        beside = []
    names = {name: str(Path(spec).with_name(name)) for name in beside if not name.startswith(".")}
    if len(folder.parts) == 1:
        names["ngram"] = "ngram"
    near = difflib.get_close_matches(folder.name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def load_checkpoint(folder: Path) -> SentenceTransformer:
    """The sentence-transformers model of a folder, on the CPU, in float32; of a plain checkpoint their default.

    The adapter of a PEFT checkpoint is put on its base model, a folder or a hub name, by PEFT.

    Raises:
        FileNotFoundError: an adapter's base is nowhere.
        ValueError: a file is missing or damaged, or holds what cannot be served; names file and module.
    """
    check_folder(folder)
    root = _root(folder)
    with TemporaryDirectory() as temporary:
        adapter = (root / ADAPTER_NAME).is_file()
        whole = _with_base(folder, Path(temporary)) if adapter else folder
        with naming(folder, "an encoder"), weights_reported() as missing:
            arguments: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
            if not _uses_pooler(_root(whole)) and _has_pooler(_root(whole)):
                arguments["add_pooling_layer"] = False  # its output is never read
            model = SentenceTransformer(
                str(whole), device="cpu", trust_remote_code=False, model_kwargs=arguments
            )
            first: Any = model[0]
            if adapter:
                first.model = with_adapter(first.model, root)
    if unset := [name for name in missing if "pooler." not in name]:
        raise ValueError(
            f"{folder}: found no weights for {unset[0]} ({len(unset)} in all), which would be random"
        )
    check_modules(model, str(folder))
    words = first.tokenizer
    if len(words) - len(set(words.all_special_tokens)) < 2:  # made of nothing, where there is no vocabulary
        raise ValueError(
            f"{folder}: found a tokenizer of {len(words)} tokens; a file of its vocabulary is missing"
        )
    if not adapter:
        first.model.name_or_path = str(root.resolve())  # where an adapter of it will find it
    return model


def _with_base(folder: Path, whole: Path) -> Path:
    """Links to the files of a PEFT checkpoint, and to those of its base in the adapter's place."""
    base = checkpoint_folder(str(_read(_root(folder) / ADAPTER_NAME).get("base_model_name_or_path")))
    check_folder(base)
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("adapter_"):
            place = whole / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
    inner = _root(whole)
    for path in _root(base).iterdir():
        if path.name in ("config.json", "model.safetensors.index.json") or path.suffix == ".safetensors":
            (inner / path.name).unlink(missing_ok=True)
            (inner / path.name).symlink_to(path.resolve())
    return whole


def _root(folder: Path) -> Path:
    """Where the transformer lies in a folder: in the folder itself, or as the first module's path says."""
    modules = _modules(folder)
    return folder / modules[0][1] if modules else folder


def check_modules(model: SentenceTransformer, name: str) -> None:
    """Refuse a model of modules that no encoder here is made of; ``name`` is where it comes from.

    Raises:
        ValueError: a module of another kind, a transformer that is not the first or does not take texts.
    """
    for place, module in enumerate(model):
        kind = type(module).__name__
        if type(module) not in SERVED or (place == 0) != isinstance(module, served.Transformer):
            expected = "Transformer first, then " + ", ".join(one.__name__ for one in SERVED[1:])
            raise ValueError(f"{name}: module {place} is {kind}, which cannot be served; expected {expected}")
    first: Any = model[0]
    if first.tokenizer is None or not {"text", "message"} & set(first.modality_config):
        raise ValueError(f"{name}: module 0, Transformer, takes no texts")


def check_folder(folder: Path) -> None:
    """Refuse a folder of which sentence-transformers would leave something out, before anything is loaded.

    Raises:
        ValueError: another kind of model than one vector a text, a module that cannot be served, a file that is
            missing, damaged, or holds pickled weights.
    """
    config = _read(folder / _MODEL_NAME)
    kind = str(config.get("model_type", "SentenceTransformer"))
    modules = _modules(folder)
    for place, (name, path, type_name) in enumerate(modules):
        if name not in {one.__name__ for one in SERVED} or not type_name.startswith("sentence_transformers."):
            raise ValueError(
                f"{folder / MODULES_NAME}: module {place}, {type_name}, cannot be served; expected "
                f"Transformer, {', '.join(one.__name__ for one in SERVED[1:])} of sentence_transformers"
            )
        _check_module(folder / path, name)
    if kind != "SentenceTransformer":
        raise ValueError(
            f"{folder / _MODEL_NAME}: found model_type {kind}, expected SentenceTransformer: one vector a text"
        )
    if not modules and (config or any(folder.glob("1_*/config.json"))):
        raise ValueError(
            f"{folder / MODULES_NAME}: missing, expected it beside other files of sentence-transformers"
        )
    root = _root(folder)
    for settings in (*root.glob("sentence_*_config.json"), root / "tokenizer_config.json"):
        _read(settings)
    adapter = (root / ADAPTER_NAME).is_file()
    if not adapter:
        _expect(root / "config.json")
        _check_weights(root, "model")
    else:
        _check_weights(root, "adapter_model")


def _check_module(folder: Path, name: str) -> None:
    if name in _CONFIGURED:
        _expect(folder / "config.json")
    if name in _WEIGHTED:
        _check_weights(folder, "model")
    if name == "Dense":
        activation = str(_read(folder / "config.json").get("activation_function", "torch."))
        if not activation.startswith("torch."):
            raise ValueError(
                f"{folder / 'config.json'}: activation_function {activation}, expected a module of torch.nn"
            )


def _check_weights(folder: Path, name: str) -> None:
    if not any(folder.glob(f"{name}*.safetensors")):
        pickled = next(
            iter(sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])), None
        )
        found = f"found pickled weights, {pickled.name}" if pickled else "missing"
        raise ValueError(f"{folder / name}.safetensors: {found}, expected safetensors")


def _expect(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: missing")
    _read(path)


def _modules(folder: Path) -> list[tuple[str, str, str]]:
    """(name of its class, path, whole type) of each module."""
    path = folder / MODULES_NAME
    if not path.is_file():
        return []
    found = read_json(path)
    with naming(path, "a list of modules with path and type"):
        listed = [(str(entry["path"]), str(entry["type"])) for entry in found]
    if not listed:
        raise ValueError(f"{path}: found no modules, expected at least one")
    return [(type_name.rsplit(".", 1)[-1], place, type_name) for place, type_name in listed]


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found {type(content).__name__}, expected an object")
    return content


def _uses_pooler(folder: Path) -> bool:
    """Whether a module's configuration names the output of the model's own pooler."""
    return any("pooler_output" in path.read_text("utf-8") for path in folder.glob("sentence_*_config.json"))


def _has_pooler(folder: Path) -> bool:
    """Whether the model's class makes a pooler unless told otherwise."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    found = AutoModel._model_mapping.get(type(config), None)
    classes: Sequence[Any] = found if isinstance(found, tuple) else (found,)
    return all(
        isinstance(one, type) and "add_pooling_layer" in inspect.signature(one).parameters for one in classes
    )


def _first_line(error: Exception) -> str:
    return re.split(r"[\r\n]", str(error).strip(), maxsplit=1)[0]
