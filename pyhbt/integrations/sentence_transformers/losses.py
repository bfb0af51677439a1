"""The fused in-batch contrastive loss for sentence-transformers' trainer.

Columns of n texts: query, positive passage, any number of hard negatives -> a scalar loss. Cost: as
:func:`pyhbt.contrastive_loss`; the scores, n * n * (1 + negatives) of them, are never stored. Source: InfoNCE,
arXiv:1807.03748.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from torch import Tensor, nn

from pyhbt.integrations.sentence_transformers.identities import identities, text_numbers
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
        group_labels: the dataset's label column holds integer group ids, of the positive or of the positive and each
            hard negative (as :func:`hybrid_dataset` gives them); passages of a query's group are no negatives of it. A
            negative id belongs to no group, and so do hard negatives without one.
        gather_across_devices: contrast with the passages of all ranks; gradients flow back to every rank.

    Without ``group_labels`` labels are ignored, as in ``MultipleNegativesRankingLoss``. Texts with equal tokens are
    one: a passage stands once among the candidates, whatever column it is in, and where a query comes twice in a batch,
    the positives of both answer it.

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
        columns = list(sentence_features)
        texts = text_numbers(columns)
        return self._loss(embed_columns(self.model, columns), labels, self._temperature(), texts)

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None
    ) -> Tensor:
        """The loss of embeddings (n, dim) of each column: query, positive, hard negatives; each is of another text.

        Raises:
            ValueError: as :meth:`forward`.
        """
        return self._loss(embeddings, labels, self._temperature())

    def _loss(
        self,
        embeddings: Sequence[Tensor],
        labels: Tensor | None,
        temperature: float | Tensor,
        texts: NDArray[np.int64] | None = None,
    ) -> Tensor:
        groups = self._groups(embeddings, labels)
        queries, *columns = embeddings
        passages = torch.cat(columns)
        options: dict[str, Any] = {
            "temperature": temperature,
            "similarity": self.similarity,
            "symmetric": self.symmetric,
            "margin": self.margin,
        }
        positives = torch.arange(len(queries), device=queries.device)
        if groups is not None or texts is not None:
            found = identities(len(queries), len(columns), texts, groups)
            if len(found.candidates) < len(passages):
                passages = passages[found.candidates.to(passages.device)]
            positives = found.positives.to(queries.device)
            options["query_groups"] = found.query_groups.to(queries.device)
            options["passage_groups"] = found.passage_groups.to(queries.device)
        if not self.gather_across_devices:
            return contrastive_loss(queries, passages, positives, **options)
        count = total(torch.tensor(len(queries), device=queries.device))
        weights = torch.full((len(queries),), float(world_size() / count), device=queries.device)
        return union_loss(queries, passages, positives, weights=weights, **options)

    def _groups(self, embeddings: Sequence[Tensor], labels: Tensor | None) -> NDArray[np.int64] | None:
        """Group ids (n, 1) of the positives or (n, columns) of all passages, or None; checks the columns too."""
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
        shapes = [(lengths[0],), (lengths[0], len(embeddings) - 1)][: len(embeddings) - 1]
        integers = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if tuple(labels.shape) not in shapes or not integers:
            found = f"{tuple(labels.shape)} of {labels.dtype}"
            expected = " or ".join(map(str, shapes))
            raise ValueError(f"labels: found {found}, expected {expected} integer group ids")
        found_ids: NDArray[np.int64] = labels.to("cpu", torch.int64).reshape(lengths[0], -1).numpy()
        return found_ids

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
