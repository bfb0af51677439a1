"""Other exact searches by inner product, each at its best setting, as functions from queries to what they find.

A library that is not installed is left out. All use as many threads as torch. Vectors have length 1, so that the
nearest by Euclidean distance, for which scikit-learn has its fastest search, are those of the highest score.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import torch

from .rows import left_out
from .vectors import Vectors

Search: TypeAlias = Callable[[torch.Tensor], Any]

FEW = 16
"""Up to so many queries the peers for few are tried."""
_LONGEST_S = 8.0
_MAYBE_TOO_SLOW = ("faiss-panorama", "numkong", "usearch", "scikit-learn")
PANORAMA_LEVELS, _PANORAMA_BATCH = 8, 1024


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def answer(found: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and indices (nq, k) of any of the searches."""
    if isinstance(found, list):  # sentence-transformers
        scores = [[hit["score"] for hit in hits] for hits in found]
        indices = [[hit["corpus_id"] for hit in hits] for hits in found]
    elif hasattr(found, "distances"):  # usearch
        keys, distances = (
            np.atleast_2d(part) for part in (found.keys, found.distances)
        )  # one query: one row
        scores, indices = 1 - distances, keys.astype(np.int64)
    else:
        scores, indices = found
    return torch.as_tensor(scores), torch.as_tensor(indices)


def torch_chunks(corpus: torch.Tensor, k: int, rows: int, queries: torch.Tensor) -> Any:
    """The best of each chunk of the corpus, merged with the best so far."""
    best: tuple[torch.Tensor, torch.Tensor] | None = None
    for start in range(0, len(corpus), rows):
        chunk = corpus[start : start + rows]
        scores, indices = (queries @ chunk.T).topk(min(k, len(chunk)))
        indices += start
        if best is not None:
            scores, indices = (torch.cat(pair, dim=1) for pair in zip(best, (scores, indices), strict=True))
            scores, places = scores.topk(k)
            indices = indices.gather(1, places)
        best = scores, indices
    return best


def torch_columns(corpus: torch.Tensor, k: int, queries: torch.Tensor) -> Any:
    """For few queries: corpus @ queries.T reads the corpus at the speed of memory, but not for a single column."""
    columns = queries.repeat(4, 1) if len(queries) == 1 else queries
    return (corpus @ columns.T).T[: len(queries)].topk(k)


def semantic_search(corpus: torch.Tensor, k: int, queries: torch.Tensor) -> Any:
    from sentence_transformers import util

    return util.semantic_search(queries, corpus, top_k=k, score_function=util.dot_score)


def usearch_exact(corpus: torch.Tensor, k: int, queries: torch.Tensor) -> Any:
    from usearch.index import MetricKind, search

    threads = torch.get_num_threads()
    return search(corpus.numpy(), queries.numpy(), k, MetricKind.IP, exact=True, threads=threads)


class NumKong:
    """Products of float32 rows with packed blocks of passages, summed in float64; queries are dealt over threads."""

    def __init__(self, corpus: torch.Tensor, rows: int = 16_384) -> None:
        import numkong

        self.product = numkong.dots_packed
        starts = range(0, len(corpus), rows)
        self.blocks = [(start, numkong.dots_pack(corpus[start : start + rows].numpy())) for start in starts]
        self.rows = [len(corpus[start : start + rows]) for start in starts]

    def search(self, k: int, queries: torch.Tensor) -> Any:
        """The best of each block, merged."""
        threads = min(torch.get_num_threads(), len(queries))
        cuts = [len(queries) * i // threads for i in range(threads + 1)]
        array, best = queries.numpy(), []
        with ThreadPoolExecutor(threads) as pool:
            for (start, block), count in zip(self.blocks, self.rows, strict=True):
                parts = pool.map(lambda a, b, block=block: self.product(array[a:b], block), cuts, cuts[1:])
                scores = torch.cat([torch.from_numpy(np.asarray(part)) for part in parts])
                values, indices = scores.topk(min(k, count))
                best.append((values, indices + start))
        scores, indices = (torch.cat(part, dim=1) for part in zip(*best, strict=True))
        scores, places = scores.topk(k)
        return scores.float(), indices.gather(1, places)


def faiss_knn(corpus: torch.Tensor, k: int, queries: torch.Tensor) -> Any:
    import faiss

    return faiss.knn(queries.numpy(), corpus.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)


def faiss_flat(corpus: torch.Tensor) -> Any:
    import faiss

    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus.numpy())
    return index


