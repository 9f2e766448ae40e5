"""`sweep.find`: the best thresholds under a bound, or the whole front, by a grid that is refined down to 0.01.

Each method of the sweep is searched over all thresholds that it goes by. A replayed point is a step function of its
thresholds, exact and cheap, so a grid that is refined around its best cells finds the same point in every run, which a
sampler would not. The tree grows where the search goes.

Quality is heeded by the lower one-sided end of the paired difference, not by its estimate: of thousands of settings,
the one whose estimate looks best has mostly been lucky. `bild.sweep.optimism` tells by how much a choice flatters
itself even so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import thresholds_of
from bild.decoding.methods import heeds
from bild.results.pareto import front
from bild.sweep.config import THRESHOLDS, Goal
from bild.sweep.grid import SweptPoint, points_of
from bild.sweep.optimism import Optimism, optimism
from bild.sweep.predict import Candidate, Estimate, Predictor

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
END, POINT = "end", "point"
"""Quality by the lower end of the paired difference, or by its point estimate, as the paper chose."""
_KEEP = 6
_FRONT_KEEP = 24
_ROUNDS = 3
"""Repeats of one step, as long as they find something better."""


@dataclass(frozen=True)
class Found:
    """A point, and what is known of it on the examples that it was chosen on."""

    point: SweptPoint
    estimate: Estimate


@dataclass(frozen=True)
class Answer:
    """The outcome of a search."""

    goal: Goal
    metric: str
    examples: int
    tried: int
    chosen: list[Found]
    """The setting that reaches the goal, none where no setting keeps the bound; or the front, from slow to fast."""
    by_point: Found | None
    """The setting by point estimates, as the paper chose, where another goal than the front is wanted."""
    optimism: Optimism | None


class Search:
    """Refines a grid towards a goal."""

    def __init__(self, goal: Goal, evaluate: Evaluate, predictor: Predictor, vanilla: Candidate) -> None:
        self.goal = goal
        self.evaluate = evaluate
        self.predictor = predictor
        self.vanilla = vanilla
        self.seen: dict[str, Candidate] = {}
        self._estimates: dict[int, Estimate] = {}

    def run(self, bases: Sequence[MethodConfig]) -> Answer:
        """Search over the thresholds of each of these methods."""
        whole = self.goal.wanted == "front"
        for base in bases:
            for rule in (END,) if whole else (END, POINT):
                self._refine(base, rule)
        everything = list(self.seen.values())
        best, by_point = self._best(END), self._best(POINT)
        chosen = self._front(everything) if whole else [best] if best else []
        return Answer(
            goal=self.goal,
            metric=self.predictor.scorer.name,
            examples=self.predictor.examples,
            tried=len(everything),
            chosen=[Found(c.point, self._estimate(c)) for c in chosen],
            by_point=None if by_point is None or whole else Found(by_point.point, self._estimate(by_point)),
            optimism=None if whole else optimism(self.goal, self.predictor, self.vanilla, everything),
        )

    def _refine(self, base: MethodConfig, rule: str) -> None:
        names = searched(base)
        self._try(points_of(base, {name: COARSE[name] for name in names}))
        for steps in zip(*(STEPS[name] for name in names), strict=True):
            for _ in range(_ROUNDS):
                around = [c.point for c in self._promising(base, rule)]
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

    def _promising(self, base: MethodConfig, rule: str) -> list[Candidate]:
        """Return the best points, and those just beyond the bound: the best neighbour may lie on either side of it."""
        own = [c for c in self.seen.values() if c.point.method == base]
        if self.goal.wanted == "front":
            edge = self._front(own)
            if len(edge) <= _FRONT_KEEP:
                return edge
            return [edge[round(i)] for i in np.linspace(0, len(edge) - 1, _FRONT_KEEP)]
        within = [c for c in own if self._slack(c, rule) >= 0]
        beyond = [c for c in own if self._slack(c, rule) < 0]
        within.sort(key=lambda c: -self._value(c, rule))
        beyond.sort(key=lambda c: -self._slack(c, rule))
        return within[:_KEEP] + beyond[:_KEEP]

    def _best(self, rule: str) -> Candidate | None:
        within = [c for c in self.seen.values() if self._slack(c, rule) >= 0]
        return max(within, key=lambda c: (self._value(c, rule), self._slack(c, rule)), default=None)

    def _estimate(self, candidate: Candidate) -> Estimate:
        if id(candidate) not in self._estimates:
            self._estimates[id(candidate)] = self.predictor.estimate(candidate, self.vanilla)
        return self._estimates[id(candidate)]

    def _value(self, candidate: Candidate, rule: str) -> float:
        own = self._estimate(candidate)
        return own.speedup if self.goal.wanted == "speedup" else _quality(own, rule)

    def _slack(self, candidate: Candidate, rule: str) -> float:
        """Return by how much a point keeps the bound; negative where it does not."""
        own = self._estimate(candidate)
        kept = _quality(own, rule) + self.goal.bound if self.goal.wanted == "speedup" else own.speedup - self.goal.bound
        return kept + 1e-9

    def _front(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        own = [self._estimate(candidate) for candidate in candidates]
        taken: dict[tuple[float, float], Candidate] = {}
        for i in front([(e.speedup, e.difference.lower) for e in own]):
            taken.setdefault((own[i].speedup, own[i].difference.lower), candidates[i])  # equal points once
        return list(taken.values())


def _quality(own: Estimate, rule: str) -> float:
    return own.difference.lower if rule == END else own.difference.value


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
