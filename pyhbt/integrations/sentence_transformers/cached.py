"""Gradient caching around the fused loss: batches larger than the encoder's activations allow.

Texts are embedded in mini-batches without a graph, the loss of the whole batch gives the gradients of the embeddings,
and each mini-batch is embedded again to carry them on. Twice the forward passes; activations of one mini-batch, and
no scores. Source: GradCache, arXiv:2101.06983, in sentence-transformers' implementation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import CachedLossMixin, has_static_embedding_input
from torch import Tensor

from pyhbt.arguments import check_at_least
from pyhbt.integrations.sentence_transformers.identities import text_numbers
from pyhbt.integrations.sentence_transformers.losses import FusedInBatchLoss


class CachedFusedInBatchLoss(CachedLossMixin, FusedInBatchLoss):
    """:class:`FusedInBatchLoss` in the place of ``CachedMultipleNegativesRankingLoss``: equal to it and its gradients.

    Args:
        model: the model that is trained.
        temperature: divides the similarities; above 0.
        mini_batch_size: texts that are embedded at once; bounds the memory.
        mini_batch_num_tokens: instead, tokens that are embedded at once.
        show_progress_bar: of the mini-batches.
        options: those of :class:`FusedInBatchLoss`.

    Raises:
        ValueError: an argument out of range, or a model whose inputs cannot be split (``StaticEmbedding``).
    """

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.05,
        *,
        mini_batch_size: int = 32,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
        **options: Any,
    ) -> None:
        FusedInBatchLoss.__init__(self, model, temperature, **options)
        for name, value in (
            ("mini_batch_size", mini_batch_size),
            ("mini_batch_num_tokens", mini_batch_num_tokens),
        ):
            if value is not None:
                check_at_least(name, value, 1)
        if has_static_embedding_input(model):
            raise ValueError(
                "model: found a StaticEmbedding, expected inputs that can be split; use FusedInBatchLoss"
            )
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """As :meth:`FusedInBatchLoss.forward`; ``backward`` may be called once."""
        columns = list(sentence_features)
        once = _ForwardPass(self, text_numbers(columns))
        loss = once.forward_cached(columns, labels)
        if not once.total.requires_grad or not torch.is_grad_enabled():
            return loss
        return loss + (once.total - once.total.detach())  # adds 0, and the gradient of the temperature

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
        texts: NDArray[np.int64] | None = None,
    ) -> Tensor:
        """The loss of mini-batches of embeddings of each column.

        ``with_backward``: with gradients of the embeddings; the graph that is left leads to the temperature alone.
        ``texts``: numbers of the texts, equal for equal ones; None: every text is another.
        """
        embeddings = [torch.cat(column) for column in reps]
        temperature = self._temperature()
        if not with_backward:
            return self._loss(embeddings, labels, temperature, texts)
        if not isinstance(temperature, Tensor):
            loss = self._loss(embeddings, labels, temperature, texts)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        leaf = temperature.detach().requires_grad_()
        loss = self._loss(embeddings, labels, leaf, texts)
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return loss.detach() + (temperature - temperature.detach()) * leaf.grad

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return FusedInBatchLoss.get_config_dict(self) | {
            "mini_batch_size": self.mini_batch_size,
            "mini_batch_num_tokens": self.mini_batch_num_tokens,
        }

    @property
    def citation(self) -> str:
        """BibTeX for the model card."""
        return """
@misc{gao2021gradcache,
    title={Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup},
    author={Luyu Gao and Yunyi Zhang and Jiawei Han and Jamie Callan},
    year={2021},
    eprint={2101.06983},
    archivePrefix={arXiv},
}
"""


class _ForwardPass(CachedLossMixin):
    """One forward pass, which remembers the loss before its graph is cut.

    MatryoshkaLoss replaces the owner's ``calculate_loss`` by a weighted sum over dims; seen from here, the weights
    reach the temperature too.
    """

    total: Tensor

    def __init__(self, owner: CachedFusedInBatchLoss, texts: NDArray[np.int64] | None) -> None:
        self.owner = owner
        self.texts = texts
        self.model = owner.model
        self.mini_batch_size = owner.mini_batch_size
        self.mini_batch_num_tokens = owner.mini_batch_num_tokens
        self.show_progress_bar = owner.show_progress_bar

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        self.total = self.owner.calculate_loss(reps, labels, with_backward=with_backward, texts=self.texts)
        return self.total