def faiss_panorama(corpus: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Rotated so that the first numbers of a vector weigh most: its bounds live on that."""
    import faiss

    axes = torch.linalg.eigh(corpus.T @ corpus).eigenvectors.flip(1)
    index = faiss.IndexFlatIPPanorama(corpus.shape[1], PANORAMA_LEVELS, _PANORAMA_BATCH)
    index.add((corpus @ axes).numpy())
    return index, axes


def with_blas(search: Search, queries: torch.Tensor) -> Any:
    """FAISS with matrix products however few the queries."""
    import faiss

    usual = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        return search(queries)
    finally:
        faiss.cvar.distance_compute_blas_threshold = usual


def faiss_peers(vectors: Vectors, k: int) -> Iterator[tuple[str, Search]]:
    import faiss

    flat = vectors.built(faiss_flat)

    def search(queries: torch.Tensor) -> Any:
        return flat.search(queries.numpy(), k)

    yield "faiss-flat", search
    yield "faiss-flat-blas", partial(with_blas, search)
    yield "faiss.knn", partial(faiss_knn, vectors.corpus, k)
    if hasattr(faiss, "IndexFlatIPPanorama") and k <= _PANORAMA_BATCH:
        panorama, axes = vectors.built(faiss_panorama)
        yield "faiss-panorama", lambda queries: panorama.search((queries @ axes).numpy(), k)


def faiss_once(corpus: torch.Tensor, k: int, queries: torch.Tensor) -> Any:
    return faiss_flat(corpus).search(queries.numpy(), k)


def neighbours_peer(corpus: torch.Tensor, k: int) -> Search:
    from sklearn.neighbors import NearestNeighbors

    fitted = NearestNeighbors(algorithm="brute", metric="euclidean").fit(corpus.numpy())

    def search(queries: torch.Tensor) -> Any:
        distances, indices = fitted.kneighbors(queries.numpy(), k)
        return 1 - distances**2 / 2, indices

    return search


def peers(vectors: Vectors, queries: torch.Tensor, k: int, *, once: bool = False) -> dict[str, Search]:
    """By name; ``once``: without what was built before.

    The slowest are first timed with a sixteenth of the queries, and left out where all would take 8 s.
    """
    same_threads()
    corpus = vectors.corpus
    chosen: dict[str, Search] = {
        "torch-4096": partial(torch_chunks, corpus, k, 4096),
        "torch-16384": partial(torch_chunks, corpus, k, 16_384),
    }
    if len(queries) <= FEW:
        chosen["torch-columns"] = partial(torch_columns, corpus, k)
    if installed("faiss"):
        if once:
            chosen["faiss-flat"] = partial(faiss_once, corpus, k)
            chosen["faiss.knn"] = partial(faiss_knn, corpus, k)
        else:
            chosen |= dict(faiss_peers(vectors, k))
    if installed("sentence_transformers"):
        chosen["sentence-transformers"] = partial(semantic_search, corpus, k)
    if installed("numkong") and not once:
        chosen["numkong"] = partial(vectors.built(NumKong).search, k)
    if installed("usearch"):
        chosen["usearch"] = partial(usearch_exact, corpus, k)
    if installed("sklearn"):
        fitted = neighbours_peer(corpus, k)
        chosen["scikit-learn"] = (lambda few: neighbours_peer(corpus, k)(few)) if once else fitted
    few = queries[: max(1, len(queries) // 16)]
    for name, search in list(chosen.items()):
        search(few[:1])  # imports and starts what it needs
        if name not in _MAYBE_TOO_SLOW:
            continue
        start = time.perf_counter()
        search(few)
        seconds = (time.perf_counter() - start) * len(queries) / len(few)
        if seconds > _LONGEST_S:
            del chosen[name]
            shape = f"{len(queries)} x {len(corpus)} x {corpus.shape[1]}, k={k}"
            left_out.append(f"{name}, {shape}: some {seconds:.0f} s a call")
    return chosen


@lru_cache(maxsize=1)
def same_threads() -> None:
    """Gives the thread pools that are not torch's its number of threads."""
    threads = torch.get_num_threads()
    if installed("faiss"):
        import faiss

        faiss.omp_set_num_threads(threads)
    if installed("sklearn"):
        import sklearn.neighbors  # noqa: F401
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
