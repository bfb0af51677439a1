"""Two processes that hold a slice each against one that holds both, bit for bit; and no rank that waits for ever."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.distributed as dist

from pyhbt import ExactIndex, search, sharded_search
from pyhbt.ops.search_checks import Similarity
from tests.interpreter import FOLDER, command
from tests.retrieval.index.test_exact import same_bits

Matrix = npt.NDArray[Any]


@dataclass(frozen=True)
class Question:
    """What each of two ranks asks; a function makes what a rank holds from its slice."""

    queries: Matrix
    slices: tuple[Matrix, Matrix]
    k: int
    similarity: Similarity = "dot"
    held: Callable[[Matrix, Similarity], Any] = lambda matrix, _: matrix

    def ask(self, rank: int) -> Any:
        corpus = self.held(self.slices[rank], self.similarity)
        return sharded_search(self.queries, corpus, self.k, similarity=self.similarity)


def numbers(rows: int, dim: int = 12, seed: int = 0) -> Matrix:
    """Vectors of few different numbers, so that scores tie within slices and across them."""
    found: Matrix = np.random.default_rng(seed).integers(-2, 3, (rows, dim)).astype(np.float32)
    return found


def index(matrix: Matrix, similarity: Similarity) -> ExactIndex:
    return ExactIndex(matrix, similarity=similarity)


def questions() -> dict[str, Question]:
    asked, left, right = numbers(70), numbers(1500, seed=1), numbers(1100, seed=2)
    irregular = np.random.default_rng(3).standard_normal((300, 12)).astype(np.float32)
    return {
        "ties": Question(asked, (left, right), 40),
        "the same slice twice": Question(asked, (irregular, irregular), 60),
        "ties that float32 cannot tell": Question(asked, (irregular, irregular * np.float32(1 + 1e-7)), 60),
        "one query": Question(asked[:1], (left, right), 3),
        "no query": Question(asked[:0], (left, right), 3),
        "nothing on the first rank": Question(asked, (left[:0], right), 7),
        "nothing on the second rank": Question(asked, (left, right[:0]), 7),
        "nothing at all": Question(asked, (left[:0], right[:0]), 7),
        "k beyond a slice": Question(asked, (left[:5], right[:30]), 20),
        "k beyond all": Question(asked, (left[:5], right[:3]), 20),
        "cosine": Question(asked, (left, irregular), 40, "cosine"),
        "float16": Question(asked.astype(np.float16), (left.astype(np.float16), right), 9),
        "several rounds": Question(numbers(9000, 3), (numbers(50, 3), numbers(60, 3)), 4),
        "tensors": Question(asked, (left, right), 5, held=lambda matrix, _: torch.from_numpy(matrix)),
        "indexes": Question(asked, (left, right), 40, held=index),
        "indexes, cosine": Question(asked, (left, right[:0]), 40, "cosine", held=index),
    }


def mistakes(rank: int) -> dict[str, Callable[[], Any]]:
    queries, corpus = numbers(70), numbers(1500, seed=1)
    broken, other = corpus.copy(), queries[::-1].copy()
    broken[1234, 5] = np.nan
    second = rank == 1
    return {
        "k": lambda: sharded_search(queries, corpus, 3 + rank),
        "k below 1 on one rank": lambda: sharded_search(queries, corpus, 3 * rank),
        "k below 1": lambda: sharded_search(queries, corpus, 0),
        "number of queries": lambda: sharded_search(queries[rank:], corpus, 3),
        "order of queries": lambda: sharded_search(other if second else queries, corpus, 3),
        "similarity": lambda: sharded_search(queries, corpus, 3, similarity="cosine" if second else "dot"),
        "dim on one rank": lambda: sharded_search(queries, corpus[:, rank:], 3),
        "dim of all": lambda: sharded_search(queries[:, rank:], corpus[:, rank:], 3),
        "dim": lambda: sharded_search(queries[:, 1:], corpus, 3),
        "NaN in one slice": lambda: sharded_search(queries, broken if second else corpus, 3),
        "NaN in a query": lambda: sharded_search(broken, corpus[: 100 * rank], 3),
        "dtype": lambda: sharded_search(queries, corpus.astype(np.float64) if second else corpus, 3),
        "kind": lambda: sharded_search(queries.tolist() if second else queries, corpus, 3),
    }


def answer(rank: int, folder: Path) -> None:
    """One rank: every question and every mistake, into files."""
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    said = {}
    for name, mistake in mistakes(rank).items():
        try:
            mistake()
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    found = {name: question.ask(rank) for name, question in questions().items()}
    pair = dist.new_group([0, 1])
    again = sharded_search(numbers(70), questions()["ties"].slices[rank], 40, process_group=pair)
    (folder / f"{rank}.json").write_text(json.dumps(said))
    torch.save((found, again), folder / f"{rank}.pt")
    dist.destroy_process_group()


_RANK = """
    import sys
    from pathlib import Path
    sys.path.append(sys.argv[3])
    from tests.retrieval.test_sharded import answer

    answer(int(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(command(_RANK, rank, folder, Path(__file__).parents[2]), cwd=FOLDER, env=environment)
        for rank in (0, 1)
    ]
    try:
        assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    return folder


@pytest.mark.parametrize("rank", [0, 1])
def test_results_are_those_of_one_process(answers: Path, rank: int) -> None:
    found, again = torch.load(answers / f"{rank}.pt", weights_only=True)
    for name, question in questions().items():
        corpus = np.concatenate(question.slices)
        expected = search(question.queries, corpus, question.k, similarity=question.similarity)
        assert found[name][1].tolist() == expected[1].tolist(), name
        same_bits(found[name], expected)
    same_bits(again, found["ties"])


@pytest.mark.parametrize(
    ("mistake", "first", "second"),
    [
        ("k", r"ValueError: k: found \[3, 4\] by rank, expected the same on every rank", ""),
        (
            "k below 1 on one rank",
            "ValueError: k: found 0",
            "ValueError: corpus: rank 0 refused its arguments",
        ),
        ("k below 1", "ValueError: k: found 0, expected at least 1", ""),
        ("number of queries", r"ValueError: number of queries: found \[70, 69\] by rank", ""),
        ("order of queries", r"ValueError: checksum of queries: found \[\d+, \d+\] by rank", ""),
        ("similarity", r"ValueError: similarity \(1: cosine\): found \[0, 1\] by rank", ""),
        (
            "dim on one rank",
            "ValueError: corpus: rank 1 refused",
            "ValueError: corpus: found dim 11, expected 12",
        ),
        ("dim of all", r"ValueError: dim: found \[12, 11\] by rank", ""),
        ("dim", "ValueError: corpus: found dim 12, expected 11", ""),
        (
            "NaN in one slice",
            "ValueError: corpus: rank 1 refused",
            "ValueError: corpus: row 1234 holds a NaN",
        ),
        ("NaN in a query", "ValueError: queries: row 1234 holds a NaN or an infinity", ""),
        ("dtype", "ValueError: corpus: rank 1 refused", "TypeError: corpus: found dtype torch.float64"),
        ("kind", "ValueError: corpus: rank 1 refused", "TypeError: queries: found list, expected a torch"),
    ],
)
def test_a_mistake_on_any_rank_stops_all(answers: Path, mistake: str, first: str, second: str) -> None:
    for rank, match in enumerate((first, second or first)):
        said = json.loads((answers / f"{rank}.json").read_text())
        assert re.match(match, said[mistake])


def test_without_a_process_group() -> None:
    with pytest.raises(RuntimeError, match="process_group: torch.distributed has none, call init_process"):
        sharded_search(numbers(2), numbers(3), 1)


def test_the_process_group_under_its_former_name() -> None:
    with (
        pytest.warns(DeprecationWarning, match="group is called process_group now"),
        pytest.raises(RuntimeError, match="torch.distributed has none"),
    ):
        sharded_search(numbers(2), numbers(2), 1, group=None)  # type: ignore[call-arg]
