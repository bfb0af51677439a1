"""The job of ``pyhbt bitext``: texts, vectors and indexes in, a file of pairs out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyhbt import ExactIndex, NgramEncoder
from pyhbt.encoders import Encoder, LanguageMeans
from pyhbt.mining import BitextJob, BitextSummary, mine_bitext, mine_bitext_files
from tests.data.written import write, write_jsonl

SOURCES = ["das Haus", "", "eine Katze", "das Haus", "der Tisch und die Katze", " ", "ein Haus am See"]
TARGETS = ["the Haus", "a Katze", "the Haus ", "Tisch und Katze", "house am See", "the Haus", "nothing"]
KEPT_SOURCES = ["das Haus", "eine Katze", "der Tisch und die Katze", "ein Haus am See"]
KEPT_TARGETS = ["the Haus", "a Katze", "the Haus ", "Tisch und Katze", "house am See", "nothing"]


def encoder() -> Encoder:
    return NgramEncoder(dim=16, num_buckets=512)


def lines(path: Path, texts: Sequence[str]) -> Path:
    return write(path, "".join(f"{text}\n" for text in texts))


@pytest.fixture
def job(tmp_path: Path) -> BitextJob:
    return BitextJob(lines(tmp_path / "de.txt", SOURCES), lines(tmp_path / "en.txt", TARGETS), k=2)


def mined(sources: Sequence[str], targets: Sequence[str], **options: Any) -> list[tuple[float, str, str]]:
    vectors = [encoder().encode(texts, "query") for texts in (sources, targets)]
    found = mine_bitext(*vectors, **{"k": 2, **options})
    return [(score, sources[source], targets[target]) for source, target, score in found]


def written(out: Path) -> list[tuple[float, str, str]]:
    rows = [line.split("\t") for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    return [(float(score), source, target) for score, source, target in rows]


def changed(job: BitextJob, **options: Any) -> BitextJob:
    return BitextJob(**{**vars(job), **options})


def test_texts(job: BitextJob, tmp_path: Path) -> None:
    out = tmp_path / "pairs.tsv"
    done = mine_bitext_files(job, out, load_encoder=encoder)
    assert written(out) == mined(KEPT_SOURCES, KEPT_TARGETS)
    assert done == BitextSummary(len(written(out)), sources=4, targets=6, empty=2, repeated=2)
    assert done.describe() == (
        f"{done.pairs} pairs of 4 sources and 6 targets; left out: 2 empty, 2 repeated"
    )
    assert done.pairs > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["de.txt", "en.txt", "pairs.tsv"]


@pytest.mark.parametrize("retrieval", ["mutual", "forward", "backward", "max"])
@pytest.mark.parametrize("margin", ["ratio", "distance", "absolute"])
def test_options_reach_the_mining(job: BitextJob, tmp_path: Path, retrieval: Any, margin: Any) -> None:
    options = {"margin": margin, "retrieval": retrieval, "threshold": 0.3}
    mine_bitext_files(changed(job, **options), tmp_path / "pairs.tsv", load_encoder=encoder)
    assert written(tmp_path / "pairs.tsv") == mined(KEPT_SOURCES, KEPT_TARGETS, **options)


def test_repeated_texts_may_stay(job: BitextJob, tmp_path: Path) -> None:
    job = changed(job, unify=False, retrieval="forward")
    done = mine_bitext_files(job, tmp_path / "pairs.tsv", load_encoder=encoder)
    kept = [text for text in SOURCES if text.strip()]
    assert written(tmp_path / "pairs.tsv") == mined(kept, TARGETS, retrieval="forward")
    assert (done.sources, done.empty, done.repeated) == (5, 2, 0)


def test_json_lines(job: BitextJob, tmp_path: Path) -> None:
    rows = [{"body": text} for text in SOURCES]
    source = write_jsonl(tmp_path / "de.jsonl", rows)
    target = write_jsonl(tmp_path / "en.jsonl", [{"body": text} for text in TARGETS])
    out = tmp_path / "pairs.jsonl"
    mine_bitext_files(changed(job, sources=source, targets=target, field="body"), out, load_encoder=encoder)
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["score"], row["source"], row["target"]) for row in found] == mined(
        KEPT_SOURCES, KEPT_TARGETS
    )


def test_vectors_and_indexes(job: BitextJob, tmp_path: Path) -> None:
    """With texts they give what the texts give; without, ids or rows, and nothing is taken for a repetition."""
    paths = {}
    for name, texts in (("de", SOURCES), ("en", TARGETS)):
        vectors = encoder().encode(texts, "query").numpy()
        np.save(tmp_path / f"{name}.npy", vectors)
        index = ExactIndex(vectors, ids=[f"{name}{row}" for row in range(7)], similarity="cosine")
        index.save(tmp_path / name)
        paths[name] = tmp_path / f"{name}.txt"
    out = tmp_path / "pairs.tsv"
    texts = {"source_texts": paths["de"], "target_texts": paths["en"]}
    for source, target in (("de.npy", "en.npy"), ("de", "en.npy"), ("de", "en")):
        sides = {"sources": tmp_path / source, "targets": tmp_path / target}
        done = mine_bitext_files(changed(job, **sides, **texts), out)
        assert [row[1:] for row in written(out)] == [row[1:] for row in mined(KEPT_SOURCES, KEPT_TARGETS)]
        assert (done.empty, done.repeated) == (2, 2)
        done = mine_bitext_files(changed(job, **sides), out)
        assert done == BitextSummary(done.pairs, 7, 7, 0, 0)
        rows = mine_bitext(*(np.load(tmp_path / f"{name}.npy") for name in paths), k=2)
        names = ["de{}" if source == "de" else "{}", "en{}" if target == "en" else "{}"]
        assert written(out) == [
            (score, names[0].format(place), names[1].format(other)) for place, other, score in rows
        ]
    mixed = changed(job, targets=tmp_path / "en", target_texts=paths["en"])
    mine_bitext_files(mixed, out, load_encoder=encoder)
    assert [row[1:] for row in written(out)] == [row[1:] for row in mined(KEPT_SOURCES, KEPT_TARGETS)]


def test_the_first_of_a_repeated_text_stays(job: BitextJob, tmp_path: Path) -> None:
    """Where vectors of one text differ: the third row would be the better match."""
    np.save(tmp_path / "de.npy", np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32))
    np.save(tmp_path / "en.npy", np.array([[0.6, 0.8]], np.float32))
    texts = lines(tmp_path / "three.txt", ["ein Haus", "eine Katze", "ein Haus"])
    job = changed(job, sources=tmp_path / "de.npy", targets=tmp_path / "en.npy", source_texts=texts)
    mine_bitext_files(changed(job, margin="absolute"), tmp_path / "pairs.tsv")
    assert written(tmp_path / "pairs.tsv") == [(pytest.approx(0.8), "eine Katze", "0")]


def test_an_index_of_bfloat16_with_repeated_texts(job: BitextJob, tmp_path: Path) -> None:
    vectors = encoder().encode(SOURCES, "query").bfloat16()
    ExactIndex(vectors, similarity="dot").save(tmp_path / "de")
    job = changed(job, sources=tmp_path / "de", source_texts=tmp_path / "de.txt")
    mine_bitext_files(job, tmp_path / "pairs.tsv", load_encoder=encoder)
    targets = encoder().encode(KEPT_TARGETS, "query")
    found = mine_bitext(vectors[[0, 2, 4, 6]], targets, k=2, similarity="dot")
    assert [score for score, _, _ in written(tmp_path / "pairs.tsv")] == found.scores.tolist()


def test_languages_and_kinds_reach_the_encoder(job: BitextJob, tmp_path: Path) -> None:
    model = encoder()
    model.language_means = LanguageMeans.of(
        model.encode, {"passage": (["Haus", "house", "Katze", "cat"], ["de", "en", "de", "en"])}
    )
    options = {"kind": "passage", "source_lang": "de", "target_lang": "en"}
    mine_bitext_files(changed(job, **options), tmp_path / "pairs.tsv", load_encoder=lambda: model)
    vectors = [
        model.encode(texts, "passage", language=lang)
        for texts, lang in ((KEPT_SOURCES, "de"), (KEPT_TARGETS, "en"))
    ]
    scores = mine_bitext(*vectors, k=2).scores.tolist()
    assert [row[0] for row in written(tmp_path / "pairs.tsv")] == scores
    assert scores != [row[0] for row in mined(KEPT_SOURCES, KEPT_TARGETS)]
    calls: list[int] = []
    encode = model.encode

    def counted(texts: Sequence[str], *given: Any, **named: Any) -> Any:
        calls.append(len(texts))
        return encode(texts, *given, **named)

    model.encode = counted  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="language: found 'fr', expected one with a mean of passage vectors"):
        mine_bitext_files(
            changed(job, **options | {"target_lang": "fr"}), tmp_path / "x.tsv", load_encoder=lambda: model
        )
    assert calls == [1, 1]  # before the sentences


def test_an_empty_file(job: BitextJob, tmp_path: Path) -> None:
    out = tmp_path / "pairs.tsv"
    empty = lines(tmp_path / "none.txt", ["", " "])
    done = mine_bitext_files(changed(job, targets=empty), out, load_encoder=encoder)
    assert (done.pairs, done.targets, done.empty) == (0, 0, 4)
    assert out.read_bytes() == b""


def test_mistakes_before_anything_is_encoded(job: BitextJob, tmp_path: Path) -> None:
    vectors = np.ones((7, 16), np.float32)
    bad = vectors.copy()
    bad[3, 1] = np.nan
    for name, matrix in (
        ("v", vectors),
        ("bad", bad),
        ("narrow", vectors[:, :8]),
        ("whole", vectors.astype(int)),
    ):
        np.save(tmp_path / f"{name}.npy", matrix)
    ExactIndex(vectors, similarity="dot").save(tmp_path / "dot")
    ExactIndex(vectors, similarity="cosine").save(tmp_path / "cosine")
    model = encoder()
    model.encode = lambda *_, **__: pytest.fail("encoded")  # type: ignore[method-assign]
    few = lines(tmp_path / "few.txt", ["a"])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"targets": tmp_path / "bad.npy"}, r"bad.npy: row 3 holds a NaN"),
        ({"targets": tmp_path / "whole.npy"}, r"whole.npy: found int64 of shape \(7, 16\), expected float32"),
        ({"targets": tmp_path / "narrow.npy"}, r"narrow.npy: found dim 8, expected 16, that of .*de.txt"),
        (
            {"targets": tmp_path / "v.npy", "target_texts": few},
            r"target_texts: .*few.txt: found 1, expected 7",
        ),
        (
            {"target_texts": few},
            r"target_texts: found .*few.txt, expected none, for .*en.txt holds texts itself",
        ),
        ({"targets": tmp_path / "v.npy", "target_lang": "en"}, "target_lang: found 'en', expected none"),
        ({"targets": tmp_path / "dot", "similarity": "cosine"}, "similarity: found 'cosine', expected 'dot'"),
        ({"targets": tmp_path / "folder"}, "folder: is no index of PyHBT"),
    ]
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            mine_bitext_files(changed(job, **options), tmp_path / "out.tsv", load_encoder=lambda: model)
    with pytest.raises(ValueError, match=r"encoder: found none, expected one for the texts of .*de.txt"):
        mine_bitext_files(job, tmp_path / "out.tsv")
    with pytest.raises(FileNotFoundError, match=r"nowhere.txt: no such file"):
        mine_bitext_files(
            changed(job, targets=tmp_path / "nowhere.txt"), tmp_path / "out.tsv", load_encoder=encoder
        )
    with pytest.raises(
        ValueError, match=r"out: found '.*out.txt', expected a name that ends in .tsv or .jsonl"
    ):
        mine_bitext_files(job, tmp_path / "out.txt", load_encoder=encoder)
    indexes = {"sources": tmp_path / "dot", "targets": tmp_path / "cosine"}
    with pytest.raises(ValueError, match="similarity: found 'dot', expected 'cosine', .* index of targets"):
        mine_bitext_files(changed(job, **indexes), tmp_path / "out.tsv")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: found 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"threshold": float("nan")}, "threshold: found nan"),
        ({"margin": "cosine"}, "margin: found 'cosine'"),
        ({"retrieval": "fwd"}, "retrieval: found 'fwd'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BitextJob(Path("a"), Path("b"), **options)
