"""MTEB's retrieval tasks on exact search, and PyHBT's encoders as MTEB models (extra ``pyhbt[mteb]``).

Shapes: document embeddings (n, dim), query embeddings (nq, dim). Cost: one exact search over the whole corpus, with
its embeddings in memory; reranking: one over each query's list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch

from pyhbt.arguments import check_choice, whole_number
from pyhbt.ops import checks, search
from pyhbt.ops.dtypes import DTYPES
from pyhbt.ops.search_checks import Similarity
from pyhbt.retrieval.index import ExactIndex

if TYPE_CHECKING:
    from mteb.models import ModelMeta, SearchEncoderWrapper

    from pyhbt.encoders import EncoderLike, TextKind
    from pyhbt.ops.checks import Array

Results: TypeAlias = tuple[list[list[float]], list[list[int]]]
SimilarityFn: TypeAlias = "Callable[[Array, Array], Any]"
Vectors: TypeAlias = "Array | Sequence[Any]"

_SIMILARITIES: tuple[Similarity, ...] = ("cosine", "dot")
_COMPARED = 8
_TOLERANCE = 0.02  # of the product of the norms: bfloat16 keeps 8 bits


class ExactSearchBackend:
    """An index backend for ``mteb.SearchEncoderWrapper``: exact, ties to the document added first.

    Args:
        model: an MTEB model, asked for its similarity function.
        similarity: "cosine" or "dot"; default: the model's.

    Raises:
        ValueError: another similarity function.
    """

    def __init__(self, model: Any = None, *, similarity: Similarity | None = None) -> None:
        if similarity is None:
            similarity = _similarity_of(model)
        check_choice("similarity", similarity, _SIMILARITIES)
        self.similarity: Similarity = similarity
        self.idxs: list[str] = []
        self._index: ExactIndex | None = None

    def add_documents(self, embeddings: Array, idxs: Iterable[str]) -> None:
        """Appends documents; O(documents added), amortised.

        Args:
            embeddings: (n, dim) array or tensor of floating or integer numbers, finite, of one kind in all calls;
                float32, float16 and bfloat16 are kept as they are, others become float32.
            idxs: their n ids.

        Raises:
            ValueError: another count of ids or dim, numbers that are not finite.
            TypeError: another dtype than before.
        """
        vectors, names = _matrix(embeddings, "embeddings"), list(idxs)
        if len(names) != len(vectors):
            raise ValueError(f"idxs: found {len(names)}, expected {len(vectors)} (one for each embedding)")
        if self._index is None:
            self._index = ExactIndex(vectors, similarity=self.similarity)
        else:
            self._index.add(vectors)
        self.idxs.extend(names)

    def search(
        self,
        embeddings: Array,
        top_k: int,
        similarity_fn: SimilarityFn | None = None,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        query_idx_to_id: Mapping[int, str] | None = None,
    ) -> Results:
        """The best documents of each query: of all, or of its list in ``top_ranked``.

        Args:
            embeddings: (nq, dim) of the queries.
            top_k: results a query, fewer where there are fewer documents.
            similarity_fn: the model's; its scores of one query are compared with ours.
            top_ranked: ids of the documents to rerank, for each query id; a query without any finds nothing.
            query_idx_to_id: the id of each query, for ``top_ranked``.

        Returns:
            Scores, and positions among the documents in the order added, or in the query's list.

        Raises:
            ValueError: no documents, another dim, an unknown id, or a ``similarity_fn`` that scores otherwise.
        """
        top_k = whole_number("top_k", top_k, 1)
        if self._index is None:
            raise ValueError("index: found no documents, expected add_documents first")
        queries = _matrix(embeddings, "embeddings")
        if top_ranked is None:
            scores, places = self._index.search(queries, min(top_k, max(1, len(self._index))))
            results = [row[row >= 0] for row in places]
            found = [row[: len(kept)].tolist() for row, kept in zip(scores, results, strict=True)]
            self._compare(queries, found, results, similarity_fn)
            return found, [row.tolist() for row in results]
        if query_idx_to_id is None:
            raise ValueError(
                "query_idx_to_id: found None, expected the ids of queries, since top_ranked is given"
            )
        lists = [top_ranked.get(query_idx_to_id[row], ()) for row in range(len(queries))]
        return self._rerank(queries, lists, top_k, similarity_fn)

    def clear(self) -> None:
        """Forgets all documents."""
        self._index, self.idxs = None, []

    def _rerank(
        self,
        queries: torch.Tensor,
        lists: Sequence[Sequence[str]],
        top_k: int,
        similarity_fn: SimilarityFn | None,
    ) -> Results:
        assert self._index is not None
        place_of = {name: place for place, name in enumerate(self.idxs)}
        scores: list[list[float]] = []
        positions: list[list[int]] = []
        documents: list[torch.Tensor] = []
        for row, names in enumerate(lists):
            unknown = [name for name in names if name not in place_of]
            if unknown:
                raise ValueError(
                    f"top_ranked: found {unknown[0]!r}, expected ids of documents that were added"
                )
            places = torch.tensor([place_of[name] for name in names], dtype=torch.int64)
            documents.append(places)
            if len(places) == 0:
                scores.append([])
                positions.append([])
                continue
            best, where = search(
                queries[row : row + 1],
                torch.as_tensor(self._index.vectors)[places],
                min(top_k, len(places)),
                similarity=self.similarity,
            )
            scores.append(best[0].tolist())
            positions.append(where[0].tolist())
        found = [places[where] for places, where in zip(documents, positions, strict=True)]
        self._compare(queries, scores, found, similarity_fn)
        return scores, positions

    def _compare(
        self,
        queries: torch.Tensor,
        scores: Sequence[Sequence[float]],
        documents: Sequence[torch.Tensor],
        similarity_fn: SimilarityFn | None,
    ) -> None:
        """Scores of the first query that found something against those of the model's function."""
        row = next((row for row, places in enumerate(documents) if len(places)), None)
        if similarity_fn is None or row is None or self._index is None:
            return
        query = queries[row : row + 1]
        chosen = torch.as_tensor(self._index.vectors)[documents[row][:_COMPARED]]
        expected = torch.as_tensor(similarity_fn(query, chosen)).detach().cpu().double().reshape(-1)
        found = torch.tensor(scores[row][:_COMPARED], dtype=torch.float64)
        scale = (
            torch.ones(len(found)).double()
            if self.similarity == "cosine"
            else query.double().norm() * chosen.double().norm(dim=1)
        )
        if not bool(((found - expected).abs() <= _TOLERANCE * scale).all()):
            raise ValueError(
                f"similarity_fn: found scores {expected.tolist()}, expected {found.tolist()} ({self.similarity})"
            )


