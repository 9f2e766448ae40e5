"""`sweep.find`: the best thresholds under a bound, or the whole front, by a grid that is refined down to 0.01.

Each method of the sweep is searched over all thresholds that it goes by. A replayed point is a step function of its
thresholds, exact and cheap, so a grid that is refined around its best cells finds the same point in every run, which a
sampler would not. The tree grows where the search goes.

Quality is heeded by the lower one-sided end of the paired difference, not by its estimate: of thousands of settings,
the one whose estimate looks best has mostly been lucky. `optimism` tells by how much a choice flatters itself even so:
chosen on random halves of the examples, looked at on the other halves. Replays make this cheap, as a choice is a
comparison of sums over the examples of each half, for all settings that were tried; the search is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import thresholds_of
from bild.decoding.methods import heeds
from bild.metrics.claims import Floats, influences
from bild.progress import say
from bild.results.pareto import front
from bild.sweep.config import THRESHOLDS, Goal
from bild.sweep.grid import SweptPoint, points_of
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
HALVINGS = 200
_ROUNDS = 3
"""Repeats of one step, as long as they find something better."""


@dataclass(frozen=True)
class Found:
    """A point, and what is known of it on the examples that it was chosen on."""

    point: SweptPoint
    estimate: Estimate


@dataclass(frozen=True)
class Optimism:
    """What became of the choices of many random halvings: means over those in which some setting kept the bound."""

    halvings: int
    difference: float
    """Quality less that of vanilla, on the half that it was chosen on."""
    elsewhere: float
    """On the other half."""
    broken: float
    """The share in which the setting breaks the bound on the other half, by the estimate there."""


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
        for number, base in enumerate(bases, 1):
            for rule in (END,) if whole else (END, POINT):
                self._refine(base, rule)
            say(f"searched {number} of {len(bases)} methods: {len(self.seen)} settings so far")
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


def optimism(
    goal: Goal, predictor: Predictor, vanilla: Candidate, candidates: Sequence[Candidate], halvings: int = HALVINGS
) -> Optimism | None:
    """Choose among candidates on random halves, and look at the other halves; None where no choice is ever made.

    The errors of differences on a half come from the influences of its examples on the score of all.
    """
    n, scorer = predictor.examples, predictor.scorer
    count = n // 2
    if count < 2:
        return None
    dice = np.random.default_rng(0)
    here = np.zeros((halvings, n))
    for row in here:
        row[dice.permutation(n)[:count]] = 1.0
    halves = ((here, count), (1.0 - here, n - count))
    usual = [scorer.scores(half @ vanilla.table, size) for half, size in halves]
    score, usual_influence = influences(vanilla.table, scorer)
    worth = float(np.sqrt(((score + usual_influence) ** 2).mean()))
    shape = (len(candidates), halvings)
    value, own, elsewhere, broken = np.full(shape, -np.inf), np.empty(shape), np.empty(shape), np.empty(shape)
    for i, c in enumerate(candidates):
        own[i], elsewhere[i] = (
            scorer.scores(half @ c.table, size) - base for (half, size), base in zip(halves, usual, strict=True)
        )
        speeds = [(half @ vanilla.seconds) / (half @ c.seconds) for half, _ in halves]
        changed = (c.table != vanilla.table).any(axis=1)
        moved = influences(c.table, scorer)[1] - usual_influence
        lower = own[i] - below(here, moved, changed, worth, predictor.confidence)
        if goal.wanted == "speedup":
            kept, wanted, broken[i] = lower >= -goal.bound, speeds[0], elsewhere[i] < -goal.bound
        else:
            kept, wanted, broken[i] = speeds[0] >= goal.bound, lower, speeds[1] < goal.bound
        value[i, kept] = wanted[kept]
    chosen = np.flatnonzero(np.isfinite(value.max(axis=0, initial=-np.inf)))
    if not len(chosen):
        return None
    best = value[:, chosen].argmax(axis=0)
    return Optimism(len(chosen), *(float(each[best, chosen].mean()) for each in (own, elsewhere, broken)))


def below(halves: Floats, moved: Floats, changed: NDArray[np.bool_], worth: float, confidence: float) -> Floats:
    """Return how far below its estimate the lower end of a difference lies on each half: [halvings].

    As in `bild.metrics.claims`, without its correction for skewness and its bound for few texts.
    """
    count = int(halves[0].sum())
    squares = np.maximum(0.0, halves @ moved**2 - (halves @ moved) ** 2 / count)
    differ = halves @ changed
    squares += np.where(differ > 0, 2.0 * squares / np.maximum(differ, 1.0), 2.0 * worth**2)
    tails = [float(stdtrit(min(count - 1.0, max(1.0, few / 2.0)), confidence)) for few in differ.tolist()]
    return np.asarray(np.array(tails) * np.sqrt(squares / (count * (count - 1))))
