"""The configuration of a study: arms and seeds as they are read, what does not go together, an arm's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.encoders import NgramEncoder
from pyhbt.evaluation.names import DEFAULT_METRICS
from pyhbt.options import build, changed, options_of, plain_values, read_values
from pyhbt.study.arms import Arm
from pyhbt.study.config import StudyConfig, read_arms, read_seeds
from pyhbt.study.endpoints import EndpointName
from pyhbt.training.config import TrainingConfig

TRAINING = TrainingConfig.of(steps=6, batch_size=8, learning_rate=0.01, temperature=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": (0.5, "0.50")}, r"arms: found 0.5, 0.5, expected at least one, all different"),
        ({"arms": ()}, r"arms: found none"),
        ({"arms": (2,)}, "ratio: found 2"),
        ({"seeds": ()}, "seeds: found"),
        ({"eval_every": 0}, "eval_every: found 0"),
        ({"metrics": ()}, "metrics: found none"),
        (
            {"metrics": ("mAP",), "primary": "cross-lingual recall@10"},
            "primary: found 'cross-lingual recall@10'",
        ),
        ({"primary": "sideways mAP"}, "primary: found 'sideways mAP', expected SETTING METRIC"),
        ({"margin": 0.0}, "margin: found 0.0"),
        ({"learning_rates": (0.1, 0.2)}, "learning_rates: found 0.1, 0.2, expected at least three"),
        ({"learning_rates": (0.1, 0.2, 0.2)}, "learning_rates: found 0.1, 0.2, 0.2"),
        ({"arms": ("average:0+1@0.5", 0)}, "arms: found average:0\\+1@0.5 without 1, expected both"),
        ({"curve_questions": 0}, "curve_questions: found 0"),
        ({"metrics": ("mAP", "recall@10", "P@3")}, "metric: found 'P@3'"),
    ],
)
def test_configuration_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyConfig(TRAINING, **options)


def test_arms_under_their_former_name() -> None:
    with pytest.warns(DeprecationWarning, match="ratios is called arms now"):
        assert StudyConfig(TRAINING, ratios=(0.5,)) == StudyConfig(TRAINING, arms=(0.5,))  # type: ignore[call-arg]


def test_changes_are_checked_with_the_settings() -> None:
    with pytest.raises(ValueError, match="lexicon: found None"):
        StudyConfig(TRAINING, arms=("0.5+code-switching=0.3",))
    with pytest.raises(ValueError, match="arms: found .* all different"):
        StudyConfig(TRAINING, arms=("0.5+js=1", "0.50+js=1.0"))


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("0,0.5,1", ["0", "0.5", "1"]),
        ("0, 0.5 ,1,", None),
        ("0 0.5  1", ["0", "0.5", "1"]),
        ("0 linear:0:1", ["0", "linear:0:1"]),
        ("linear:0:1", ["linear:0:1"]),
        ("steps:0@0,1@0.5", ["steps:0@0,1@0.5"]),  # its comma parts no arms
        (
            "0.5,0.5+lora=r=4,alpha=8,targets=query,value,1",
            ["0.5", "0.5+lora=r=4,alpha=8,targets=query,value", "1"],
        ),
        ("0.5,0.5+js=1", ["0.5", "0.5+js=1.0"]),
        ("0,0.5+matryoshka-dims=64,128,1", ["0", "0.5+matryoshka-dims=64,128", "1"]),
        ("0.5+matryoshka-dims=8,16+symmetric,1", ["0.5+matryoshka-dims=8,16+symmetric", "1"]),
        ("0.5+symmetric+matryoshka-dims=8,16,32", ["0.5+symmetric+matryoshka-dims=8,16,32"]),
        ("0,1/3,1", ["0", "0.3333333333333333", "1"]),
        ("1/3 average:0+1@1/3", ["0.3333333333333333", "average:0+1@0.3333333333333333"]),
        ("0.25,", ["0.25"]),
        ("", []),
        (0.5, ["0.5"]),
        (1, ["1"]),
        (Arm.parse("0.5+js=1"), ["0.5+js=1.0"]),
        ([0, "0.50", Arm.parse("linear:0:1")], ["0", "0.5", "linear:0:1"]),
        ((), []),
    ],
)
def test_arms_are_read(value: Any, labels: list[str] | None) -> None:
    if labels is None:
        with pytest.raises(ValueError, match="ratio: found '0,'"):
            read_arms(value)
    else:
        found = read_arms(value)
        assert [arm.label for arm in found] == [Arm.parse(label).label for label in labels]
        assert read_arms([arm.label for arm in found]) == found


@pytest.mark.parametrize(
    ("value", "seeds"),
    [
        (1, (0,)),
        (3, (0, 1, 2)),
        ("3", (0, 1, 2)),
        (" 2 ", (0, 1)),
        ("7,", (7,)),
        ("5,3", (5, 3)),
        (" 5 , 3 ", (5, 3)),
        ([4], (4,)),
        ((1, 0), (1, 0)),
        (["2", 5], (2, 5)),
        ([], ()),
    ],
)
def test_seeds_are_read(value: Any, seeds: tuple[int, ...]) -> None:
    assert read_seeds(value) == seeds
    if isinstance(value, (int, str, tuple)):  # the configuration takes what the command line takes
        assert StudyConfig(TRAINING, seeds=value).seeds == seeds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "seeds: found 0, expected at least 1"),
        ("-2", "seeds: found -2, expected at least 1"),
        ("many", "seeds: found 'many', expected a number of seeds or a list of them"),
        ("1,x", "seeds: found 'x', expected a number of seeds"),
        ("", "seeds: found '', expected a number of seeds"),
        (1.5, "seeds: found 1.5, expected a number of seeds"),
        (None, "seeds: found None, expected a number of seeds"),
        ([None], r"seeds: found None, expected a number of seeds"),
    ],
)
def test_what_is_no_seed(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_seeds(value)


ARMS = st.lists(
    st.sampled_from(
        (0.0, 1 / 3, 1.0, "linear:0:1", "adaptive:0.1:0.9", "steps:0@0,1@0.5", "0.5+js=0.5+symmetric", "0.5")
    ),
    min_size=1,
    unique=True,
)
SEEDS = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True).map(tuple)


@given(ARMS, SEEDS, st.one_of(st.none(), st.integers(1, 9)), st.sampled_from((None, ("en", "sw"))))
def test_a_saved_configuration_is_read_back(
    arms: list[Any], seeds: tuple[int, ...], eval_every: int | None, languages: tuple[str, ...] | None
) -> None:
    config = StudyConfig(
        TRAINING, data="toy", arms=tuple(arms), seeds=seeds, eval_every=eval_every, languages=languages
    )
    values = read_values(StudyConfig, plain_values(config), "saved")
    assert build(StudyConfig, values) == config
    assert plain_values(config)["arms"] == [Arm.parse(arm).label for arm in arms]


def test_cells_compare_all_arms_early() -> None:
    config = StudyConfig(TRAINING, arms=(0.0, 1.0), seeds=(3, 1))
    zero, one = config.arms
    assert config.cells == ((zero, 3), (one, 3), (zero, 1), (one, 1))


def test_the_primary_endpoint() -> None:
    assert StudyConfig(TRAINING).endpoint == EndpointName("cross-lingual", "recall@10")
    assert StudyConfig(TRAINING, metrics=("mAP",)).endpoint == EndpointName("cross-lingual", "mAP")
    named = StudyConfig(TRAINING, primary="multilingual mAP, zero-shot")
    assert named.endpoint == EndpointName("multilingual", "mAP", "zero-shot")


def test_arms_that_are_tuned() -> None:
    config = StudyConfig(
        TRAINING, arms="0 1 0.5+learning-rate=0.2 average:0+1@0.5", learning_rates=(0.1, 0.2, 0.3)
    )
    assert {arm.label for arm in config.arms if config.is_tuned(arm)} == {"0", "1"}
    assert not any(map(StudyConfig(TRAINING).is_tuned, config.arms))


def test_defaults() -> None:
    config = StudyConfig(TRAINING)
    assert [arm.label for arm in config.arms] == ["0", "0.25", "0.5", "0.75", "1"]
    assert (config.seeds, config.encoder, config.metrics) == ((0, 1, 2), "ngram", DEFAULT_METRICS)
    words = {item.name: item.default_in_words for item in options_of(StudyConfig)}
    assert words["arms"] == "0,0.25,0.5,0.75,1"
    assert words["seeds"] == "0,1,2"
    assert words["eval_every"] == "after 1, 2, 3, 4, 6, 8, 12, 16, ... steps and at the end"
    assert words["zero_shot"] == "the data's own choice"
    assert {
        "steps",
        "temperature",
        "language_sampling",
    } <= words.keys()  # those of the training beside its own


def test_an_arm_changes_the_settings_of_its_training() -> None:
    config = StudyConfig(TRAINING, arms=("0.5+js=0.5+learning-rate=0.1", "linear:0:1"))
    first, second = (config.training_of(arm) for arm in config.arms)
    assert first == changed(TRAINING, js_weight=0.5, learning_rate=0.1)
    assert first.objective.js_weight == 0.5
    assert first.learning_rate == 0.1
    assert second == config.training == TRAINING


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("0.5+temperature=0", "temperature: found 0"),
        ("0.5+batch-size=0", "batch_size: found 0, expected at least 1"),
        ("0.5+code-switching=0.3", "lexicon: found None, expected a file"),
        ("0.5+set=x", "found 'set', expected one of steps, batch-size"),
        ("0.5+steps=0", "steps: found 0, expected at least 1"),
        ("0.5+lr-scheduler-type=flat", "lr_scheduler_type: found 'flat', expected one of linear, cosine"),
        ("linear:0:2", "ratio: found 2.0"),
    ],
)
def test_arms_are_checked_with_the_settings(arm: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyConfig(TRAINING, arms=("0", arm))
    with_lexicon = changed(TRAINING, lexicon="en-de.txt")
    assert StudyConfig(with_lexicon, arms=("0.5+code-switching=0.3",)).arms[0].changes


def test_the_encoder_of_a_cell_is_made_by_its_seed() -> None:
    config = StudyConfig(TRAINING, max_length=7)
    first, again, other = (config.make_encoder(seed) for seed in (1, 1, 2))
    assert isinstance(first, NgramEncoder)
    assert first.max_length == 7
    assert first.table.weight.equal(again.table.weight)  # type: ignore[union-attr,operator]
    assert not first.table.weight.equal(other.table.weight)  # type: ignore[union-attr,operator]
    with pytest.raises(ValueError, match="query_prefix: found 'q', expected None"):
        replace(config, query_prefix="q").make_encoder(0)


@pytest.mark.parametrize("value", [True, [True], "-1,-2", [-1], [0.7], 1.5])
def test_seeds_are_whole_numbers_from_0(value: Any) -> None:
    with pytest.raises(ValueError, match="seeds: found"):
        read_seeds(value)


@pytest.mark.parametrize("value", [None, True, [0.5, True], 0.5j])
def test_arms_are_ratios_or_texts(value: Any) -> None:
    with pytest.raises(ValueError, match="arms: found"):
        read_arms(value)


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": "mAP"},
        {"test": "cldr"},
        {"languages": "en,de"},
        {"low_resource": "sw"},
        {"zero_shot": "sw"},
        {"columns": "query=question"},
        {"learning_rates": "0.1,0.2,0.3"},
    ],
)
def test_one_text_in_the_place_of_several_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(options))}: found str, expected a tuple"):
        StudyConfig(TRAINING, **options)


@pytest.mark.parametrize(
    ("arms", "both"),
    [
        ("0.5 0.5+symmetric=false", "0.5 and 0.5[+]symmetric=false"),
        ("0 0.5+temperature=0.05 0.5", "0.5[+]temperature=0.05 and 0.5"),
        ("0.5+batch-size=4 0.5+batch-size=4+symmetric=false", "0.5[+]batch-size=4 and"),
    ],
)
def test_arms_that_are_trained_alike_are_refused(arms: str, both: str) -> None:
    with pytest.raises(ValueError, match=f"arms: found {both}.*trained alike"):
        StudyConfig(TrainingConfig.of(steps=2, batch_size=8, learning_rate=0.1, temperature=0.05), arms=arms)
