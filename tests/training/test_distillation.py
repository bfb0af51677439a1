"""Distillation: against its formulas in float64 and sentence-transformers' losses, in the trainer, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyhbt.data import TeacherScores
from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import NgramEncoder
from pyhbt.training.batches import Batch, Draw, DrawnExamples, Examples, PairCollator
from pyhbt.training.config import TrainingConfig
from pyhbt.training.distillation import kl_divergence, margin_mse
from pyhbt.training.objectives import Objective
from pyhbt.training.run import make_trainer
from pyhbt.training.trainer import HybridTrainer
from tests.training.test_gradient_cache import assert_equal
from tests.training.test_objectives import info_nce, vectors
from tests.training.test_trainer import PAIRS, arguments, small_ngram

TEMPERATURE = 0.1


def hard(n: int, negatives: int) -> PairSet:
    return PairSet.from_pairs(
        Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}", tuple(f"n{i}{j}" for j in range(negatives)))
        for i in range(n)
    )


def write_scores(path: Path, pairs: PairSet, *, share: float = 1.0, seed: int = 0) -> Path:
    """Scores of the passage and the negatives of every pair, or of a share of them."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as lines:
        for pair in pairs:
            for text in (pair.passage, *pair.negatives):
                if rng.random() < share:
                    row = {"query": pair.query, "passage": text, "score": round(rng.normal() * 3, 3)}
                    lines.write(json.dumps(row) + "\n")
    return path


def collated(pairs: PairSet, scores: TeacherScores) -> Batch:
    rows = range(len(pairs))
    examples = DrawnExamples(pairs, 0, None, scores)[Draw(0, tuple(rows))]
    return PairCollator(NgramEncoder(dim=2))(examples)


def by_query(
    x: Tensor, inputs: Batch, temperature: Tensor | float
) -> list[tuple[Tensor, Tensor, int | None]]:
    """Student's and teacher's scores of each query's candidates, and where its positive is among them."""
    n = inputs["num_queries"]
    queries, passages = x[:n], x[n + len(inputs["translated"]) :]
    found = []
    for query in range(n):
        here = (inputs["teacher_queries"] == query).nonzero()[:, 0]
        candidates = inputs["teacher_passages"][here]
        positive = (candidates == inputs["positives"][query]).nonzero()[:, 0].tolist()
        found.append(
            (
                passages[candidates] @ queries[query] / temperature,
                inputs["teacher_scores"][here],
                positive[0] if positive else None,
            )
        )
    return found


def expected_margin_mse(x: Tensor, inputs: Batch, temperature: Tensor | float) -> Tensor:
    squares = [
        ((student[positive] - student[other]) - (teacher[positive] - teacher[other])) ** 2
        for student, teacher, positive in by_query(x, inputs, temperature)
        if positive is not None
        for other in range(len(student))
        if other != positive
    ]
    return torch.stack(squares).mean() if squares else x.sum() * 0


def expected_kl(x: Tensor, inputs: Batch, temperature: Tensor | float, softness: float) -> Tensor:
    terms = []
    for student, teacher, _ in by_query(x, inputs, temperature):
        if len(student) > 1:
            p, q = (teacher / softness).softmax(0), (student / softness).softmax(0)
            terms.append((p * (p / q).log()).sum() * softness**2)
    return torch.stack(terms).mean() if terms else x.sum() * 0


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize(("n", "negatives"), [(1, 1), (2, 3), (9, 2)])
@pytest.mark.parametrize("softness", [1.0, 2.5])
def test_against_its_formula(n: int, negatives: int, share: float, softness: float, tmp_path: Path) -> None:
    pairs = hard(n, negatives)
    scores = TeacherScores.load(write_scores(tmp_path / "s.jsonl", pairs, share=share, seed=n), pairs)
    inputs = collated(pairs, scores)
    x = vectors(inputs)
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64, requires_grad=True)
    for kind, expected in (
        ("margin-mse", expected_margin_mse(x, inputs, temperature)),
        ("kl", expected_kl(x, inputs, temperature, softness)),
    ):
        for weight in (0.0, 1.0):
            objective = Objective(
                distil=kind,  # type: ignore[arg-type]
                distil_weight=0.3,
                distil_temperature=softness,
                contrastive_weight=weight,
                matryoshka_dims=(12,),
            )
            found = objective.loss(x, inputs, temperature)
            plain = Objective(matryoshka_dims=(12,)).loss(x, inputs, temperature).value
            whole = 0.3 * expected + (weight * plain if weight else 0.0)
            torch.testing.assert_close(found.value, whole)
            gradients = [
                torch.autograd.grad(value, (x, temperature), retain_graph=True, materialize_grads=True)
                for value in (found.value, whole)
            ]
            torch.testing.assert_close(*gradients)
            if weight:
                torch.testing.assert_close(found.terms["distil"], expected.detach())
                torch.testing.assert_close(found.terms["contrastive"], plain.detach())


