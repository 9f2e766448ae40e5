"""Verdicts: what the ends of a paired difference say of a margin, alone and together."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from bild.errors import BildError
from bild.metrics.claims import Verdict, difference, examples_needed, holm, judge, score_interval, verdict
from bild.results.interval import Difference


class Mean:
    """A score that is a mean, in points."""

    def scores(self, sums, examples):
        return 100 * sums[:, 0] / examples


def a_difference(value: float, sd: float = 0.2) -> Difference:
    return Difference(value, value - 1.96 * sd, value + 1.96 * sd, value - 1.645 * sd, value + 1.645 * sd, sd)


@pytest.mark.parametrize(
    ("value", "margin", "kind"),
    [
        (0.0, 0.5, "shown"),
        (-0.17, 0.5, "shown"),  # the lower end is -0.499
        (-0.18, 0.5, "undecided"),
        (0.01, 0.0, "undecided"),
        (-0.82, 0.5, "undecided"),
        (-0.83, 0.5, "refuted"),
        (0.4, 0.0, "shown"),
        (-0.4, 0.0, "refuted"),
    ],
)
def test_the_one_sided_end_decides(value: float, margin: float, kind: str) -> None:
    found = verdict(a_difference(value), margin, 100)
    assert (found.kind, found.margin, found.examples) == (kind, margin, 100)
    assert (found.more is not None) == (kind == "undecided")


def test_a_verdict_reads_as_a_sentence() -> None:
    assert str(verdict(a_difference(0.0), 0.5, 100)) == "shown within 0.5"
    assert str(verdict(a_difference(-2.0), 0.5, 100)) == "refuted at 0.5"
    assert str(verdict(a_difference(-0.25), 0.5, 100)) == "undecided at 0.5, about 300 more examples"
    stuck = str(verdict(a_difference(-0.5), 0.5, 100))
    assert stuck == "undecided at 0.5, too close to the margin for any number of examples"


def test_examples_that_are_all_alike_tell_no_interval_and_decide_nothing() -> None:
    own, vanilla = np.array([[0.5], [0.5]]), np.array([[0.4], [0.4]])
    for n, shift in ((1, 0.0), (2, 0.0), (1000, 0.3)):  # so many that differ by one constant know no more
        base = np.linspace(0.2, 0.6, n)[:, None] if shift else vanilla[:n]
        found = judge(base + shift if shift else own[:n], base, Mean(), 0.5)
        assert (found.kind, found.more_words, found.difference.known) == ("undecided", "?", False)
        assert found.difference.one_sided.endswith("0.00 [?, ?]")
        assert str(found) == (
            "undecided at 0.5, because the interval is not known from examples that are all alike, or one"
        )
    assert not score_interval(own, Mean()).known
    exact = difference(own, own, Mean(), exact=True)
    assert (exact.known, str(verdict(exact, 0.0, 2))) == (True, "shown within 0")
    old = dataclasses.replace(exact, value=0.3, low=0.3, high=0.3, lower=0.3, upper=0.3)
    assert verdict(old, 0.5, 2).kind == "undecided"  # as records of before had it


def test_so_many_more_examples_do_decide_it_four_times_in_five() -> None:
    """The promise of the number: with it, a claim of this difference and spread is decided with a chance of 80 %."""
    random, sd, value, margin = np.random.default_rng(3), 4.0, -0.1, 0.5
    needed = examples_needed(sd, margin, value)
    assert needed == math.ceil((2.4865 * sd / 0.4) ** 2)
    means = value + random.normal(0, sd / math.sqrt(needed), 4000)
    assert np.mean(means - 1.645 * sd / math.sqrt(needed) > -margin) == pytest.approx(0.8, abs=0.02)
    assert examples_needed(sd, margin, -0.5) is None
    assert examples_needed(1e200, margin) is None
    assert examples_needed(sd, 0.0, 5e-324) is None


def test_judging_takes_the_statistics_of_each_example() -> None:
    random = np.random.default_rng(0)
    vanilla = random.beta(3, 3, (800, 1))
    same = judge(np.clip(vanilla + random.normal(0, 0.02, (800, 1)), 0, 1), vanilla, Mean(), 0.5)
    worse = judge(vanilla - random.normal(0.05, 0.001, (800, 1)), vanilla, Mean(), 0.5)
    assert (same.kind, worse.kind, worse.examples) == ("shown", "refuted", 800)
    with pytest.raises(BildError, match="a paired difference needs both systems' statistics of the same examples"):
        judge(vanilla[:5], vanilla, Mean(), 0.5)


def test_right_or_wrong_is_mcnemars_interval_as_bonett_and_price_have_it() -> None:
    right = np.array([1] * 60 + [0] * 40, float)[:, None]
    own = right.copy()
    own[:9], own[60:75] = 0.0, 1.0  # 9 became wrong, 15 became right
    found = difference(own, right, Mean())
    assert found.value == pytest.approx(6.0)
    b, c, n = 15, 9, 100
    wald = 100 * math.sqrt((b + c + 2 - (b - c) ** 2 / n) / n**2)
    assert found.sd == pytest.approx(wald, rel=0.02)
    assert found.low < found.lower < found.value < found.upper < found.high


def test_a_method_that_is_exact_by_its_rules_is_shown_by_few_examples_and_another_is_not() -> None:
    table = np.full((30, 1), 0.4)
    assert verdict(difference(table, table, Mean(), exact=True), 0.0, 30).kind == "shown"
    assert judge(table, table, Mean(), 0.5).kind == "undecided"
    many = np.full((600, 1), 0.4)
    assert judge(many, many, Mean(), 0.5).kind == "shown"


def together(*values: float, margin: float = 0.5) -> list[str]:
    return [each.kind for each in holm([verdict(a_difference(value), margin, 100) for value in values])]


def test_together_the_best_needs_most_and_one_alone_what_it_needed() -> None:
    assert together(-0.16) == ["shown"]
    assert together(-0.16, -0.16, -0.16) == ["undecided"] * 3
    assert together(0.1, -0.16) == ["shown", "shown"]  # the first stands at 2.5 %, then the second at 5 %
    assert together(0.1, -0.16, -0.5) == ["shown", "undecided", "undecided"]
    assert together(-2.0, -0.5, 0.3) == ["refuted", "undecided", "shown"]


def test_what_no_longer_stands_says_what_would_decide_it() -> None:
    weak = holm([verdict(a_difference(-0.16), 0.5, 100)] * 3)[0]
    assert isinstance(weak, Verdict)
    assert weak.more is not None
    assert weak.more > 0
    assert "Holm over 3" in weak.rule


def test_holm_keeps_the_chance_of_any_false_claim() -> None:
    """Twenty candidates that all lie at the margin: alone each is shown falsely in 5 %, together any in 5 %."""
    random, false = np.random.default_rng(1), 0
    for _ in range(400):
        values = -0.5 + random.normal(0, 0.2, 20)
        false += "shown" in together(*values)
    assert false / 400 < 0.08


def test_ends_are_monotone_however_few_texts_differ() -> None:
    random = np.random.default_rng(2)
    for changed in (1, 2, 3, 5, 30):
        other = random.beta(3, 3, (200, 1))
        own = other.copy()
        own[:changed] *= 0.2
        found = difference(own, other, Mean())
        assert found.low <= found.lower < found.value < found.upper <= found.high
        assert dataclasses.astuple(found) == tuple(map(float, dataclasses.astuple(found)))
