"""What commands show: lines as they are, tables, scores, the progress of a study."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pyhbt.cli import terminal
from pyhbt.cli.terminal import console, evaluation_table, say, set_up, study_progress, table
from pyhbt.evaluation.evaluator import evaluate
from pyhbt.evaluation.names import RANK_DISTANCE, TOP_1_SAME_LANGUAGE
from pyhbt.evaluation.result import Evaluation
from pyhbt.study.arms import Arm
from pyhbt.study.cells import Cell
from pyhbt.study.workplace import Progress
from tests.toy import retrieval_set


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "120")
    yield
    console.quiet = False


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "text",
    [
        "[INST] [bold]not bold[/bold] [/] [red] [link=x]y",
        "x" * 500,
        "  two  spaces, 3 numbers 'and' \"quotes\" True None 0.5 /a/path",
        "é 中 \\[",
        "",
    ],
)
def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    say(text)
    assert capsys.readouterr().out == f"{text}\n"


HOSTILE = "de\x1b[31m\x1b]0;title\x07\x9b5A\u202efed\u2066\nnew \udc80"
HARMLESS = r"de\x1b[31m\x1b]0;title\x07\x9b5A\u202efed\u2066\nnew \udc80"


def test_control_characters_are_shown_as_escapes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    say(HOSTILE, "[/x]")
    assert capsys.readouterr().out == f"{HARMLESS}\n[/x]\n"
    table(f"[/x] {HOSTILE}", ["[/x]", HOSTILE], [[HOSTILE, "[/b]"]])
    shown = capsys.readouterr().out
    assert shown.count(HARMLESS[:10]) >= 2
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_warnings_of_data_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging, "lastResort", handler)
    set_up(None)
    handler.handle(logging.makeLogRecord({"msg": "found %s", "args": (HOSTILE,)}))
    assert handler.stream.getvalue() == f"found {HARMLESS}\n".replace(r"\n", "\n")


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    table(
        "of scores", ["setting", "a", "long name"], [["mono", "1.00", "2"], ["cross-lingual", "10.00", "3"]]
    )
    title, header, rule, *rows = lines(capsys)
    assert title == "of scores"
    assert header.split() == ["setting", "a", "long", "name"]
    assert set(rule.strip()) == {"─"}
    assert [row.split() for row in rows] == [["mono", "1.00", "2"], ["cross-lingual", "10.00", "3"]]
    assert {len(row) for row in rows} == {len(header)}  # to the right
    assert rows[0].index("mono") == rows[1].index("cross")  # to the left
    table("none", ["setting"], [])
    assert [line.strip() for line in lines(capsys)[:2]] == ["none", "setting"]


def evaluations(langs: tuple[str, ...]) -> list[Evaluation]:
    data = retrieval_set(6, langs)
    rng = np.random.default_rng(0)
    queries, passages = (
        torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(len(texts), 4))).float(), dim=1)
        for texts in (data.query_texts, data.passage_texts)
    )
    return [evaluate(queries, passages, data, centring=centring) for centring in ("none", "both")]


def test_scores_are_macro_means_in_percent(capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluations(("aa", "bb", "cc"))
    evaluation_table(found, ["mAP", "recall@1"])
    shown = lines(capsys)
    scores = [
        line.split() for line in shown if line.split()[0] in ("monolingual", "cross-lingual", "multilingual")
    ]
    assert scores == [
        [setting, one.centring, *(f"{100 * one.macro(setting, name):.2f}" for name in ("mAP", "recall@1"))]
        for one in found
        for setting in ("monolingual", "cross-lingual", "multilingual")
    ]
    bias = [line.split() for line in shown if line.split()[0] in ("none", "both")]
    for one, row in zip(found, bias, strict=True):
        assert f"{one.macro('multilingual', RANK_DISTANCE):,.1f}" in row
        assert f"{one.macro('multilingual', TOP_1_SAME_LANGUAGE):.3f}" in row
    assert "language bias in the multilingual pool" in shown


def test_what_is_not_measured_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation_table(evaluations(("aa",))[:1], ["mAP"])
    shown = "\n".join(lines(capsys))
    assert "monolingual" in shown
    assert "cross-lingual" not in shown
    assert RANK_DISTANCE not in shown  # of one language there is none
    assert "nan" not in shown
    data = evaluations(("aa",))[0]
    evaluation_table([Evaluation(data.data, "none", ())], ["mAP"])
    assert "monolingual" not in capsys.readouterr().out


def progress(number: int, arm: Any, **others: Any) -> Progress:
    return Progress(number, 2, Cell(Arm.parse(arm), 7), 3, 10, **others)


SCORES = {
    "cross-lingual recall@10": 0.51249,
    "monolingual recall@10": 0.75,
    "multilingual mAP": 0.1,
}


def test_a_finished_cell_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [50.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with study_progress("cells") as observe:
        for number, arm in enumerate((0.5, "linear:0:1")):
            cell = progress(number, arm)
            observe(cell)
            cell.scores = SCORES
            observe(cell)
            now[0] += 61.6
            cell.finished = True
            observe(cell)
    assert [line for line in lines(capsys) if line.startswith("[")] == [
        "[1/2] ratio 0.5 seed 7: dev monol R@10 0.750  cross R@10 0.512  (62 s)",
        "[2/2] arm linear:0:1 seed 7: dev monol R@10 0.750  cross R@10 0.512  (62 s)",
    ]


def test_a_cell_that_is_not_finished_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with study_progress("cells") as observe:
        for step in range(3):
            observe(progress(0, 0.5, scores=SCORES) if step else progress(0, 0.5))
    assert not any(line.startswith("[") for line in lines(capsys))


def test_an_interrupted_study_ends_its_display() -> None:
    with pytest.raises(KeyboardInterrupt), study_progress("cells") as observe:
        observe(progress(0, 0.5))
        raise KeyboardInterrupt
    with study_progress("cells") as observe:  # a live display that still ran would refuse another
        observe(progress(0, 0.5))


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    before = torch.get_num_threads()
    try:
        set_up(1)
        assert torch.get_num_threads() == 1
        set_up(None)
        assert torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="threads: found 0, expected at least 1"):
            set_up(0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("rank", "speaks"), [(None, True), ("0", True), ("1", False), ("12", False)])
def test_only_the_first_rank_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rank: str | None, speaks: bool
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    set_up(None)
    say("a line")
    table("title", ["a"], [["b"]])
    assert bool(capsys.readouterr().out) == speaks


def test_bars_of_the_hub_are_off_unless_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    set_up(None)
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")
    set_up(None)
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "0"


def test_brackets_in_arms_and_headings_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    arm = Arm.parse("0.5+lexicon=[de]a[/b].txt")
    with study_progress("cells") as observe:
        observe(Progress(0, 1, Cell(arm, 0), 10, 10, finished=True))
    table("title", ["tier", arm.title], [["[all]", "1"]])
    say("/data/:cat:/x [INST]")
    shown = capsys.readouterr().out
    assert shown.count("[de]a[/b].txt") >= 2
    assert "[all]" in shown
    assert "/data/:cat:/x [INST]" in shown
