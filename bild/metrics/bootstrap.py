"""Percentile bootstrap intervals over examples: of scores, of differences of scores, and of speedups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bild.errors import BildError
from bild.results.parts import Interval

Floats = NDArray[np.float64]


def longer_side(value: float, low: float, high: float) -> float:
    """Return the longer half of an interval, whichever record it stands in."""
    return max(high - value, value - low)


def resampled_sums(table: Floats, draws: int, seed: int) -> Floats:
    """Sum the rows of `table` (examples x statistics) over resamples of its rows: draws x statistics.

    Equal numbers of rows and draws with an equal seed give equal resamples. That makes every comparison paired: the
    statistics of two systems (or their times) are summed over the same examples in each draw.
    """
    examples = len(table)
    sums = np.empty((draws, table.shape[1]))
    for draw, times in enumerate(_resamples(examples, draws, seed)):
        sums[draw] = times @ table
    return sums


def multiplicities(examples: int, draws: int, seed: int) -> Floats:
    """Count each example in each resample, draws x examples: the resamples of `resampled_sums`."""
    return np.array([*_resamples(examples, draws, seed)], np.float64).reshape(draws, examples)


def _resamples(examples: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the count of each example in each resample."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(0, examples, examples), minlength=examples)


def interval(value: float, resampled: Floats, confidence: float) -> Interval:
    """Put the percentile interval of the resampled estimates (one a draw) around an estimate."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def mean(values: Sequence[float], *, draws: int = 1000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Estimate the mean of a figure per example (a time, say), in its unit."""
    if not len(values):
        raise BildError("There is nothing to average: give the figure of at least one example.")
    table = np.asarray(values, dtype=np.float64)[:, None]
    return interval(float(table.mean()), resampled_sums(table, draws, seed)[:, 0] / len(table), confidence)


def ratio_of_totals(
    baseline_seconds: Sequence[float],
    seconds: Sequence[float],
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate the speedup as the paper does: total time of the baseline over total time of the method.

    Both have one time per example, in the same order.
    """
    table = _paired_times(baseline_seconds, seconds)
    baseline, method = table.sum(axis=0)
    sums = resampled_sums(table, draws, seed)
    return interval(float(baseline / method), sums[:, 0] / sums[:, 1], confidence)


def geometric_mean_ratio(
    baseline_seconds: Sequence[float],
    seconds: Sequence[float],
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Estimate the speedup of the typical example: the geometric mean of the per-example ratios of times."""
    table = _paired_times(baseline_seconds, seconds)
    logarithms = np.log(table[:, :1]) - np.log(table[:, 1:])
    means = resampled_sums(logarithms, draws, seed)[:, 0] / len(table)
    return interval(float(np.exp(logarithms.mean())), np.exp(means), confidence)


def _paired_times(baseline_seconds: Sequence[float], seconds: Sequence[float]) -> Floats:
    if len(baseline_seconds) != len(seconds) or not len(seconds):
        raise BildError(
            f"There are {len(baseline_seconds)} times of the baseline and {len(seconds)} of the method: "
            "a speedup needs both for the same examples, at least one."
        )
    table = np.column_stack([np.asarray(baseline_seconds, np.float64), np.asarray(seconds, np.float64)])
    if not (np.isfinite(table).all() and (table > 0).all()):
        raise BildError("A time is not a positive number of seconds: a speedup needs measured times for all examples.")
    return table
