"""Percentiles of times, with intervals that assume no distribution (Woodruff 1952; fractional order statistics).

The share of the examples below a percentile is a proportion, whose interval is turned into times. Where several
sessions timed them, that share varies by more than chance, so the number of examples counts for less (Korn and
Graubard's effective number).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bild.metrics.bootstrap import Floats
from bild.metrics.speedup import spread
from bild.metrics.student import beta_quantile, t_quantile
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


def _percentile(order: Floats, table: Floats, sessions: np.ndarray, p: float, confidence: float) -> Percentile:
    n = len(order)
    value = float(np.quantile(order, p))
    size = float(n)
    found = spread((table <= value).astype(np.float64), sessions)
    if found.between is not None and found.error > 0:
        plain, wide = (t_quantile((1 + confidence) / 2, max(1.0, each)) for each in (n - 1.0, found.freedom))
        size = min(size, p * (1 - p) / found.error**2 * (plain / wide) ** 2)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        rank = _rank(p, size, tail) * (n + 1) / (size + 1)
        ends.append(float(np.interp(rank, np.arange(1, n + 1), order)) if 1 <= rank <= n else None)
    return Percentile(value, ends[0], ends[1])


def _rank(p: float, size: float, tail: float) -> float:
    """Return the fractional rank r of `size` values whose r-th lies above the p-quantile with probability `tail`."""
    low, high = 0.5, size + 0.5
    for _ in range(40):
        middle = (low + high) / 2
        below = beta_quantile(1 - tail, middle, size + 1 - middle)  # the r-th value's share, at this probability
        low, high = (middle, high) if below < p else (low, middle)
    return (low + high) / 2
