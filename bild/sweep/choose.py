"""Which predicted points are measured: the baselines, the paper's settings, and a spread of the predicted front."""

from __future__ import annotations

from collections.abc import Sequence

from bild.report.front import ANCHORS, ONE_POINT
from bild.results.predicted import PredictedPoint
from bild.sweep.grid import BASELINE, GRID, SweptPoint

FRONT = "front"


def choose(points: Sequence[SweptPoint], predicted: Sequence[PredictedPoint], most: int) -> list[str | None]:
    """Why each point is measured ("baseline", "published", "front"), or None: in the order of the points.

    Of the front's other points at most `most`: first the fastest at no loss of quality and at one point's, then always
    the one that is farthest in speed from all that were taken. Below 0, every point of the grid ("grid").
    """
    if most < 0:
        return [point.why for point in points]
    why: list[str | None] = [point.why if point.why != GRID else None for point in points]
    room = [i for i, (point, own) in enumerate(zip(points, predicted, strict=True)) if own.front and point.why == GRID]
    taken: list[int] = []
    for allowed in (0.0, ONE_POINT):
        within = [i for i in room if -_difference(predicted[i]) <= allowed + 1e-9]
        if within and len(taken) < most:
            best = max(within, key=lambda i: predicted[i].speedup.value)
            taken += [best] if best not in taken else []
    ends = [i for i, point in enumerate(points) if point.why == BASELINE and point.method.name in ANCHORS]
    while len(taken) < min(most, len(room)):
        there = [predicted[i].speedup.value for i in (*ends, *taken)]

        def gap(i: int, there: list[float] = there) -> float:
            return min((abs(predicted[i].speedup.value - speed) for speed in there), default=0.0)

        taken.append(max((i for i in room if i not in taken), key=gap))
    for i in taken:
        why[i] = FRONT
    return why


def _difference(point: PredictedPoint) -> float:
    return point.difference.value if point.difference is not None else 0.0
