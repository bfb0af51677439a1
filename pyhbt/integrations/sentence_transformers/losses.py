"""The fused in-batch contrastive loss for sentence-transformers' trainer.

Columns of n texts: query, positive passage, any number of hard negatives -> a scalar loss. Cost: as
:func:`pyhbt.contrastive_loss`; the scores, n * n * (1 + negatives) of them, are never stored. Source: InfoNCE,
arXiv:1807.03748.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn

from pyhbt.integrations.sentence_transformers.temperature import Temperature
from pyhbt.ops import contrastive_loss
from pyhbt.training.distributed import total, world_size
from pyhbt.training.union_loss import union_loss

_SIMILARITIES = ("cosine", "dot")


class FusedInBatchLoss(nn.Module):
    """In-batch contrastive loss in the place of ``MultipleNegativesRankingLoss(scale=1 / temperature)``.

    Args:
        model: the model that is trained.
        temperature: divides the similarities; above 0.
        learnable_temperature: make it a parameter, which the trainer optimises; :class:`TemperatureCallback` keeps it
            in checkpoints.
        similarity: ``"cosine"`` or ``"dot"``.
        symmetric: the mean of that loss and of the passage-to-query direction over queries and positives.
        margin: leave out negatives more similar to the query than its positive by over this; None: keep all.
        group_labels: the dataset's label column holds integer group ids; pairs of one group are no negatives of each
            other. A negative id belongs to no group, and so do hard negatives.
        gather_across_devices: contrast with the passages of all ranks; gradients flow back to every rank.

    Without ``group_labels`` labels are ignored, as in ``MultipleNegativesRankingLoss``.

    Raises:
        ValueError: an argument out of range; ``margin`` together with ``symmetric`` and ``gather_across_devices``.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.05,
        *,
        learnable_temperature: bool = False,
        similarity: str = "cosine",
        symmetric: bool = False,
        margin: float | None = None,
        group_labels: bool = False,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        if similarity not in _SIMILARITIES:
            raise ValueError(f"similarity: found {similarity!r}, expected one of {', '.join(_SIMILARITIES)}")
        if margin is not None and symmetric and gather_across_devices:
            raise ValueError(f"margin: found {margin}, expected None where symmetric scores are gathered")
        self.model = model
        self._temperature = Temperature(temperature, learnable=learnable_temperature)
        self.similarity = similarity
        self.symmetric = symmetric
        self.margin = margin
        self.group_labels = group_labels
        self.gather_across_devices = gather_across_devices

    @property
    def temperature(self) -> float:
        """The temperature, as it is now."""
        return self._temperature.value()

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch: features of each column, and group ids (n,) if labels are groups; a scalar.

        Raises:
            ValueError: fewer than two columns, columns of different lengths, or labels that are no group ids.
        """
        return self.compute_loss_from_embeddings(embed_columns(self.model, sentence_features), labels)

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None
    ) -> Tensor:
        """The loss of embeddings (n, dim) of each column: query, positive, hard negatives.

        Raises:
            ValueError: as :meth:`forward`.
        """
        return self._loss(embeddings, labels, self._temperature())

    def _loss(
        self, embeddings: Sequence[Tensor], labels: Tensor | None, temperature: float | Tensor
    ) -> Tensor:
        groups = self._groups(embeddings, labels)
        queries, positives, *negatives = embeddings
        passages = torch.cat([positives, *negatives])
        options: dict[str, Any] = {
            "temperature": temperature,
            "similarity": self.similarity,
            "symmetric": self.symmetric,
            "margin": self.margin,
        }
        if groups is not None:
            none = groups.new_full((len(passages) - len(groups),), -1)  # hard negatives belong to no group
            options |= {"query_groups": groups, "passage_groups": torch.cat([groups, none])}
        if not self.gather_across_devices:
            return contrastive_loss(queries, passages, **options)
        own = torch.arange(len(queries), device=queries.device)
        count = total(torch.tensor(len(queries), device=queries.device))
        weights = torch.full((len(queries),), float(world_size() / count), device=queries.device)
        return union_loss(queries, passages, own, weights=weights, **options)

    def _groups(self, embeddings: Sequence[Tensor], labels: Tensor | None) -> Tensor | None:
        """Group ids int64 (n,) of the pairs, or None; checks the columns too."""
        if len(embeddings) < 2:
            raise ValueError(
                f"columns: found {len(embeddings)}, expected at least 2 (queries, positive passages)"
            )
        lengths = [len(column) for column in embeddings]
        if len(set(lengths)) != 1:
            raise ValueError(f"columns: found lengths {lengths}, expected one length")
        if not self.group_labels:
            return None
        if labels is None:
            raise ValueError("labels: found None, expected a label column of group ids, as group_labels says")
        integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if labels.shape != (lengths[0],) or not integers:
            found = f"{tuple(labels.shape)} of {labels.dtype}"
            raise ValueError(f"labels: found {found}, expected ({lengths[0]},) integer group ids")
        return labels.to(embeddings[0].device, torch.int64)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of the loss."""
        return {
            "temperature": self.temperature,
            "learnable_temperature": self._temperature.learnable,
            "similarity": self.similarity,
            "symmetric": self.symmetric,
            "margin": self.margin,
            "group_labels": self.group_labels,
            "gather_across_devices": self.gather_across_devices,
        }

    @property
    def citation(self) -> str:
        """BibTeX for the model card."""
        return """
@misc{oord2018cpc,
    title={Representation Learning with Contrastive Predictive Coding},
    author={Aaron van den Oord and Yazhe Li and Oriol Vinyals},
    year={2018},
    eprint={1807.03748},
    archivePrefix={arXiv},
}
"""
