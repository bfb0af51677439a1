"""Options of encoders: what they read, and their defaults in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pyhbt.encoders import NgramEncoder
from pyhbt.encoders.options import (
    EncoderOptions,
    NamedEncoderOptions,
    TrainedEncoderOptions,
    batch_size_option,
    encoder_option,
    max_length_option,
    named_encoder,
    passage_prefix_option,
    query_prefix_option,
)
from pyhbt.options import build, options_of
from pyhbt.retrieval.run import SearchJob


@dataclass(frozen=True)
class Wanted:
    encoder: str = encoder_option()
    chosen: str = encoder_option("ngram")
    max_length: int | None = max_length_option()
    trained_length: int | None = max_length_option("128")
    query_prefix: str | None = query_prefix_option()
    passage_prefix: str | None = passage_prefix_option()
    batch_size: int | None = batch_size_option()


SETTINGS = {item.field: item for item in options_of(Wanted)}


def test_defaults_in_words() -> None:
    assert {name: item.default_in_words for name, item in SETTINGS.items()} == {
        "encoder": "required",
        "chosen": "ngram",
        "max_length": "the encoder's own",
        "trained_length": "128",
        "query_prefix": "the encoder's own",
        "passage_prefix": "the encoder's own",
        "batch_size": "as many as fit in 2,048 tokens",
    }


def test_what_is_not_given_is_left_to_the_encoder() -> None:
    assert build(Wanted, {"encoder": "./folder"}) == Wanted("./folder", "ngram", None, None, None, None, None)
    with pytest.raises(ValueError, match="encoder: missing, expected a value"):
        build(Wanted, {})


def test_values_are_read_by_their_kind() -> None:
    assert SETTINGS["max_length"].read("12") == SETTINGS["max_length"].read(12) == 12
    assert SETTINGS["max_length"].read(None) is None
    assert SETTINGS["query_prefix"].read("") == ""  # no prefix, which is not the encoder's own
    for name in ("max_length", "trained_length", "batch_size"):
        with pytest.raises(ValueError, match=f"{name}: found 'many', expected a whole number"):
            SETTINGS[name].read("many")


def test_each_says_what_it_is_for() -> None:
    assert all(item.about.help.endswith(".") for item in SETTINGS.values())
    assert "Hugging Face" in SETTINGS["encoder"].about.help
    assert "queries" in SETTINGS["query_prefix"].about.help
    assert "passages" in SETTINGS["passage_prefix"].about.help


def test_the_settings_of_an_encoder_make_it() -> None:
    encoder = EncoderOptions(max_length=9).load(seed=3)
    assert isinstance(encoder, NgramEncoder)
    assert encoder.max_length == 9
    assert encoder.table.weight.equal(NgramEncoder(seed=3).table.weight)
    for name in ("query_prefix", "passage_prefix"):
        with pytest.raises(ValueError, match=f"{name}: found 'p', expected None: an n-gram encoder has none"):
            build(EncoderOptions, {name: "p"}).load()
    with pytest.raises(FileNotFoundError, match="encoder: ./nowhere is not a folder"):
        EncoderOptions("./nowhere").load()
    with pytest.raises(ValueError, match="encoder: found None, expected a name or a folder"):
        named_encoder(SearchJob(Path("queries.txt"), Path("corpus.txt")))


def test_an_encoder_must_be_named_where_none_is_meant() -> None:
    words = {
        cls: {item.name: item.default_in_words for item in options_of(cls)}
        for cls in (EncoderOptions, NamedEncoderOptions, TrainedEncoderOptions)
    }
    assert words[EncoderOptions]["encoder"] == words[TrainedEncoderOptions]["encoder"] == "ngram"
    assert words[NamedEncoderOptions]["encoder"] == "required"
    assert words[TrainedEncoderOptions]["max_length"] == "128, or what the encoder takes, if that is less"
    assert words[NamedEncoderOptions]["max_length"] == "the encoder's own"
    with pytest.raises(ValueError, match="encoder: missing, expected a value"):
        build(NamedEncoderOptions, {})
