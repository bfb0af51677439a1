"""Names of endpoints: read, written, refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhbt.evaluation.names import ALL_TIERS, BIAS_METRICS, DEFAULT_METRICS, SETTINGS
from pyhbt.study.endpoints import EndpointName


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cross-lingual recall@10", EndpointName("cross-lingual", "recall@10")),
        ("cross-lingual recall@10, low-resource", EndpointName("cross-lingual", "recall@10", "low-resource")),
        ("  monolingual   mAP ,zero-shot ", EndpointName("monolingual", "mAP", "zero-shot")),
        ("multilingual rank distance, seen", EndpointName("multilingual", "rank distance", "seen")),
    ],
)
def test_read(text: str, wanted: EndpointName) -> None:
    assert EndpointName.parse(text) == wanted


@given(st.sampled_from(SETTINGS), st.sampled_from(DEFAULT_METRICS), st.sampled_from(ALL_TIERS))
def test_written_and_read_back(setting: str, metric: str, tier: str) -> None:
    name = EndpointName(setting, metric, tier)
    assert EndpointName.parse(name.text) == name
    assert name.key == f"none/{setting}/{tier}/{metric}"


@pytest.mark.parametrize("metric", BIAS_METRICS)
def test_bias_is_multilingual(metric: str) -> None:
    assert EndpointName.parse(f"multilingual {metric}").metric == metric
    with pytest.raises(ValueError, match="in the multilingual setting"):
        EndpointName.parse(f"monolingual {metric}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected SETTING METRIC, TIER"),
        ("recall@10", "expected SETTING METRIC, TIER"),
        ("cross-lingual", "expected SETTING METRIC, TIER"),
        ("bilingual mAP", "settings are monolingual, cross-lingual, multilingual"),
        ("cross-lingual recall@x", "recall@x"),
        ("cross-lingual recall@10, rare", "primary: tier: found 'rare', expected one of all, seen"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EndpointName.parse(text)
