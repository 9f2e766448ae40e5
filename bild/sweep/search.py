"""`sweep.find`: the best thresholds under a bound, or the whole front, by a grid that is refined down to 0.01.

Each method of the sweep is searched over all thresholds that it goes by.

A replayed point is a step function of its thresholds, exact and cheap, so a grid that is refined around its best cells
finds the same point in every run, which a sampler would not. Chosen on one half of the examples, reported on the other.
The tree grows where the search goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import thresholds_of
from bild.decoding.methods import heeds
from bild.results.pareto import front
from bild.sweep.config import THRESHOLDS, Goal
from bild.sweep.context import GrownTree, Work
from bild.sweep.grid import SweptPoint, points_of, vanilla_point
from bild.sweep.predict import Candidate, Estimate, Predictor
from bild.sweep.pricing import Pricing
from bild.tasks.dataset import place

Evaluate = Callable[[Sequence[SweptPoint]], list[Candidate]]

COARSE: dict[str, tuple[float, ...]] = {
    "fb": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "rb": (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0),
    "alpha": (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "top": (1, 2, 3, 4, 6, 8, 11, 16, 24, 40),
}
"""The grid that a search begins with."""
STEPS: dict[str, tuple[float, ...]] = {
    "fb": (0.05, 0.02, 0.01, 0.01, 0.01),
    "rb": (0.5, 0.2, 0.1, 0.05, 0.01),
    "alpha": (0.05, 0.02, 0.01, 0.01, 0.01),
    "top": (4, 2, 1, 1, 1),
}
"""The steps of the refinements."""
_RANGES = {"fb": (0.0, 1.0), "rb": (0.0, np.inf), "alpha": (0.0, 1.0), "top": (1, np.inf)}
HALF, REST, ALL = "half", "rest", "all"
"""The examples that thresholds are chosen on, those that they are reported on, and both."""
_KEEP = 6
_FRONT_KEEP = 24
_ROUNDS = 3
"""Repeats of one step, as long as they find something better."""


@dataclass(frozen=True)
class Found:
    """A point, on the examples that it was chosen on and on those that it is reported on."""

    point: SweptPoint
    chosen_on: Estimate
    reported_on: Estimate


@dataclass(frozen=True)
class Answer:
    """The outcome of a search."""

    goal: Goal
    metric: str
    split: Found | None
    """Chosen on one half, reported on the other; None where no point keeps the bound."""
    same: Found | None
    """Chosen and reported on all examples, as the paper does: flattering by what the choice itself gains."""
    front: list[Found]
    """The front over the continuous thresholds, from slow to fast: chosen on one half, reported on the other."""
    tried: int
    halves: tuple[int, int]


class Search:
    """Refines a grid towards a goal, once for one half of the examples and once for all."""

    def __init__(
        self, goal: Goal, evaluate: Evaluate, predictor: Predictor, vanilla: Candidate, half: NDArray[np.bool_]
    ) -> None:
        self.goal = goal
        self.evaluate = evaluate
        self.predictor = predictor
        self.vanilla = vanilla
        self.parts = {HALF: half, REST: ~half, ALL: np.ones(len(half), dtype=bool)}
        self.seen: dict[str, Candidate] = {}
        self._estimates: dict[tuple[int, str], Estimate] = {}

    def run(self, bases: Sequence[MethodConfig]) -> Answer:
        """Search over the thresholds of each of these methods."""
        for base in bases:
            for part in (HALF, ALL):
                self._refine(base, part)
        split, same = self._best(HALF), self._best(ALL)
        return Answer(
            self.goal,
            self.predictor.scorer.name,
            None if split is None else self._found(split, HALF, REST),
            None if same is None else self._found(same, ALL, ALL),
            [self._found(candidate, HALF, REST) for candidate in self._front(list(self.seen.values()), HALF)],
            len(self.seen),
            (int(self.parts[HALF].sum()), int(self.parts[REST].sum())),
        )

    def _refine(self, base: MethodConfig, part: str) -> None:
        names = searched(base)
        self._try(points_of(base, {name: COARSE[name] for name in names}))
        for steps in zip(*(STEPS[name] for name in names), strict=True):
            for _ in range(_ROUNDS):
                around = [c.point for c in self._promising(base, part)]
                if not self._try(
                    [near for point in around for near in _neighbours(point, dict(zip(names, steps, strict=True)))]
                ):
                    break

    def _try(self, points: Sequence[SweptPoint]) -> bool:
        """Evaluate the points that were not seen before; return whether there were any."""
        new = {point.key: point for point in points if point.key not in self.seen}
        if new:
            self.seen.update(zip(new, self.evaluate(list(new.values())), strict=True))
        return bool(new)

    def _promising(self, base: MethodConfig, part: str) -> list[Candidate]:
        """Return the best points, and those just beyond the bound: the best neighbour may lie on either side of it."""
        own = [c for c in self.seen.values() if c.point.method == base]
        if self.goal.wanted == "front":
            edge = self._front(own, part)
            if len(edge) <= _FRONT_KEEP:
                return edge
            return [edge[round(i)] for i in np.linspace(0, len(edge) - 1, _FRONT_KEEP)]
        within = [c for c in own if self._slack(c, part) >= 0]
        beyond = [c for c in own if self._slack(c, part) < 0]
        within.sort(key=lambda c: -self._value(c, part))
        beyond.sort(key=lambda c: -self._slack(c, part))
        return within[:_KEEP] + beyond[:_KEEP]

    def _best(self, part: str) -> Candidate | None:
        if self.goal.wanted == "front":
            return None
        within = [c for c in self.seen.values() if self._slack(c, part) >= 0]
        return max(within, key=lambda c: (self._value(c, part), self._slack(c, part)), default=None)

    def _estimate(self, candidate: Candidate, part: str) -> Estimate:
        key = (id(candidate), part)
        if key not in self._estimates:
            self._estimates[key] = self.predictor.estimate(candidate, self.vanilla, self.parts[part])
        return self._estimates[key]

    def _value(self, candidate: Candidate, part: str) -> float:
        own = self._estimate(candidate, part)
        return own.speedup if self.goal.wanted == "speedup" else own.score

    def _slack(self, candidate: Candidate, part: str) -> float:
        """Return by how much a point keeps the bound; negative where it does not."""
        own = self._estimate(candidate, part)
        slack = own.difference + self.goal.bound if self.goal.wanted == "speedup" else own.speedup - self.goal.bound
        return slack + 1e-9

    def _front(self, candidates: Sequence[Candidate], part: str) -> list[Candidate]:
        own = [self._estimate(candidate, part) for candidate in candidates]
        taken: dict[tuple[float, float], Candidate] = {}
        for i in front([(e.speedup, e.score) for e in own]):
            taken.setdefault((own[i].speedup, own[i].score), candidates[i])  # equal points once
        return list(taken.values())

    def _found(self, candidate: Candidate, chosen_on: str, reported_on: str) -> Found:
        return Found(candidate.point, self._estimate(candidate, chosen_on), self._estimate(candidate, reported_on))


def searched(method: MethodConfig) -> list[str]:
    """Return the thresholds that a search varies, fb of a window included: 0 is the window itself."""
    usual = ThresholdConfig()
    names = {*thresholds_of(method, usual), *heeds(method, usual) & {"fb"}}
    return [name for name in THRESHOLDS if name in names]


def _neighbours(point: SweptPoint, steps: dict[str, float]) -> list[SweptPoint]:
    axes = {}
    for name, step in steps.items():
        value, (low, high) = getattr(point.threshold, name), _RANGES[name]
        near = (min(high, max(low, value + way * step)) for way in (-1, 0, 1))
        axes[name] = [int(each) if name == "top" else round(each, 2) for each in near]
    return points_of(point.method, axes)


_SPLIT_SEED = -1


def find(work: Work, goal: Goal) -> Answer:
    """Search over the thresholds of every rule set and draft limit of a sweep, on its tree."""
    grown = GrownTree(work)
    with work.locked():
        usual = vanilla_point()
        replay = grown.replays([usual])[0]
        prices = Pricing(work, grown.tree.path).prices()
        predictor = grown.predictor

        def evaluate(points: Sequence[SweptPoint]) -> list[Candidate]:
            found = [predictor.candidate(p, r, prices) for p, r in zip(points, grown.replays(points), strict=True)]
            return [dataclasses.replace(candidate, replay=None) for candidate in found]

        # By the ids alone, so a half does not change with the version of a random generator.
        order = sorted(range(len(grown.tree.examples)), key=lambda i: place(grown.tree.examples[i].id, _SPLIT_SEED))
        half = np.zeros(len(order), dtype=bool)
        half[order[: (len(order) + 1) // 2]] = True
        vanilla = predictor.candidate(usual, replay, prices)
        return Search(goal, evaluate, predictor, vanilla, half).run(work.config.sweep.variants(work.config.method))
