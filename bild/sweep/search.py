"""`sweep.find`: the best thresholds under a bound, or the whole front, by a grid that is refined down to 0.01.

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
from bild.results.pareto import front
from bild.sweep.config import GRID, Goal, SweptPoint, vanilla_point
from bild.sweep.context import GrownTree, Work
from bild.sweep.predict import Candidate, Estimate, Predictor
from bild.sweep.pricing import Pricing
from bild.tasks.dataset import place

Evaluate = Callable[[Sequence[SweptPoint]], list[Candidate]]

COARSE_FB = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COARSE_RB = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
STEPS = ((0.05, 0.5), (0.02, 0.2), (0.01, 0.1), (0.01, 0.05), (0.01, 0.01))
"""(fallback, rollback) steps of the refinements."""
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
        self._try(base, [(fb, rb) for fb in COARSE_FB for rb in COARSE_RB])
        for step in STEPS:
            for _ in range(_ROUNDS):
                around = self._promising(base, part)
                before = len(self.seen)
                self._try(base, [near for c in around for near in _neighbours(c.point.threshold, step)])
                if len(self.seen) == before:
                    break

    def _try(self, base: MethodConfig, settings: Sequence[tuple[float, float]]) -> None:
        points: dict[str, SweptPoint] = {}
        for fb, rb in settings:
            point = SweptPoint(base, ThresholdConfig(fb, rb), GRID)
            if (key := point.key) not in self.seen:
                points.setdefault(key, point)
        if points:
            self.seen.update(zip(points, self.evaluate(list(points.values())), strict=True))

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


def _neighbours(threshold: ThresholdConfig, step: tuple[float, float]) -> list[tuple[float, float]]:
    assert threshold.fb is not None
    assert threshold.rb is not None
    found = []
    for up in (-1, 0, 1):
        for right in (-1, 0, 1):
            fb = round(min(1.0, max(0.0, threshold.fb + up * step[0])), 2)
            rb = round(max(0.0, threshold.rb + right * step[1]), 2)
            found.append((fb, rb))
    return found


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
