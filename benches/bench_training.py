"""Steps of training and encoding of texts, beside sentence-transformers with the same model, data, batches and steps.

The first four layers of multilingual E5-small, float32, dropout as it comes. A pair is a question and the first 400
characters of its paragraph, at most 128 tokens, in five languages of XQuAD-R; batches of n pairs are hybrid, of ratio
0.5 (``training_step``), or hold all language pairs (``training_step_mixed``). A timing is of ``train()`` for k steps by
either trainer: set-up, drawing and tokenising, forward, backward, clipping and AdamW. Encoding is of the sentences of
100 paragraphs in each of four languages; n counts them. flops are those of the matrix products with weights, of
tokens alone: what padding costs is the backend's. The models are read from PYHBT_MODELS, the data from PYHBT_DATA.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import PrinterCallback, TrainingArguments

from pyhbt.data.pair_set import PairSet, ParallelItem
from pyhbt.encoders import TransformerEncoder
from pyhbt.training.batches import Examples
from pyhbt.training.objectives import Objective
from pyhbt.training.trainer import HybridTrainer

from .conftest import Compare

_LANGUAGES = ("ar", "de", "en", "hi", "zh")
_ENCODED = ("de", "en", "hi", "zh")
_MODEL = "e5-small-4L-f26k-fp16"
_TEMPERATURE = 0.02

pytestmark = pytest.mark.filterwarnings("ignore")


def _folder(variable: str, *parts: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"real data and models: set {variable} to their folder to run this bench")
    return Path(os.environ[variable], *parts)


@pytest.fixture(scope="module")
def encoder() -> TransformerEncoder:
    return TransformerEncoder.load(
        _folder("PYHBT_MODELS", _MODEL), max_length=128, query_prefix="query: ", passage_prefix="passage: "
    )


def _paragraphs(lang: str) -> list[dict[str, Any]]:
    content = json.loads(_folder("PYHBT_DATA", "xquad-r", f"{lang}.json").read_text(encoding="utf-8"))
    return [paragraph for article in content["data"] for paragraph in article["paragraphs"]]


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    by_lang = {lang: _paragraphs(lang) for lang in _LANGUAGES}
    items = [
        ParallelItem(
            str(place),
            {lang: by_lang[lang][place]["qas"][number]["question"] for lang in _LANGUAGES},
            {lang: by_lang[lang][place]["context"][:400] for lang in _LANGUAGES},
        )
        for place, paragraph in enumerate(by_lang["en"])
        for number in range(len(paragraph["qas"]))
    ]
    return PairSet.from_parallel(items)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    found = []
    for lang in _ENCODED:
        for paragraph in _paragraphs(lang)[:100]:
            bounds = paragraph["sentence_breaks"]
            found += [" ".join(paragraph["context"][start:end].split()) for start, end in bounds]
    return found


def _arguments(kind: type[Any], folder: Path, batch_size: int, steps: int, **others: Any) -> Any:
    return kind(
        output_dir=str(folder),
        max_steps=steps,
        seed=1,
        per_device_train_batch_size=batch_size,
        learning_rate=1e-5,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **others,
    )


def _weight_products(encoder: TransformerEncoder) -> int:
    """Multiply-adds of one token."""
    return sum(module.weight.numel() for module in encoder.modules() if isinstance(module, torch.nn.Linear))


_CASES = [
    pytest.param(32, 3, "single"),
    *(
        pytest.param(n, steps, cross_pairs, marks=pytest.mark.slow)
        for n, steps, cross_pairs in (
            (128, 2, "single"),
            (256, 1, "single"),
            (32, 3, "mixed"),
            (128, 2, "mixed"),
            (256, 1, "mixed"),
        )
    ),
]


@pytest.mark.parametrize(("batch_size", "steps", "cross_pairs"), _CASES)
def test_training_step(
    batch_size: int,
    steps: int,
    cross_pairs: Literal["single", "mixed"],
    encoder: TransformerEncoder,
    pairs: PairSet,
    tmp_path: Path,
    compare: Compare,
) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from pyhbt.integrations.sentence_transformers import HybridBatches, hybrid_dataset

    drawn: dict[str, Any] = {"ratio": 0.5 if cross_pairs == "single" else 1.0, "cross_pairs": cross_pairs}
    trainer = HybridTrainer(
        copy.deepcopy(encoder),
        _arguments(TrainingArguments, tmp_path / "ours", batch_size, steps),
        pairs,
        objective=Objective(_TEMPERATURE),
        **drawn,
    )
    tokens = 0
    for step in range(steps):
        collated = trainer.data_collator([Examples.of(pairs, trainer.sampler.at(step)[0])])
        tokens += sum(int(texts["attention_mask"].sum()) for texts in collated["texts"])
    encoder.save(tmp_path / "model")
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    batches = HybridBatches(pairs, steps=steps, seed=1, **drawn)
    peer = SentenceTransformerTrainer(
        model,
        _arguments(
            SentenceTransformerTrainingArguments,
            tmp_path / "theirs",
            batch_size,
            steps,
            batch_sampler=batches,
            prompts={"query": "query: ", "passage": "passage: "},
        ),
        train_dataset=hybrid_dataset(pairs),
        loss=MultipleNegativesRankingLoss(model, scale=1 / _TEMPERATURE),
        callbacks=[batches],
    )
    for each in (trainer, peer):
        each.remove_callback(PrinterCallback)
    compare(
        trainer.train,
        {"sentence-transformers": peer.train},
        op="training_step" if cross_pairs == "single" else "training_step_mixed",
        n=batch_size,
        m=batch_size,
        dim=encoder.dim,
        k=steps,
        flops=6 * tokens * _weight_products(encoder),
    )


def test_encode(encoder: TransformerEncoder, sentences: list[str], tmp_path: Path, compare: Compare) -> None:
    from sentence_transformers import SentenceTransformer

    encoder.save(tmp_path)
    model = SentenceTransformer(str(tmp_path), device="cpu")
    expected = encoder.encode(sentences)

    def check(name: str, vectors: Any) -> None:
        difference = (torch.as_tensor(vectors) - expected).abs().max().item()
        assert difference < 1e-6, f"{name}: {difference}"

    compare(
        lambda: encoder.encode(sentences),
        {
            f"sentence-transformers-{size}": lambda size=size: model.encode(
                sentences, batch_size=size, prompt="passage: ", normalize_embeddings=True
            )
            for size in (32, 128)
        },
        op="encode",
        n=len(sentences),
        m=0,
        dim=encoder.dim,
        k=0,
        flops=2 * sum(map(len, encoder.token_ids(sentences, "passage"))) * _weight_products(encoder),
        check=check,
    )
