"""What is measured: baselines and the paper's settings always, and a spread of the predicted front."""

from __future__ import annotations

import dataclasses

import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.results.parts import Interval
from bild.results.predicted import PredictedPoint, PredictedScore, PredictedSeconds
from bild.sweep.grid import BASELINE, GRID, PUBLISHED, SweptPoint
from bild.sweep.measure_front import choose
from tests.records import make_record

RECORD = make_record()
USUAL = MethodConfig()


def predicted(speed: float, loss: float, front: bool) -> PredictedPoint:
    return PredictedPoint(
        "x",
        RECORD.method,
        RECORD.threshold,
        PredictedScore(40 - loss, 39, 41),
        RECORD.counts,
        PredictedSeconds(1 / speed, 0.1, 1.0),
        Interval(speed, speed - 0.1, speed + 0.1),
        front,
        difference=Interval(-loss, -loss - 1, -loss + 1),
    )


@pytest.fixture
def points() -> tuple[list[SweptPoint], list[PredictedPoint]]:
    """Vanilla, small, one published setting, and ten of a grid, every other one on the front."""
    swept = [
        SweptPoint(MethodConfig("vanilla"), ThresholdConfig(), BASELINE),
        SweptPoint(MethodConfig("small"), ThresholdConfig(), BASELINE),
        SweptPoint(USUAL, ThresholdConfig(0.99, 5), PUBLISHED),
    ]
    seen = [predicted(1, 0, True), predicted(3, 6, True), predicted(1.2, 3, False)]
    for i in range(10):
        swept.append(SweptPoint(USUAL, ThresholdConfig(i / 10, 2), GRID))
        seen.append(predicted(1.1 + i / 10, -0.05 + i / 5, i % 2 == 0))
    return swept, seen


def test_baselines_and_published_settings_always(points: tuple[list[SweptPoint], list[PredictedPoint]]) -> None:
    assert choose(*points, 0) == [BASELINE, BASELINE, PUBLISHED, *[None] * 10]


def test_below_zero_everything(points: tuple[list[SweptPoint], list[PredictedPoint]]) -> None:
    assert choose(*points, -1) == [BASELINE, BASELINE, PUBLISHED, *[GRID] * 10]


def test_only_points_of_the_front_are_added(points: tuple[list[SweptPoint], list[PredictedPoint]]) -> None:
    assert choose(*points, 99)[3:] == ["front", None] * 5


def test_the_first_are_the_fastest_at_no_loss_and_at_one_point(
    points: tuple[list[SweptPoint], list[PredictedPoint]],
) -> None:
    chosen = choose(*points, 2)
    fast = [i - 3 for i, why in enumerate(chosen) if why == "front"]
    assert fast == [0, 4]  # losses of -0.05 and 0.75; the next on the front would lose 1.15


def test_the_others_are_spread(points: tuple[list[SweptPoint], list[PredictedPoint]]) -> None:
    chosen = choose(*points, 3)
    assert [i - 3 for i, why in enumerate(chosen) if why == "front"] == [0, 4, 8]


def test_a_front_without_any_loss_told_is_spread_too(
    points: tuple[list[SweptPoint], list[PredictedPoint]],
) -> None:
    swept, seen = points
    untold = [dataclasses.replace(point, difference=None) for point in seen]
    assert sum(why == "front" for why in choose(swept, untold, 4)) == 4
