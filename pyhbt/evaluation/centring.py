"""Language centring: each language's mean embedding is subtracted before scoring.

A training-free baseline against language bias that needs no labels (cf. Shift, arXiv 2606.18801): a multilingual
encoder places each language in its own region, so that a mixed pool is ranked by language first. What a training
method gains beyond centring is a gain; what centring gives as well is not.

Passage means come from the corpus itself, which is there at indexing time. Query means never include a query that
they are subtracted from: queries are split into two halves by question (so translations stay together), and
each half is centred by the means of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyhbt.data.retrieval_set import RetrievalSet
from pyhbt.encoders import Encoder
from pyhbt.encoders.means import LanguageMeans, TextKind
from pyhbt.evaluation.names import CENTRINGS, TEXT_CENTRING, Centring
from pyhbt.ops.checks import Array, as_tensor

DESCRIPTION = {
    "none": "embeddings as the encoder gives them",
    "passages": "each passage minus the mean of its language's passages plus the mean of all passages",
    "both": (
        "each passage minus the mean of its language's passages in the corpus; each query minus the mean of its "
        "language's queries in the other half of a two-fold split by question"
    ),
    "text": (
        "each passage and each query minus the mean of its language's passages or queries in other text; languages "
        "that it lacks stay as they are"
    ),
}


def parse_centring(name: str) -> Centring:
    """The centring of that name.

    Raises:
        ValueError: there is none.
    """
    for known in CENTRINGS:
        if name == known:
            return known
    raise ValueError(f"centring: found {name!r}, expected one of {', '.join(CENTRINGS)}")


def centre(
    queries: Array,
    passages: Array,
    query_langs: Sequence[str],
    questions: Sequence[str],
    passage_langs: Sequence[str],
    centring: Centring,
) -> tuple[Tensor, Tensor]:
    """Centred unit vectors, float32 of the shapes given: queries (n, d), passages (m, d); O((n + m) d).

    ``questions`` names what each query asks, which its translations ask too. A language with queries in one half only
    keeps them as they are: it has no others to take a mean from.

    Raises:
        ValueError: ``centring`` unknown.
    """
    queries, passages = as_tensor(queries, "queries"), as_tensor(passages, "passages")
    if parse_centring(centring) == TEXT_CENTRING:
        raise ValueError(
            "centring: found 'text', expected none, passages or both: centre_by takes means of other text"
        )
    if centring == "none":
        return queries, passages
    moved = passages.double()
    overall = moved.mean(dim=0) if len(moved) else 0.0
    for here in _places(passage_langs).values():
        moved[here] -= moved[here].mean(dim=0)
    if centring == "passages":
        return queries, _unit(moved + overall)
    half = torch.tensor([_half(question) for question in questions], dtype=torch.bool)
    centred, asked = queries.double(), queries.double()
    for here in _places(query_langs).values():
        first, second = here[half[here]], here[~half[here]]
        if len(first) and len(second):
            centred[first] -= asked[second].mean(dim=0)
            centred[second] -= asked[first].mean(dim=0)
    return _unit(centred), _unit(moved)


def centre_by(vectors: Array, kind: TextKind, langs: Sequence[str], means: LanguageMeans) -> Tensor:
    """Unit vectors (n, d) less the means of their languages, made unit again; of languages without means as they are.

    O(n d).
    """
    rows = as_tensor(vectors, "vectors")
    known = [place for place, lang in enumerate(langs) if (kind, lang) in means.means]
    if not known:
        return rows
    centred = rows.clone()
    centred[known] = means.centred(rows[known], kind, [langs[place] for place in known])
    return centred


def text_means(encoder: Encoder, text: RetrievalSet) -> LanguageMeans:
    """The mean vectors of the queries and of the passages of each language of a set. One encoding of it."""
    texts: dict[TextKind, tuple[Sequence[str], Sequence[str]]] = {
        "query": (text.query_texts, text.query_langs),
        "passage": (text.passage_texts, text.passage_langs),
    }
    return LanguageMeans.of(encoder.encode, texts)


def _places(langs: Sequence[str]) -> dict[str, Tensor]:
    """Where each language stands."""
    names, codes = np.unique(np.asarray(langs, dtype=np.str_), return_inverse=True)
    return {str(name): torch.from_numpy(np.flatnonzero(codes == code)) for code, name in enumerate(names)}


def _half(question: str) -> bool:
    """A fixed coin for each question, the same in every run and process."""
    return bool(hashlib.blake2b(question.encode(), digest_size=1).digest()[0] & 1)


def _unit(vectors: Tensor) -> Tensor:
    """Rows divided by their length, float32; rows of zeros stay."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(lengths > 0, vectors / lengths, 0.0).float()
