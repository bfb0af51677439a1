"""A model of how tensor cores sum products of float16 numbers in float32, to test what numerics.md says of them.

From F. A. Khattak and M. Mikaitis, "Accurate Models of NVIDIA Tensor Cores", arXiv:2512.07004, and the parameters of
the models published with it (github.com/north-numerical-computing/MATLAB-tensor-core). Products of a block are exact.
They and the accumulator are aligned to the largest exponent among them, where a product's is the sum of its factors',
and one more where its significand reaches 2. Each is cut off (towards zero) at 23 bits after the leading bit of that
exponent and some extra bits; one bit more is kept where a product reaches 2 and the largest exponent of products,
before that, is not below the accumulator's. Their sum is exact, and cut off to 24 bits. Blocks follow one another
through the accumulator. Subnormal results do not occur at the sizes of :mod:`pyhbt.ops.cuda.halves`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_SIGNIFICAND = 23  # bits after the leading one
_LEAST = -14  # exponent of float16's subnormal numbers


class TensorCore(NamedTuple):
    """Of one generation, for float16 in and float32 out."""

    name: str
    products: int
    """Of a block, which is normalised once."""
    extra_bits: int
    """Kept in the alignment beyond the 23 of float32."""

    def dot(self, left: npt.NDArray[np.float16], right: npt.NDArray[np.float16]) -> Floats:
        """(n,) sums of products along rows (n, dim), block after block."""
        rows, dim = left.shape
        total = np.zeros(rows)
        for first in range(0, dim, self.products):
            block = slice(first, first + self.products)
            total = self._add(total, left[:, block].astype(np.float64), right[:, block].astype(np.float64))
        return total

    def _add(self, total: Floats, left: Floats, right: Floats) -> Floats:
        products = left * right  # exact: 22 bits
        raw = _exponents(left, _LEAST) + _exponents(right, _LEAST)
        present = products != 0
        raw = np.where(present, raw, -1000)
        reaches_two = present & (np.abs(products) >= np.exp2(raw + 1.0))
        exponents = raw + reaches_two
        of_total = np.where(total != 0, _exponents(total), -1000)
        highest = raw.max(axis=1)
        at_top = np.where(raw == highest[:, None], reaches_two, False).any(axis=1)
        bits = _SIGNIFICAND + self.extra_bits + (at_top & (highest >= of_total))
        top = np.maximum(exponents.max(axis=1), of_total)
        unit = np.exp2((top - bits).astype(np.float64))
        aligned = np.trunc(np.column_stack([products, total]) / unit[:, None])  # integers below 2^27
        return _cut(aligned.sum(axis=1) * unit)


V100 = TensorCore("V100", 4, 0)
A100 = TensorCore("A100 and Ada", 8, 1)
H100 = TensorCore("H100 and B200", 16, 2)
TENSOR_CORES = (V100, A100, H100)


def _exponents(x: Floats, least: int = -1000) -> npt.NDArray[np.int64]:
    """Of the leading bits, or ``least``, whose significand may begin with zeros."""
    return np.maximum(np.frexp(x)[1].astype(np.int64) - 1, least)


def _cut(x: Floats) -> Floats:
    """To 24 significant bits, towards zero."""
    significand, exponent = np.frexp(x)
    return np.ldexp(np.trunc(np.ldexp(significand, _SIGNIFICAND + 1)), exponent - _SIGNIFICAND - 1)
