"""Options: read by type, built side by side, written and read back, explained once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.options import (
    build,
    changed,
    did_you_mean,
    documented,
    option,
    options_of,
    parse_word,
    plain_values,
    read_config,
    read_values,
    values_of,
    write_config,
)


@documented
@dataclass(frozen=True)
class Inner:
    """Held by another."""

    rate: float = option("A rate.", 0.5)
    kind: Literal["red", "blue"] = option("A colour.", "red")


@dataclass(frozen=True)
class Outer:
    """Holds another."""

    steps: int = option("Steps.")
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] | None = option("Names.", None, unset="all")
    dims: tuple[int, ...] = option("Dims.", ())
    share: float | str = option("A number or a word.", "even", also=("portion",))
    on: bool = option("On or off.", False)
    place: Path | None = option("A path.", None)
    more: Mapping[str, Any] = option("Others.", {}, name="set")
    secret: int = option("Not saved.", 0, saved=False)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: found {self.steps}")


def test_settings_stand_side_by_side_own_ones_first() -> None:
    names = [item.name for item in options_of(Outer)]
    assert names == ["steps", "names", "dims", "share", "on", "place", "set", "secret", "rate", "kind"]


def test_built_from_all_and_changed_wherever_they_are_held() -> None:
    built = build(Outer, {"steps": 3, "rate": 0.1})
    assert (built.steps, built.inner.rate, built.inner.kind) == (3, 0.1, "red")
    other = changed(built, kind="blue", steps=4)
    assert (other.steps, other.inner) == (4, Inner(0.1, "blue"))
    assert values_of(other)["kind"] == "blue"
    with pytest.raises(ValueError, match="steps: found 0"):
        changed(built, steps=0)
    with pytest.raises(ValueError, match="steps: missing"):
        build(Outer, {})
    with pytest.raises(TypeError, match=r"step: no option of Outer; did you mean steps\?"):
        build(Outer, {"step": 1})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", "7", 7),
        ("steps", 7, 7),
        ("rate", "1e-4", 1e-4),
        ("rate", 1, 1.0),
        ("kind", "blue", "blue"),
        ("names", "de, en", ("de", "en")),
        ("names", ["de", "en"], ("de", "en")),
        ("names", None, None),
        ("dims", "64,32", (64, 32)),
        ("dims", 64, (64,)),
        ("share", "0.5", 0.5),
        ("share", "even", "even"),
        ("portion", 0.25, 0.25),
        ("on", "true", True),
        ("on", False, False),
        ("place", "a/b", Path("a/b")),
        ("set", ["bf16=true", "eps=1e-6", "word=adam", "none=None"], None),
        ("set", {"bf16": True}, {"bf16": True}),
    ],
)
def test_read_from_text_and_from_plain_data(name: str, value: object, expected: object) -> None:
    (found,) = read_values(Outer, {name: value}, "here").values()
    if expected is None and name == "set":
        expected = {"bf16": True, "eps": 1e-6, "word": "adam", "none": None}
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "many"}, "here: steps: found 'many', expected a whole number"),
        ({"steps": 1.5}, "here: steps: found 1.5, expected a whole number"),
        ({"steps": True}, "here: steps: found True, expected a whole number"),
        ({"rate": "fast"}, "here: rate: found 'fast', expected a number"),
        ({"kind": "green"}, "here: kind: found 'green', expected one of red, blue"),
        ({"on": "perhaps"}, "here: on: found 'perhaps', expected true or false"),
        ({"dims": "64,x"}, "here: dims: found 'x', expected a whole number"),
        ({"set": ["bf16"]}, "here: set: found 'bf16', expected NAME=VALUE"),
        ({"stepz": 1}, r"here: stepz: unknown; did you mean steps\?"),
        ({"share": 1, "portion": 2}, "here: portion: given twice"),
    ],
)
def test_mistakes_name_source_and_setting(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_values(Outer, values, "here")


@given(st.floats(allow_nan=False), st.lists(st.text("abc", min_size=1)), st.booleans())
def test_what_is_written_is_read_back(rate: float, names: list[str], on: bool) -> None:
    import tempfile

    config = build(
        Outer, {"steps": 2, "rate": rate, "names": tuple(names), "on": on, "more": {"a": [1, "b"]}}
    )
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder) / "config.yaml", Path(folder) / "config.json"):
            if path.suffix == ".json":
                path.write_text(json.dumps(plain_values(config)))
            else:
                write_config(path, plain_values(config), "a comment")
            assert build(Outer, read_values(Outer, read_config(path), "here")) == config


def test_what_is_not_saved_is_left_out_and_dashes_are_underscores() -> None:
    assert "secret" not in plain_values(build(Outer, {"steps": 1, "secret": 5}))
    assert read_values(Inner, {"rate": 1}, "here") == {"rate": 1.0}

    @dataclass
    class Dashed:
        two_words: int = option("Two.", 1)

    assert read_values(Dashed, {"two-words": 2}, "here") == {"two_words": 2}


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for content, message in (
        ("a: [1", r"c\.yaml:\d: not YAML"),
        ("- a", "c.yaml: found list, expected names"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_config(file)
    (tmp_path / "c.json").write_text("{\n,}")
    with pytest.raises(ValueError, match=r"c\.json:2: not JSON"):
        read_config(tmp_path / "c.json")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file"):
        read_config(tmp_path / "nowhere")
    file.write_text("")
    assert read_config(file) == {}


def test_explained_once() -> None:
    assert Inner.__doc__ is not None
    assert "Args:\n    rate: A rate.\n    kind: A colour." in Inner.__doc__
    words = {item.name: item.default_in_words for item in options_of(Outer)}
    assert words["steps"] == "required"
    assert (words["names"], words["dims"], words["share"], words["on"]) == ("all", "none", "even", "false")


def test_words() -> None:
    assert [parse_word(text) for text in ("True", "4", "1e-4", "none", "adam", "[1]")] == [
        True,
        4,
        1e-4,
        None,
        "adam",
        [1],
    ]
    assert did_you_mean("learning_rat", ["learning_rate"]) == "; did you mean learning_rate?"
    assert did_you_mean("zzz", ["learning_rate"]) == ""
