"""Intervals of scores and of their paired differences by the jackknife: what each example does to the score of all.

The influences also tell the skewness that the ends are corrected by (Edgeworth; Hall 1992), and the quantiles are those
of Student's t, so that few examples say little instead of too much. Only texts that differ say anything of a
difference, and they differ by much or little: the degrees of freedom are half their number, which simulation chose
(`scripts/check_coverage.py`). Fewer than twenty make the ends cautious: they cover more than they say.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from bild.errors import BildError
from bild.results.parts import Difference, Interval

Floats = NDArray[np.float64]
"""The arrays that statistics come in."""
_ALL = 100.0
"""Half the width of the interval from one example, in points: nothing is known."""


class Scores(Protocol):
    """Turns summed statistics into scores: `bild.metrics.Scorer`, or a score of `bild.metrics.statistics`."""

    def scores(self, sums: Floats, examples: int) -> Floats:
        """Return the scores of many sums [many, statistics], each over so many examples: [many]."""


def score_interval(table: Floats, scorer: Scores, confidence: float = 0.95) -> Interval:
    """Estimate the score of statistics [examples, statistics]."""
    found = difference(table, None, scorer, confidence)
    return Interval(found.value, found.low, found.high)


def difference(
    own: Floats, other: Floats | None, scorer: Scores, confidence: float = 0.95, exact: bool = False
) -> Difference:
    """Estimate a score less another one over the same examples; both tables are [examples, statistics].

    Where few texts differ, the ones seen say little of those to come. So two more are assumed, of opposite signs and of
    the usual size (Bonett and Price's adjustment of McNemar's interval, which this is where an example is right or
    wrong); and an end is never farther than if as many texts differed as the number seen allows (Clopper and Pearson),
    each by all that a text is worth: where none does, the rule of three. A method that is `exact` by its rules needs no
    such doubt. Without `other`, the score itself is estimated.
    """
    n = len(own)
    if not n or (other is not None and own.shape != other.shape):
        raise BildError(
            f"There are {n} and {0 if other is None else len(other)} examples: a paired difference needs both systems' "
            "statistics of the same examples, at least one."
        )
    changed = (own != other).any(axis=1) if other is not None else np.ones(n, bool)
    if exact and not changed.any():
        return Difference(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    value, influence = influences(own, scorer)
    worth = math.inf
    if other is not None:
        theirs, influence_of_other = influences(other, scorer)
        worth = math.sqrt(float(((theirs + influence_of_other) ** 2).mean()))
        value, influence = value - theirs, influence - influence_of_other
    if n == 1:
        return Difference(value, value - _ALL, value + _ALL, value - _ALL, value + _ALL, _ALL)
    few = int(changed.sum())
    squares, freedom = float((influence**2).sum()), n - 1.0
    if other is not None:
        squares += 2.0 * (float((influence[changed] ** 2).mean()) if few else worth**2)
        if not is_right_or_wrong(own):  # there every change is as large as another
            freedom = min(freedom, max(1.0, few / 2.0))
    error = math.sqrt(squares / (n * (n - 1)))
    skewness = float((influence**3).sum()) / squares**1.5 if squares else 0.0

    def end(p: float) -> float:
        """Return the end that the truth lies below with probability p."""
        z = NormalDist().inv_cdf(p)
        found = error * (float(stdtrit(freedom, p)) + skewness * (2.0 * z**2 + 1.0) / 6.0)
        if math.isfinite(worth):
            most = worth * float(betaincinv(few + 1.0, n - few + 0.5, max(p, 1.0 - p)))
            found = max(-most - value, found) if p < 0.5 else min(most - value, found)
        return value + found

    tail = 1.0 - confidence
    return Difference(value, end(tail / 2), end(1 - tail / 2), end(tail), end(1 - tail), error)


def is_right_or_wrong(table: Floats) -> bool:
    """Tell whether each example scores nothing or all, as with an exact match."""
    return table.shape[1] == 1 and bool(np.isin(table, (0.0, 1.0, 0.01)).all())


def influences(table: Floats, scorer: Scores) -> tuple[float, Floats]:
    """Return the score of all, and what each example adds to it, times their number."""
    n, sums = len(table), table.sum(axis=0)
    value = float(scorer.scores(sums[None, :], n)[0])
    if n == 1:
        return value, np.zeros(1)
    without = scorer.scores(sums - table, n - 1)
    return value, (n - 1) * (without.mean() - without)
