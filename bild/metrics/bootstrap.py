"""Resamples of the examples, for what is predicted of many points at once: percentile bootstrap intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bild.results.parts import Interval

Floats = NDArray[np.float64]


def longer_side(value: float, low: float, high: float) -> float:
    """Return the longer half of an interval, whichever record it stands in."""
    return max(high - value, value - low)


def multiplicities(examples: int, draws: int, seed: int) -> Floats:
    """Count each example in each resample, draws x examples.

    Equal numbers of both with an equal seed give equal resamples, which makes every comparison paired.
    """
    generator = np.random.default_rng(seed)
    drawn = [np.bincount(generator.integers(0, examples, examples), minlength=examples) for _ in range(draws)]
    return np.array(drawn, np.float64).reshape(draws, examples)


def interval(value: float, resampled: Floats, confidence: float) -> Interval:
    """Put the percentile interval of the resampled estimates (one a draw) around an estimate."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=float(low), high=float(high))
