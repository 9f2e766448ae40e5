"""Percentiles of times, with intervals that assume no distribution of them (Woodruff 1952).

The share of the examples below a percentile is a proportion, whose interval is turned into times. Where several
sessions timed them, that share varies by more than chance, so the number of examples counts for less (Korn and
Graubard's effective number).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from bild.metrics.arrays import Floats
from bild.metrics.speedup import spread
from bild.results.parts import Percentile

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
