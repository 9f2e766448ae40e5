"""The stages of the measured front: how far the sub-sample grows, and who is given up, from stored times alone."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.config import MeasureConfig, MethodConfig, ThresholdConfig
from bild.measure.aggregate import latency_of
from bild.report.points import points_table
from bild.report.sections import Section
from bild.results.codec import dumps, encode
from bild.results.parts import SessionNote
from bild.results.predicted import Metric, Predicted
from bild.results.prices import PriceError
from bild.results.sample import PhaseTimes, Sample, VanillaRun
from bild.sweep.config import GridConfig, SweepConfig
from bild.sweep.drive import Swept
from bild.sweep.estimates import Span, Taken, planned
from bild.sweep.grid import BASELINE, GRID, SweptPoint
from bild.sweep.measure_front import MeasuredFront, relative_width
from bild.sweep.predict import Candidate, Priced, agreement
from bild.sweep.show import footer, front_table
from bild.sweep.show_plan import planned_and_taken
from tests import lanes
from tests.records import make_record, make_sample
from tests.report.sweeps import guess


class Folder:
    """Examples that take `seconds` each, give or take, against a second of vanilla, after those that are `done`."""

    def __init__(self, seconds: float, noise: float, done: Sequence[Sample] = ()) -> None:
        self.seconds, self.noise = seconds, noise
        self.dice = random.Random(seconds)
        self.done = list(done)
        self.notes: dict[int, SessionNote] = {}

    def samples(self) -> list[Sample]:
        return self.done

    def sessions(self) -> dict[int, SessionNote]:
        return self.notes

    def measure(self, ids: list[str]) -> None:
        for name in ids[len(self.done) :]:
            ns = round(1e9 * self.seconds * self.dice.uniform(1 - self.noise, 1 + self.noise))
            self.done.append(timed(name, ns, 10**9))


def timed(name: str, own: int, vanilla: int, session: int = 1) -> Sample:
    """An example that took so many ns."""
    times = PhaseTimes(own, 0, 0, 0, 0, 0)
    return make_sample(id=name, session=session, ns=times, baseline=VanillaRun([0, 1], vanilla, ""))


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


def test_where_a_single_example_counts_the_budget_says_how_many_come_next() -> None:
    """Three sessions of kills, of unlike paces: a claim counts the middle one, whose error nobody knows."""
    bild = candidate("bild", "front", 39.0, 0.5)
    bild.folder.done = [timed(f"e{i}", 10**9, (3 - i) * 10**9, session=i) for i in range(3)]  # type: ignore[attr-defined]
    front = play([vanilla(), bild], examples=100, least=3, width=1, minutes=math.inf)
    assert front.stages == [3, 6]


NS = st.sampled_from([1, 2, 10**9 - 1, 10**9, 3 * 10**9, 10**18])


@st.composite
def odd_points(draw: st.DrawFn) -> tuple[list[Sample], dict[int, SessionNote]]:
    """One to three examples in each of a few sessions, some of them busy, of times near and far."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    ns = draw(st.sampled_from([NS, st.just(10**9), st.sampled_from([1, 10**18])]))
    numbers = [session for session, size in enumerate(sizes) for _ in range(size)]
    notes = {session: SessionNote(3.0, calm, 0.0) for session, calm in enumerate(draw(st.permutations([True, False])))}
    return [timed(f"e{i}", draw(ns), draw(ns), session) for i, session in enumerate(numbers)], notes


@lanes.many(400)
@given(odd_points(), st.sampled_from([0.0, 60.0, math.inf]), st.sampled_from([0.001, 1.0]))
def test_of_few_and_odd_examples_all_that_is_told_is_a_number(
    point: tuple[list[Sample], dict[int, SessionNote]], minutes: float, width: float
) -> None:
    """From the times to the stages, the record, the next plan, and the words and tables that tell of them."""
    samples, notes = point
    bild = candidate("bild", "front", 39.0, 0.5)
    bild.folder.done, bild.folder.notes = list(samples), notes  # type: ignore[attr-defined]
    front = play([vanilla(), bild], examples=40, least=2, minutes=minutes, width=width)
    record = make_record(latency=latency_of(samples, MeasureConfig(), notes))
    seconds = np.array([sample.seconds for sample in samples])
    price = Priced(seconds, seconds[::-1])
    error = PriceError(0.1, 0.1, 0)
    agreed = agreement(price, price, seconds, record.speedup, error)
    predicted = Predicted(
        schema=3, hash="a", tree="b", task="t", pair="p", machine={}, packages={}, engine=record.engine,
        examples=len(samples), data_hash="d", metric=Metric("bleu", ""), confidence=0.95, prices=error,
        before=error, created="", finished=True, points=[guess(0.5, 2, agreement=agreed)],
    )  # fmt: skip
    swept = Swept(Path("s"), Path("t"), predicted, front.examples, reached=front.reached())
    tables = [points_table(Section((record,)), brief) for brief in (True, False)]
    told = [each.markdown() + each.csv() for each in (*tables, front_table(predicted, 0.5))]
    taken = Taken("live", "m", "e", "p", "t", float(seconds.sum()), float(len(samples)), float(seconds[0]))
    config, text = SweepConfig(sweep=GridConfig(minutes=minutes, width=width)), Span.of(float(seconds.mean()))
    plan = planned(config, text, [taken], examples=len(samples), measured=1)
    told += [*footer(swept, 0.5), *planned_and_taken(plan, [taken]), dumps(encode(record)), dumps(encode(predicted))]
    assert not re.search(r"\b(inf|nan)\b|known to ±\d{3}", "\n".join(told), re.IGNORECASE)
