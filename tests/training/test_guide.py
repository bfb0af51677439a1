"""The guide: against its formula in float64, against GISTEmbedLoss, in the trainer, refused where it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.encoders import Encoder, NgramEncoder, load_encoder
from pyhbt.training.batches import Batch, Examples, PairCollator
from pyhbt.training.config import TrainingConfig
from pyhbt.training.guide import Guidance, guide_vectors, guided_loss, load_guide
from pyhbt.training.objectives import Objective
from pyhbt.training.record import RunDiffersError
from pyhbt.training.run import train_encoder
from pyhbt.training.trainer import HybridTrainer
from tests.toy import parallel_items, save_tiny_bert
from tests.training.test_gradient_cache import assert_equal, train
from tests.training.test_objectives import batch, info_nce, vectors
from tests.training.test_trainer import PAIRS, arguments, small_ngram

TEMPERATURE = 0.1
GUIDE_DIM = 5
TOY = PairSet.from_parallel(parallel_items(20, ("aa", "bb")))


def judged(inputs: Batch, seed: int = 4) -> Tensor:
    """Vectors of a guide, few enough dims that many passages score above the positive."""
    generator = torch.Generator().manual_seed(seed)
    count = inputs["num_queries"] + len(inputs["passage_groups"])
    return F.normalize(torch.randn(count, GUIDE_DIM, generator=generator, dtype=torch.float64), dim=1)


def expected_loss(
    x: Tensor, inputs: Batch, seen: Tensor, objective: Objective, temperature: Tensor | float
) -> Tensor:
    """Pair by pair from the definition."""
    n, t = inputs["num_queries"], len(inputs["translated"])
    query_of, positives = inputs["query_of"].tolist(), inputs["positives"].tolist()
    judged_queries, judged_passages = seen[:n], seen[n:]
    groups = inputs["query_groups"].tolist(), inputs["passage_groups"].tolist()
    rows = range(len(query_of))

    def left_out(row: int, passage: int) -> bool:
        """Whether ``passage`` is no negative of the query of ``row``."""
        if groups[1][passage] >= 0 and groups[1][passage] == groups[0][query_of[row]]:
            return True
        if passage == positives[row]:
            return False
        own = judged_queries[query_of[row]] @ judged_passages[positives[row]]
        margin = objective.guide_margin * (own.abs() if objective.guide_margin_kind == "relative" else 1)
        return bool(judged_queries[query_of[row]] @ judged_passages[passage] > own - margin)

    def loss(dim: int | None) -> Tensor:
        queries, passages = x[:n, :dim], x[n + t :, :dim]
        if dim is not None:
            queries, passages = F.normalize(queries, dim=1), F.normalize(passages, dim=1)
        scores = queries @ passages.T / temperature
        by_row = []
        for row in rows:
            own = scores[query_of[row], positives[row]]
            kept = [own] + [
                scores[query_of[row], passage]
                for passage in range(len(passages))
                if passage != positives[row] and not left_out(row, passage)
            ]
            value = torch.stack(kept).logsumexp(0) - own
            if objective.symmetric:
                kept = [own] + [
                    scores[query_of[other], positives[row]]
                    for other in rows
                    if other != row and not left_out(other, positives[row])
                ]
                value = (value + torch.stack(kept).logsumexp(0) - own) / 2
            by_row.append(value / query_of.count(query_of[row]))
        return torch.stack(by_row).sum() / n

    return torch.stack([loss(dim) for dim in objective.matryoshka_dims or (None,)]).mean()


@pytest.mark.parametrize("margin", [(0.0, "absolute"), (0.3, "absolute"), (0.5, "relative")])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("n", "options"),
    [
        (1, {}),
        (7, {"negatives": 2, "translated": 3}),
        (6, {"parallel": 2, "negatives": 1}),
    ],
)
def test_against_its_formula(
    n: int, options: dict[str, int], symmetric: bool, margin: tuple[float, Any]
) -> None:
    inputs = batch(n, **options)
    x, seen = vectors(inputs), judged(inputs)
    temperature = torch.tensor(TEMPERATURE, dtype=torch.float64, requires_grad=True)
    for dims in ((), (3, 12)):
        objective = Objective(
            guide="ngram",
            guide_margin=margin[0],
            guide_margin_kind=margin[1],
            symmetric=symmetric,
            matryoshka_dims=dims,
        )
        found = objective.loss(x, inputs, temperature, seen).value
        expected = expected_loss(x, inputs, seen, objective, temperature)
        torch.testing.assert_close(found, expected)
        gradients = [
            torch.autograd.grad(value, (x, temperature), allow_unused=True, materialize_grads=True)
            for value in (found, expected)
        ]
        torch.testing.assert_close(*gradients)


def test_more_rows_than_are_scored_at_a_time() -> None:
    inputs = batch(300, negatives=1)
    x, seen = vectors(inputs), judged(inputs)
    n = 300
    similar = seen[:n] @ seen[n:].T
    scores = x[:n] @ x[n:].T / TEMPERATURE
    own = torch.zeros_like(similar, dtype=torch.bool).scatter(1, torch.arange(n)[:, None], True)
    same = inputs["query_groups"][:, None] == inputs["passage_groups"]
    out = (similar > similar.diagonal()[:, None]) | same
    kept = scores.masked_fill(out & ~own, -torch.inf)
    expected = (kept.logsumexp(1) - scores.diagonal()).mean()
    found = Objective(TEMPERATURE, guide="ngram").loss(x, inputs, TEMPERATURE, seen).value
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (found, expected)))


def test_a_guide_that_finds_all_alike_changes_nothing() -> None:
    """Passages that it finds as good as the positive stay: no rounding leaves one out."""
    inputs = batch(8, negatives=2)
    x = vectors(inputs)
    for dtype in (torch.float32, torch.float64):
        row = F.normalize(torch.randn(1, 37, dtype=dtype), dim=1)
        seen = row.repeat(8 + len(inputs["passage_groups"]), 1)
        found = Objective(TEMPERATURE, guide="ngram", symmetric=True).loss(x, inputs, TEMPERATURE, seen).value
        plain = Objective(TEMPERATURE, symmetric=True).loss(x, inputs, TEMPERATURE).value
        torch.testing.assert_close(found, plain)
    torch.testing.assert_close(
        Objective(TEMPERATURE, guide="ngram", guide_margin=-3.0).loss(x, inputs, TEMPERATURE, seen).value,
        info_nce(x, inputs),
    )
    alone = Objective(TEMPERATURE, guide="ngram", guide_margin=3.0).loss(x, inputs, TEMPERATURE, seen).value
    assert alone == 0  # nothing is left but the positive


@pytest.mark.parametrize("negatives", [0, 1])
@pytest.mark.parametrize("margin", [(0.0, "absolute"), (0.05, "absolute"), (0.1, "relative")])
def test_equal_to_gist_embed_loss(
    negatives: int, margin: tuple[float, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the queries among themselves and the positives among themselves left out of theirs."""
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss, gist_embed

    n = 20
    pairs = [
        Pair(f"q{i}", f"p{i}", "en", "en", f"g{i}", tuple(f"n{i}{j}" for j in range(negatives)))
        for i in range(n)
    ]
    found = PairSet.from_pairs(pairs)
    inputs = PairCollator(NgramEncoder(dim=2))(Examples(pairs, found.group_ids[found.groups]))
    raw, seen = vectors(inputs, dtype=torch.float32), judged(inputs).float()
    x = F.normalize(raw, dim=1)  # their cosine goes through it, too
    theirs = GISTEmbedLoss.__new__(GISTEmbedLoss)
    torch.nn.Module.__init__(theirs)
    theirs.model, theirs.guide, theirs.must_retokenize = "student", "guide", False
    theirs.temperature, theirs.margin, theirs.margin_strategy = TEMPERATURE, *margin
    theirs.contrast_anchors = theirs.contrast_positives = theirs.gather_across_devices = False
    theirs.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
    theirs.cross_entropy_loss = torch.nn.CrossEntropyLoss()
    columns = {"student": x, "guide": seen}
    monkeypatch.setattr(gist_embed, "embed_columns", lambda model, features: columns[model].split(n))
    expected = theirs.forward([{}] * (2 + negatives), torch.empty(0))
    ours = Objective(TEMPERATURE, guide="ngram", guide_margin=margin[0], guide_margin_kind=margin[1]).loss(
        x, inputs, TEMPERATURE, seen
    )
    assert ours.value.item() == pytest.approx(expected.item(), abs=1e-5)
    gradients = [torch.autograd.grad(value, raw, retain_graph=True)[0] for value in (ours.value, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)
    plain = Objective(TEMPERATURE).loss(x, inputs, TEMPERATURE).value
    assert abs(plain.item() - expected.item()) > 0.1  # the guide left something out


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="guide_margin: found nan, expected a finite number"):
        Objective(guide_margin=float("nan"))
    with pytest.raises(
        ValueError, match="guide_margin_kind: found 'both', expected one of absolute, relative"
    ):
        Objective(guide_margin_kind="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="guide_vectors: found None, expected those of the guide 'ngram'"):
        inputs = batch(2)
        Objective(guide="ngram").loss(vectors(inputs), inputs, 0.1)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder"])
def test_a_guide_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"guide: found '{name}', expected the name or folder"):
        HybridTrainer(small_ngram(), arguments(tmp_path), PAIRS, objective=Objective(guide=name))


