"""Run and qrels files: round trips, strict order, and errors that name line and field."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.data.trec import read_qrels, read_run, write_qrels, write_run

IDS = st.text(st.characters(min_codepoint=33, exclude_categories=("Z", "C")), min_size=1, max_size=6)
IDS = IDS.filter(lambda text: not text.startswith("#"))
SCORES = st.floats(allow_nan=False, allow_infinity=False)
FEW_SCORES = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.0, float(np.nextafter(np.float32(1), np.float32(0)))])


DISTINCT = st.dictionaries(IDS, SCORES, min_size=1, max_size=6).filter(
    lambda scores: len(set(scores.values())) == len(scores)
)


@given(run=st.dictionaries(IDS, DISTINCT, max_size=4))
def test_scores_without_ties_read_back_as_the_same_floats(
    run: dict[str, dict[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.txt"
    write_run(path, run)
    found = read_run(path)
    assert found == run
    for query, scores in run.items():
        assert list(found[query]) == sorted(scores, key=lambda passage: -scores[passage])


@given(scores=st.dictionaries(IDS, FEW_SCORES, min_size=1, max_size=12))
def test_ties_keep_their_order_and_are_strict_in_float32(
    scores: dict[str, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trec") / "run.txt"
    write_run(path, {"q": scores})
    found = read_run(path)["q"]
    assert list(found) == sorted(scores, key=lambda passage: -scores[passage])
    written = np.array(list(found.values()))
    assert (np.diff(written) < 0).all()
    assert (np.diff(written.astype(np.float32)) < 0).all()
    # A tie moves by at most one float32 step a predecessor.
    step = float(np.spacing(np.float32(1)))
    assert all(abs(found[passage] - scores[passage]) <= len(scores) * step for passage in scores)


def test_ties_at_the_end_of_float32_stay_strict(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"q": {"a": -1e300, "b": -1e300, "c": 1e300, "d": 1e300}})
    found = read_run(tmp_path / "run")["q"]
    assert list(found) == ["c", "d", "a", "b"]
    assert len(set(found.values())) == 4


def test_the_format_is_that_of_trec(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"q1": {"a": 0.5, "b": 2.0}, "q2": {"a": 1e-30}}, tag="me")
    assert (tmp_path / "run").read_text() == "q1 Q0 b 1 2.0 me\nq1 Q0 a 2 0.5 me\nq2 Q0 a 1 1e-30 me\n"
    write_qrels(tmp_path / "qrels", {"q1": {"a": 1, "b": 0}})
    assert (tmp_path / "qrels").read_text() == "q1 0 a 1\nq1 0 b 0\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["qrels", "run"]


@given(qrels=st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-2, 5), min_size=1), max_size=4))
def test_qrels_round_trip(qrels: dict[str, dict[str, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trec") / "qrels.txt"
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


def test_other_evaluators_order_of_equal_scores_is_the_rank(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("q Q0 a 2 1.0 t\n\nq\tQ0\tb\t1\t1.0\tt\n")
    assert list(read_run(tmp_path / "run")["q"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 a 1 0.5", "run:2: found 5 columns, expected 6: qid Q0 docid rank score tag"),
        ("q Q0 a one 0.5 t", "run:2: rank: found 'one', expected an integer"),
        ("q Q0 a 1 high t", "run:2: score: found 'high', expected a finite number"),
        ("q Q0 a 1 nan t", "run:2: score: found 'nan'"),
        ("q Q0 z 1 0.5 t", "run:2: docid: 'z' a second time for query 'q'"),
    ],
)
def test_malformed_run_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "run").write_text(f"q Q0 z 1 0.5 t\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q 0 a", "qrels:1: found 3 columns, expected 4: qid 0 docid relevance"),
        ("q 0 a 0.5", "qrels:1: relevance: found '0.5', expected a whole number"),
        ("q 0 a 1_0", "qrels:1: relevance: found '1_0', expected a whole number"),
    ],
)
def test_malformed_qrels_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "qrels").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_qrels(tmp_path / "qrels")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run"
    write_run(path, {"q": {"a": 1.0}})
    for bad in ({"q": {"a": math.nan}}, {"q": {"a b": 1.0}}, {"": {"a": 1.0}}, {"q": {"a": math.inf}}):
        with pytest.raises(ValueError, match="found"):
            write_run(path, bad)
    with pytest.raises(ValueError, match="tag: found"):
        write_run(path, {}, tag="two words")
    assert path.read_text() == "q Q0 a 1 1.0 pyhbt\n"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_run(tmp_path / "missing")


def test_lines_of_comments_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("# by us\nq Q0 a 1 0.5 t\n#q Q0 a 1 0.5 t\n")
    assert read_run(tmp_path / "run") == {"q": {"a": 0.5}}
    (tmp_path / "qrels").write_text("# judged\nq 0 a 1\n")
    assert read_qrels(tmp_path / "qrels") == {"q": {"a": 1}}
    for write in (write_run, write_qrels):  # what would come back as a comment is not written
        with pytest.raises(ValueError, match="query id: found '#q'"):
            write(tmp_path / "out", {"#q": {"a": 1}})


def test_gradings_are_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a 1.0\nq 0 b -1\n")
    assert read_qrels(tmp_path / "qrels") == {"q": {"a": 1, "b": -1}}
    write_qrels(tmp_path / "out", {"q": {"a": np.int64(2), "b": 1.0, "c": True}})  # type: ignore[dict-item]
    assert (tmp_path / "out").read_text() == "q 0 a 2\nq 0 b 1\nq 0 c 1\n"
    for wrong in (0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="relevance: found .* for 'q' and 'a', expected a whole number"):
            write_qrels(tmp_path / "out", {"q": {"a": wrong}})  # type: ignore[dict-item]
    for kind in ("1", None, [1]):
        with pytest.raises(TypeError, match="relevance: found .* expected a whole number"):
            write_qrels(tmp_path / "out", {"q": {"a": kind}})  # type: ignore[dict-item]


def test_files_have_the_mode_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_run(tmp_path / "run", {"q": {"a": 1.0}})
    write_qrels(tmp_path / "qrels", {"q": {"a": 1}})
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1
