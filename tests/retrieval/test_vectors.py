"""The job of ``pyhbt encode``: a file of texts in, a file of vectors out, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt import NgramEncoder
from pyhbt.encoders import LanguageMeans
from pyhbt.retrieval.vectors import encode_file, map_vectors
from tests.data.written import write, write_jsonl

TEXTS = ["eins", "", "zwei drei", "eins"]


@pytest.fixture
def encoder() -> NgramEncoder:
    return NgramEncoder(dim=8, num_buckets=64)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_every_line_is_a_row(encoder: NgramEncoder, tmp_path: Path, count: int) -> None:
    texts = TEXTS[:count]
    plain = write(tmp_path / "texts.txt", "".join(f"{text}\n" for text in texts))
    rows = write_jsonl(tmp_path / "texts.jsonl", [{"text": text, "body": "other"} for text in texts])
    for source in (plain, rows):
        out = tmp_path / "v.npy"
        assert encode_file(encoder, source, out) == (count, 8)
        found = np.load(out)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, encoder.encode(texts).numpy())
        assert set(tmp_path.iterdir()) == {plain, rows, out}


def test_kind_language_and_batches_reach_the_encoder(
    encoder: NgramEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    encode = NgramEncoder.encode

    def told(self: NgramEncoder, texts: Any, kind: Any, **options: Any) -> torch.Tensor:
        asked.append((kind, options["language"], options["batch_size"]))
        return encode(self, texts, kind, **options)

    monkeypatch.setattr(NgramEncoder, "encode", told)
    encoder.language_means = LanguageMeans({("query", "de"): torch.full((8,), 0.1)})
    source, out = write(tmp_path / "texts.txt", "eins\nzwei\n"), tmp_path / "v.npy"
    encode_file(encoder, source, out, kind="query", language="de", batch_size=1)
    assert asked == [("query", "de", 1)]
    expected = encode(encoder, ["eins", "zwei"], "query", language="de")
    np.testing.assert_allclose(np.load(out), expected.numpy(), atol=1e-6)
    encode_file(encoder, source, out)
    assert asked[1:] == [("passage", None, None)]


def test_the_field_is_chosen(encoder: NgramEncoder, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "t.jsonl", [{"text": "a", "body": "b"}])
    encode_file(encoder, source, tmp_path / "v.npy", field="body")
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), encoder.encode(["b"]).numpy())


def test_a_mistake_leaves_the_file_that_was_there(encoder: NgramEncoder, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    np.save(out, np.eye(2))
    source = write(tmp_path / "t.jsonl", json.dumps({"text": "a"}) + '\n{"text": null}\n')
    with pytest.raises(ValueError, match=r"t\.jsonl:2: text: expected a JSON object with this text field"):
        encode_file(encoder, source, out)
    with pytest.raises(ValueError, match="language: found 'de', expected None"):
        encode_file(encoder, write(tmp_path / "t.txt", "a\n"), out, language="de")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt: no such file"):
        encode_file(encoder, tmp_path / "nowhere.txt", out)
    np.testing.assert_array_equal(np.load(out), np.eye(2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.jsonl", "t.txt", "v.npy"]


def test_other_names_than_npy_are_refused_before_anything_is_read(
    encoder: NgramEncoder, tmp_path: Path
) -> None:
    for name in ("vectors", "v.txt", "v.npz", ".npy"):
        with pytest.raises(ValueError, match=r"out: found '.*', expected a name that ends in \.npy"):
            encode_file(encoder, tmp_path / "nowhere.txt", tmp_path / name)


def test_missing_folders_are_made(encoder: NgramEncoder, tmp_path: Path) -> None:
    source = write(tmp_path / "t.txt", "a\n")
    encode_file(encoder, str(source), str(tmp_path / "new/folder/v.npy"))
    assert np.load(tmp_path / "new/folder/v.npy").shape == (1, 8)


def test_vectors_are_mapped_and_other_arrays_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    for dtype in (np.float32, np.float16, np.int8):
        np.save(path, np.eye(3, dtype=dtype))
        found = map_vectors(path)
        np.testing.assert_array_equal(found, np.eye(3, dtype=dtype))
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
    for wrong in (np.eye(3), np.ones(3, np.float32), np.eye(3, dtype=np.int64)):
        np.save(path, wrong)
        with pytest.raises(
            ValueError, match=rf"v.npy: found {wrong.dtype} of shape .*, expected float32, float16 or int8"
        ):
            map_vectors(path)
