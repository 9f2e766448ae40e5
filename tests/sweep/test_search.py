"""The search: on made-up points whose best setting is known, and with its two halves kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bild.config import MethodConfig, ThresholdConfig
from bild.metrics.scorer import Scorer
from bild.sweep.config import Goal
from bild.sweep.grid import SweptPoint, vanilla_point
from bild.sweep.predict import Candidate, Predictor
from bild.sweep.search import Search, searched

EXAMPLES = 40


class Means(Scorer):
    """A score that is the mean of the first statistic."""

    def score(self, sums: np.ndarray, examples: int) -> float:
        return float(sums[0]) / examples


def candidate(point: SweptPoint, quality: np.ndarray, seconds: np.ndarray) -> Candidate:
    return Candidate(point, quality[:, None], seconds)


def evaluate(points: Sequence[SweptPoint]) -> list[Candidate]:
    """Quality falls with rb and rises with fb, speed the other way round; both smoothly, in steps of 0.01."""
    found = []
    for point in points:
        fb, rb = point.threshold.fb, min(point.threshold.rb, 10.0)
        quality = np.full(EXAMPLES, 40.0 - 0.3 * rb - 2.0 * (1 - fb) ** 2)
        # Two local optima: one near fb 0.37, a lower one near 0.8.
        speed = 1.0 + 0.08 * rb + 0.5 * np.exp(-((fb - 0.37) ** 2) / 0.01) + 0.3 * np.exp(-((fb - 0.8) ** 2) / 0.02)
        found.append(candidate(point, quality, np.full(EXAMPLES, 1.0 / speed)))
    return found


def search(goal: Goal, evaluated=evaluate) -> Search:
    predictor = Predictor(Means("bleu", ["x"] * EXAMPLES), EXAMPLES, 0.95)
    vanilla = candidate(vanilla_point(), np.full(EXAMPLES, 40.0), np.ones(EXAMPLES))
    half = np.arange(EXAMPLES) < EXAMPLES // 2
    return Search(goal, evaluated, predictor, vanilla, half)


def best_of_all(margin: float) -> float:
    """By trying every setting to 0.01."""
    fb, rb = np.meshgrid(np.arange(0, 101) / 100, np.arange(0, 1001) / 100)
    quality = -0.3 * rb - 2.0 * (1 - fb) ** 2
    speed = 1.0 + 0.08 * rb + 0.5 * np.exp(-((fb - 0.37) ** 2) / 0.01) + 0.3 * np.exp(-((fb - 0.8) ** 2) / 0.02)
    return float(speed[quality >= -margin - 1e-9].max())


@pytest.mark.parametrize("margin", [1.0, 2.0, 0.5])
def test_the_fastest_within_a_margin_is_found_to_the_hundredth(margin: float) -> None:
    answer = search(Goal("speedup", margin)).run([MethodConfig()])
    assert answer.split is not None
    assert answer.split.reported_on.difference >= -margin - 1e-6
    assert answer.split.reported_on.speedup == pytest.approx(best_of_all(margin), abs=0.01)


def test_the_best_quality_at_a_speed() -> None:
    answer = search(Goal("quality", 1.6)).run([MethodConfig()])
    assert answer.same is not None
    assert answer.same.reported_on.speedup >= 1.6 - 1e-6
    assert answer.same.reported_on.difference > -1.2


def test_a_bound_that_nothing_keeps_is_said() -> None:
    answer = search(Goal("quality", 9.0)).run([MethodConfig()])
    assert (answer.split, answer.same) == (None, None)


def test_what_is_chosen_on_one_half_is_reported_on_the_other() -> None:
    def lucky(points: Sequence[SweptPoint]) -> list[Candidate]:
        found = []
        for one in evaluate(points):
            seconds = one.seconds.copy()
            if one.point.threshold == ThresholdConfig(0.6, 1.0):
                seconds[: EXAMPLES // 2] /= 3  # by chance, on the half that is chosen on
            found.append(Candidate(one.point, one.table, seconds))
        return found

    answer = search(Goal("speedup", 1.0), lucky).run([MethodConfig()])
    assert answer.split is not None
    assert answer.split.point.threshold == ThresholdConfig(0.6, 1.0)
    assert answer.split.reported_on.speedup < answer.split.chosen_on.speedup / 2
    assert answer.halves == (20, 20)


def by_axes(points: Sequence[SweptPoint]) -> list[Candidate]:
    """Quality falls with alpha and the cap, speed rises with them and has its best fb at 0.37."""
    found = []
    for point in points:
        fb, alpha, top = point.threshold.fb or 0.0, point.threshold.alpha or 0.0, point.threshold.top or 0
        quality = np.full(EXAMPLES, 40.0 - 5.0 * alpha - 0.1 * min(top, 30))
        speed = 1.0 + alpha + 0.01 * min(top, 30) + 0.5 * np.exp(-((fb - 0.37) ** 2) / 0.01)
        found.append(candidate(point, quality, np.full(EXAMPLES, 1.0 / speed)))
    return found


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (MethodConfig("cascade"), ["fb", "alpha"]),
        (MethodConfig("relaxed"), ["fb", "alpha", "top"]),
        (MethodConfig(keep="top"), ["fb", "top"]),
        (MethodConfig("speculative"), ["fb"]),
        (MethodConfig("heuristic"), []),
    ],
)
def test_every_method_is_searched_over_its_own_thresholds(method: MethodConfig, names: list[str]) -> None:
    assert searched(method) == names
    answer = search(Goal("speedup", 1.0), by_axes).run([method])
    assert answer.same is not None
    found = answer.same.point.threshold
    assert {name for name in ("fb", "rb", "alpha", "top") if getattr(found, name) is not None} == set(names)
    assert answer.same.reported_on.difference >= -1.0 - 1e-6
    if "fb" in names:
        assert found.fb == pytest.approx(0.37)
    if names == ["fb", "alpha"]:
        assert found.alpha == pytest.approx(0.2)
    if names == ["fb", "top"]:
        assert found.top == 10


@pytest.mark.slow
def test_the_front_is_the_front_of_all_that_was_tried() -> None:
    answer = search(Goal("front")).run([MethodConfig(), MethodConfig(rules="authors")])
    speeds = [one.chosen_on.speedup for one in answer.front]
    scores = [one.chosen_on.score for one in answer.front]
    assert speeds == sorted(speeds)
    assert scores == sorted(scores, reverse=True)
    assert len(set(zip(speeds, scores, strict=True))) == len(speeds) > 10
