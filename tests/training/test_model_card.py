"""Model cards: metadata that the hub accepts, tables, files; pushing calls the hub with the folder."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pyhbt.data.hub import HubError
from pyhbt.training import model_card
from pyhbt.training.exposure import Exposure
from pyhbt.training.model_card import CardFacts, facts_of, push_to_hub, write_model_card
from pyhbt.training.record import RunNames, RunRecord, Segment

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


def record() -> RunRecord:
    options = {
        "pairs": {"pairs": 1200, "groups": 30, "blake2b": "f00d"},
        "encoder": "an encoder",
        "steps": 12,
        "ratio": "adaptive:0.1:0.9",
        "language_sampling": "uniform",
        "temperature": 0.05,
        "learn_temperature": True,
        "lexicon": None,
        "batch_size": 8,
    }
    given = {"learning_rate": 0.01, "max_grad_norm": 1.0, "bf16": True, "lr_scheduler_type": "linear"}
    return RunRecord(options, given, RunNames("tiny", "toy", "dev"), (Segment(0, 12, {"pyhbt": "0.2"}),))


LOG = [
    {"step": 4, "eval_monolingual mAP": 0.4},
    {"step": 5, "loss": 1.0},
    {"step": 8, "eval_monolingual mAP": 0.8},
]


def facts(run: RunRecord, step: int, exposure: Exposure | None = None) -> CardFacts:
    held = Exposure(8) if exposure is None else exposure
    return facts_of(run, ("aa",), step=step, temperature=0.04321, exposure=held, log=LOG, ratio=0.3)


def test_facts_are_of_the_step(tmp_path: Path) -> None:
    """Scores, segments and temperature up to it, and none that came later."""
    run = (
        record()
        .going_on(6, record())
        .going_on(9, replace(record(), options={**record().options, "steps": 24}))
    )
    run = replace(run, segments=(*run.segments[:-1], Segment(9, 24, {"pyhbt": "0.3"}))).with_learning_rate(
        0.1, 0.2
    )
    early, late = (write_model_card(tmp_path, facts(run, step)).read_text() for step in (7, 24))
    for phrase in (
        "| base | tiny |",
        "| data | toy: 1,200 pairs, 30 groups |",
        "| data fingerprint | f00d |",
        "| cross-lingual ratio | adaptive:0.1:0.9, 0.3 at this step |",
        "| temperature | 0.0432, learnt from 0.05 |",
        "| bf16 | True |",
        "| learning_rate | 0.01 |",
        "| resumed | at step 6 |",
        "## Scores on dev",
    ):
        assert phrase in early
        assert phrase in late
    assert "max_grad_norm" not in early  # as it is by default
    assert "lexicon" not in early
    assert "| steps | 7 of 24 |" in early
    assert "| monolingual | 0.4000 |" in early
    assert "extended" not in early
    assert "| monolingual | 0.8000 |" in late
    assert (
        "| extended | at step 9 from 12 to 24 steps; learning rate there 0.1 -> 0.2 (linear over 24 steps); "
        in late
    )
    assert "What a batch held" not in late
    assert "Scores" not in write_model_card(tmp_path, facts(run, 3)).read_text()


def test_what_batches_held_is_a_table(tmp_path: Path) -> None:
    exposure = Exposure(8)
    exposure.add({("aa", "aa"): 8})
    exposure.add({("aa", "bb"): 4, ("bb", "aa"): 2})
    text = write_model_card(tmp_path, facts(record(), 2, exposure)).read_text()
    for row in (
        "| monolingual | 1 | 8 | 8.0 | 0 |",
        "| cross-lingual | 1 | 6 | 6.0 | 1 |",
        "| all | 2 | 14 | 7.0 | 1 |",
        "| aa | 1 | 8 | 8.0 | 0 |",
        "| bb -> aa | 1 | 2 | 2.0 | 1 |",
    ):
        assert row in text
    for number in range(30):
        exposure.add({(f"l{number:02}", f"l{number:02}"): 3})
    text = write_model_card(tmp_path, facts(record(), 2, exposure)).read_text()
    assert "| 13 others | 13 | 38 | 2.9 | 13 |" in text
    assert len(re.findall(r"^\| l\d\d \|", text, re.MULTILINE)) == 18  # and aa, aa -> bb


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
    for name in ("my model", "a/b/c", "", "/x"):
        with pytest.raises(ValueError, match=f"push_to_hub: found '{name}', expected NAME or OWNER/NAME"):
            push_to_hub(tmp_path, name)

    def refuse(self: Any, name: str, **options: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(HubError, match="saved, but not pushed to model .ConnectionError: no network"):
        push_to_hub(tmp_path, "model")
