"""What every encoder offers: tokenise, embed, encode many texts, save.

An encoder is shared by queries and passages (arXiv 2408.10536, section 3) and gives unit vectors, so that a dot
product is the cosine.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from pyhbt.arguments import check_at_least
from pyhbt.encoders.means import LanguageMeans, TextKind
from pyhbt.encoders.packing import MiniBatch, mini_batches_of_least_cost, mini_batches_within_budget
from pyhbt.files import write_atomically
from pyhbt.reading import naming, read_json

if TYPE_CHECKING:
    from pyhbt.encoders.lora import LoraOptions

Features = dict[str, Tensor]
"""What a model takes: tensors by name."""

CONFIG_NAME = "pyhbt_encoder.json"
_CHUNK_TEXTS = 8192
_BETWEEN_STOPS = 256  # texts, tokenised within a fraction of a second
_DEVICE_OVERHEAD = 4096
"""Tokens that a mini-batch of its own costs on a device that is fed from the CPU: a guess, not measured."""


class Encoder(nn.Module, ABC):
    """Texts -> unit vectors of ``dim`` components."""

    dim: int
    max_length: int
    encode_tokens = 2048
    """Tokens that :meth:`encode` computes at a time, padding included."""
    mini_batch_overhead: int | None = None
    """Tokens that a mini-batch of texts of its own costs in a training batch on the CPU; None: texts are not padded."""
    mini_batch_tokens: int | None = None
    """Most tokens of such a mini-batch on the CPU, padding included: activations of more fall out of its caches."""
    language_means: LanguageMeans | None = None
    """What :meth:`encode` subtracts where it is told the language; saved and loaded with the encoder."""
    training_length: int | None = None
    """Tokens kept of a text in a training that does not say; None: all up to ``max_length``."""

    @abstractmethod
    def token_ids(self, texts: Sequence[str], kind: TextKind) -> list[NDArray[np.int64]]:
        """Token ids of each text, truncated to the encoder's length, not padded."""

    @abstractmethod
    def features(self, token_ids: Sequence[NDArray[np.int64]]) -> Features:
        """Tensors of one batch, as :meth:`embed` wants them."""

    @abstractmethod
    def embed(self, features: Features) -> Tensor:
        """Unit vectors (n, dim), float, with graph."""

    @abstractmethod
    def describe(self) -> str:
        """The encoder in one line, for people."""

    def save(self, folder: str | Path) -> None:
        """Write weights, configuration and language means to ``folder``, which ``load_encoder`` reads back."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self._save(folder)
        if self.language_means is not None:
            self.language_means.save(folder)
        write_config(folder, config)

    @abstractmethod
    def _save(self, folder: Path) -> dict[str, object]:
        """Write the weights to a folder that is there; returns what ``pyhbt_encoder.json`` says of the encoder."""

    def add_lora(self, options: LoraOptions, *, seed: int = 0) -> None:
        """Train low-rank adapters of the linear layers alone; ``seed`` is that of their weights.

        Raises:
            ValueError: the encoder has no such layers, or an adapter already.
        """
        raise ValueError(f"lora: found {options}, expected None: {type(self).__name__} has no linear layers")

    def merge_lora(self) -> None:
        """Add the adapters to the weights, so that the encoder is saved whole."""

    def remove_lora(self) -> None:
        """Take the adapters away, so that the encoder is as it was before :meth:`add_lora`."""

    @property
    def unread_weights(self) -> frozenset[str]:
        """Names in the state of weights that no vector comes from: not trained, loaded or compared."""
        return frozenset()

    @abstractmethod
    def load_weights(self, folder: str | Path) -> None:
        """Replace the weights by those that :meth:`save` wrote to ``folder``."""

    def pack(
        self, token_ids: Sequence[NDArray[np.int64]], max_rows: int | None = None
    ) -> tuple[list[Features], Tensor]:
        """Mini-batches of texts of similar length, each of at most ``max_rows`` texts. O(n log n).

        Returns:
            The mini-batches, as :meth:`forward` takes them; and, int64 (n,), where each text's vector is in what that
            gives.
        """
        lengths = [len(row) for row in token_ids]
        if not lengths:
            return [], torch.empty(0, dtype=torch.int64)
        if self.mini_batch_overhead is None:
            parts = -(-len(lengths) // max_rows) if max_rows is not None else 1
            mini_batches: list[MiniBatch] = np.array_split(np.arange(len(lengths)), max(1, parts))
        elif self.device.type == "cpu":
            mini_batches = mini_batches_of_least_cost(
                lengths, self.mini_batch_overhead, max_rows, self.mini_batch_tokens
            )
        else:
            mini_batches = mini_batches_of_least_cost(lengths, _DEVICE_OVERHEAD, max_rows)
        order = np.empty(len(lengths), dtype=np.int64)
        order[np.concatenate(mini_batches)] = np.arange(len(lengths))
        features = [self.features([token_ids[row] for row in rows]) for rows in mini_batches]
        return features, torch.from_numpy(order)

    def forward(self, mini_batches: Sequence[Features]) -> Tensor:
        """Embeddings (n, dim) of the texts of all mini-batches, in a row."""
        parts = [self.embed(features) for features in mini_batches]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim, device=self.device)

    @property
    def length_in_training(self) -> int | None:
        """Tokens kept of a text in a training that does not say; None: all up to ``max_length``."""
        return None if self.training_length is None else min(self.training_length, self.max_length)

    @property
    def backbone(self) -> nn.Module | None:
        """The transformers model inside, whose layers can be checkpointed; None where there is none."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @torch.no_grad()
    def encode(
        self,
        texts: Sequence[str],
        kind: TextKind = "passage",
        *,
        language: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Unit vectors of many texts: float32 (len(texts), dim) on the CPU, in the order given.

        Texts are sorted by their number of tokens and batched to ``encode_tokens`` tokens, padding included (and at
        most ``batch_size`` texts), while the next ones are being tokenised; dropout is off during the call.
        With ``language``, one for all texts or one each, the encoder's mean of that language is subtracted.

        Raises:
            ValueError: ``batch_size`` below 1, ``kind`` unknown, as many languages as texts not given, or a language
                that the encoder has no mean of.
            TypeError: ``texts`` is one string, or holds something that is not a string.
        """
        if isinstance(texts, str):
            raise TypeError("texts: found one str, expected a sequence of str")
        if batch_size is not None:
            check_at_least("batch_size", batch_size, 1)
        if kind not in ("query", "passage"):
            raise ValueError(f"kind: found {kind!r}, expected 'query' or 'passage'")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{position}]: found {type(text).__name__}, expected str")
        languages = self._languages(texts, language)
        output = torch.empty(len(texts), self.dim, dtype=torch.float32)
        was_training = self.training
        self.eval()
        try:
            with tqdm(total=len(texts), desc=f"encode {kind}", unit="text", disable=not progress) as bar:
                for start, rows in self._tokenised_ahead(texts, kind):
                    for mini_batch in mini_batches_within_budget(
                        [len(row) for row in rows], self.encode_tokens
                    ):
                        for chosen in _parts(mini_batch, batch_size):
                            features = self.features([rows[row] for row in chosen])
                            with torch.inference_mode():
                                vectors = self.embed(
                                    {name: value.to(self.device) for name, value in features.items()}
                                )
                            output[torch.from_numpy(chosen) + start] = vectors.float().cpu()
                            bar.update(len(chosen))
        finally:
            self.train(was_training)
        if languages is None or self.language_means is None:
            return output
        return self.language_means.centred(output, kind, languages)

    def _languages(self, texts: Sequence[str], language: str | Sequence[str] | None) -> list[str] | None:
        """The language of each text."""
        if language is None:
            return None
        if self.language_means is None:
            raise ValueError(
                f"language: found {language!r}, expected None: the encoder has no language means"
            )
        languages = [language] * len(texts) if isinstance(language, str) else list(language)
        if len(languages) != len(texts):
            raise ValueError(f"language: found {len(languages)} languages, expected {len(texts)}, one a text")
        return languages

    def _tokenised_ahead(
        self, texts: Sequence[str], kind: TextKind
    ) -> Iterator[tuple[int, list[NDArray[np.int64]]]]:
        """Chunks of texts as token ids, with where they begin; the next chunk is made while one is used."""
        stopped = Event()  # by Ctrl-C, say: what is being made ahead is not waited for

        def tokenised(start: int) -> list[NDArray[np.int64]]:
            end = min(start + _CHUNK_TEXTS, len(texts))
            rows: list[NDArray[np.int64]] = []
            for begin in range(start, end, _BETWEEN_STOPS):
                if stopped.is_set():
                    break
                rows.extend(self.token_ids(texts[begin : min(begin + _BETWEEN_STOPS, end)], kind))
            return rows

        with ThreadPoolExecutor(max_workers=1) as ahead:
            try:
                starts = range(0, len(texts), _CHUNK_TEXTS)
                following = None
                for start in starts:
                    current = following or ahead.submit(tokenised, start)
                    following = None
                    if start != starts[-1]:
                        following = ahead.submit(tokenised, start + _CHUNK_TEXTS)
                    yield start, current.result()
            finally:
                stopped.set()


def write_config(folder: Path, config: Mapping[str, object]) -> None:
    """Write ``pyhbt_encoder.json``: what kind of encoder the folder holds, and which files belong to it."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    content = {**config, "files": [name for name in files if name != CONFIG_NAME]}
    with write_atomically(folder / CONFIG_NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any] | None:
    """What ``pyhbt_encoder.json`` says; None where there is no such file.

    Raises:
        ValueError: it is damaged, or a file that belongs to the encoder is missing.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    config = read_json(path)
    with naming(path, "type and files of an encoder"):
        kind, files = config["type"], config.get("files", [])
        missing = [name for name in files if not (folder / name).is_file()]
    if kind not in ("ngram", "transformer"):
        raise ValueError(f"{path}: found type {kind!r}, expected ngram or transformer")
    if missing:
        raise ValueError(f"{folder / missing[0]}: missing, expected it as {CONFIG_NAME} says")
    return dict(config)


def _parts(mini_batch: MiniBatch, max_rows: int | None) -> list[MiniBatch]:
    return [mini_batch] if max_rows is None else np.array_split(mini_batch, -(-len(mini_batch) // max_rows))
