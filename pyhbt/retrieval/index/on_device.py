"""An index over a tensor that lies on a CUDA device: built there, with nothing on the CPU until something needs it."""

from __future__ import annotations

import torch

from pyhbt.ops.cuda.kernels import kernels
from pyhbt.ops.cuda.search import Corpus
from pyhbt.ops.exact import with_dense_rows
from pyhbt.ops.search_checks import check_vectors
from pyhbt.retrieval.index.building import refer_to
from pyhbt.retrieval.index.sources import Source
from pyhbt.retrieval.index.storage import Parts


class OnDevice:
    """Vectors (n, dim) where they lie, referred to and not copied.

    Raises:
        ValueError: names a row with a NaN or an infinity; dimensions that are none.
        TypeError: another dtype.
    """

    def __init__(self, vectors: torch.Tensor, *, cosine: bool) -> None:
        check_vectors(vectors, "corpus")
        self.vectors = with_dense_rows(vectors.detach())
        self._cosine = cosine
        self._parts: Parts | None = None

    def corpus(self) -> Corpus:
        """What searches there read: 2 dim + 12 bytes a passage beside the vectors (cosine: 8 more)."""
        native = kernels(self.vectors.device)
        if native is None:
            raise RuntimeError(f"{self.vectors.device}: found no kernels, expected those of an index there")
        return Corpus.of(native, self.vectors, cosine=self._cosine)

    @property
    def parts(self) -> Parts:
        """A copy of the vectors on the CPU, and their codes, made when first asked for."""
        if self._parts is None:
            self._parts = refer_to(self.vectors.cpu(), cosine=self._cosine, progress=False)
        return self._parts


def on_device(source: Source) -> bool:
    """Whether an index of the source may stay on its device: a CUDA tensor, and kernels for it."""
    return isinstance(source, torch.Tensor) and source.is_cuda and kernels(source.device) is not None
