"""What every encoder offers: tokenise, embed, encode many texts, save.

An encoder is shared by queries and passages (arXiv 2408.10536, section 3) and gives unit vectors, so that a dot
product is the cosine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

TextKind = Literal["query", "passage"]
Features = dict[str, Tensor]

CONFIG_NAME = "pyhbt_encoder.json"
_CHUNK_TEXTS = 16_384


class Encoder(nn.Module, ABC):
    """Texts -> unit vectors of ``dim`` components."""

    dim: int
    max_length: int
    default_batch_size = 64
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

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights and configuration to ``folder``, which ``load_encoder`` reads back."""

    @abstractmethod
    def load_weights(self, folder: str | Path) -> None:
        """Replace the weights by those that :meth:`save` wrote to ``folder``."""

    def tokenize(self, texts: Sequence[str], kind: TextKind) -> Features:
        """Tensors of one batch of texts."""
        return self.features(self.token_ids(texts, kind))

    def forward(self, queries: Features, passages: Features) -> tuple[Tensor, Tensor]:
        """Embeddings of a training batch: queries (n, dim) and passages (m, dim)."""
        return self.embed(queries), self.embed(passages)

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
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Unit vectors of many texts: float32 (len(texts), dim) on the CPU, in the order given.

        Texts are batched by token count, so that little is spent on padding; dropout is off during the call.
        ``batch_size`` None means the encoder's own.

        Raises:
            ValueError: ``batch_size`` below 1, or ``kind`` unknown.
            TypeError: ``texts`` is one string, or holds something that is not a string.
        """
        if isinstance(texts, str):
            raise TypeError("texts: found one str, expected a sequence of str")
        batch_size = self.default_batch_size if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size: found {batch_size}, expected at least 1")
        if kind not in ("query", "passage"):
            raise ValueError(f"kind: found {kind!r}, expected 'query' or 'passage'")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{position}]: found {type(text).__name__}, expected str")
        output = torch.empty(len(texts), self.dim, dtype=torch.float32)
        was_training = self.training
        self.eval()
        try:
            with tqdm(total=len(texts), desc=f"encode {kind}", unit="text", disable=not progress) as bar:
                for start in range(0, len(texts), _CHUNK_TEXTS):
                    rows = self.token_ids(texts[start : start + _CHUNK_TEXTS], kind)
                    longest_first = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
                    for first in range(0, len(rows), batch_size):
                        chosen = longest_first[first : first + batch_size]
                        features = self.features([rows[row] for row in chosen])
                        vectors = self.embed(
                            {name: value.to(self.device) for name, value in features.items()}
                        )
                        output[[start + row for row in chosen]] = vectors.float().cpu()
                        bar.update(len(chosen))
        finally:
            self.train(was_training)
        return output
