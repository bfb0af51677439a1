"""The reusable form of exact search: a corpus with its int8 codes, in memory or memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from pyhbt.arguments import whole_number
from pyhbt.ops import checks
from pyhbt.ops.checks import Array
from pyhbt.ops.codes import Codes
from pyhbt.ops.cuda import search as cuda
from pyhbt.ops.cuda.kernels import Kernels, kernels
from pyhbt.ops.exact import (
    Found,
    at_cpu,
    native_neighbours,
    native_ranks,
    native_search,
    with_dense_rows,
)
from pyhbt.ops.filters import CheckedFilter, SearchFilter
from pyhbt.ops.range import MOST_RESULTS, RangeResults, check_threshold, native_range
from pyhbt.ops.search_checks import (
    Screening,
    Similarity,
    check_k,
    check_options,
    check_targets,
    check_vectors,
    search_device,
)
from pyhbt.retrieval.index import files, sources
from pyhbt.retrieval.index.building import build_files, check_block, read_blocks, refer_to
from pyhbt.retrieval.index.names import Ids, Name, Names, check_count, listed
from pyhbt.retrieval.index.on_device import OnDevice, on_device
from pyhbt.retrieval.index.sources import BLOCK_ROWS, Source, as_matrix, blocks, is_matrix, read_only
from pyhbt.retrieval.index.storage import ArrayFiles, InMemory, Parts

_QUERIES_A_STEP, _CPU = 2048, torch.device("cpu")  # of the progress bar


class ExactIndex:
    """Exact top-k search and ranks over a corpus that is searched more than once.

    Beside the vectors it keeps codes of 1 byte a number and 28 bytes a passage, and from 65 dims on a coarse form of
    half a byte a number and 4 bytes a passage, which up to four queries read first. An array or tensor is referred to,
    not copied (a memory map stays one), so it must not change; other sources are read block by block.

    Args:
        corpus: (n, dim) array or tensor, float32, float16, bfloat16, int8 or float8; a column of ``datasets``; or an
            iterable of blocks (rows, dim). Of a tensor on a CUDA device it is an index there (:meth:`to`), built there;
            the CPU gets a copy and codes when something needs them (:meth:`save`, :meth:`add`, a search on the CPU).
        ids: a name for each passage, strings or integers, all different, for :meth:`ids_of` and :meth:`positions`.
        similarity: "dot", or "cosine" (0 for a row of zeros).
        path: build into this folder, memory-mapped, instead of memory: for corpora larger than memory.
        progress: show a bar.

    Raises:
        ValueError: shapes that do not fit, a passage with a NaN or an infinity (named with its row).
        TypeError: another dtype or kind of source.
    """

    def __init__(
        self,
        corpus: Source,
        *,
        ids: Ids | None = None,
        similarity: Similarity = "dot",
        path: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        check_options(similarity, "auto")
        self._similarity: str = similarity
        self._cosine = similarity == "cosine"
        names = listed(ids)
        self._names = None if names is None else Names(names)
        self._held: Parts | OnDevice
        self._on_device = None
        if path is not None:
            self._held = build_files(corpus, Path(path), names, similarity=similarity, progress=progress)
        elif isinstance(corpus, torch.Tensor) and on_device(corpus):
            self._held = OnDevice(corpus, cosine=self._cosine)
            self._on_device = self._held.corpus()
        elif is_matrix(corpus):
            self._held = refer_to(as_matrix(corpus, "corpus"), cosine=self._cosine, progress=progress)
        else:
            self._held = read_blocks(corpus, cosine=self._cosine, progress=progress)
        self._read_only_at = self._parts.vectors.data_ptr() if path or read_only(corpus) else None
        self._memory: InMemory | None = None
        self._device = corpus.device if isinstance(corpus, torch.Tensor) and corpus.is_cuda else _CPU
        check_count(names, len(self))

    _device: torch.device  # of the queries
    _read_only_at: int | None
    """Where vectors lie that must not be written to: mapped files, memory of read-only arrays."""
    _on_device: cuda.Corpus | None
    """The vectors there, and what screens them, where it is not the CPU; made when first needed."""

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> ExactIndex:
        """A saved index, memory-mapped: only what a search touches is read.

        Args:
            verify: read everything once and compare checksums; sizes and small files are always checked.

        Raises:
            FileNotFoundError: no such folder.
            ValueError: not an index, another version, truncated or damaged.
        """
        saved = files.read(Path(path), verify=verify)
        index = cls.__new__(cls)
        index._similarity, index._cosine = saved.similarity, saved.similarity == "cosine"
        index._held, index._memory = saved.parts, None
        index._read_only_at = saved.parts.vectors.data_ptr()
        index._device, index._on_device = _CPU, None
        index._names = None if saved.ids is None else Names(saved.ids, checked=True)
        return index

    def to(self, device: str | torch.device) -> ExactIndex:
        """Moves the index, as a ``torch.nn.Module``: queries lie on that device from now on. Results are the same.

        On a CUDA device it takes a copy of the vectors and, for their float16 form, 2 dim + 12 bytes a passage (cosine:
        8 more), made at the first search and after :meth:`add`; what the CPU has stays there for :meth:`save` and
        :meth:`add`.

        Returns:
            The index itself.

        Raises:
            ValueError: neither cpu nor cuda.
        """
        wanted = search_device(device)
        if wanted != self._device:
            self._device, self._on_device = wanted, None
        return self

    def save(self, path: str | Path) -> None:
        """Writes the index to a folder, which gets its name when it is whole; an index there is replaced.

        Raises:
            FileExistsError: something else has the name.
        """
        with files.new_folder(Path(path)) as folder, ArrayFiles(folder) as arrays:
            for start in range(0, len(self), BLOCK_ROWS):
                stop = min(len(self), start + BLOCK_ROWS)
                vectors, codes = self._parts.vectors, self._parts.codes
                arrays.append_parts(Parts(vectors[start:stop], codes.rows(start, stop)))
            files.write_rest(
                arrays,
                folder,
                passages=len(self),
                dtype=self.dtype,
                similarity=self._similarity,
                codes=self._parts.codes,
                ids=self.ids,
            )

    def add(self, corpus: Source, *, ids: Ids | None = None) -> None:
        """Appends passages, whose positions go on from ``len(index)``. A memory-mapped index moves into memory.

        O(passages added), amortised. Blocks before a refused one stay added.

        Raises:
            ValueError: another dim, ids where the index has none or the reverse or that it has already, a passage that
                is not finite.
            TypeError: another dtype.
        """
        names, taken = listed(ids), 0
        if len(self) == 0:
            self._names = None if names is None else Names([])
        if (names is None) != (self._names is None):
            raise ValueError(f"ids: found {'none' if names is None else 'some'}, expected as for the index")
        if names is not None and self._names is not None:
            self._names.check(names)
        for block in blocks(corpus):
            check_block(block, self._parts)
            if names is not None and len(names) < taken + len(block):
                raise ValueError(f"ids: found {len(names)}, expected one for each passage")
            if self._memory is None:
                self._memory = InMemory(self._parts, cosine=self._cosine)
            self._on_device = None
            self._memory.append(block)
            self._held = self._memory.parts()
            if names is not None and self._names is not None:
                self._names.extend(names[taken : taken + len(block)])
            taken += len(block)
        check_count(names, taken)

    @property
    def _parts(self) -> Parts:
        return self._held.parts

    def __repr__(self) -> str:
        return f"ExactIndex({len(self):,} passages, {self.dim} dims, {self.similarity})"

    def __len__(self) -> int:
        return len(self._held.vectors)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self._held.vectors.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        return self._held.vectors.dtype

    @property
    def device(self) -> torch.device:
        """Of the queries (:meth:`to`)."""
        return self._device

    @property
    def similarity(self) -> str:
        """ "dot" or "cosine"."""
        return self._similarity

    @property
    def vectors(self) -> Array:
        """(n, dim): the tensor itself; of an opened index and of a read-only array a read-only array without a copy.

        A tensor over memory that cannot be written to would crash at a write. bfloat16 and float8, which NumPy lacks,
        are copied there.
        """
        vectors = self._parts.vectors
        return vectors if vectors.data_ptr() != self._read_only_at else sources.as_read_only(vectors)

    @property
    def codes(self) -> Codes:
        """What screening reads; not to be written to."""
        return self._parts.codes

    @property
    def ids(self) -> Sequence[Name] | None:
        """The passages' names, if they have any."""
        return None if self._names is None else self._names.listed

    @property
    def nbytes(self) -> int:
        """Bytes beside the vectors."""
        return self._parts.codes.nbytes

    def ids_of(self, indices: Array) -> list[list[Name]]:
        """The names of found passages (nq, k), a list for each query; absent ones (-1) are left out.

        Raises:
            ValueError: the index has no ids, indices of another shape, or one that no passage has.
        """
        return self._named().of(indices)

    def positions(self, ids: Iterable[Name]) -> torch.Tensor:
        """The positions (len(ids),) int64 of passages by name, as filters and targets take them.

        Raises:
            KeyError: a name that no passage has.
            ValueError: the index has no ids.
        """
        return torch.tensor([self._named().places[name] for name in ids], dtype=torch.int64)

    @overload
    def search(
        self,
        queries: npt.NDArray[Any],
        k: int,
        *,
        filter: SearchFilter | None = ...,
        screening: Screening = ...,
        progress: bool = ...,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
    @overload
    def search(
        self,
        queries: torch.Tensor,
        k: int,
        *,
        filter: SearchFilter | None = ...,
        screening: Screening = ...,
        progress: bool = ...,
    ) -> Found: ...
    def search(
        self,
        queries: Array,
        k: int,
        *,
        filter: SearchFilter | None = None,
        screening: Screening = "auto",
        progress: bool = False,
    ) -> Found | tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """As :func:`pyhbt.search` over the index's passages; results are arrays where ``queries`` is one.

        Queries lie on the index's device (:meth:`to`).
        """
        k = check_k(k, len(self))
        q = self._checked(queries, screening, filter)
        step, found = max(1, len(q)), []
        if progress:
            step = _QUERIES_A_STEP
            checks.check_finite(q, "queries")  # here, where rows have their own numbers
            CheckedFilter(filter, len(q), len(self), self._device)
        with tqdm(total=len(q), desc="searching", unit="queries", disable=not progress) as bar:
            for start in range(0, max(1, len(q)), step):
                stop = min(len(q), start + step)
                part = filter if filter is None or step >= len(q) else filter.rows(start, stop)
                found.append(self._search(q[start:stop], k, part, screening))
                bar.update(stop - start)
        scores, indices = found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))
        return (scores, indices) if isinstance(queries, torch.Tensor) else (scores.numpy(), indices.numpy())

    def search_range(
        self,
        queries: Array,
        threshold: float | Array,
        *,
        filter: SearchFilter | None = None,
        screening: Screening = "auto",
        max_results: int = MOST_RESULTS,
    ) -> RangeResults:
        """As :func:`pyhbt.search_range` over the index's passages; arrays where ``queries`` is one."""
        found, _ = self.range_with_exact_scores(
            queries, threshold, filter=filter, screening=screening, max_results=max_results
        )
        return found.to(self._device) if isinstance(queries, torch.Tensor) else found.numpy()

    def neighbours(self, k: int) -> Found:
        """For each passage the k others with the highest scores, as :meth:`search` finds them: a self-join.

        n^2 dim operations, half of a search's. Memory up to 24 max(2 k, k + 32) bytes a passage, or a gibibyte.

        Returns:
            scores (n, min(k, n - 1)) and indices as :meth:`search` does. On the CPU, wherever the index is.
        """
        k = check_k(k, len(self) - 1)
        return native_neighbours(self._parts.vectors, self._parts.codes, k, cosine=self._cosine)

    def range_with_exact_scores(
        self,
        queries: Array,
        threshold: float | Array,
        *,
        filter: SearchFilter | None,
        screening: Screening,
        max_results: int,
    ) -> tuple[RangeResults, torch.Tensor]:
        """:meth:`search_range` on the CPU, and the float64 scores (total,) that decided the order, for merging."""
        q = self._checked(queries, screening, filter)
        return native_range(
            q.cpu(),
            self._parts.vectors,
            self._parts.codes,
            check_threshold(threshold, len(q)),
            cosine=self._cosine,
            max_results=whole_number("max_results", max_results, 0),
            filter=at_cpu(filter, self._device),
            screening=screening,
        )

    def search_with_exact_scores(
        self, queries: Array, k: int, *, filter: SearchFilter | None, screening: Screening
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The float64 scores (nq, k) that decide the order, -inf where there is none, and :meth:`search`'s results."""
        q = self._checked(queries, screening, filter)
        exact = torch.empty(len(q), k, dtype=torch.float64, device=self._device)
        scores, indices = self._search(q, k, filter, screening, exact)
        return exact, scores, indices

    def ranks(
        self,
        queries: Array,
        targets: Array,
        *,
        filter: SearchFilter | None = None,
        screening: Screening = "auto",
    ) -> torch.Tensor | npt.NDArray[np.int64]:
        """As :func:`pyhbt.ranks` over the index's passages; an array where ``queries`` is one."""
        q = self._checked(queries, screening, filter)
        wanted = checks.as_tensor(targets, "targets")
        check_targets(wanted, q)
        native = self._kernels()
        if native is not None:
            result = cuda.ranks(native, with_dense_rows(q), self._corpus(native), wanted, filter=filter)
        else:
            result = native_ranks(
                q.cpu(),
                self._parts.vectors,
                self._parts.codes,
                wanted.cpu(),
                cosine=self._cosine,
                filter=at_cpu(filter, self._device),
                screening=screening,
            ).to(self._device)
        return result if isinstance(queries, torch.Tensor) else result.numpy()

    def _search(
        self,
        queries: torch.Tensor,
        k: int,
        filter: SearchFilter | None,
        screening: Screening,
        exact_scores: torch.Tensor | None = None,
    ) -> Found:
        native = self._kernels()
        if native is not None:
            rows, corpus = with_dense_rows(queries), self._corpus(native)
            return cuda.search(native, rows, corpus, k, filter=filter, exact_scores=exact_scores)
        exact = None if exact_scores is None else exact_scores.cpu()
        scores, indices = native_search(
            queries.cpu(),
            self._parts.vectors,
            self._parts.codes,
            k,
            cosine=self._cosine,
            filter=at_cpu(filter, self._device),
            screening=screening,
            exact_scores=exact,
        )
        if exact_scores is not None and exact is not None:
            exact_scores.copy_(exact)
        return scores.to(self._device), indices.to(self._device)

    def _kernels(self) -> Kernels | None:
        """Those of the device; None: it is the CPU, or has none, and the CPU must do."""
        return kernels(self._device) if self._device.type == "cuda" else None

    def _corpus(self, native: Kernels) -> cuda.Corpus:
        if self._on_device is None:
            vectors = with_dense_rows(self._held.vectors.to(self._device))
            self._on_device = cuda.Corpus.of(native, vectors, cosine=self._cosine)
        return self._on_device

    def _named(self) -> Names:
        if self._names is None:
            raise ValueError("ids: the index was built without ids")
        return self._names

    def _checked(self, queries: Array, screening: Screening, filter: SearchFilter | None) -> torch.Tensor:
        tensor = checks.as_tensor(queries, "queries").detach()
        check_vectors(tensor, "queries")
        checks.check_same_dim(self._held.vectors, "corpus", tensor, "queries")
        if tensor.device != self._device:
            raise ValueError(f"queries: found device {tensor.device}, expected {self._device} (the index's)")
        check_options(self._similarity, screening, self._device.type, filter)
        return tensor
