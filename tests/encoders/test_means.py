"""Language means of an encoder: what encode subtracts, saved and loaded, equal to the centring of an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyhbt.encoders import Encoder, LanguageMeans, NgramEncoder, load_encoder
from pyhbt.evaluation.evaluator import encode_set, evaluate
from tests.toy import retrieval_set, save_tiny_bert

TEXTS = ["kalo", "kalous", "mitens", "sa sa", "vo"]
LANGS = ["aa", "bb", "bb", "aa", "bb"]


def encoder_of(kind: str, folder: Path) -> Encoder:
    return NgramEncoder(dim=8, num_buckets=256) if kind == "ngram" else load_encoder(save_tiny_bert(folder))


@pytest.mark.parametrize("kind", ["ngram", "transformer"])
def test_encode_subtracts_the_mean_and_a_saved_encoder_keeps_it(kind: str, tmp_path: Path) -> None:
    encoder = encoder_of(kind, tmp_path / "bert")
    encoder.language_means = LanguageMeans.of(
        encoder.encode, {"query": (TEXTS, LANGS), "passage": (TEXTS, LANGS)}
    )
    plain = encoder.encode(TEXTS, "query").double()
    for lang in ("aa", "bb"):
        here = [place for place, of_text in enumerate(LANGS) if of_text == lang]
        expected = F.normalize(plain[here] - plain[here].mean(0), dim=1)
        found = encoder.encode([TEXTS[place] for place in here], "query", language=lang)
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    mixed = encoder.encode(TEXTS, "passage", language=LANGS)
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(5))
    encoder.save(tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert torch.equal(loaded.encode(TEXTS, "passage", language=LANGS), mixed)
    assert torch.equal(loaded.encode(TEXTS), encoder.encode(TEXTS))  # unasked, nothing is subtracted
    assert loaded.encode([], language="aa").shape == (0, encoder.dim)


def test_sentence_transformers_reads_the_folder_all_the_same(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load_encoder(save_tiny_bert(tmp_path / "bert"))
    encoder.language_means = LanguageMeans.of(encoder.encode, {"passage": (TEXTS, LANGS)})
    encoder.save(tmp_path / "saved")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    vectors = theirs.encode(TEXTS, prompt_name="passage")
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS).numpy(), atol=1e-6)


def test_equal_to_centred_passages_of_an_evaluation() -> None:
    """With the means of the very passages, as an evaluation's centring takes them."""
    data = retrieval_set(20)
    encoder = NgramEncoder(dim=16, num_buckets=512)
    encoder.language_means = LanguageMeans.of(
        encoder.encode,
        {"query": (data.query_texts, data.query_langs), "passage": (data.passage_texts, data.passage_langs)},
    )
    queries, passages = (side.numpy() for side in encode_set(encoder, data, language_means=True))
    plain_queries, plain_passages = (side.numpy() for side in encode_set(encoder, data))
    assert not np.allclose(passages, plain_passages)
    langs = np.array(data.passage_langs)
    for lang in set(data.passage_langs):
        mean = plain_passages[langs == lang].astype(np.float64).mean(0)
        moved = plain_passages[langs == lang] - mean
        expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        np.testing.assert_allclose(passages[langs == lang], expected, atol=1e-6)
    less_bias = evaluate(queries, passages, data).macro("multilingual", "rank distance")
    assert less_bias < evaluate(plain_queries, plain_passages, data).macro("multilingual", "rank distance")


def test_errors(tmp_path: Path) -> None:
    encoder = NgramEncoder(dim=8, num_buckets=256)
    with pytest.raises(
        ValueError, match="language: found 'aa', expected None: the encoder has no language means"
    ):
        encoder.encode(TEXTS, language="aa")
    with pytest.raises(ValueError, match="texts: found 5 passage texts and 1 languages"):
        LanguageMeans.of(encoder.encode, {"passage": (TEXTS, ["aa"])})
    with pytest.raises(ValueError, match="texts: found 0 query texts"):
        LanguageMeans.of(encoder.encode, {"query": ([], [])})
    encoder.language_means = LanguageMeans.of(encoder.encode, {"passage": (TEXTS, LANGS)})
    with pytest.raises(
        ValueError, match="language: found 'cc', expected one with a mean of passage vectors: aa, bb"
    ):
        encoder.encode(TEXTS, language="cc")
    with pytest.raises(ValueError, match="mean of query vectors: none"):
        encoder.encode(TEXTS, "query", language="aa")
    with pytest.raises(ValueError, match="language: found 2 languages, expected 5, one a text"):
        encoder.encode(TEXTS, language=["aa", "bb"])
    from safetensors.torch import save_file

    save_file({"nonsense": torch.zeros(3)}, tmp_path / "language_means.safetensors")
    with pytest.raises(ValueError, match="found 'nonsense', expected query/LANGUAGE"):
        LanguageMeans.load(tmp_path)
