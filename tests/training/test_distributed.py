"""Several ranks: loss and gradients are those of one process with the union batch; gathering and sums alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyhbt.data import TeacherScores
from pyhbt.data.pair_set import PairSet
from pyhbt.training.distributed import first_ranks, gather_rows, rank, total, world_size
from pyhbt.training.objectives import Objective
from pyhbt.training.trainer import HybridTrainer
from tests.ranks import run, write_script
from tests.toy import parallel_items, save_tiny_bert
from tests.training.test_gradient_cache import without_dropout
from tests.training.test_trainer import arguments, small_ngram

PAIRS = PairSet.from_parallel(parallel_items(7, ("aa", "bb", "cc")))
OBJECTIVES = {
    "plain": Objective(0.1),
    "symmetric": Objective(0.1, symmetric=True),
    "matryoshka": Objective(0.1, matryoshka_dims=(4, 16), symmetric=True),
    "learnt": Objective(0.1, learn_temperature=True),
    "bias": Objective(0.1, parallel_passages=2, alignment_weight=0.5, js_weight=0.5),
    "guided": Objective(0.1, guide="ngram", guide_margin=0.05, symmetric=True, matryoshka_dims=(4, 16)),
    "margins": Objective(0.1, distil="margin-mse", distil_weight=0.01, learn_temperature=True),
    "distilled": Objective(0.1, distil="kl", distil_weight=0.1, contrastive_weight=0),
}


def scored_pairs() -> tuple[PairSet, TeacherScores]:
    """Pairs with a hard negative of their own, most of which a teacher has scored with their passages."""
    pairs = PairSet.from_pairs(
        replace(pair, negatives=(f"negative {row}", f"no {row}")) for row, pair in enumerate(PAIRS)
    )
    table = {}
    for row in range(len(pairs)):
        for text in (int(pairs.passage_index[row]), *pairs.negatives[row]):
            if (row + text) % 4:
                table[int(pairs.query_index[row]) * len(pairs.passages) + text] = (
                    (row * 7 + text * 3) % 11 / 2
                )
    keys = np.array(sorted(table), dtype=np.int64)
    return pairs, TeacherScores(pairs, keys, np.array([table[key] for key in sorted(table)]))


def test_one_process_is_its_own_group() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    gathered, offset = gather_rows(rows)
    assert gathered is rows
    assert offset == 0
    assert (world_size(), rank()) == (1, 0)
    assert torch.equal(total(rows), rows)
    assert torch.equal(first_ranks(rows), rows)
    assert not total(rows).requires_grad


_GATHER = """
    import torch
    import torch.distributed as dist
    from pyhbt.training.distributed import first_ranks, gather_rows, total

    dist.init_process_group("gloo")
    process, ranks = dist.get_rank(), dist.get_world_size()
    for counts in ([1] * ranks, [3, 0, 2][:ranks], [0, 5, 1][:ranks]):
        x = torch.arange(counts[process] * 2, dtype=torch.float64).reshape(-1, 2) + 10 * process
        x.requires_grad_()
        gathered, offset = gather_rows(x)
        assert offset == sum(counts[:process])
        expected = [torch.arange(n * 2).reshape(-1, 2) + 10 * r for r, n in enumerate(counts)]
        assert torch.equal(gathered.detach(), torch.cat(expected).double())
        weights = torch.arange(gathered.numel(), dtype=torch.float64).reshape(gathered.shape)
        (gathered * weights * (process + 1)).sum().backward()
        share = ranks * (ranks + 1) / 2
        assert torch.equal(x.grad, share * weights[offset : offset + counts[process]])
        assert total(torch.tensor([process + 1])).item() == share
        assert first_ranks(torch.tensor([process + 7])).item() == 7
    open(f"{sys.argv[1]}/{process}", "w").close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_gather(ranks: int, tmp_path: Path) -> None:
    run(write_script(tmp_path / "gather.py", _GATHER), ranks, str(tmp_path))
    assert all((tmp_path / str(rank)).is_file() for rank in range(ranks))


