"""The Pareto front of speedup and quality, and the two picks of the paper's Table 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bild.results import Record

ANCHORS = ("vanilla", "small")
ONE_POINT = 1.0
_ROUNDING = 1e-9  # a quality stored as 40.33 - 0.33 is still 40


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (speedup, quality) that no other point beats, from slow to fast.

    One point beats another when it is as good in both and better in one; so of equal points all stay.
    """
    if any(math.isnan(value) for point in points for value in point):
        raise ValueError("a point of the front is NaN")
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1], index))
    kept: list[int] = []
    best = -math.inf
    last: tuple[float, float] | None = None
    for index in order:
        if points[index][1] > best or points[index] == last:
            kept.append(index)
            best, last = points[index][1], points[index]
    return sorted(kept, key=lambda index: (points[index][0], -points[index][1], index))


@dataclass(frozen=True)
class Picks:
    """The fastest BiLD point at no loss of quality, and at a loss of one point at most; None where there is none."""

    no_loss: Record | None
    one_point: Record | None


def picks(records: Sequence[Record]) -> Picks:
    """Return the paper's two picks among the BiLD points, judged by their quality less that of same-engine vanilla."""
    return Picks(_fastest(records, 0.0), _fastest(records, ONE_POINT))


def loss(record: Record, records: Sequence[Record]) -> float | None:
    """Return how many points of quality the record lost against same-engine vanilla; None where nothing tells."""
    if record.headline_difference is not None:
        return -record.headline_difference.value
    vanilla = next((other for other in records if other.method.name == "vanilla"), None)
    return None if vanilla is None else vanilla.headline.value - record.headline.value


def _fastest(records: Sequence[Record], allowed: float) -> Record | None:
    candidates = []
    for record in records:
        lost = loss(record, records) if record.method.name == "bild" else None
        if lost is not None and lost <= allowed + _ROUNDING:
            candidates.append(record)
    return max(candidates, key=lambda record: (record.latency.speedup.total.value, record.headline.value), default=None)