@pytest.mark.parametrize("negatives", [1, 3])
def test_equal_to_their_losses(negatives: int, tmp_path: Path) -> None:
    """Theirs compare dot products: of vectors sqrt(1 / temperature) long these are cosines over the temperature."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    pairs = hard(8, negatives)
    inputs = collated(pairs, TeacherScores.load(write_scores(tmp_path / "s.jsonl", pairs), pairs))
    x = vectors(inputs)
    n = 8
    columns = [x[:n], x[n : 2 * n], *(x[2 * n :].reshape(n, negatives, -1).unbind(1))]
    long = [column / TEMPERATURE**0.5 for column in columns]
    table = torch.zeros(n, 1 + negatives, dtype=torch.float64)
    for query, passage, score in zip(
        inputs["teacher_queries"], inputs["teacher_passages"], inputs["teacher_scores"], strict=True
    ):
        table[query, 0 if passage < n else 1 + (passage - n) % negatives] = score
    margins = table[:, :1] - table[:, 1:]
    for theirs, labels, options in (
        (losses.MarginMSELoss(None), margins if negatives > 1 else margins[:, 0], {"distil": "margin-mse"}),
        (losses.DistillKLDivLoss(None), table, {"distil": "kl"}),
        (losses.DistillKLDivLoss(None, temperature=2.0), table, {"distil": "kl", "distil_temperature": 2.0}),
    ):
        expected = theirs.compute_loss_from_embeddings(long, labels)
        found = Objective(TEMPERATURE, contrastive_weight=0, **options).loss(x, inputs, TEMPERATURE).value
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in (found, expected)]
        torch.testing.assert_close(*gradients)


def test_a_query_is_compared_with_every_candidate_that_the_teacher_scored(tmp_path: Path) -> None:
    """Passages and negatives of other pairs of the batch too; a text that comes twice counts once."""
    pairs = PairSet.from_pairs(
        [
            Pair("q0", "p0", "en", "en", "a", ("n", "p1")),
            Pair("q1", "p1", "en", "en", "b", ("n", "m")),
            Pair("q0", "p2", "en", "en", "a"),
        ]
    )
    rows = [("q0", "p0", 5), ("q0", "p1", 1), ("q0", "m", 2), ("q0", "p2", 4), ("q1", "n", 0)]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps({"query": q, "passage": p, "score": s}) + "\n" for q, p, s in rows))
    scores = TeacherScores.load(path, pairs)
    inputs = collated(pairs, scores)
    texts = ["p0", "p1", "p2", "n", "m"]
    named = [
        (query, texts[passage], score)
        for query, passage, score in zip(
            inputs["teacher_queries"].tolist(),
            inputs["teacher_passages"].tolist(),
            inputs["teacher_scores"].tolist(),
            strict=True,
        )
    ]
    of_q0 = {("p0", 5.0), ("p1", 1.0), ("m", 2.0), ("p2", 4.0)}
    assert {(text, score) for query, text, score in named if query == 0} == of_q0
    assert {(text, score) for query, text, score in named if query == 2} == of_q0
    assert [(text, score) for query, text, score in named if query == 1] == [("n", 0.0)]
    assert len(named) == 9
    of_last = inputs["teacher_passages"][inputs["teacher_queries"] == 2].tolist()
    assert 2 in of_last  # its own passage, where the pair has it


def test_nothing_to_compare_in_a_batch() -> None:
    """The loss is 0 with a graph, so that a step can be taken."""
    empty = torch.empty(0, dtype=torch.float64, requires_grad=True)
    none = torch.empty(0, dtype=torch.int64)
    for value, count in (
        margin_mse(empty, empty.detach(), none, none.bool(), 3),
        kl_divergence(empty, empty.detach(), none, 3),
    ):
        assert (value.item(), count.item()) == (0, 0)
        value.backward()
    inputs = PairCollator(NgramEncoder(dim=2))(Examples.of(hard(3, 1), range(3)))
    inputs["teacher_queries"] = inputs["teacher_passages"] = none
    inputs["teacher_scores"] = empty.detach()
    x = vectors(inputs)
    found = Objective(distil="kl", contrastive_weight=0).loss(x, inputs, 0.1).value
    assert torch.autograd.grad(found, x)[0].abs().sum() == 0


def test_code_switched_texts_keep_their_scores(tmp_path: Path) -> None:
    pairs = hard(3, 2)
    scores = TeacherScores.load(write_scores(tmp_path / "s.jsonl", pairs), pairs)
    plain = collated(pairs, scores)
    examples = DrawnExamples(pairs, 0, None, scores)[Draw(0, (0, 1, 2))]
    others = [replace(pair, query=f"x {pair.query}", passage=f"y {pair.passage}") for pair in examples.pairs]
    switched = examples._replace(pairs=others)
    found = PairCollator(NgramEncoder(dim=2))(switched)
    for name in ("teacher_queries", "teacher_passages", "teacher_scores"):
        assert torch.equal(found[name], plain[name])  # type: ignore[literal-required]


HARD = PairSet.from_pairs(
    replace(pair, negatives=(PAIRS[row - 9].passage, f"x{row % 5}")) for row, pair in enumerate(PAIRS)
)


def trained(
    folder: Path, scores: str, mini: int | None = None, **options: Any
) -> tuple[list[float], Any, float]:
    config = TrainingConfig.of(
        steps=3, batch_size=8, learning_rate=0.3, mini_batch_size=mini, teacher_scores=scores, **options
    )
    args = arguments(folder, max_steps=3, optim="sgd", learning_rate=0.3, seed=3, max_grad_norm=0.0)
    encoder = small_ngram()
    trainer = make_trainer(config, encoder, args, HARD, 0.5)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, encoder.state_dict(), trainer.temperature


@pytest.mark.parametrize("distil", ["margin-mse", "kl"])
def test_trains_with_gradient_caching(distil: str, tmp_path: Path) -> None:
    path = str(write_scores(tmp_path / "s.jsonl", HARD, share=0.7))
    options = {"distil": distil, "contrastive_weight": 0.0, "learn_temperature": True, "temperature": 0.3}
    plain, cached = (trained(tmp_path, path, mini, **options) for mini in (None, 3))
    assert_equal(cached, plain)
    assert plain[2] != pytest.approx(0.3, abs=1e-4)
    beside = trained(tmp_path, path, distil=distil, temperature=0.3)
    assert beside[0] != pytest.approx(plain[0], abs=1e-2)


def test_follows_its_teacher(tmp_path: Path) -> None:
    """Pure distillation brings the student's order of candidates to the teacher's."""
    pairs = hard(30, 4)
    path = write_scores(tmp_path / "s.jsonl", pairs)
    encoder = small_ngram()
    config = TrainingConfig.of(
        steps=40,
        batch_size=30,
        learning_rate=0.05,
        distil="kl",
        contrastive_weight=0.0,
        teacher_scores=str(path),
    )
    args = arguments(tmp_path, max_steps=40, learning_rate=0.05, per_device_train_batch_size=30)
    make_trainer(config, encoder, args, pairs, 0).train()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    teacher = np.array([row["score"] for row in rows]).reshape(30, 5)
    queries = encoder.encode([pair.query for pair in pairs], "query")
    texts = [[pair.passage, *pair.negatives] for pair in pairs]
    student = torch.stack([encoder.encode(row) @ query for row, query in zip(texts, queries, strict=True)])
    assert (student.argmax(1).numpy() == teacher.argmax(1)).mean() > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distil": "mse"}, "distil: found 'mse', expected one of margin-mse, kl"),
        ({"distil_weight": -1.0}, "distil_weight: found -1.0"),
        ({"distil_temperature": 0.0}, "distil_temperature: found 0.0, expected a number above 0"),
        ({"contrastive_weight": float("nan")}, "contrastive_weight: found nan"),
        ({"contrastive_weight": 0.0}, "contrastive_weight: found 0, expected more where no other term"),
        ({"contrastive_weight": 0.0, "distil": "kl", "distil_weight": 0.0}, "contrastive_weight: found 0"),
        (
            {"contrastive_weight": 0.0, "js_weight": 1.0, "learn_temperature": True},
            "learn_temperature: found True, expected False",
        ),
        (
            {"contrastive_weight": 0.0, "distil": "kl", "guide": "ngram"},
            "guide: found 'ngram', expected None where contrastive_weight is 0",
        ),
    ],
)
def test_objectives_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**options)


def test_a_teacher_without_a_pupil(tmp_path: Path) -> None:
    base = {"steps": 1, "batch_size": 1, "learning_rate": 0.1}
    with pytest.raises(
        ValueError, match="teacher_scores: found None, expected it with distil, which is 'kl'"
    ):
        TrainingConfig.of(**base, distil="kl")
    with pytest.raises(ValueError, match="distil: found None, expected it with teacher_scores, which is 'f'"):
        TrainingConfig.of(**base, teacher_scores="f")
    pairs = hard(3, 1)
    scores = TeacherScores.load(write_scores(tmp_path / "s.jsonl", pairs), pairs)
    with pytest.raises(
        ValueError, match="teacher_scores: found some, expected None: distil of the obj.* is None"
    ):
        HybridTrainer(small_ngram(), arguments(tmp_path), pairs, ratio=0, teacher_scores=scores)
    with pytest.raises(
        ValueError, match="teacher_scores: found None, expected those to follow: distil .* 'kl'"
    ):
        HybridTrainer(small_ngram(), arguments(tmp_path), pairs, ratio=0, objective=Objective(distil="kl"))
    inputs = PairCollator(NgramEncoder(dim=2))(Examples.of(pairs, range(3)))
    with pytest.raises(
        ValueError, match="batch: found no scores of a teacher, expected some: distil is 'kl'"
    ):
        Objective(distil="kl").loss(vectors(inputs), inputs, 0.1)


def test_js_alone_without_the_contrastive_loss() -> None:
    from tests.training.test_objectives import batch

    inputs = batch(4, translated=4)
    x = vectors(inputs)
    both = Objective(js_weight=2.0).loss(x, inputs, TEMPERATURE)
    alone = Objective(js_weight=2.0, contrastive_weight=0).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(alone.value, both.value - info_nce(x, inputs))
    assert alone.terms == {}
    half = Objective(js_weight=2.0, contrastive_weight=0.5).loss(x, inputs, TEMPERATURE)
    torch.testing.assert_close(half.value, alone.value + info_nce(x, inputs) / 2)


@pytest.mark.parametrize("softness", [0.5, 1.0])
def test_kl_of_equal_scores_is_zero(softness: float) -> None:
    scores = torch.tensor([3.0, -1.0, 2.0, 7.0], dtype=torch.float64)
    queries = torch.tensor([0, 0, 0, 2])
    value, count = kl_divergence(scores, scores + 5, queries, 4, softness)
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert count == 1
    value, count = margin_mse(scores, scores + 5, queries, torch.tensor([True, False, False, True]), 4)
    assert (value.item(), count.item()) == (0, 2)
    assert F.kl_div(scores[:3].log_softmax(0), scores[:3].softmax(0), reduction="sum").abs() < 1e-12