def train(
    folder: Path,
    name: str,
    batch_size: int,
    *,
    bert: str | None = None,
    mini: int | None = None,
    lora: bool = False,
) -> tuple[HybridTrainer, list[tuple[bool, int]]]:
    """Four steps of SGD; kind and queries of every batch that this rank saw."""
    if bert is None:
        encoder: Any = small_ngram()
    else:
        from pyhbt.encoders import LoraOptions, load_encoder

        encoder = without_dropout(load_encoder(bert))
        if lora:
            encoder.add_lora(LoraOptions(2, 16), seed=1)
    pairs, scores = scored_pairs() if OBJECTIVES[name].distil else (PAIRS, None)
    trainer = HybridTrainer(
        encoder,
        arguments(
            folder,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=0.0,
            max_steps=4,
            per_device_train_batch_size=batch_size,
            seed=1,
        ),
        pairs,
        objective=OBJECTIVES[name],
        teacher_scores=scores,
        mini_batch_size=mini,
    )
    seen: list[tuple[bool, int]] = []
    count = trainer._count

    def spy(batch: Any, loss: Any) -> None:
        seen.append((batch["cross_lingual"], batch["num_queries"]))
        count(batch, loss)

    trainer._count = spy  # type: ignore[method-assign]
    trainer.train()
    return trainer, seen


def outcome(trainer: HybridTrainer) -> tuple[list[float], dict[str, Tensor], float]:
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, trainer.encoder.state_dict(), trainer.temperature


_SCRIPT = """
    from pathlib import Path
    import json, torch
    from tests.training.test_distributed import OBJECTIVES, outcome, train

    folder, bert, batch_size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for name in OBJECTIVES:
        for kind, (encoder, mini) in {"ngram": (None, None), "bert": (bert, None), "cached": (bert, 2),
                                      "lora": (bert, 2)}.items():
            trainer, seen = train(folder / "out", name, batch_size, bert=encoder, mini=mini, lora=kind == "lora")
            rank = trainer.args.process_index
            torch.save([*outcome(trainer), seen], folder / f"{name}.{kind}.{rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "batch_size", "sizes"), [(2, 4, [4, 3]), (3, 3, [3, 2, 2])])
def test_equal_to_one_process_with_the_union_batch(
    ranks: int, batch_size: int, sizes: list[int], tmp_path: Path
) -> None:
    """Seven pairs a language: batches are uneven over the ranks."""
    bert = save_tiny_bert(tmp_path / "bert")
    script = write_script(tmp_path / "train.py", _SCRIPT)
    run(script, ranks, str(tmp_path), str(bert), str(batch_size))
    for name in OBJECTIVES:
        for kind, folder, mini in (
            ("ngram", None, None),
            ("bert", str(bert), None),
            ("cached", str(bert), 2),
            ("lora", str(bert), 2),
        ):
            trainer, union = train(
                tmp_path / "one", name, batch_size * ranks, bert=folder, mini=mini, lora=kind == "lora"
            )
            losses, weights, temperature = outcome(trainer)
            files = [torch.load(tmp_path / f"{name}.{kind}.{r}.pt", weights_only=False) for r in range(ranks)]
            for process, (found_losses, found_weights, found_temperature, seen) in enumerate(files):
                where = f"{name} {kind} rank {process}"
                assert [cross for cross, _ in seen] == [cross for cross, _ in union], where
                assert {size for _, size in seen} == {sizes[process]}, where
                assert found_losses == pytest.approx(losses, abs=1e-5), where
                assert found_temperature == pytest.approx(temperature, abs=1e-6), where
                for key, value in weights.items():
                    # four steps amplify float32's last bit where gradients are large (norm 16 in "bias")
                    torch.testing.assert_close(found_weights[key], value, atol=1e-5, rtol=1e-3)
                    assert torch.equal(found_weights[key], files[0][1][key]), where
            if OBJECTIVES[name].learn_temperature:
                assert abs(temperature - 0.1) > 1e-4
