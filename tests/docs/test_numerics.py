"""The numbers of docs/how-it-works/numerics.md: each is what the code has, or what arithmetic says of it.

Budgets are tested where they are used (tests/losses.py); here the page is held to them. A phrase that is gone from the
page fails, so that a number does not change there alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyhbt.ops import codes, reference
from tests import losses

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "how-it-works" / "numerics.md").read_text(encoding="utf-8").split())


def source(file: str) -> str:
    return (ROOT / "csrc" / file).read_text(encoding="utf-8")


def constant(file: str, name: str) -> float:
    """A constant of the native sources, by the numbers of its definition."""
    found = re.search(rf"\b{name} = ([^;,]+)[;,]", source(file))
    assert found, f"{file}: no {name}"
    text = found[1].replace("int64_t", "").replace("{", "(").replace("}", ")")
    if "0x1p" in text:
        return float.fromhex(text)
    return float(eval(text.removesuffix("f"), {"__builtins__": {}}))


def largest_error_of_exp2() -> float:
    """Of the polynomial of simd.h for 2^f, |f| <= 1/2, in float64, relative."""
    text = source("cpu/simd.h")
    body = text[text.index("Vector y = splat(") : text.index("const IntVector bits")]
    coefficients = [float(x) for x in re.findall(r"([0-9.]+(?:e-?\d+)?)f", body)]
    assert len(coefficients) == 8
    f = np.linspace(-0.5, 0.5, 100_001)
    value = np.zeros_like(f)
    for coefficient in coefficients:
        value = value * f + coefficient
    return float(np.abs(value / np.exp2(f) - 1).max())


def lloyd_max_levels() -> list[float]:
    """The positive half of the best 16 levels for normal numbers, by Lloyd's iteration."""
    x = np.linspace(0, 9, 900_001)
    weight = np.exp(-x * x / 2)
    levels = np.linspace(0.1, 2.5, 8)
    for _ in range(400):
        cells = np.searchsorted((levels[1:] + levels[:-1]) / 2, x)
        levels = np.bincount(cells, weight * x) / np.bincount(cells, weight)
    return [float(level) for level in levels]


def scaled_levels() -> list[int]:
    levels = lloyd_max_levels()
    return [round(63 * level / levels[-1]) for level in levels]


def gamma(steps: float) -> float:
    u = 2.0**-24
    return steps * u / (1 - steps * u)


