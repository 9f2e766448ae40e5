"""The stages of the measured front: how far the sub-sample grows, and who is given up, from stored times alone."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bild.config import MeasureConfig, MethodConfig, ThresholdConfig
from bild.results.sample import PhaseTimes, Sample, VanillaRun
from bild.sweep.config import GridConfig
from bild.sweep.grid import BASELINE, GRID, SweptPoint
from bild.sweep.measure_front import MeasuredFront, relative_width
from bild.sweep.predict import Candidate
from tests.records import make_sample


class Folder:
    """Examples that take `seconds` each, give or take, against a second of vanilla."""

    def __init__(self, seconds: float, noise: float) -> None:
        self.seconds, self.noise = seconds, noise
        self.dice = random.Random(seconds)
        self.done: list[Sample] = []

    def samples(self) -> list[Sample]:
        return self.done

    def sessions(self) -> dict[int, Any]:
        return {}

    def measure(self, ids: list[str]) -> None:
        for name in ids[len(self.done) :]:
            ns = round(1e9 * self.seconds * self.dice.uniform(1 - self.noise, 1 + self.noise))
            times = PhaseTimes(ns, 0, 0, 0, 0, 0)
            self.done.append(make_sample(id=name, ns=times, baseline=VanillaRun([0, 1], 10**9, "")))


def candidate(name: str, chosen: str, quality: float, seconds: float, noise: float = 0.2) -> Candidate:
    nothing = np.zeros(0)
    found = Candidate(
        SweptPoint(MethodConfig(name), ThresholdConfig(seconds, 5), GRID), nothing, nothing, chosen=chosen
    )
    found.predicted = SimpleNamespace(quality=SimpleNamespace(score=quality))  # type: ignore[assignment]
    found.subject = SimpleNamespace(folder=Folder(seconds, noise))  # type: ignore[assignment]
    return found


class Played(MeasuredFront):
    """A measured front whose live decoding is made up."""

    def _stage(self) -> None:
        self.stages.append(self.examples)
        ids = [example.id for example in self.work.queue[: self.examples]]
        for c in self.candidates:
            if c.active:
                c.folder.measure(ids)  # type: ignore[attr-defined]
        self._samples.clear()

    def _finish(self) -> None:
        pass


def play(candidates: list[Candidate], examples: int = 2000, **grid: Any) -> Played:
    queue = [SimpleNamespace(id=f"e{i}") for i in range(examples)]
    config = SimpleNamespace(sweep=GridConfig(**grid), measure=MeasureConfig(), task=SimpleNamespace(name="t"))
    front = Played(SimpleNamespace(queue=queue, config=config), candidates, None)  # type: ignore[arg-type]
    front.stages = []  # type: ignore[attr-defined]
    front.run()
    return front


def vanilla() -> Candidate:
    return candidate("vanilla", BASELINE, 40.0, 1.0, noise=0.0)


def test_the_sample_grows_until_every_speedup_is_known() -> None:
    front = play([vanilla(), candidate("bild", "front", 39.0, 0.5)], width=0.01, minutes=1e6)
    assert front.stages[0] == 32
    assert front.stages == sorted(set(front.stages))
    assert relative_width(front.speedup(front.candidates[1])) <= 0.01
    assert front.examples < 2000


def test_no_more_examples_than_there_are() -> None:
    assert play([vanilla(), candidate("bild", "front", 39.0, 0.5)], examples=50, width=0.001).examples == 50


def test_the_budget_ends_it() -> None:
    front = play([vanilla(), candidate("bild", "front", 39.0, 0.5)], width=0.001, minutes=3)
    assert front._seconds() <= 3 * 60 * 1.02
    assert front.examples > 100


def test_a_budget_that_is_spent_by_the_first_stage() -> None:
    assert play([vanilla(), candidate("bild", "front", 39.0, 0.5)], width=0.001, minutes=0).stages == [32]


def test_a_point_that_is_surely_slower_and_no_better_is_given_up() -> None:
    slow, fast = candidate("bild", "front", 39.0, 0.8), candidate("bild", "front", 39.0, 0.5)
    better = candidate("bild", "front", 39.5, 0.82)
    play([vanilla(), slow, fast, better], width=0.01)
    assert slow.given_up is not None
    assert f"surely slower than {fast.point.label}, " in slow.given_up
    assert len(slow.folder.samples()) == 32
    assert fast.given_up is None
    assert better.given_up is None


@pytest.mark.parametrize("why", ["baseline", "published", "grid"])
def test_only_points_of_the_front_are_given_up(why: str) -> None:
    slow = candidate("bild", why, 39.0, 0.8)
    play([vanilla(), slow, candidate("bild", "front", 39.0, 0.5)], width=0.01)
    assert slow.given_up is None


def test_one_that_failed_does_not_hold_up_the_others() -> None:
    broken = candidate("bild", "front", 39.0, 0.5)
    broken.failed = "e3: NaN"
    front = play([vanilla(), broken, candidate("bild", "front", 39.0, 0.6)], width=0.02)
    assert relative_width(front.speedup(front.candidates[2])) <= 0.02


def test_the_same_times_decide_the_same_again() -> None:
    points = [vanilla(), candidate("bild", "front", 39.0, 0.8), candidate("bild", "front", 39.0, 0.5)]
    first = play(points, width=0.01)
    again = [dataclasses.replace(c, given_up=None) for c in points]
    for new, old in zip(again, points, strict=True):
        new.predicted = old.predicted
    second = play(again, width=0.01)
    assert second.stages == first.stages
    assert [c.given_up for c in again] == [c.given_up for c in points]
