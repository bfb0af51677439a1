"""What the kernels read and write of global memory, counted on the emulator: what performance.md says of them."""

from __future__ import annotations

import pytest

from tests.cuda_emulation import build
from tests.cuda_emulation.traffic import SCORES, Traffic, counted

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on PATH")


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Traffic]:
    return counted(tmp_path_factory.mktemp("traffic"))


def test_a_panel_is_read_once_and_its_gradient_written_once(traffic: dict[str, Traffic]) -> None:
    for kernel in ("panel_logsumexp", "panel_logsumexp_symmetric"):
        assert traffic[kernel]["dots"] == (4 * SCORES, 0)
    assert traffic["panel_gradient_float32"]["dots"] == (4 * SCORES, 4 * SCORES)
    for kernel in ("panel_gradient_bfloat16", "panel_gradient_symmetric"):
        assert traffic[kernel]["dots"] == (4 * SCORES, 0)
        assert traffic[kernel]["out"] == (0, 2 * SCORES)


@pytest.mark.parametrize(
    ("kernel", "bytes_of_a_score"),
    [
        ("panel_logsumexp", 4.35),
        ("panel_logsumexp_symmetric", 4.60),
        ("panel_gradient_float32", 8.58),
        ("panel_gradient_bfloat16", 6.58),
        ("panel_gradient_symmetric", 8.08),
        ("append_open", 5.51),
    ],
)
def test_what_comes_beside_the_scores(
    kernel: str, bytes_of_a_score: float, traffic: dict[str, Traffic]
) -> None:
    assert traffic[kernel].of_a_score == pytest.approx(bytes_of_a_score, abs=0.006)


def test_a_tile_reads_its_passages_once_for_eight_queries(traffic: dict[str, Traffic]) -> None:
    assert traffic["append_open"]["dots"] == (4 * SCORES, 0)
    assert traffic["append_open"]["passages"] == (12 * SCORES // 8, 0)
