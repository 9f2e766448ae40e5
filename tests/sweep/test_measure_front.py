"""The stages of the measured front: how far the sub-sample grows, and who is given up, from stored times alone."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from bild.config import MeasureConfig, MethodConfig, ThresholdConfig
from bild.results.sample import PhaseTimes, Sample, VanillaRun
from bild.sweep.config import GridConfig
from bild.sweep.grid import BASELINE, SweptPoint
from bild.sweep.measure_front import Contender, Contest, relative_width
from tests.records import make_sample


class Folder:
    """Examples that take `seconds` each, give or take, against a second of vanilla."""

    def __init__(self, seconds: float, noise: float) -> None:
        self.seconds, self.noise = seconds, noise
        self.dice = random.Random(seconds)
        self.done: list[Sample] = []

    def samples(self) -> list[Sample]:
        return self.done

    def measure(self, ids: list[str]) -> None:
        for name in ids[len(self.done) :]:
            ns = round(1e9 * self.seconds * self.dice.uniform(1 - self.noise, 1 + self.noise))
            times = PhaseTimes(ns, 0, 0, 0, 0, 0)
            self.done.append(make_sample(id=name, ns=times, baseline=VanillaRun([0, 1], 10**9, "")))


def contender(name: str, why: str, quality: float, seconds: float, noise: float = 0.2) -> Contender:
    point = SweptPoint(MethodConfig(name), ThresholdConfig(seconds, 5), why)
    return Contender(point, why, quality, SimpleNamespace(folder=Folder(seconds, noise)))  # type: ignore[arg-type]


class Played(Contest):
    """A contest whose live decoding is made up."""

    def _stage(self) -> None:
        self.stages.append(self.examples)
        ids = [example.id for example in self.work.queue[: self.examples]]
        for c in self.contenders:
            if c.in_it and c.point.method.name != "broken":
                c.subject.folder.measure(ids)
        self._samples.clear()

    def _finish(self) -> None:
        pass


def play(contenders: list[Contender], examples: int = 2000, **grid: Any) -> Played:
    queue = [SimpleNamespace(id=f"e{i}") for i in range(examples)]
    config = SimpleNamespace(sweep=GridConfig(**grid), measure=MeasureConfig(draws=200), task=SimpleNamespace(name="t"))
    contest = Played(SimpleNamespace(queue=queue, config=config), contenders, None)  # type: ignore[arg-type]
    contest.stages = []  # type: ignore[attr-defined]
    contest.run()
    return contest


def vanilla() -> Contender:
    return contender("vanilla", BASELINE, 40.0, 1.0, noise=0.0)


def test_the_sample_grows_until_every_speedup_is_known() -> None:
    contest = play([vanilla(), contender("bild", "front", 39.0, 0.5)], width=0.01, minutes=1e6)
    assert contest.stages[0] == 32
    assert contest.stages == sorted(set(contest.stages))
    assert relative_width(contest.speedup(contest.contenders[1])) <= 0.01
    assert contest.examples < 2000


def test_no_more_examples_than_there_are() -> None:
    assert play([vanilla(), contender("bild", "front", 39.0, 0.5)], examples=50, width=0.001).examples == 50


def test_the_budget_ends_it() -> None:
    contest = play([vanilla(), contender("bild", "front", 39.0, 0.5)], width=0.001, minutes=3)
    assert contest._seconds() <= 3 * 60 * 1.02
    assert contest.examples > 100


def test_a_budget_that_is_spent_by_the_first_stage() -> None:
    assert play([vanilla(), contender("bild", "front", 39.0, 0.5)], width=0.001, minutes=0).stages == [32]


def test_a_point_that_is_surely_slower_and_no_better_is_given_up() -> None:
    slow, fast = contender("bild", "front", 39.0, 0.8), contender("bild", "front", 39.0, 0.5)
    better = contender("bild", "front", 39.5, 0.82)
    play([vanilla(), slow, fast, better], width=0.01)
    assert slow.gone is not None
    assert "surely slower than BiLD 0.5/5" in slow.gone
    assert len(slow.subject.folder.samples()) == 32
    assert fast.gone is None
    assert better.gone is None


@pytest.mark.parametrize("why", ["baseline", "published", "grid"])
def test_only_points_of_the_front_are_given_up(why: str) -> None:
    slow = contender("bild", why, 39.0, 0.8)
    play([vanilla(), slow, contender("bild", "front", 39.0, 0.5)], width=0.01)
    assert slow.gone is None


def test_one_that_failed_does_not_hold_up_the_others() -> None:
    broken = contender("bild", "front", 39.0, 0.5)
    broken.failed = "e3: NaN"
    contest = play([vanilla(), broken, contender("bild", "front", 39.0, 0.6)], width=0.02)
    assert relative_width(contest.speedup(contest.contenders[2])) <= 0.02


def test_the_same_times_decide_the_same_again() -> None:
    points = [vanilla(), contender("bild", "front", 39.0, 0.8), contender("bild", "front", 39.0, 0.5)]
    first = play(points, width=0.01)
    again = [Contender(c.point, c.why, c.quality, c.subject) for c in points]
    second = play(again, width=0.01)
    assert second.stages == first.stages
    assert [c.gone for c in again] == [c.gone for c in points]
