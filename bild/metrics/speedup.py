"""Speedups with intervals of two levels: the examples, and the sessions (processes) that timed them.

Each example is timed in one session. Its part in the log of a ratio of totals is B / mean(B) - M / mean(M), whose mean
is zero over all; sessions shift these by an amount of their own, which more examples do not average away. So the
variance of the estimate comes from the mean squares between and within sessions (a random-effects model), and its
degrees of freedom from Satterthwaite: with equal sessions, those of their number less one. All is on a log scale, so
an end is never below zero.

Percentiles of times have intervals that assume no distribution of them (Woodruff 1952): the share of the examples below
a percentile is a proportion, whose interval is turned into times. Where several sessions timed them, that share varies
by more than chance, so the number of examples counts for less (Korn and Graubard's effective number).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from bild.config import confidence_of
from bild.errors import BildError, refusing
from bild.metrics.claims import LEAST, Floats
from bild.results.interval import FARTHEST, Interval
from bild.results.parts import Percentile


@dataclass(frozen=True)
class Speed:
    """The ratio of total times, the geometric mean of the ratios, and the first's sd of the log between sessions."""

    total: Interval
    geometric: Interval
    spread: TwoLevels
    """Of the log of the total."""


@dataclass(frozen=True)
class TwoLevels:
    """The standard error of a mean of two levels, its degrees of freedom, and the sd between sessions.

    The last is null where there is one session, which cannot know it.
    """

    error: float
    freedom: float
    between: float | None


def speedup(
    baseline_seconds: Sequence[float],
    seconds: Sequence[float],
    sessions: Sequence[int] | None = None,
    *,
    confidence: float = 0.95,
) -> Speed:
    """Estimate the speedup as the paper does, total time over total time, and that of the typical example.

    The times are one per example, in the same order, and so are the numbers of the sessions that took them (null: all
    are of one). BildError where they do not fit together.
    """
    base, own = _taken(baseline_seconds), _taken(seconds)
    if len(base) != len(own) or not len(own):
        raise BildError(
            f"There are {len(base)} times of the baseline and {len(own)} of the method: "
            "a speedup needs both for the same examples, at least one."
        )
    confidence, numbers = confidence_of(confidence), _numbers(sessions, len(own))
    parts = base / base.mean() - own / own.mean()
    logarithms = np.log(base) - np.log(own)
    both = spread(parts, numbers)
    if (base == own).all():  # vanilla beside itself
        return Speed(Interval(1.0, 1.0, 1.0), Interval(1.0, 1.0, 1.0), both)
    return Speed(
        total=_around(float(base.sum() / own.sum()), both, confidence),
        geometric=_around(float(np.exp(logarithms.mean())), spread(logarithms, numbers), confidence),
        spread=both,
    )


def mean_time(values: Sequence[float], sessions: Sequence[int] | None = None, *, confidence: float = 0.95) -> Interval:
    """Estimate the mean of a positive figure per example, a time say, in its unit."""
    table = _taken(values)
    if not len(table):
        raise BildError("There is nothing to average: give the figure of at least one example.")
    numbers = _numbers(sessions, len(table))
    return _around(float(table.mean()), spread(table / table.mean(), numbers), confidence_of(confidence))


def _taken(values: Sequence[float]) -> Floats:
    """Return figures as an array. BildError where they are no list, or one is not positive."""
    table = _array(values, np.float64)
    if not (np.isfinite(table) & (table > 0)).all():
        raise BildError("A time is not a positive number of seconds: a speedup needs measured times for all examples.")
    return table


def _numbers(sessions: Sequence[int] | None, count: int) -> NDArray[np.int64]:
    """Return the numbers of the sessions of so many figures as an array. BildError where a figure lacks one."""
    numbers = np.zeros(count, np.int64) if sessions is None else _array(sessions, np.int64)
    if len(numbers) != count:
        raise BildError(f"There are {count} times and {len(numbers)} sessions: give the session of each time.")
    return numbers


def _array(values: Any, kind: type) -> NDArray[Any]:
    sentence = "A time is no number: give one for each example."
    with refusing(lambda _: sentence, ValueError, TypeError, OverflowError):
        table: NDArray[Any] = np.asarray(values, kind)
    if table.ndim != 1:
        raise BildError(sentence)
    return table