def search_wrapper(model: Any, *, similarity: Similarity | None = None) -> SearchEncoderWrapper:
    """An MTEB model whose retrieval tasks search exactly; hand it to ``mteb.evaluate``.

    A ``SearchEncoderWrapper`` with an :class:`ExactSearchBackend`; a task that fails leaves no documents in it.

    Args:
        model: an MTEB model, an encoder of PyHBT's, or a live ``SentenceTransformer``.
        similarity: as for :class:`ExactSearchBackend`.

    Raises:
        ImportError: mteb is not installed.
        ValueError: the model's similarity function is neither cosine nor dot.
    """
    from pyhbt.encoders import Encoder

    _mteb()
    library = sys.modules.get("sentence_transformers")
    from pyhbt.integrations._mteb_search import ForgettingSearchWrapper

    if isinstance(model, Encoder) or (library and isinstance(model, library.SentenceTransformer)):
        model = MtebEncoder(model)
    return ForgettingSearchWrapper(model, index_backend=ExactSearchBackend(model, similarity=similarity))


class MtebEncoder:
    """An encoder of PyHBT's as an MTEB model (its ``EncoderProtocol``).

    Texts become what the encoder makes of queries or passages; MTEB's own prompts are not used.

    Args:
        encoder: any.
        name: ``owner/name`` in results.

    Raises:
        ImportError: mteb is not installed.
    """

    def __init__(self, encoder: EncoderLike, *, name: str = "pyhbt/encoder") -> None:
        meta = _mteb().models.ModelMeta
        from pyhbt.encoders import as_encoder

        self.encoder = encoder = as_encoder(encoder)
        self.mteb_model_meta: ModelMeta = meta.create_empty(
            {
                "name": name,
                "embed_dim": encoder.dim,
                "max_tokens": encoder.max_length,
                "similarity_fn_name": _mteb().models.model_meta.ScoringFunction.COSINE,
            }
        )

    def encode(self, inputs: Iterable[Mapping[str, Any]], **options: Any) -> torch.Tensor:
        """Unit vectors (texts, dim) of the texts of batches; ``prompt_type`` "query" marks queries."""
        texts = [text for batch in inputs for text in batch["text"]]
        kind: TextKind = "query" if options.get("prompt_type") == "query" else "passage"
        return self.encoder.encode(texts, kind, batch_size=options.get("batch_size"))

    def similarity(self, embeddings1: Vectors, embeddings2: Vectors) -> torch.Tensor:
        """Cosines (n, m) of all with all; one vector (dim,) counts as one row.

        Args:
            embeddings1, embeddings2: (n, dim) and (m, dim), or (dim,); tensors, arrays or lists of numbers. Two
                float64 tensors give float64, all else float32, on the device of the first.

        Raises:
            ValueError: another number of dimensions, or two dims.
        """
        first, second = _units(embeddings1, embeddings2)
        return first.reshape(-1, first.shape[-1]) @ second.reshape(-1, second.shape[-1]).T

    def similarity_pairwise(self, embeddings1: Vectors, embeddings2: Vectors) -> torch.Tensor:
        """Cosines (n,) of each with its partner; of one vector (dim,) with each row, and of two vectors a scalar.

        Args:
            embeddings1, embeddings2: as for :meth:`similarity`, of equal n.

        Raises:
            ValueError: as for :meth:`similarity`, and different numbers of rows, none of them 1.
        """
        first, second = _units(embeddings1, embeddings2)
        rows = {len(vectors) for vectors in (first, second) if vectors.ndim == 2} - {1}
        if len(rows) > 1:
            raise ValueError(
                f"embeddings2: found {len(second)} rows, expected {len(first)} (those of embeddings1)"
            )
        return (first * second).sum(dim=-1)


