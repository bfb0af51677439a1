"""Native CPU kernels: addresses and sizes in, results written to the given addresses. Use pyhbt.ops instead."""

from typing import TypeAlias, TypedDict

class BuildInfo(TypedDict):
    version: str
    compiler: str
    simd_compiled: list[str]
    simd_supported: list[str]
    simd_in_use: str
    openmp: bool
    openmp_version: int | None
    cuda: str

Matrix: TypeAlias = tuple[int, int, int, int, int]  # address, dtype, rows, dim, elements from row to row

def contrastive_loss(
    queries: Matrix,
    passages: Matrix,
    positives: int,
    row_weights: int,
    query_groups: int,
    passage_groups: int,
    temperature: float,
    margin: float,
    cosine: bool,
    symmetric: bool,
    retained_scores: int,
    loss_rows: int,
    loss: int,
    grad_queries: int,
    grad_passages: int,
    grad_temperature: int,
    threads: int,
    /,
) -> None: ...

Codes: TypeAlias = tuple[int, ...]  # nine addresses, in the order of csrc/codes.h
Filter: TypeAlias = tuple[int, int, int, int, int, int]  # as csrc/bindings.cpp says

def code_stride(dim: int, /) -> int: ...
def encode(rows: Matrix, cosine: bool, out: Codes, first_row: int, threads: int, /) -> None: ...
def search(
    queries: Matrix,
    corpus: Matrix,
    codes: Codes | None,
    cosine: bool,
    filter: Filter,
    screening: int,
    threads: int,
    k: int,
    scores: int,
    indices: int,
    exact_scores: int,
    /,
) -> None: ...
def ranks(
    queries: Matrix,
    corpus: Matrix,
    codes: Codes | None,
    cosine: bool,
    filter: Filter,
    screening: int,
    threads: int,
    targets: int,
    targets_per_query: int,
    ranks: int,
    /,
) -> None: ...
def fma_peak_gflops(threads: int) -> float: ...
def build_info() -> BuildInfo: ...
