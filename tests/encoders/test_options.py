"""Settings of encoders: what they read, and their defaults in words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pyhbt.encoders import NgramEncoder
from pyhbt.encoders.options import (
    EncoderSettings,
    NamedEncoderSettings,
    TrainedEncoderSettings,
    batch_size_setting,
    encoder_setting,
    max_length_setting,
    passage_prefix_setting,
    query_prefix_setting,
)
from pyhbt.settings import build, settings_of


@dataclass(frozen=True)
class Wanted:
    encoder: str = encoder_setting()
    chosen: str = encoder_setting("ngram")
    max_length: int | None = max_length_setting()
    trained_length: int | None = max_length_setting("128")
    query_prefix: str | None = query_prefix_setting()
    passage_prefix: str | None = passage_prefix_setting()
    batch_size: int | None = batch_size_setting()


SETTINGS = {item.field: item for item in settings_of(Wanted)}


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
    encoder = EncoderSettings(max_length=9).load(seed=3)
    assert isinstance(encoder, NgramEncoder)
    assert encoder.max_length == 9
    assert encoder.table.weight.equal(NgramEncoder(seed=3).table.weight)
    for name in ("query_prefix", "passage_prefix"):
        with pytest.raises(ValueError, match=f"{name}: found 'p', expected None: an n-gram encoder has none"):
            build(EncoderSettings, {name: "p"}).load()
    with pytest.raises(FileNotFoundError, match="encoder: ./nowhere is not a folder"):
        EncoderSettings("./nowhere").load()


def test_an_encoder_must_be_named_where_none_is_meant() -> None:
    words = {
        cls: {item.name: item.default_in_words for item in settings_of(cls)}
        for cls in (EncoderSettings, NamedEncoderSettings, TrainedEncoderSettings)
    }
    assert words[EncoderSettings]["encoder"] == words[TrainedEncoderSettings]["encoder"] == "ngram"
    assert words[NamedEncoderSettings]["encoder"] == "required"
    assert words[TrainedEncoderSettings]["max_length"] == "128, or what the encoder takes, if that is less"
    assert words[NamedEncoderSettings]["max_length"] == "the encoder's own"
    with pytest.raises(ValueError, match="encoder: missing, expected a value"):
        build(NamedEncoderSettings, {})
