"""Model cards: metadata that the hub accepts, tables, files; pushing calls the hub with the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pyhbt.training import model_card
from pyhbt.training.model_card import CardFacts, push_to_hub, write_model_card

FACTS = CardFacts(
    "some/base|model",
    ("en", "swa", "x-long"),
    {"cross-lingual ratio": 0.5, "steps": 400},
    {"monolingual mAP": 0.5, "cross-lingual mAP": 0.25, "cross-lingual recall@10": 0.75, "runtime": 3.0},
    "toy dev",
)


def test_card(tmp_path: Path) -> None:
    path = write_model_card(tmp_path, FACTS, title="owner/name")
    card = ModelCard.load(path)
    assert card.data.language == ["en", "swa"]
    assert card.data.library_name == "sentence-transformers"
    assert "multilingual" in card.data.tags
    text = card.text
    assert "# owner/name" in text
    assert "| base | some/base\\|model |" in text
    assert "| languages | en swa x-long |" in text
    assert "| cross-lingual ratio | 0.5 |" in text
    assert "## Scores on toy dev" in text
    assert "| | mAP | recall@10 |" in text
    assert "| monolingual | 0.5000 |  |" in text
    assert "| cross-lingual | 0.2500 | 0.7500 |" in text
    assert "runtime" not in text


def test_card_without_scores(tmp_path: Path) -> None:
    text = write_model_card(tmp_path / "..", CardFacts("ngram", ("en",), {})).read_text()
    assert "Scores" not in text


def test_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> Any:
            calls.append((name, options))
            return type("Url", (), {"repo_id": f"me/{name}"})()

        def upload_folder(self, **options: Any) -> str:
            calls.append(("upload", options))
            return "https://hub/me/model"

    monkeypatch.setattr(model_card, "HfApi", Hub)
    assert push_to_hub(tmp_path, "model") == "https://hub/me/model"
    assert calls[0] == ("model", {"private": True, "exist_ok": True})
    assert calls[1][1]["repo_id"] == "me/model"
    assert calls[1][1]["folder_path"] == str(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        push_to_hub(tmp_path / "absent", "model")
