"""Encoders by name or folder: which kind a folder holds, and options that a kind does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pyhbt.encoders import LanguageMeans, NgramEncoder, TransformerEncoder, load_encoder
from tests.toy import save_tiny_bert


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("spec", ["./nowhere", "../nowhere", "/nowhere", "~/no/where", "a/b/c"])
def test_missing_folders(spec: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"encoder: {spec} is not a folder"):
        load_encoder(spec)


def test_real_checkpoint(models_dir: Path) -> None:
    encoder = load_encoder(models_dir / "e5-small-4L-f26k-fp16")
    vectors = encoder.encode(["Wie geht es dir?", "How are you?"], "query")
    assert vectors.shape == (2, 384)
    assert vectors.dtype == torch.float32
    assert encoder.device.type == "cpu"


def test_ngram_is_a_new_encoder_by_its_seed() -> None:
    encoder = load_encoder("ngram", seed=3)
    assert isinstance(encoder, NgramEncoder)
    assert torch.equal(encoder.table.weight, NgramEncoder(seed=3).table.weight)
    assert encoder.max_length == 1024
    assert load_encoder("ngram", max_length=5).max_length == 5
    with pytest.raises(ValueError, match="max_length: found 0, expected at least 1"):
        load_encoder("ngram", max_length=0)


def test_a_folder_says_what_it_holds(bert: Path, tmp_path: Path) -> None:
    NgramEncoder(dim=4, num_buckets=10, max_length=9).save(tmp_path / "ngram")
    load_encoder(bert).save(tmp_path / "saved")
    for spec, kind, length in (
        (tmp_path / "ngram", NgramEncoder, 9),
        (str(tmp_path / "ngram"), NgramEncoder, 9),
        (tmp_path / "saved", TransformerEncoder, 64),
        (str(bert), TransformerEncoder, 64),  # a plain checkpoint
    ):
        encoder = load_encoder(spec)
        assert isinstance(encoder, kind)
        assert encoder.max_length == length
        assert load_encoder(spec, max_length=7).max_length == 7


def test_a_folder_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    NgramEncoder(dim=4, num_buckets=10).save(tmp_path / "mine")
    assert load_encoder("~/mine").dim == 4


@pytest.mark.parametrize("option", ["pooling", "query_prefix", "passage_prefix"])
def test_options_that_ngrams_do_not_have(option: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {option: "cls"}
    NgramEncoder(dim=4, num_buckets=10).save(tmp_path)
    for spec in ("ngram", tmp_path):
        with pytest.raises(ValueError, match=f"{option}: found 'cls', expected None: an n-gram encoder has"):
            load_encoder(spec, **given)


def test_options_of_transformers(bert: Path) -> None:
    encoder = load_encoder(bert, pooling="cls", max_length=10, query_prefix="", passage_prefix="p ")
    assert isinstance(encoder, TransformerEncoder)
    assert (encoder.pooling, encoder.max_length, encoder.prefixes) == (
        "cls",
        10,
        {"query": "", "passage": "p "},
    )


def test_language_means_come_along(bert: Path, tmp_path: Path) -> None:
    for encoder, name in ((NgramEncoder(dim=2, num_buckets=8), "ngram"), (load_encoder(bert), "bert")):
        encoder.save(tmp_path / name)
        assert load_encoder(tmp_path / name).language_means is None
        encoder.language_means = LanguageMeans({("query", "aa"): torch.ones(encoder.dim)})
        encoder.save(tmp_path / name)
        loaded = load_encoder(tmp_path / name).language_means
        assert loaded is not None
        assert torch.equal(loaded.means["query", "aa"], torch.ones(encoder.dim))