def _similarity_of(model: Any) -> Similarity:
    """The model's similarity function by name: what its metadata says, or else its own model, or else cosine."""
    name = getattr(getattr(model, "mteb_model_meta", None), "similarity_fn_name", None)
    if name is None:
        name = getattr(getattr(model, "model", None), "similarity_fn_name", None) or "cosine"
    name = getattr(name, "value", name)
    for similarity in _SIMILARITIES:
        if name == similarity:
            return similarity
    raise ValueError(f"model: found similarity function {name!r}, expected cosine or dot")


def _matrix(value: Array, name: str) -> torch.Tensor:
    tensor = checks.as_tensor(value, name).detach().cpu()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    return tensor if tensor.dtype in DTYPES else tensor.float()


def _units(first: Vectors, second: Vectors) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as unit vectors, of one dtype and on one device."""
    one, other = _vectors(first, "embeddings1"), _vectors(second, "embeddings2")
    if one.shape[-1] != other.shape[-1]:
        raise ValueError(
            f"embeddings2: found dim {other.shape[-1]}, expected {one.shape[-1]} (the dim of embeddings1)"
        )
    both = (one, other.to(one.device))
    dtype = torch.float64 if all(vectors.dtype == torch.float64 for vectors in both) else torch.float32
    unit = torch.nn.functional.normalize
    return unit(both[0].to(dtype), dim=-1), unit(both[1].to(dtype), dim=-1)


def _vectors(value: Vectors, name: str) -> torch.Tensor:
    if isinstance(value, (list, tuple)):
        parts = [
            part if isinstance(part, torch.Tensor) else torch.from_numpy(np.asarray(part, np.float32))
            for part in value
        ]
        shapes = {tuple(part.shape) for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"{name}: found vectors of shapes {sorted(shapes)}, expected one shape")
        value = torch.stack(parts) if parts else torch.empty(0)
    tensor = checks.as_tensor(cast("Array", value), name).detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.ndim not in (1, 2):
        raise ValueError(
            f"{name}: found {tensor.ndim} dimensions, expected 2 (rows, dim), or 1 of one vector"
        )
    return tensor if isinstance(value, torch.Tensor) else tensor.float()


def _mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise ImportError("mteb: not installed, expected it: pip install 'pyhbt[mteb]'") from error
    return mteb
