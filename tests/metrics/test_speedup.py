"""Speedups and mean times, with intervals over examples and sessions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bild.errors import BildError
from bild.metrics import mean_time, speedup

GENERATOR = np.random.default_rng(0)
BASELINE = list(GENERATOR.lognormal(0.0, 0.6, 300))
METHOD = [seconds / ratio for seconds, ratio in zip(BASELINE, GENERATOR.normal(2.0, 0.2, 300), strict=True)]
KINDS = ["total", "geometric"]


def test_values():
    assert speedup([1.0, 9.0], [1.0, 1.0]).total.value == 5.0
    assert speedup([1.0, 9.0], [1.0, 1.0]).geometric.value == pytest.approx(3.0)
    assert mean_time([1.0, 2.0, 6.0]).value == 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_speedup_lies_in_its_interval(kind):
    found = getattr(speedup(BASELINE, METHOD), kind)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sessions", [None, [i % 5 for i in range(len(BASELINE))]])
def test_a_constant_ratio_tells_no_interval_and_vanilla_beside_itself_needs_none(kind, sessions):
    found = getattr(speedup(BASELINE, [seconds / 1.5 for seconds in BASELINE], sessions), kind)
    assert (found.value, found.known, found.times) == (pytest.approx(1.5), False, "1.50x [?, ?]")
    assert getattr(speedup(BASELINE, BASELINE, sessions), kind).times == "1.00x [1.00, 1.00]"
    assert getattr(speedup(BASELINE, METHOD, sessions), kind).known
    assert not mean_time([2.0, 2.0]).known


@pytest.mark.parametrize("kind", KINDS)
def test_swapping_the_two_inverts_the_speedup(kind):
    found, inverse = getattr(speedup(BASELINE, METHOD), kind), getattr(speedup(METHOD, BASELINE), kind)
    assert inverse.value == pytest.approx(1 / found.value)
    assert inverse.low == pytest.approx(1 / found.high, rel=1e-3)


def test_confidence_counts():
    for estimate in (
        lambda c: speedup(BASELINE, METHOD, confidence=c).total,
        lambda c: mean_time(METHOD, confidence=c),
    ):
        wide, narrow = estimate(0.99), estimate(0.8)
        assert wide.low < narrow.low < narrow.high < wide.high


def test_the_interval_of_a_mean_is_about_the_normal_one():
    found = mean_time(METHOD)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(METHOD) / len(METHOD) ** 0.5, rel=0.1)


def test_sessions_that_differ_widen_the_interval_and_are_told():
    sessions = [i % 5 for i in range(300)]
    shifted = [own * math.exp(0.1 * (s - 2)) for own, s in zip(METHOD, sessions, strict=True)]
    alone, apart = speedup(BASELINE, shifted), speedup(BASELINE, shifted, sessions)
    assert alone.spread.between is None
    assert apart.spread.between == pytest.approx(0.1 * math.sqrt(2.5), rel=0.15)
    assert apart.total.value == alone.total.value
    expected = math.exp(2.776 * 0.1 * math.sqrt(2.5 / 5))  # Student's t with four degrees of freedom
    assert apart.total.high / apart.total.value == pytest.approx(expected, rel=0.05)


def test_the_numbers_of_sessions_are_names_only():
    sessions = [i % 4 for i in range(300)]
    assert speedup(BASELINE, METHOD, sessions) == speedup(BASELINE, METHOD, [10 * s + 7 for s in sessions])


def test_refusals():
    with pytest.raises(BildError, match=r"^There are 2 times of the baseline and 1 of the method: a speedup needs"):
        speedup([1.0, 2.0], [1.0])
    with pytest.raises(BildError, match=r"^There are 0 times of the baseline and 0 of the method"):
        speedup([], [])
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BildError, match=r"^A time is not a positive number of seconds"):
            speedup([1.0, 2.0], [1.0, bad])


def test_a_mean_of_nothing():
    with pytest.raises(BildError, match=r"^There is nothing to average"):
        mean_time([])


def test_sessions_of_unlike_sizes_that_agree_by_chance_leave_an_interval() -> None:
    """Stages of a sweep: many small sessions and a few large ones, which chance may make alike."""
    dice = np.random.default_rng(0)
    sizes = [6] * 10 + [13] * 5 + [26] * 5 + [51] * 5 + [98] * 5
    sessions, examples = np.repeat(np.arange(len(sizes)), sizes), sum(sizes)
    held, widths = 0, []
    for _ in range(300):
        base = np.exp(dice.normal(0, 0.35, examples))
        found = speedup(base, base / 2 * np.exp(dice.normal(0, 0.3, examples)), sessions).total
        held += found.low <= 2 / math.exp(0.3**2 / 2) <= found.high
        widths.append(math.log(found.high / found.low))
    assert held >= 0.92 * 300
    assert min(widths) > 0.5 * float(np.median(widths))
