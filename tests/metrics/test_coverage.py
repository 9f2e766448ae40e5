"""A small, seeded part of the check that intervals cover what they say; `scripts/check_coverage.py` makes all of it."""

from __future__ import annotations

import numpy as np
import pytest

from bild.metrics.claims import difference
from bild.metrics.speedup import percentiles, speedup
from scripts.check_busy import contradict
from scripts.check_coverage import SessionTimes, Texts

REPEATS = 400
NEAR = 0.035  # three standard deviations of a share of 95 % of 400


@pytest.mark.slow
@pytest.mark.parametrize(("between", "k", "n"), [(0.0, 1, 12), (0.02, 5, 60), (0.1, 5, 200), (0.1, 10, 60)])
def test_a_speedups_interval_holds_the_examples_and_the_sessions(between: float, k: int, n: int) -> None:
    times, random = SessionTimes(between), np.random.default_rng(5)
    held = 0
    for _ in range(REPEATS):
        base, own, sessions = times.sample(random, n, k)
        found = speedup(list(base), list(own), list(sessions)).total
        held += found.low <= times.truth <= found.high
    assert held / REPEATS == pytest.approx(0.95, abs=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changed", "n"), [("bleu", 0.2, 200), ("bleu", 0.8, 25), ("mean", 0.2, 200)])
def test_the_one_sided_ends_of_a_difference_are_wrong_in_five_of_a_hundred(kind: str, changed: float, n: int) -> None:
    texts, random = Texts(kind, changed), np.random.default_rng(6)
    below = above = 0
    for _ in range(REPEATS):
        found = difference(*texts.sample(random, n), texts.scorer)
        below += found.lower <= texts.truth
        above += found.upper >= texts.truth
    assert below / REPEATS == pytest.approx(0.95, abs=NEAR)
    assert above / REPEATS == pytest.approx(0.95, abs=NEAR)


def test_few_texts_that_differ_make_cautious_ends() -> None:
    texts, random = Texts("mean", 0.03), np.random.default_rng(7)
    false = sum(difference(*texts.sample(random, 60), texts.scorer).lower > texts.truth for _ in range(REPEATS))
    assert false / REPEATS < 0.05


def test_percentiles_are_ordered_and_say_where_there_are_too_few() -> None:
    times = np.random.default_rng(8).lognormal(3, 0.5, 400)
    found = percentiles(list(times))
    for name, p in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert found[name].value == pytest.approx(np.quantile(times, p))
    assert found["p50"].low is not None
    assert found["p50"].high is not None
    assert found["p50"].low < found["p50"].value < found["p50"].high < found["p90"].value
    few = percentiles(list(times[:40]))
    assert (few["p99"].low, few["p99"].high) == (few["p99"].low, None)
    assert percentiles([1.0])["p50"].low is None
    several = percentiles(list(times[:12]), [i % 5 for i in range(12)])
    assert (several["p50"].low, several["p50"].high) == (None, None)


def test_claims_of_a_quiet_and_a_busy_run_contradict_where_both_cannot_hold() -> None:
    assert contradict(("shown", "faster"), ("refuted", "faster"))
    assert contradict(("shown", "slower"), ("shown", "faster"))
    assert not contradict(("shown", "faster"), ("undecided", "no claim"))
    assert not contradict(("refuted", "undecided"), ("refuted", "slower"))
