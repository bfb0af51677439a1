"""What is optimised: an encoder and its temperature."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyhbt.encoders import load_encoder
from pyhbt.training.objectives import Objective
from pyhbt.training.trained import Trained
from tests.toy import save_tiny_bert
from tests.training.test_trainer import small_ngram


def test_a_fixed_temperature_is_a_number() -> None:
    trained = Trained(small_ngram(), Objective(0.2))
    assert trained.temperature() == 0.2
    trained.clamp_temperature()
    assert {name for name, _ in trained.named_parameters()} == {"encoder.table.weight"}


def test_a_learnt_temperature_has_a_gradient_and_a_least_value() -> None:
    trained = Trained(small_ngram(), Objective(0.2, learn_temperature=True))
    temperature = trained.temperature()
    assert isinstance(temperature, torch.Tensor)
    assert temperature.item() == pytest.approx(0.2)
    (gradient,) = torch.autograd.grad(temperature, [trained.log_temperature])  # type: ignore[list-item]
    assert gradient.item() == pytest.approx(0.2)  # d exp(x) / dx
    with torch.no_grad():
        trained.log_temperature.fill_(-20.0)  # type: ignore[union-attr]
    trained.clamp_temperature()
    least = trained.temperature()
    assert isinstance(least, torch.Tensor)
    assert least.item() == pytest.approx(0.01)


def test_vectors_of_all_mini_batches_in_a_row() -> None:
    encoder = small_ngram()
    mini_batches, order = encoder.pack(encoder.token_ids(["kalo", "mi"], "query"), 1)
    vectors, temperature = Trained(encoder, Objective(0.2))(mini_batches)
    assert temperature == 0.2
    torch.testing.assert_close(vectors[order], encoder.encode(["kalo", "mi"], "query"))


def test_what_the_trainer_asks_of_a_model_is_asked_of_the_transformer(tmp_path: Path) -> None:
    encoder = load_encoder(save_tiny_bert(tmp_path))
    embeddings = Trained(encoder, Objective()).get_input_embeddings()
    assert embeddings is encoder.backbone.get_input_embeddings()  # type: ignore[union-attr, operator]
