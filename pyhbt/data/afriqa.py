"""AfriQA: questions in African languages whose answers lie in English or French passages.

A folder holds ``queries.LANG.PIVOT.SPLIT.jsonl`` (``id``, ``question``, ``question_pivot``: the same question in the
pivot language, ``positive``: a passage id) and ``passages.PIVOT.jsonl`` (``id``, ``title``, ``text``). Query
languages carry AfriQA's three-letter codes (``hau``), pivots two-letter ones (``en``). Reading costs O(file size).
Source: Ogundepo et al. 2023, AfriQA (arXiv:2305.06897), https://github.com/masakhane-io/afriqa.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyhbt.data.pair_set import Pair, PairSet
from pyhbt.data.records import existing_folder, read_jsonl, text_field
from pyhbt.data.retrieval_set import RetrievalSet, StudyData
from pyhbt.data.tiers import assign_tiers, language_codes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pyhbt.data.tiers import Tier

_SPLITS = ("train", "dev", "test")


class _Question(NamedTuple):
    id: str
    language: str
    pivot: str
    text: str
    pivot_text: str
    positive: str


def load_afriqa(
    folder: str | os.PathLike[str],
    *,
    split: str = "test",
    languages: Iterable[str] | None = None,
    pivot_queries: bool = False,
    tiers: Mapping[str, Tier] | None = None,
) -> RetrievalSet:
    """Questions of one split against all passages of their pivot languages: the cross-lingual setting.

    A few passages stand in the files twice (white space apart): all copies of the answer's passage are relevant. Ids
    are the files' own, with the language in front. Questions with the same answer passage are a cluster.

    Args:
        folder: the files of AfriQA.
        split: of the questions.
        languages: question languages, pivot languages or both: listing pivots keeps only questions with these pivots,
            listing question languages only those; None means all.
        pivot_queries: ask each question in its pivot language too (id ``en:QUESTION``, the same question), which adds a
            monolingual setting.
        tiers: default: seen for pivots, low-resource for question languages with training questions, zero-shot for the
            others.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: an unknown language or split, or a malformed line; names file, line and field.
    """
    path = existing_folder(folder)
    if split not in _SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {' '.join(_SPLITS)}")
    files = _chosen(path, languages)
    questions = [question for row in files if row[2] == split for question in _read_questions(path, *row)]
    if not questions:
        raise ValueError(f"split: no {split} questions in {path} for {' '.join(_languages(files))}")
    found = _tiers(files, None, None) if tiers is None else tiers
    return _retrieval_set(f"afriqa {split}", questions, _read_passages(path, files), pivot_queries, found)


def load_afriqa_study(
    folder: str | os.PathLike[str],
    *,
    languages: Iterable[str] | None = None,
    low_resource: Iterable[str] | None = None,
    zero_shot: Iterable[str] | None = None,
) -> StudyData:
    """Training pairs, dev and test sets of AfriQA.

    A training question gives a cross-lingual pair (question in its language, pivot passage) and a monolingual one
    (question in the pivot language, same passage); pairs with the same passage text share a group. Training questions
    whose passage answers a dev or test question are left out. Dev and test are asked in both languages
    (``pivot_queries``). Pivots are seen, question languages with training questions low-resource (all their questions
    are kept: about 200-350), the others zero-shot (Swahili); a language listed in ``zero_shot`` gives no training
    pairs.

    Raises:
        FileNotFoundError: a missing folder or file.
        ValueError: as :func:`load_afriqa` does; a language without training questions listed as low-resource.
    """
    path = existing_folder(folder)
    files = _chosen(path, languages)
    tiers = _tiers(files, low_resource, zero_shot)
    questions = {
        split: [question for row in files if row[2] == split for question in _read_questions(path, *row)]
        for split in _SPLITS
    }
    for split in _SPLITS:
        if not questions[split]:
            raise ValueError(f"languages: no {split} questions for {' '.join(_languages(files))} in {path}")
    passages = _read_passages(path, files)
    held_out = {_passage(passages, question) for split in ("dev", "test") for question in questions[split]}
    groups: dict[str, str] = {}
    pairs = []
    for question in questions["train"]:
        passage = _passage(passages, question)
        if passage in held_out or tiers[question.language] == "zero-shot":
            continue
        group = groups.setdefault(passage, question.positive)
        for lang, text in ((question.language, question.text), (question.pivot, question.pivot_text)):
            pairs.append(Pair(text, passage, lang, question.pivot, group, question=question.id))
    dev, test = (
        _retrieval_set(f"afriqa {split}", questions[split], passages, True, tiers)
        for split in ("dev", "test")
    )
    return StudyData("afriqa", PairSet.from_pairs(pairs), dev, test)


def _files(path: Path) -> list[tuple[str, str, str]]:
    """(language, pivot, split) of every file of questions, sorted."""
    found = []
    for file in sorted(path.glob("queries.*.jsonl")):
        parts = file.name.split(".")
        if len(parts) != 5 or parts[3] not in _SPLITS:
            raise ValueError(f"{file}: found this name, expected queries.LANG.PIVOT.SPLIT.jsonl")
        found.append((parts[1], parts[2], parts[3]))
    if not found:
        raise FileNotFoundError(f"folder: no queries.LANG.PIVOT.SPLIT.jsonl in {path}")
    return found


def _languages(files: Iterable[tuple[str, str, str]]) -> list[str]:
    return sorted({language for language, _, _ in files})


def _chosen(path: Path, languages: Iterable[str] | None) -> list[tuple[str, str, str]]:
    files = _files(path)
    if languages is None:
        return files
    wanted = set(language_codes("languages", languages))
    pivots, asked = {pivot for _, pivot, _ in files}, {language for language, _, _ in files}
    for code in sorted(wanted - pivots - asked):
        known = " ".join(sorted(pivots | asked))
        raise ValueError(f"languages: found {code!r}, expected languages of {path}: {known}")
    kept = [
        row for row in files if row[0] in (wanted & asked or asked) and row[1] in (wanted & pivots or pivots)
    ]
    if not kept:
        raise ValueError(f"languages: no questions in {path} for {' '.join(sorted(wanted))}")
    return kept


def _tiers(
    files: Sequence[tuple[str, str, str]], low_resource: Iterable[str] | None, zero_shot: Iterable[str] | None
) -> dict[str, Tier]:
    pivots = sorted({pivot for _, pivot, _ in files})
    trained = {language for language, _, split in files if split == "train"}
    asked = _languages(files)
    tiers = assign_tiers(
        [*pivots, *asked],
        low_resource,
        zero_shot,
        default_low_resource=[code for code in asked if code in trained],
        default_zero_shot=[code for code in asked if code not in trained],
    )
    for code in asked:
        if code not in trained and tiers[code] != "zero-shot":
            raise ValueError(f"zero_shot: found no {code!r}, expected it there: it has no training questions")
    for code in pivots:
        if tiers[code] == "zero-shot":
            raise ValueError(
                f"zero_shot: found {code!r}, expected no pivot language: all passages are in them"
            )
    return tiers


def _read_questions(path: Path, language: str, pivot: str, split: str) -> list[_Question]:
    file = path / f"queries.{language}.{pivot}.{split}.jsonl"
    return [
        _Question(
            text_field(record, "id", where),
            language,
            pivot,
            text_field(record, "question", where),
            text_field(record, "question_pivot", where),
            text_field(record, "positive", where),
        )
        for where, record in read_jsonl(file)
    ]


def _read_passages(path: Path, files: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    """Pivot -> passage id -> title and text, white space collapsed."""
    return {
        pivot: {
            text_field(record, "id", where): " ".join(
                f"{record.get('title') or ''} {text_field(record, 'text', where)}".split()
            )
            for where, record in read_jsonl(path / f"passages.{pivot}.jsonl")
        }
        for pivot in sorted({pivot for _, pivot, _ in files})
    }


def _passage(passages: Mapping[str, Mapping[str, str]], question: _Question) -> str:
    try:
        return passages[question.pivot][question.positive]
    except KeyError:
        raise ValueError(
            f"queries: positive {question.positive!r} of {question.id!r} is not in passages.{question.pivot}.jsonl"
        ) from None


def _retrieval_set(
    name: str,
    questions: Sequence[_Question],
    passages: Mapping[str, Mapping[str, str]],
    pivot_queries: bool,
    tiers: Mapping[str, Tier],
) -> RetrievalSet:
    asked = [(question.language, question.text, question) for question in questions]
    if pivot_queries:
        asked += [(question.pivot, question.pivot_text, question) for question in questions]
    same_text: dict[tuple[str, str], list[str]] = {}
    for pivot, texts in passages.items():
        for passage, text in texts.items():
            same_text.setdefault((pivot, text), []).append(f"{pivot}:{passage}")
    corpus = [(pivot, passage, text) for pivot, texts in passages.items() for passage, text in texts.items()]
    query_ids = tuple(f"{lang}:{question.id}" for lang, _, question in asked)
    return RetrievalSet(
        name=name,
        query_ids=query_ids,
        query_texts=tuple(text for _, text, _ in asked),
        query_langs=tuple(lang for lang, _, _ in asked),
        questions=tuple(question.id for _, _, question in asked),
        passage_ids=tuple(f"{pivot}:{passage}" for pivot, passage, _ in corpus),
        passage_texts=tuple(text for _, _, text in corpus),
        passage_langs=tuple(pivot for pivot, _, _ in corpus),
        qrels={
            query_id: dict.fromkeys(same_text[question.pivot, _passage(passages, question)], 1)
            for query_id, (_, _, question) in zip(query_ids, asked, strict=True)
        },
        tiers=dict(tiers),
        clusters=tuple(
            min(same_text[question.pivot, _passage(passages, question)]) for _, _, question in asked
        ),
    )
