"""Intervals of speedups and means."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bild.errors import BildError
from bild.metrics import Interval, geometric_mean_ratio, mean, ratio_of_totals
from bild.metrics.bootstrap import interval, resampled_sums

GENERATOR = np.random.default_rng(0)
BASELINE = list(GENERATOR.lognormal(0.0, 0.6, 300))
METHOD = [seconds / ratio for seconds, ratio in zip(BASELINE, GENERATOR.normal(2.0, 0.2, 300), strict=True)]
SPEEDUPS = [ratio_of_totals, geometric_mean_ratio]


def test_values():
    assert ratio_of_totals([1.0, 9.0], [1.0, 1.0]).value == 5.0
    assert geometric_mean_ratio([1.0, 9.0], [1.0, 1.0]).value == pytest.approx(3.0)
    assert mean([1.0, 2.0, 6.0]).value == 3.0


@pytest.mark.parametrize("speedup", SPEEDUPS)
def test_a_speedup_lies_in_its_interval(speedup):
    found = speedup(BASELINE, METHOD)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("speedup", SPEEDUPS)
def test_a_constant_ratio_has_no_spread_however_the_times_vary(speedup):
    """Paired: baseline and method are summed over the same examples in every draw."""
    found = speedup(BASELINE, [seconds / 1.5 for seconds in BASELINE])
    assert (found.low, found.high) == (pytest.approx(1.5), pytest.approx(1.5))


@pytest.mark.parametrize("speedup", SPEEDUPS)
def test_swapping_the_two_inverts_the_speedup(speedup):
    found, inverse = speedup(BASELINE, METHOD), speedup(METHOD, BASELINE)
    assert inverse.value == pytest.approx(1 / found.value)
    assert inverse.low == pytest.approx(1 / found.high, rel=1e-3)


@pytest.mark.parametrize(
    "estimate", [lambda **o: ratio_of_totals(BASELINE, METHOD, **o), lambda **o: mean(METHOD, **o)]
)
def test_seed_draws_and_confidence_count(estimate):
    assert estimate(seed=1) == estimate(seed=1)
    assert estimate(seed=1).low != estimate(seed=2).low
    assert estimate(draws=100).low != estimate(draws=200).low
    wide, narrow = estimate(confidence=0.99), estimate(confidence=0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        found = mean(list(generator.normal(10.0, 3.0, 80)), draws=300, confidence=0.9, seed=trial)
        covered += found.low <= 10.0 <= found.high
    assert 0.83 <= covered / 200 <= 0.96


def test_the_interval_of_a_mean_is_about_the_normal_one():
    found = mean(METHOD, draws=2000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(METHOD) / len(METHOD) ** 0.5, rel=0.1)


def test_one_example_has_no_spread():
    assert ratio_of_totals([3.0], [2.0]) == Interval(1.5, 1.5, 1.5)


def test_resamples_have_the_size_of_the_data_and_are_shared():
    ones = resampled_sums(np.ones((50, 1)), draws=20, seed=0)
    assert (ones == 50).all()
    column = np.arange(50.0)[:, None]
    together = resampled_sums(np.hstack([column, column]), draws=20, seed=0)
    assert (together[:, 0] == together[:, 1]).all()
    assert (together[:, :1] == resampled_sums(column, draws=20, seed=0)).all()
    assert len(set(together[:, 0])) > 15


def test_a_thousand_draws_of_three_thousand_examples_are_quick():
    start = time.process_time()  # of this process alone, whatever else the machine does; it takes about 0.1 s
    resampled_sums(np.ones((3000, 18)), draws=1000, seed=0)
    assert time.process_time() - start < 5.0


def test_percentiles():
    found = interval(1.0, np.arange(101.0), 0.9)
    assert (found.value, found.low, found.high) == (1.0, pytest.approx(5.0), pytest.approx(95.0))


@pytest.mark.parametrize("speedup", SPEEDUPS)
def test_refusals(speedup):
    with pytest.raises(BildError, match=r"^There are 2 times of the baseline and 1 of the method: a speedup needs"):
        speedup([1.0, 2.0], [1.0])
    with pytest.raises(BildError, match=r"^There are 0 times of the baseline and 0 of the method"):
        speedup([], [])
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BildError, match=r"^A time is not a positive number of seconds"):
            speedup([1.0, 2.0], [1.0, bad])


def test_a_mean_of_nothing():
    with pytest.raises(BildError, match=r"^There is nothing to average"):
        mean([])
