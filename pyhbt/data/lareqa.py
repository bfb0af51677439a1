"""LAReQA's retrieval sets XQuAD-R and MLQA-R: questions, and sentences as passages, aligned over languages.

A folder holds one file a language (``en.json``) of SQuAD's layout with sentences: ``data[].title``,
``.paragraphs[].context``, ``.sentences[]``, ``.sentence_breaks[][begin, end]``, ``.qas[].id``, ``.question``,
``.answers[].answer_start``. Every sentence of every paragraph is a passage, repeated ones too; the relevant passage
of a question in a language is the sentence in which its answer starts. Questions are matched over languages by id;
in MLQA-R a question exists in 2-4 languages. Reading costs O(file size).
Questions of one paragraph, in any language, are a cluster.
Source: Roy et al. 2020, LAReQA (arXiv:2004.05484), https://github.com/google-research-datasets/lareqa.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyhbt.data.disjoint import DisjointSets
from pyhbt.data.pair_set import PairSet, ParallelItem
from pyhbt.data.records import existing_folder, field
from pyhbt.data.retrieval_set import RetrievalSet, StudyData
from pyhbt.data.splits import stratified_split
from pyhbt.data.tiers import assign_tiers, kept_languages, known_languages

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from pyhbt.data.tiers import Tier

# Of XQuAD-R's 48 articles: 32 to train on, 4 for learning curves, 12 for final figures.
_SHARES = {"train": 32 / 48, "dev": 4 / 48, "test": 12 / 48}


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    text: str
    sentences: tuple[int, ...]  # of its paragraph; those in which an answer starts


@dataclass(frozen=True, slots=True)
class _Paragraph:
    language: str
    article: int
    number: int
    title: str
    sentences: tuple[str, ...]
    questions: tuple[_Question, ...]

    def passage_id(self, sentence: int) -> str:
        return f"{self.language}:{self.article}:{self.number}:{sentence}"


def load_lareqa(
    folder: str | os.PathLike[str],
    *,
    languages: Iterable[str] | None = None,
    tiers: Mapping[str, Tier] | None = None,
    name: str = "lareqa",
) -> RetrievalSet:
    """All questions and sentences of ``languages`` as one retrieval set.

    Query ids read ``en:<question id>``, passage ids ``en:article:paragraph:sentence`` (positions from 0); the question
    of a query is its question id. White space in texts is collapsed and byte-order marks are dropped.

    Args:
        folder: a file LANGUAGE.json for each language.
        languages: default: every file of ``folder``.
        tiers: default: every language is seen.
        name: of the set.

    Raises:
        FileNotFoundError: a missing folder.
        ValueError: an unknown language, or a malformed file; names file and JSON path.
    """
    chosen = _languages(folder, languages)
    found: Mapping[str, Tier] = assign_tiers(chosen) if tiers is None else tiers
    paragraphs = _read(folder, chosen)
    return _retrieval_set(name, paragraphs, chosen, found, _clusters(paragraphs))


def load_lareqa_study(
    folder: str | os.PathLike[str],
    *,
    languages: Iterable[str] | None = None,
    low_resource: Iterable[str] | None = None,
    zero_shot: Iterable[str] | None = None,
    low_resource_items: int = 48,
    name: str = "lareqa",
) -> StudyData:
    """Questions and their sentences, split by article: two thirds train, a twelfth dev, a quarter test.

    Articles of different languages that share a question, a context or a title in one language count as one. They are
    split by a stable hash, stratified by the languages that have them (:func:`pyhbt.data.splits.stratified_split`),
    which languages ``folder`` holds and not which are chosen: leaving a language out moves no article. A training item
    is a question with the sentence that holds its answer, in every language that has it, less the zero-shot ones; a
    low-resource language keeps ``low_resource_items`` questions. The answers of questions that lie in the same sentence
    (or in sentences of the same text) in *any* language share a group, since sentences are cut differently in each
    language.

    Raises:
        FileNotFoundError: a missing folder.
        ValueError: as :func:`load_lareqa` does, contradictory tiers, or fewer than three articles.
    """
    chosen = _languages(folder, languages)
    tiers = assign_tiers(chosen, low_resource, zero_shot)
    everything = _read(folder, _languages(folder, None))
    articles = _aligned_articles(everything)
    if len(articles) < 3:
        raise ValueError(f"folder: {len(articles)} articles in {folder}, expected at least 3 to split")
    strata = {name: {paragraph.language for paragraph in part} for name, part in articles.items()}
    split_of = stratified_split(strata, _SHARES)
    clusters = _clusters(everything)
    parts: dict[str, list[_Paragraph]] = {split: [] for split in _SHARES}
    for article, paragraphs in articles.items():
        parts[split_of[article]] += [paragraph for paragraph in paragraphs if paragraph.language in tiers]
    for split, found in parts.items():
        if not found:
            raise ValueError(f"languages: no article of {', '.join(chosen)} in the {split} split of {folder}")
    return StudyData(
        name,
        PairSet.from_parallel(_training_items(parts["train"], tiers, low_resource_items)),
        _retrieval_set(f"{name} dev", parts["dev"], chosen, tiers, clusters),
        _retrieval_set(f"{name} test", parts["test"], chosen, tiers, clusters),
    )


def _training_items(
    paragraphs: Sequence[_Paragraph], tiers: Mapping[str, Tier], low_resource_items: int
) -> list[ParallelItem]:
    queries: dict[str, dict[str, str]] = {}
    passages: dict[str, dict[str, str]] = {}
    same_answer = DisjointSets()
    for paragraph in paragraphs:
        for question in paragraph.questions:
            answer = paragraph.sentences[question.sentences[0]]
            queries.setdefault(question.id, {})[paragraph.language] = question.text
            passages.setdefault(question.id, {})[paragraph.language] = answer
            for sentence in question.sentences:
                same_answer.join(question.id, (paragraph.language, paragraph.sentences[sentence]))
    # A low-resource language draws its few among the questions it has: MLQA-R's are not in every language.
    kept: dict[str, list[str]] = {identity: [] for identity in queries}
    for language, tier in tiers.items():
        having = sorted(identity for identity, texts in queries.items() if language in texts)
        for identity, found in kept_languages(having, {language: tier}, low_resource_items).items():
            kept[identity].extend(found)
    group_names: dict[Hashable, str] = {}
    items: list[ParallelItem] = []
    for identity, texts in queries.items():
        group = group_names.setdefault(same_answer.root(identity), identity)
        items.append(
            ParallelItem(
                group,
                {language: texts[language] for language in kept[identity]},
                {language: passages[identity][language] for language in kept[identity]},
            )
        )
    return items


def _aligned_articles(paragraphs: Sequence[_Paragraph]) -> dict[str, list[_Paragraph]]:
    """Paragraphs by article: articles that share a question, a context or a title are one.

    The name of an article is the least of its questions' ids, whatever languages it is in.
    """
    same = DisjointSets()
    for paragraph in paragraphs:
        node = (paragraph.language, paragraph.article)
        same.join(node, ("title", paragraph.language, paragraph.title or paragraph.article))
        same.join(node, ("context", paragraph.language, paragraph.sentences))
        for question in paragraph.questions:
            same.join(node, ("question", question.id))
    found: dict[Hashable, list[_Paragraph]] = {}
    for paragraph in paragraphs:
        root = same.root((paragraph.language, paragraph.article))
        found.setdefault(root, []).append(paragraph)
    named = {_first_question(part): part for part in found.values()}
    return {name: named[name] for name in sorted(named)}


def _first_question(paragraphs: Iterable[_Paragraph]) -> str:
    """What an article or a cluster is called."""
    ids = [question.id for paragraph in paragraphs for question in paragraph.questions]
    places = [f"{paragraph.language}:{paragraph.article}:{paragraph.number}" for paragraph in paragraphs]
    return min(ids) if ids else min(places)


def _clusters(paragraphs: Sequence[_Paragraph]) -> dict[str, str]:
    """Question id -> its cluster: paragraphs that share a question over languages, or a context."""
    same = DisjointSets()
    for paragraph in paragraphs:
        node = (paragraph.language, paragraph.article, paragraph.number)
        same.join(node, ("context", paragraph.language, paragraph.sentences))
        for question in paragraph.questions:
            same.join(node, ("question", question.id))
    roots = {
        question.id: same.root(("question", question.id))
        for paragraph in paragraphs
        for question in paragraph.questions
    }
    names: dict[Hashable, str] = {}
    for identity in sorted(roots):
        names.setdefault(roots[identity], identity)
    return {identity: names[root] for identity, root in roots.items()}


def _retrieval_set(
    name: str,
    paragraphs: Sequence[_Paragraph],
    languages: Sequence[str],
    tiers: Mapping[str, Tier],
    clusters: Mapping[str, str],
) -> RetrievalSet:
    relevant: dict[str, dict[str, int]] = {}
    for paragraph in paragraphs:
        for question in paragraph.questions:
            judged = relevant.setdefault(question.id, {})
            judged.update((paragraph.passage_id(sentence), 1) for sentence in question.sentences)
    by_language = [paragraph for code in languages for paragraph in paragraphs if paragraph.language == code]
    queries = [(paragraph.language, query) for paragraph in by_language for query in paragraph.questions]
    passages = [
        (paragraph.passage_id(position), text, paragraph.language)
        for paragraph in by_language
        for position, text in enumerate(paragraph.sentences)
    ]
    query_ids = tuple(f"{code}:{query.id}" for code, query in queries)
    return RetrievalSet(
        name=name,
        query_ids=query_ids,
        query_texts=tuple(query.text for _, query in queries),
        query_langs=tuple(code for code, _ in queries),
        questions=tuple(query.id for _, query in queries),
        passage_ids=tuple(passage_id for passage_id, _, _ in passages),
        passage_texts=tuple(text for _, text, _ in passages),
        passage_langs=tuple(code for _, _, code in passages),
        qrels={query_id: relevant[query.id] for query_id, (_, query) in zip(query_ids, queries, strict=True)},
        tiers=dict(tiers),
        clusters=tuple(clusters[query.id] for _, query in queries),
    )


def _languages(folder: str | os.PathLike[str], languages: Iterable[str] | None) -> tuple[str, ...]:
    path = existing_folder(folder)
    available = sorted(file.stem for file in path.glob("*.json"))
    if not available:
        raise FileNotFoundError(f"folder: no LANGUAGE.json file in {path}")
    return known_languages("languages", languages, available, str(path))


def _read(folder: str | os.PathLike[str], languages: Sequence[str]) -> list[_Paragraph]:
    return [paragraph for code in languages for paragraph in _read_file(Path(folder) / f"{code}.json", code)]


def _read_file(path: Path, language: str) -> list[_Paragraph]:
    try:
        root = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not UTF-8 JSON: {error}") from error
    paragraphs: list[_Paragraph] = []
    seen: set[str] = set()
    articles = field(root, "data", list, f"{path}: ")
    for number, article in enumerate(articles):
        at = f"{path}: data[{number}]."
        title = article.get("title") if isinstance(article, dict) else None
        title = title.strip() if isinstance(title, str) else ""
        for position, entry in enumerate(field(article, "paragraphs", list, at)):
            paragraph = _paragraph(entry, language, number, position, title, f"{at}paragraphs[{position}].")
            for question in paragraph.questions:
                if question.id in seen:
                    raise ValueError(f"{at}paragraphs[{position}].qas: question id {question.id!r} twice")
                seen.add(question.id)
            paragraphs.append(paragraph)
    return paragraphs


def _paragraph(entry: object, language: str, article: int, number: int, title: str, at: str) -> _Paragraph:
    context = field(entry, "context", str, at)
    sentences = field(entry, "sentences", list, at)
    breaks = field(entry, "sentence_breaks", list, at)
    if not sentences or any(not isinstance(text, str) for text in sentences):
        raise ValueError(f"{at}sentences: expected one or more strings")
    if len(breaks) != len(sentences):
        raise ValueError(f"{at}sentence_breaks: found {len(breaks)} entries, expected {len(sentences)}")
    begins: list[int] = []
    for position, span in enumerate(breaks):
        if not (isinstance(span, list) and len(span) == 2 and all(type(value) is int for value in span)):
            raise ValueError(f"{at}sentence_breaks[{position}]: found {span!r}, expected [begin, end]")
        if begins and span[0] < begins[-1]:
            raise ValueError(f"{at}sentence_breaks[{position}]: begins at {span[0]}, before {begins[-1]}")
        begins.append(span[0])
    questions = []
    for position, entry_ in enumerate(field(entry, "qas", list, at)):
        where = f"{at}qas[{position}]."
        answers = field(entry_, "answers", list, where)
        if not answers:
            raise ValueError(f"{where}answers: found none, expected at least one")
        starts = [
            field(answer, "answer_start", int, f"{where}answers[{i}].") for i, answer in enumerate(answers)
        ]
        for i, start in enumerate(starts):
            if not 0 <= start < len(context):
                raise ValueError(
                    f"{where}answers[{i}].answer_start: found {start}, expected 0..{len(context) - 1}"
                )
        question = field(entry_, "question", str, where)
        identity = field(entry_, "id", str, where)
        # The last sentence that begins at or before the answer: one that starts in the gap between two sentences,
        # or past the end of the last, belongs to the sentence before it.
        where_found = dict.fromkeys(max(0, bisect_right(begins, start) - 1) for start in starts)
        questions.append(_Question(identity, _clean(question), tuple(where_found)))
    texts = tuple(_clean(text) for text in sentences)
    return _Paragraph(language, article, number, title, texts, tuple(questions))


def _clean(text: str) -> str:
    return " ".join(text.replace("\ufeff", "").split())
