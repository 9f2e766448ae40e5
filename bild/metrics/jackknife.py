"""Intervals of scores and of their paired differences by the jackknife: what each example does to the score of all.

The influences also tell the skewness that the ends are corrected by (Edgeworth; Hall 1992), and the quantiles are those
of Student's t, so that few examples say little instead of too much.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from bild.errors import BildError
from bild.metrics.bootstrap import Floats
from bild.metrics.student import t_quantile
from bild.results.parts import Difference, Interval

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

    Where few texts differ, the ones seen say little of those to come: two more are assumed, of opposite signs and of
    the usual size (Bonett and Price's adjustment of McNemar's interval, which this is where an example is right or
    wrong); where none differs, of the size of the score itself. A method that is `exact` by its rules needs no such
    doubt while none differs. Without `other`, the score itself is estimated.
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
    value, influence, size = influences(own, scorer)
    if other is not None:
        theirs, influence_of_other, size = influences(other, scorer)
        value, influence = value - theirs, influence - influence_of_other
    if n == 1:
        return Difference(value, value - _ALL, value + _ALL, value - _ALL, value + _ALL, _ALL)
    squares = float((influence**2).sum())
    if other is not None:
        squares += 2.0 * (float((influence[changed] ** 2).mean()) if changed.any() else size**2)
    error = math.sqrt(squares / (n * (n - 1)))
    skewness = float((influence**3).sum()) / squares**1.5 if squares else 0.0

    def end(p: float) -> float:
        """Return the end that the truth lies below with probability p."""
        t = t_quantile(p, n - 1.0)
        return value + error * (t + skewness * (2.0 * t**2 + 1.0) / 6.0)

    tail = 1.0 - confidence
    return Difference(value, end(tail / 2), end(1 - tail / 2), end(tail), end(1 - tail), error)


def influences(table: Floats, scorer: Scores) -> tuple[float, Floats, float]:
    """Return the score of all, what each example adds to it times their number, and the score's size."""
    n, sums = len(table), table.sum(axis=0)
    value = float(scorer.scores(sums[None, :], n)[0])
    if n == 1:
        return value, np.zeros(1), abs(value)
    without = scorer.scores(sums - table, n - 1)
    return value, (n - 1) * (without.mean() - without), abs(value)