def test_a_folder_that_is_no_encoder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match="guide: found '.*empty', expected the name or"):
        load_guide(str(tmp_path / "empty"), torch.device("cpu"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A small guide with tokens of its own."""
    folder = tmp_path / "guide"
    NgramEncoder(dim=6, num_buckets=97, sizes=(2,), seed=3).save(folder)
    return str(folder)


def test_the_trainer_asks_the_guide(tmp_path: Path, bert: Path) -> None:
    """The first loss is that of the formula, by the guide's vectors without dropout; its weights stay."""
    objective = Objective(TEMPERATURE, guide=str(bert), guide_margin=0.1, guide_margin_kind="relative")
    encoder = small_ngram()
    trainer = HybridTrainer(
        encoder, arguments(tmp_path, max_steps=4, learning_rate=0.1), PAIRS, ratio=0, objective=objective
    )
    rows = trainer.sampler.at(0)[0]
    inputs = trainer.data_collator([Examples.of(PAIRS, rows)])
    x = encoder(inputs["texts"])[inputs["order"]].double()
    reference = load_encoder(bert)
    pairs = [PAIRS[row] for row in rows]
    seen = torch.cat(
        [
            reference.encode([pair.query for pair in pairs], "query"),
            reference.encode([pair.passage for pair in pairs]),
        ]
    ).double()
    expected = expected_loss(x, inputs, seen, objective, TEMPERATURE)
    trainer.train()
    (first, *_) = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert first == pytest.approx(expected.item(), abs=1e-5)
    assert first != pytest.approx(info_nce(x, inputs, TEMPERATURE).item(), abs=1e-2)
    assert trainer.guide is not None
    assert not trainer.guide.training
    for name, value in reference.state_dict().items():
        assert torch.equal(trainer.guide.state_dict()[name], value)
    assert len(list(trainer.model.parameters())) == len(list(encoder.parameters()))


def test_gradient_caching(tmp_path: Path, other: str) -> None:
    objective = Objective(TEMPERATURE, guide=other, symmetric=True, learn_temperature=True)
    plain, cached = (train(small_ngram(), tmp_path, size, objective=objective) for size in (None, 3))
    assert_equal(cached, plain)
    unguided = train(small_ngram(), tmp_path, None, objective=Objective(TEMPERATURE, symmetric=True))
    assert unguided[0] != pytest.approx(plain[0], abs=1e-3)


def test_the_card_says_who_guided(tmp_path: Path, other: str) -> None:
    config = TrainingConfig.of(steps=1, batch_size=4, learning_rate=0.1, guide=other, guide_margin=0.1)
    saved = train_encoder(small_ngram(), TOY, config, tmp_path / "out")
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert f"{other}: {load_encoder(other).describe()}" in card


def test_texts_reach_the_guide_by_their_kind() -> None:
    class Marked(NgramEncoder):
        def token_ids(self, texts: Any, kind: Any) -> Any:
            return super().token_ids([f"{kind} {text}" for text in texts], kind)

    guide = Marked(dim=4, num_buckets=64)
    pairs = [
        Pair("q0", "p0", "en", "en", "a", ("n", "m"), parallel_passages=("x",), parallel_query="t"),
        Pair("q1", "p1", "en", "en", "b", ("n",)),
    ]
    found = PairSet.from_pairs(pairs)
    examples = Examples(pairs, found.group_ids[found.groups])
    for size in (None, 1, 3):
        inputs = PairCollator(NgramEncoder(dim=2), size, guide)(examples)
        seen = guide_vectors(guide, inputs["guide_texts"], inputs["guide_order"])
        expected = torch.cat([guide.encode(["q0", "q1"], "query"), guide.encode(["p0", "p1", "x", "n", "m"])])
        torch.testing.assert_close(seen, expected)
        assert not seen.requires_grad


def test_a_ranking_by_the_guide_alone() -> None:
    """What is left out of a row, read off the gradient of its scores."""
    queries = torch.eye(3, dtype=torch.float64)
    passages = torch.eye(3, dtype=torch.float64).requires_grad_()
    limits = torch.tensor([[0.5, 0.6, 0.4], [0.9, 0.5, 0.5], [0.1, 0.2, 0.3]], dtype=torch.float64)
    guidance = Guidance(limits, torch.eye(3, dtype=torch.float64), 0.0, "absolute")
    loss = guided_loss(
        queries,
        passages,
        torch.arange(3),
        guidance,
        weights=torch.ones(3, dtype=torch.float64),
        temperature=1.0,
        cosine=False,
        symmetric=False,
        query_groups=torch.arange(3),
        passage_groups=torch.arange(3),
    )
    (gradient,) = torch.autograd.grad(loss, passages)
    # row i, column j: query j pushes passage i away; (0, 1) above 0.5 by 0.1, (1, 0) by 0.4; equal ones stay
    assert (gradient.T != 0).tolist() == [[True, False, True], [False, True, True], [True, True, True]]


def test_resumes_bit_for_bit(tmp_path: Path, other: str) -> None:
    def run(folder: Path, resume: bool = False) -> Encoder:
        encoder = small_ngram()
        options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "seed": 2}
        HybridTrainer(
            encoder, arguments(folder, **options), TOY, objective=Objective(TEMPERATURE, guide=other)
        ).train(resume_from_checkpoint=resume)
        return encoder

    whole = run(tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    (tmp_path / "whole" / "checkpoint-3").rename(tmp_path / "parts" / "checkpoint-3")
    resumed = run(tmp_path / "parts", resume=True)
    NgramEncoder(dim=6, num_buckets=97, sizes=(2,), seed=4).save(other)
    with pytest.raises(RunDiffersError, match="guide_weights: found .*, the run has "):
        run(tmp_path / "parts", resume=True)
    assert torch.equal(resumed.table.weight, whole.table.weight)  # type: ignore[union-attr]
