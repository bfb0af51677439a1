"""What decides the cells of a study beside arm and seed, as every cell says it of itself.

Cells of one folder agree in all of it, so that they may be compared, whichever process made them and when. What a study
may grow in is no part of it: arms, seeds, metrics, test sets; nor is what only the report reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyhbt.data import StudyData
from pyhbt.options import plain_values
from pyhbt.study.cells import described, finished_cells
from pyhbt.study.config import StudyConfig
from pyhbt.training.fingerprint import facts_of_encoder, fingerprint_of_pairs, fingerprint_of_retrieval_set

_GROWS = (
    "arms",
    "seeds",
    "metrics",
    "test",
    "pivot",
    "centring_text",
    "learning_rates",
    "primary",
    "margin",
    "keep_encoders",
)


def describe(config: StudyConfig, data: StudyData) -> dict[str, Any]:
    """The description, plain data by name: options, fingerprints of the data and of the encoder of seed 0.

    Costs the loading of an encoder and about a second a gigabyte of weights and texts.
    """
    options = {name: value for name, value in plain_values(config).items() if name not in _GROWS}
    encoder = facts_of_encoder(config.make_encoder(seed=0))
    return {
        **options,
        "training_pairs": fingerprint_of_pairs(data.train),
        "dev_set": fingerprint_of_retrieval_set(data.dev),
        "encoder_weights": encoder["encoder_weights"],
        "tokens": encoder["tokens"],
    }


def check_cells(out: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder whose cells are of another study.

    Raises:
        FileExistsError: a cell is; names it, what differs, and both values.
    """
    former = FileExistsError(
        f"{out} holds a study of PyHBT 0.1, which reports are made of, but which does not go on: choose another folder "
        "or overwrite it"
    )
    if (out / "config.json").is_file():
        raise former
    for cell, folder in finished_cells(out).items():
        found = described(folder).get("study")
        if found is None:
            raise former
        if differing := _difference(found, wanted):
            name, there, here = differing
            raise FileExistsError(
                f"{out} holds a study with {name} {there} ({cell.called}), this one has {name} {here}: choose "
                "another folder or overwrite it"
            )


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first name whose values differ, and both; of values by name the name in them."""
    for name in {**wanted, **found}:
        there, here = found.get(name), wanted.get(name)
        if there != here:
            if isinstance(there, Mapping) and isinstance(here, Mapping):
                inner = _difference(there, here)
                assert inner is not None
                return inner
            return name, there, here
    return None
