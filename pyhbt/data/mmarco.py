"""mMARCO: MS MARCO's training triples in 14 machine-translated languages, aligned by id.

Files, below a folder or the hub repository: ``data/triples.train.ids.small.tsv`` (query id, positive id, negative
id), ``data/google/queries/train/NAME_queries.train.tsv`` and ``data/google/collections/NAME_collection.tsv`` (id,
text), where NAME is the English name of the language. Queries and passages keep their ids in every language, so any
query language pairs with any passage language.
Source: Bonifacio et al. 2021, mMARCO (arXiv:2108.13897), https://huggingface.co/datasets/unicamp-dl/mmarco.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pyhbt.data.disjoint import DisjointSets
from pyhbt.data.hub import locate, stream_lines
from pyhbt.data.pair_set import Pair, PairSet, ParallelItem
from pyhbt.data.records import columns
from pyhbt.data.tiers import known_languages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HUB_ID = "unicamp-dl/mmarco"
LANGUAGE_NAMES = {
    "ar": "arabic",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "id": "indonesian",
    "it": "italian",
    "ja": "japanese",
    "nl": "dutch",
    "pt": "portuguese",
    "ru": "russian",
    "vi": "vietnamese",
    "zh": "chinese",
}


def load_mmarco(
    source: str | None = None,
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
    negatives: int = 0,
) -> PairSet:
    """The positives of the first ``limit`` triples, in all pairs of ``languages``.

    Queries that share a positive, and positives that share a query, share a group. A text without a letter or digit
    (some translated queries are only dots) or missing from a language leaves that language out of its item.

    A passage can stand anywhere in its collection, so each language's collection (8.8 million passages, 2-5 GB) is
    streamed until all are found: O(collection) time, O(slice) memory. Without ``limit`` that is 39.8 million triples.

    Args:
        source: a hub id or a local folder of the same layout; default: the published repository.
        languages: two-letter codes; default: all 14.
        limit: triples; default: all.
        negatives: attach up to that many of a query's negatives within the slice, in the passage's language.

    Raises:
        FileNotFoundError: a missing source or file.
        ValueError: a malformed file; names file, line and column.
    """
    root = locate(HUB_ID if source is None else source)
    chosen = known_languages("languages", languages, LANGUAGE_NAMES, "mMARCO")
    if negatives < 0:
        raise ValueError(f"negatives: found {negatives}, expected >= 0")
    triples = _triples(root, limit, negatives)
    groups = DisjointSets()
    wanted_passages: set[str] = set()
    for (query, positive), hard in triples.items():
        groups.join(("query", query), ("passage", positive))
        wanted_passages.update((positive, *hard))
    wanted_queries = {query for query, _ in triples}
    queries, passages = {}, {}
    for code in chosen:
        name = LANGUAGE_NAMES[code]
        queries[code] = _texts(f"{root}/data/google/queries/train/{name}_queries.train.tsv", wanted_queries)
        passages[code] = _texts(f"{root}/data/google/collections/{name}_collection.tsv", wanted_passages)

    group_names: dict[object, str] = {}
    items = []
    for query, positive in triples:
        group = group_names.setdefault(groups.root(("query", query)), query)
        asked = {code: queries[code][query] for code in chosen if query in queries[code]}
        answers = {code: passages[code][positive] for code in chosen if positive in passages[code]}
        items.append(ParallelItem(group, asked, answers))
    if not negatives:
        return PairSet.from_parallel(items)
    return PairSet.from_pairs(_with_negatives(items, list(triples.values()), passages))


def _triples(root: str, limit: int | None, negatives: int) -> dict[tuple[str, str], list[str]]:
    """(query id, positive id) -> up to ``negatives`` distinct negative ids."""
    found: dict[tuple[str, str], list[str]] = {}
    for where, line in islice(stream_lines([f"{root}/data/triples.train.ids.small.tsv"]), limit):
        query, positive, negative = columns(where, line, ("query id", "positive id", "negative id"))
        hard = found.setdefault((query, positive), [])
        if len(hard) < negatives and negative not in hard:
            hard.append(negative)
    return found


def _texts(file: str, wanted: set[str]) -> dict[str, str]:
    """Id -> text of the wanted lines of a file; reads no further than the last of them."""
    found: dict[str, str] = {}
    missing = set(wanted)
    for where, line in stream_lines([file]):
        if not missing:
            break
        identity, separator, text = line.partition("\t")
        if not separator:
            raise ValueError(f"{where}text: missing, expected id, tab, text")
        if identity in missing:
            missing.discard(identity)
            if any(character.isalnum() for character in text):
                found[identity] = text.strip()
    return found


def _with_negatives(
    items: list[ParallelItem], hard: list[list[str]], passages: Mapping[str, Mapping[str, str]]
) -> Iterator[Pair]:
    for number, (item, ids) in enumerate(zip(items, hard, strict=True)):
        for passage_lang, passage in item.passages.items():
            texts = tuple(passages[passage_lang][one] for one in ids if one in passages[passage_lang])
            for query_lang, query in item.queries.items():
                yield Pair(query, passage, query_lang, passage_lang, item.group, texts, str(number))
