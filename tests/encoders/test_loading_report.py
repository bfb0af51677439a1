"""Weights that a checkpoint lacks are known by name, in the words of both versions of transformers."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from pyhbt.encoders import load_encoder
from pyhbt.encoders.loading_report import weights_reported
from tests.toy import save_tiny_bert

LOGGER = logging.getLogger("transformers.modeling_utils")


def without(folder: Path, part: str) -> Path:
    path = save_tiny_bert(folder) / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if part not in name}
    save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_what_is_missing_is_named_whatever_the_log_shows(level: int, tmp_path: Path) -> None:
    folder = without(tmp_path, "layer.1.output.dense")
    before = LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)
    parent = logging.getLogger("transformers")
    kept = parent.level
    parent.setLevel(level)
    try:
        with weights_reported() as missing:
            AutoModel.from_pretrained(folder, add_pooling_layer=False)
    finally:
        parent.setLevel(kept)
    assert sorted(missing) == ["encoder.layer.1.output.dense.bias", "encoder.layer.1.output.dense.weight"]
    assert (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)) == before


def test_the_words_of_version_4(caplog: pytest.LogCaptureFixture) -> None:
    with weights_reported() as missing:
        LOGGER.warning(
            "Some weights of BertModel were not initialized from the model checkpoint at x and are newly initialized: "
            "['a.weight', 'b.bias']\nYou should probably TRAIN this model"
        )
    assert missing == ["a.weight", "b.bias"]
    assert not caplog.records


def test_other_messages_pass() -> None:
    seen: list[str] = []

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler, parent = Seen(), logging.getLogger("transformers")
    level = parent.level
    parent.setLevel(logging.WARNING)
    parent.addHandler(handler)
    try:
        with weights_reported() as missing:
            LOGGER.warning("something else")
            LOGGER.debug("too quiet")
    finally:
        parent.removeHandler(handler)
        parent.setLevel(level)
    assert seen == ["something else"]
    assert not missing


def test_an_encoder_without_some_weights_is_refused(tmp_path: Path) -> None:
    folder = without(tmp_path, "layer.1.attention.self.query.weight")
    with pytest.raises(
        ValueError, match=r"no weights for encoder\.layer\.1\.attention\.self\.query\.weight \(1 in all\)"
    ):
        load_encoder(folder)
    assert torch.is_grad_enabled()
