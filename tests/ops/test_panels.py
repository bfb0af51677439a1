"""The loss by panels in plain torch, against the twin in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from pyhbt.ops import panels, reference
from tests.losses import ORDINARY, PEAKED, make, relative_error


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("peaked", [False, True])
def test_torch_panels_follow_the_twin(symmetric: bool, peaked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "_PANEL_QUERIES", 50)
    queries, passages, generator = make(130, 150, 33)
    if peaked:
        queries = normalize(queries)
        passages = torch.cat([queries + 1e-3 * passages[:130], passages[130:]])
    positives = torch.randint(-1, 150, (130,), generator=generator)
    if peaked:
        positives = torch.arange(130).clamp(max=125)
    weights = torch.rand(130, generator=generator)
    temperature = torch.tensor(0.05, dtype=torch.float64)
    groups = torch.arange(130) // 3, torch.arange(150) // 2
    for budget in (0, 256 << 20):
        monkeypatch.setattr(panels, "RETAINED_BYTES", budget)
        for margin, cosine, ids in ((torch.inf, False, (None, None)), (0.4, True, groups)):
            arguments = (positives, weights, temperature, margin, cosine, symmetric, *ids)
            losses, _, *gradients = panels.contrastive_loss(queries, passages, *arguments, True, True)
            wide = [x.to(torch.float64, copy=True).requires_grad_() for x in (queries, passages, temperature)]
            truth = reference.contrastive_loss(
                wide[0],
                wide[1],
                positives,
                temperature=wide[2],
                similarity="cosine" if cosine else "dot",
                symmetric=symmetric,
                query_groups=ids[0],
                passage_groups=ids[1],
                margin=margin if cosine else None,
                reduction="none",
            )
            (truth * weights.double()).sum().backward()
            budgets = PEAKED if peaked else 2 * ORDINARY
            assert relative_error(losses, truth.detach()) <= budgets
            for found, expected in zip(gradients, wide, strict=True):
                assert expected.grad is not None
                assert relative_error(found, expected.grad) <= budgets
