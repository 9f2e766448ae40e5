"""What is measured: baselines and the paper's settings always, and a spread of the predicted front."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.results.interval import Interval
from bild.results.predicted import PredictedPoint, PredictedScore, PredictedSeconds
from bild.sweep.grid import BASELINE, GRID, PUBLISHED, SweptPoint
from bild.sweep.measure_front import choose
from bild.sweep.predict import Candidate
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


def candidate(method: MethodConfig, threshold: ThresholdConfig, origin: str, point: PredictedPoint) -> Candidate:
    found = Candidate(SweptPoint(method, threshold, origin), np.zeros(0), np.zeros(0))
    found.predicted = point
    return found


@pytest.fixture
def points() -> list[Candidate]:
    """Vanilla, small, one published setting, and ten of a grid, every other one on the front."""
    found = [
        candidate(MethodConfig("vanilla"), ThresholdConfig(), BASELINE, predicted(1, 0, True)),
        candidate(MethodConfig("small"), ThresholdConfig(), BASELINE, predicted(3, 6, True)),
        candidate(USUAL, ThresholdConfig(0.99, 5), PUBLISHED, predicted(1.2, 3, False)),
    ]
    for i in range(10):
        seen = predicted(1.1 + i / 10, -0.05 + i / 5, i % 2 == 0)
        found.append(candidate(USUAL, ThresholdConfig(i / 10, 2), GRID, seen))
    return found


def chosen(points: list[Candidate], most: int) -> list[str | None]:
    choose(points, most)
    return [point.chosen for point in points]


def test_baselines_and_published_settings_always(points: list[Candidate]) -> None:
    assert chosen(points, 0) == [BASELINE, BASELINE, PUBLISHED, *[None] * 10]


def test_below_zero_everything(points: list[Candidate]) -> None:
    assert chosen(points, -1) == [BASELINE, BASELINE, PUBLISHED, *[GRID] * 10]


def test_only_points_of_the_front_are_added(points: list[Candidate]) -> None:
    assert chosen(points, 99)[3:] == ["front", None] * 5


def test_the_first_are_the_fastest_at_no_loss_and_at_one_point(points: list[Candidate]) -> None:
    fast = [i - 3 for i, why in enumerate(chosen(points, 2)) if why == "front"]
    assert fast == [0, 4]  # losses of -0.05 and 0.75; the next on the front would lose 1.15


def test_the_others_are_spread(points: list[Candidate]) -> None:
    assert [i - 3 for i, why in enumerate(chosen(points, 3)) if why == "front"] == [0, 4, 8]


def test_what_was_chosen_before_stays_chosen(points: list[Candidate]) -> None:
    points[4].chosen = "front"
    assert [i - 3 for i, why in enumerate(chosen(points, 2)) if why == "front"] == [0, 1, 4]


def test_a_front_without_any_difference_is_spread_too(points: list[Candidate]) -> None:
    for point in points:
        point.predicted = dataclasses.replace(point.predicted, difference=None)
    assert chosen(points, 4).count("front") == 4
