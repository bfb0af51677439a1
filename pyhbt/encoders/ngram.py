"""Hashed character n-grams, averaged and normalised: an encoder that trains in seconds on a CPU.

A text is NFKC-normalised, case-folded and padded by a space on either side; every run of n code points, for each
n of ``sizes``, is hashed to one of ``num_buckets`` rows of an embedding table; the text's vector is the mean of
its rows, made a unit vector. Words of related languages share n-grams, so what is learnt in one language carries
over to its neighbours: enough to study batch composition, no match for a transformer.
Sources: hashed n-grams of words, arXiv 1607.04606; sentences as averages of them, arXiv 1703.02507.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from pyhbt.arguments import check_at_least, whole_number
from pyhbt.encoders.base import CONFIG_NAME, Encoder, Features
from pyhbt.encoders.means import TextKind
from pyhbt.files import write_atomically
from pyhbt.reading import naming, read_json, read_shapes, read_tensors

_WEIGHTS_NAME = "model.safetensors"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class NgramEncoder(Encoder):
    """Mean of hashed character n-gram embeddings. Queries and passages are treated alike.

    Args:
        dim: components of an embedding.
        num_buckets: rows of the table; memory is ``4 * dim * num_buckets`` bytes.
        sizes: lengths of n-grams.
        seed: of the initial table, uniform noise with components of about 1 / sqrt(dim).
        max_length: n-grams kept of a text, from its start.

    Raises:
        ValueError: a size, a dimension or a count below 1.
    """

    encode_tokens = 1 << 18

    def __init__(
        self,
        dim: int = 128,
        num_buckets: int = 1 << 15,
        sizes: Sequence[int] = (1, 2, 3, 4),
        *,
        seed: int = 0,
        max_length: int = 1024,
    ) -> None:
        super().__init__()
        numbers = {"dim": dim, "num_buckets": num_buckets, "sizes": min(sizes, default=0)}
        for name, value in (numbers | {"max_length": max_length}).items():
            check_at_least(name, value, 1)
        self.dim = dim
        self.num_buckets = num_buckets
        self.sizes = tuple(sizes)
        self.max_length = max_length
        generator = torch.Generator().manual_seed(seed)
        table = torch.empty(num_buckets, dim).uniform_(-(dim**-0.5), dim**-0.5, generator=generator)
        self.table = nn.EmbeddingBag(num_buckets, dim, mode="mean", _weight=table)

    def token_ids(self, texts: Sequence[str], kind: TextKind) -> list[NDArray[np.int64]]:
        """Buckets of the n-grams of each text, short ones first."""
        flat, offsets = self._buckets(texts)
        return [flat[start:end] for start, end in pairwise(np.append(offsets, len(flat)))]

    def features(self, token_ids: Sequence[NDArray[np.int64]]) -> Features:
        """``input_ids``: all buckets in a row; ``offsets`` (n,): where each text's buckets begin."""
        ends = np.cumsum([len(row) for row in token_ids], dtype=np.int64)
        flat = np.concatenate([*token_ids, np.empty(0, dtype=np.int64)])
        return {
            "input_ids": torch.from_numpy(flat),
            "offsets": torch.from_numpy(np.concatenate([[0], ends])[: len(token_ids)].astype(np.int64)),
        }

    def embed(self, features: Features) -> Tensor:
        """Unit vectors (n, dim); a text without n-grams gives zeros."""
        return F.normalize(self.table(features["input_ids"], features["offsets"]), dim=-1)

    def describe(self) -> str:
        """Kind, dims, table and n-gram sizes."""
        sizes = " ".join(map(str, self.sizes))
        return f"hashed n-grams of {sizes} characters, {self.num_buckets:,} buckets, {self.dim} dims"

    def _save(self, folder: Path) -> dict[str, object]:
        """Write ``model.safetensors``."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        with write_atomically(folder / _WEIGHTS_NAME) as temporary:
            save_file(weights, temporary)
        return {
            "type": "ngram",
            "dim": self.dim,
            "num_buckets": self.num_buckets,
            "sizes": list(self.sizes),
            "max_length": self.max_length,
        }

    def load_weights(self, folder: str | Path) -> None:
        """Replace the table by that of ``folder``.

        Raises:
            ValueError: it is damaged, or of another shape.
        """
        path = Path(folder) / _WEIGHTS_NAME
        with naming(path, "weights of this encoder"):
            self.load_state_dict(read_tensors(path))

    @classmethod
    def load(cls, folder: str | Path, *, max_length: int | None = None) -> NgramEncoder:
        """The encoder that :meth:`save` wrote."""
        path = Path(folder) / CONFIG_NAME
        config = read_json(path)
        with naming(path, "sizes of an n-gram encoder"):
            whole = (config["dim"], config["num_buckets"], config["max_length"], *config["sizes"])
            dim, buckets, length, *sizes = (whole_number("sizes", number, 1) for number in whole)
            weights = read_shapes(path.with_name(_WEIGHTS_NAME))
            if list(weights.values()) != [(buckets, dim)]:  # before room is made for them
                raise ValueError(f"{buckets} buckets of {dim} numbers, but weights {weights}")
        encoder = cls(dim, buckets, sizes, max_length=length if max_length is None else max_length)
        encoder.load_weights(folder)
        return encoder

    def _buckets(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Buckets of all texts in a row, and where each text's begin; O(code points * sizes)."""
        padded = [f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} " for text in texts]
        lengths = np.array([len(text) for text in padded], dtype=np.int64)
        points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(
            np.uint64
        )
        owner = np.repeat(np.arange(len(texts)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(
            len(points)
        )  # code points to the text's end
        hashes, owners = [], []
        rolling = np.zeros(len(points), dtype=np.uint64)
        for size in range(1, max(self.sizes) + 1):
            reach = len(points) - size + 1
            if reach < 1:
                break
            rolling = rolling[:reach] * _MULTIPLIER + points[size - 1 : size - 1 + reach] + np.uint64(1)
            if size in self.sizes:
                inside = left[:reach] >= size
                hashes.append(rolling[inside])
                owners.append(owner[:reach][inside])
        mixed = np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)
        whose = np.concatenate(owners) if owners else np.empty(0, dtype=np.int64)
        by_text = np.argsort(whose, kind="stable")
        whose = whose[by_text]
        mixed = mixed[by_text]
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
        buckets = ((mixed >> np.uint64(32)) % np.uint64(self.num_buckets)).astype(np.int64)
        counts = np.bincount(whose, minlength=len(texts))
        offsets = np.cumsum(counts) - counts
        if (counts > self.max_length).any():
            place = np.arange(len(buckets)) - np.repeat(offsets, counts)
            buckets = buckets[place < self.max_length]
            counts = np.minimum(counts, self.max_length)
            offsets = np.cumsum(counts) - counts
        return buckets, offsets.astype(np.int64)
