"""From examples to a record: totals, speedups, counts, and the warning of a machine that changed its speed."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bild.config import MeasureConfig
from bild.measure.aggregate import (
    DRIFT_LIMIT,
    counts_of,
    latency_of,
    quality_and_joint,
    stationarity,
)
from bild.results.sample import Sample, VanillaRun
from tests.measure.lines import sample

MEASURE = MeasureConfig()
# 4 + 2 tokens after the start token; vanilla wrote 3 + 3; the library was asked for the first example only.
TWO = [
    sample([0, 5, 6, 7, 1], 20.0, baseline=([0, 5, 6, 1], 40.0), library=([0, 5, 6, 1], 120.0)),
    sample([0, 5, 1], 10.0, baseline=([0, 5, 6, 7], 12.0), large_widths={1: 2, 11: 1}, truncated=True, large_passes=3),
]


def test_the_end_token_counts_and_the_start_token_does_not() -> None:
    for tokens, written in (([0, 5, 6, 1], 3), ([0, 5, 6, 7], 3), ([0, 1], 1)):
        made = sample(tokens, 1.0, baseline=(tokens, 2.0))
        assert made.written == made.baseline.written == written


def test_times_are_totals_over_all_examples() -> None:
    latency = latency_of(TWO, MEASURE)
    assert (latency.examples, latency.tokens) == (2, 6)
    assert latency.seconds == pytest.approx(0.030)
    assert latency.ms_per_example.value == pytest.approx(15.0)
    assert latency.ms_per_token == pytest.approx(5.0)
    assert latency.phases.small == pytest.approx(0.015)
    assert latency.phases.encode_small == pytest.approx(0.0015)


def test_the_headline_speedup_is_the_ratio_of_totals() -> None:
    speedup = latency_of(TWO, MEASURE).speedup
    assert speedup.total.value == pytest.approx(52 / 30)
    assert speedup.geometric.value == pytest.approx(math.sqrt(2.0 * 1.2))
    for interval in (speedup.total, speedup.geometric):
        assert 0 < interval.low < interval.value < interval.high


def test_the_baseline_is_vanilla_and_counts_its_own_tokens() -> None:
    baseline = latency_of(TWO, MEASURE).baseline
    assert (baseline.tokens, baseline.seconds) == (6, pytest.approx(0.052))
    assert baseline.ms_per_example == pytest.approx(26.0)
    assert baseline.ms_per_token == pytest.approx(52 / 6)


def test_the_library_is_compared_on_the_examples_that_it_decoded() -> None:
    library = latency_of(TWO, MEASURE).library
    assert library is not None
    assert (library.examples, library.seconds) == (1, pytest.approx(0.120))
    assert library.ms_per_token == pytest.approx(40.0)
    assert library.speedup.value == pytest.approx(120 / 20)


def test_without_the_library_there_is_nothing_to_compare() -> None:
    assert latency_of([TWO[1]], MEASURE).library is None


def test_intervals_follow_the_settings() -> None:
    many = [sample([0, 5, 1], 10.0 + i, baseline=([0, 5, 1], 20.0 + 3 * (i % 7))) for i in range(30)]
    narrow = latency_of(many, MeasureConfig(confidence=0.5)).speedup.total
    wide = latency_of(many, MeasureConfig(confidence=0.99)).speedup.total
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert latency_of(many, MEASURE).speedup == latency_of(many, MEASURE).speedup


def test_counts_are_sums_and_rates_are_per_token() -> None:
    counts = counts_of(TWO)
    assert (counts.tokens, counts.examples, counts.rounds) == (6, 2, 4)
    assert (counts.small_passes, counts.large_passes) == (10, 5)
    assert (counts.drafted, counts.kept, counts.rejected) == (10, 8, 2)
    assert counts.large_widths == {1: 3, 6: 1, 11: 1}
    assert counts.tokens_per_large_pass == pytest.approx(6 / 5)
    assert (counts.fallback_rate, counts.rollback_rate) == (pytest.approx(2 / 6), pytest.approx(2 / 6))
    assert (counts.truncated_sources, counts.reached_limit) == (1, 0)


def test_a_method_without_a_large_pass_has_no_ratio() -> None:
    alone = sample([0, 5, 1], 1.0, baseline=([0, 5, 1], 2.0), large_passes=0, large_widths={})
    assert (counts_of([alone]).tokens_per_large_pass, counts_of([alone]).large_widths) == (0.0, {})


def test_quality_is_scored_against_references_and_paired_with_vanilla() -> None:
    texts = ["A dog runs in the park.", "A cat sleeps on the sofa."]
    samples = [
        dataclasses.replace(made, text=text, baseline=VanillaRun([0, 5, 1], 9, "nothing of the kind at all"))
        for made, text in zip(TWO, texts, strict=True)
    ]
    found, _ = quality_and_joint(samples, texts, "bleu")
    assert found.headline == "bleu"
    assert found.scores["bleu"].value == pytest.approx(100.0)
    assert found.difference is not None
    assert found.difference["bleu"].value > 90.0
    assert "version:" in found.scores["bleu"].signature


# --- whether the machine kept its speed


def paced(*ms: float) -> list[Sample]:
    """Examples on which vanilla took these times for two tokens each."""
    return [sample([0, 5, 1], 1.0, baseline=([0, 5, 1], value)) for value in ms]


def test_a_steady_baseline_warns_of_nothing() -> None:
    found = stationarity(paced(10, 10, 10, 10, 10.5, 10.5))
    assert (found.drift, found.warning) == (pytest.approx(0.05), None)


def test_a_baseline_that_became_slower_or_faster_is_told() -> None:
    slower = stationarity(paced(10, 10, 10, 12, 12, 12))
    assert slower.drift == pytest.approx(0.2)
    assert slower.warning is not None
    assert slower.warning.startswith("The baseline became 20% slower from the first half of the run to the second")
    faster = stationarity(paced(10, 10, 8, 8))
    assert faster.warning is not None
    assert "became 20% faster" in faster.warning


def test_the_limit_is_the_tenth_that_it_says() -> None:
    assert DRIFT_LIMIT == 0.1
    assert stationarity(paced(100, 100, 109, 109)).warning is None
    assert stationarity(paced(100, 100, 111, 111)).warning is not None


def test_a_slow_example_or_a_long_one_is_no_drift() -> None:
    assert stationarity(paced(10, 90, 10, 10, 10, 10, 95, 10)).drift == 0.0
    long = sample([0, 5, 1], 1.0, baseline=([0, *range(2, 21), 1], 100.0))
    assert stationarity([*paced(10, 10, 10), long, long, long]).drift == 0.0


def test_three_examples_are_too_few_to_tell() -> None:
    assert stationarity(paced(10, 50, 90)).warning is None
    assert stationarity(paced(10, 10, 90, 90)).warning is not None


def test_speedup_and_score_vary_together_over_the_same_examples() -> None:
    many = [
        sample([0, 5, 1], 10.0 + i, baseline=([0, 5, 1], 20.0), text="a b c d e"[: 1 + 2 * (i % 5)]) for i in range(12)
    ]
    references = ["a b c d e"] * 12
    _, joint = quality_and_joint(many, references, "bleu")
    speedup = latency_of(many, MEASURE).speedup.total
    assert speedup.low < speedup.value - joint.speedup_sd < speedup.value + joint.speedup_sd < speedup.high
    assert joint.quality_sd > 0
    assert -1 <= joint.correlation <= 1


def test_without_any_spread_there_is_no_correlation() -> None:
    same = [sample([0, 5, 1], 10.0, baseline=([0, 5, 1], 20.0))] * 3
    assert quality_and_joint(same, ["a"] * 3, "bleu")[1].correlation == 0.0
