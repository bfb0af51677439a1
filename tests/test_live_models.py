"""A live SentenceTransformer stands wherever the API takes an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pyhbt.data.pair_set import PairSet
from pyhbt.encoders import as_encoder
from pyhbt.evaluation import score_encoder
from pyhbt.evaluation.run import encode_set
from pyhbt.integrations.mteb import MtebEncoder, search_wrapper
from pyhbt.mining import mine_negatives
from pyhbt.retrieval.vectors import encode_file
from pyhbt.training import HybridTrainer, TrainingConfig, train_encoder
from pyhbt.training.batches import Examples, PairCollator
from tests.toy import parallel_items, retrieval_set, save_tiny_bert
from tests.training.test_trainer import arguments

PAIRS = PairSet.from_parallel(parallel_items(8, ("aa", "bb")))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def model(bert: Path) -> SentenceTransformer:
    return SentenceTransformer(str(bert), device="cpu")


def test_evaluation_and_encoding(model: SentenceTransformer, tmp_path: Path) -> None:
    data, encoder = retrieval_set(3), as_encoder(model)
    live, wrapped = (score_encoder(one, data) for one in (model, encoder))
    assert [list(one.macro_means()) for one in live] == [list(one.macro_means()) for one in wrapped]
    assert torch.equal(encode_set(model, data)[0], encode_set(encoder, data)[0])
    (tmp_path / "texts").write_text("one\ntwo\n")
    assert encode_file(model, tmp_path / "texts", tmp_path / "vectors.npy") == (2, 32)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), encoder.encode(["one", "two"]))


def test_mining(model: SentenceTransformer) -> None:
    live, wrapped = (mine_negatives(one, PAIRS).pairs for one in (model, as_encoder(model)))
    assert [pair.negatives for pair in live] == [pair.negatives for pair in wrapped]
    assert any(pair.negatives for pair in live)


def test_mteb(model: SentenceTransformer) -> None:
    batches = [{"text": ["one", "two"]}]
    live, wrapped = (MtebEncoder(one).encode(batches) for one in (model, as_encoder(model)))
    assert torch.equal(live, wrapped)
    assert isinstance(search_wrapper(model).model, MtebEncoder)


def test_training(model: SentenceTransformer, tmp_path: Path) -> None:
    start = model.encode(["text"])
    HybridTrainer(model, arguments(tmp_path / "trainer", max_steps=1), PAIRS).train()
    trained = model.encode(["text"])
    assert not np.allclose(trained, start)  # in place
    config = TrainingConfig.for_encoder(model, steps=1, batch_size=4)
    saved = train_encoder(model, PAIRS, config, tmp_path / "run")
    np.testing.assert_allclose(
        SentenceTransformer(str(saved), device="cpu").encode(["text"]),
        as_encoder(model).encode(["text"]),
        atol=1e-6,
    )
    assert PairCollator(model)(Examples.of(PAIRS, [0]))["num_queries"] == 1


@pytest.mark.parametrize(
    "take",
    [
        lambda wrong, out: score_encoder(wrong, retrieval_set(3)),
        lambda wrong, out: encode_file(wrong, out, out / "x.npy"),
        lambda wrong, out: mine_negatives(wrong, PAIRS),
        lambda wrong, out: MtebEncoder(wrong),
        lambda wrong, out: HybridTrainer(wrong, arguments(out), PAIRS),
        lambda wrong, out: TrainingConfig.for_encoder(wrong),
        lambda wrong, out: PairCollator(wrong),
    ],
)
def test_what_is_no_encoder_is_refused_at_once(
    take: Callable[[object, Path], object], tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="encoder: found str, expected an Encoder or a SentenceTransformer"):
        take("owner/name", tmp_path)
