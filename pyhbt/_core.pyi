"""Native CPU kernels: addresses and sizes in by name, results to the given addresses. Use pyhbt.ops instead."""

from typing import TypedDict

class BuildInfo(TypedDict):
    version: str
    compiler: str
    simd_compiled: list[str]
    simd_supported: list[str]
    simd_in_use: str
    openmp: bool
    openmp_version: int | None
    cuda: str

DTYPES: tuple[str, ...]
VECTOR_DTYPES: tuple[str, ...]
SCREENINGS: tuple[str, ...]
STRUCTS: dict[str, tuple[str, ...]]  # the names of their members

class Matrix(TypedDict):
    """As csrc/embeddings.h."""

    address: int
    dtype: str
    rows: int
    dim: int
    stride: int

class Filter(TypedDict):
    """As csrc/search_filter.h."""

    allowed: int
    passage_partitions: int
    num_partitions: int
    query_partitions: int
    partitions_per_query: int
    excluded: int
    excluded_per_query: int

class Codes(TypedDict):
    """As csrc/codes.h."""

    codes: int
    inverse_scale: int
    along: int
    code_norm: int
    residual_norm: int
    code_sum: int
    norm: int
    centre: int
    direction: int
    nibbles: int
    nibble_residual: int

class CodesOut(TypedDict):
    """As csrc/codes.h."""

    codes: int
    inverse_scale: int
    along: int
    code_norm: int
    residual_norm: int
    code_sum: int
    norm: int
    nibbles: int
    nibble_residual: int

class ContrastiveArguments(TypedDict):
    """As csrc/contrastive.h."""

    queries: Matrix
    passages: Matrix
    positives: int
    row_weights: int
    query_groups: int
    passage_groups: int
    temperature: float
    margin: float
    cosine: bool
    symmetric: bool
    retained_scores: int
    loss_rows: int
    loss: int
    grad_queries: int
    grad_passages: int
    grad_temperature: int
    threads: int

class SearchArguments(TypedDict):
    """As csrc/search.h."""

    queries: Matrix
    corpus: Matrix
    codes: Codes | None
    cosine: bool
    filter: Filter | None
    screening: str
    threads: int

def contrastive_loss(arguments: ContrastiveArguments) -> None: ...
def code_stride(dim: int) -> int: ...
def nibble_stride(dim: int) -> int: ...
def encode(
    *,
    rows: Matrix,
    cosine: bool,
    centre: int,
    direction: int,
    out: CodesOut,
    first_row: int,
    threads: int,
) -> None: ...
def search(arguments: SearchArguments, *, k: int, scores: int, indices: int, exact_scores: int) -> None: ...
def neighbours(arguments: SearchArguments, *, k: int, scores: int, indices: int) -> None: ...

class RangeFound:
    """What a range search found, to be written to memory of its size."""

    @property
    def total(self) -> int: ...
    def write(self, *, ends: int, scores: int, exact_scores: int, indices: int) -> None: ...

def search_range(arguments: SearchArguments, *, least: int, most: int) -> RangeFound: ...
def ranks(
    arguments: SearchArguments,
    *,
    targets: int,
    targets_per_query: int,
    ranks: int,
    group_ends: int,
    num_groups: int,
    within: int,
) -> None: ...
def fma_peak_gflops(threads: int) -> float: ...
def build_info() -> BuildInfo: ...