def width_of(sessions: int, between: float, confidence: float = 0.95) -> float:
    """Return the half-width, relative, that any number of examples in so many sessions leaves; infinite for one."""
    if sessions < 2:
        return math.inf
    return float(stdtrit(sessions - 1.0, (1.0 + confidence) / 2.0)) * between / math.sqrt(sessions)


def spread(values: Floats, sessions: NDArray[np.int64]) -> TwoLevels:
    """Return the standard error of the mean of values that several sessions share."""
    examples = len(values)
    _, which, sizes = np.unique(sessions, return_inverse=True, return_counts=True)
    count = len(sizes)
    means = np.bincount(which, values) / sizes
    squares_within = float(((values - means[which]) ** 2).sum())
    if count == 1:
        if examples == 1:
            return TwoLevels(math.inf, 1.0, None)
        return TwoLevels(math.sqrt(squares_within / (examples - 1) / examples), examples - 1.0, None)
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (count - 1)
    if examples == count:  # one example a session: the levels cannot be told apart
        return TwoLevels(math.sqrt(between / examples), count - 1.0, math.sqrt(between))
    within = squares_within / (examples - count)
    size = (examples - float((sizes**2).sum()) / examples) / (count - 1)
    share = float((sizes**2).sum()) / examples**2 / size  # of the mean square between in the variance of the mean
    rest = 1.0 / examples - share
    if rest < 0 and between < within:  # unlike sizes, and nothing seen between them: both squares estimate the same
        share, rest = 1.0 / examples, 0.0
    variance = max(share * between + rest * within, 1e-18)
    pieces = (share * between) ** 2 / (count - 1) + (rest * within) ** 2 / (examples - count)
    freedom = max(1.0, variance**2 / pieces) if pieces > 0 else count - 1.0
    return TwoLevels(math.sqrt(variance), freedom, math.sqrt(max(0.0, (between - within) / size)))


def _around(value: float, spread: TwoLevels, confidence: float) -> Interval:
    error = spread.error if spread.error > LEAST else math.inf  # figures that are all alike tell as much as one
    factor = min(FARTHEST, math.exp(min(50.0, float(stdtrit(spread.freedom, (1.0 + confidence) / 2.0)) * error)))
    return Interval(value, value / factor, value * factor)


PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def percentiles(
    values: Sequence[float], sessions: Sequence[int] | None = None, *, confidence: float = 0.95
) -> dict[str, Percentile]:
    """Estimate the 50th, 90th and 99th percentile of a figure per example, in its unit."""
    table = np.asarray(values, np.float64)
    numbers = np.zeros(len(table), np.int64) if sessions is None else np.asarray(sessions, np.int64)
    order = np.sort(table)
    return {name: _percentile(order, table, numbers, p, confidence) for name, p in PERCENTILES.items()}


def _percentile(order: Floats, table: Floats, sessions: NDArray[np.int64], p: float, confidence: float) -> Percentile:
    n = len(order)
    value = float(np.quantile(order, p))
    size = float(n)
    found = spread((table <= value).astype(np.float64), sessions)
    if found.between is not None and found.error > 0:
        plain, wide = (float(stdtrit(each, (1 + confidence) / 2)) for each in (n - 1.0, found.freedom))
        # Sessions may agree more closely than chance has them do: that is no more information than n examples hold.
        size = min(size, p * (1 - p) / found.error**2 * (plain / wide) ** 2)
    # With several sessions, too few in each beyond the percentile say nothing of how they differ.
    enough = found.between is None or n * min(p, 1 - p) >= 2 * len(np.unique(sessions))
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        share = float(betaincinv(size * p + 0.5, size * (1 - p) + 0.5, tail))  # Jeffreys' interval of the share below
        rank = share * (n + 1)
        known = enough and 1 <= rank <= n and 1 <= share * (size + 1) <= size
        ends.append(float(np.interp(rank, np.arange(1, n + 1), order)) if known else None)
    return Percentile(value, ends[0], ends[1])