CLAIMS: dict[str, Callable[[], bool]] = {
    "Lane $l$ ($0 \\le l < 8$)": lambda: reference._LANES == 8,
    "has at most 48 significant bits": lambda: 2 * 24 == 48,
    "the mean of some 4,096 passages": lambda: codes.CENTRE_SAMPLE == 4096,
    "integers in $-127 \\dots 127$": lambda: "127.0f / max" in source("cpu/encode_kernels.h"),
    "$|t \\cdot k| \\le 127^2 d$, below $2^{31}$ for $d < 133{,}000$": lambda: 127**2 * 133_000 < 2**31,
    "of 8 bits (7 on x86-64 without VNNI)": lambda: (
        "kQueryLimit = 127" in source("cpu/code_products.h")
        and "kQueryLimit = 63" in source("cpu/code_products.h")
    ),
    "first summed in int16, ten at a time: of five groups of four": lambda: (
        constant("cpu/kernels.h", "kChunkQuads") == 5
    ),
    "$\\sum |t| \\le 258$ over such ten, which bounds their sum by $258 \\cdot 127 < 2^{15}$": lambda: (
        constant("cpu/kernels.h", "kMostLaneSum") == 258 and 258 * 127 < 2**15 < 259 * 127
    ),
    "at most $2 \\cdot 255 \\cdot 63 < 2^{15}$": lambda: 2 * 255 * 63 < 2**15,
    "whose numbers are all alike is then 25 instead of 63": lambda: (258 - 5) // 10 == 25,
    "$\\sigma$, and in a second look the factors of $K$ and $R$, have room: $(d + 64)\\,2^{-52} < 2^{-36}$ for the "
    "$d \\le 32{,}768$ that codes serve": lambda: (
        constant("cpu/screen.cpp", "kMostCodedDim") == 32_768 and (32_768 + 64) * 2.0**-52 < 2.0**-36
    ),
    "Up to four queries first read four bits": lambda: constant("cpu/kernels.h", "kFewQueries") == 4,
    "(rounded: $\\pm 3, 9, 15, 22, 29, 37, 48, 63$)": lambda: (
        scaled_levels() == [3, 9, 15, 22, 29, 37, 48, 63]
        and "3, 9, 15, 22, 29, 37, 48, 63}" in source("codes.h")
    ),
    "$\\rho = \\mathrm{fl}(K \\cdot \\mathrm{fl}(2.7326 / (63 \\sqrt d)))$": lambda: (
        abs(lloyd_max_levels()[-1] - 2.7326) < 1e-3
    ),
    "$2 \\cdot 127 \\cdot 127 < 2^{15}$": lambda: 2 * 127 * 127 < 2**15,
    "to 14 bits (fewer where $127 \\cdot d \\cdot 2^{13}$ would overflow an int32)": lambda: (
        8191 == 2**13 - 1 and 64 <= 8191 / 127 < 65 and "8191.0" in source("cpu/coded_queries.cpp")
    ),
    "beyond $2^{60}$ (cosine: norms outside $2^{-60} \\dots 2^{60}$)": lambda: (
        constant("cpu/encode.cpp", "kLeastNorm") == 2.0**-60
        and constant("cpu/encode.cpp", "kMostNorm") == 2.0**60
        and constant("cpu/encode_kernels.h", "kLargest") == 2.0**60
    ),
    "beyond $2^{60}$ or below $2^{-60}$ have $E = N = \\infty$": lambda: (
        constant("cpu/coded_queries.cpp", "kLeastServed") == 2.0**-60
        and constant("cpu/coded_queries.cpp", "kMostServed") == 2.0**60
    ),
    "$\\gamma_{d+16} - \\gamma_d \\ge 16u$": lambda: all(
        gamma(d + 16) - gamma(d) >= 16 * 2.0**-24 for d in (1, 384, 2**21)
    ),
    "If $|q| \\max |c|$ is not below $2^{125}$, or $d > 2^{21}$": lambda: (
        "0x1p125" in source("cpu/screen.cpp") and "int64_t{1} << 21" in source("cpu/screen.cpp")
    ),
    "tests allow $5 \\cdot 10^{-5}$": lambda: losses.PEAKED == 5e-5,
    "a Taylor polynomial of degree 7, remainder $5 \\cdot 10^{-9}$": lambda: (
        largest_error_of_exp2() < 1e-7 and (math.log(2) / 2) ** 8 / math.factorial(8) < 5.5e-9
    ),
    "gradients agree with float64 to $3 \\cdot 10^{-7}$": lambda: losses.ORDINARY == 3e-7,
    "at most 144 terms one after the other, of the queries' 16 such sums to a span": lambda: (
        constant("cpu/contrastive.cpp", "kChain") == 144 and constant("cpu/contrastive.cpp", "kSteps") == 16
    ),
    "$g / 10^{-12}$ where $|x| < 10^{-12}$": lambda: (
        constant("cpu/contrastive_operands.cpp", "kSmallestNorm") == 1e-12
    ),
    "exceeds $3 \\cdot 10^{38}$": lambda: 3e38 < float(np.finfo(np.float32).max) < 3.5e38,
    "Gradients agree with float64 to $10^{-6}$": lambda: losses.ON_A_GPU == 1e-6,
}


@pytest.mark.parametrize("phrase", CLAIMS, ids=range(len(CLAIMS)))
def test_a_number_of_the_page(phrase: str) -> None:
    assert phrase in PAGE
    assert CLAIMS[phrase]()
