"""The best thresholds under a bound, or the whole front, by a grid that is refined where it matters, down to 0.01.

A replayed point is a step function of its thresholds, exact and cheap, so a grid that is refined around its best cells
finds the same point in every run, which a sampler would not. Chosen on one half of the examples, reported on the other.

`sweep.find`: a search over the replays of a sweep's tree, which grows where the search goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bild.config import MethodConfig, ThresholdConfig
from bild.results.pareto import front
from bild.sweep.config import Goal
from bild.sweep.drive import Sweep
from bild.sweep.grid import BASELINE, GRID, SweptPoint
from bild.sweep.predict import Estimate, Outcome, Predictor
from bild.tasks.dataset import place

Evaluate = Callable[[Sequence[SweptPoint]], list[Outcome]]

COARSE_FB = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COARSE_RB = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
STEPS = ((0.05, 0.5), (0.02, 0.2), (0.01, 0.1), (0.01, 0.05), (0.01, 0.01))
"""(fallback, rollback) steps of the refinements."""
_KEEP = 6
_FRONT_KEEP = 24
_ROUNDS = 3
"""Of one step, as long as they find something better."""


@dataclass(frozen=True)
class Found:
    """A point, on the half that it was chosen on, on the other one, and on all examples."""

    point: SweptPoint
    chosen_on: Estimate
    reported_on: Estimate
    whole: Estimate


@dataclass(frozen=True)
class Answer:
    """What a search came to."""

    goal: Goal
    split: Found | None
    """Chosen on one half, reported on the other; None where no point keeps the bound."""
    same: Found | None
    """Chosen and reported on all examples, as the paper does: flattering by what the choice itself gains."""
    front: list[Found]
    """The front over the continuous thresholds, from slow to fast: chosen on one half, reported on the other."""
    tried: int
    halves: tuple[int, int]


class Search:
    """Refines a grid towards a goal."""

    def __init__(
        self, goal: Goal, evaluate: Evaluate, predictor: Predictor, vanilla: Outcome, half: NDArray[np.bool_]
    ) -> None:
        self.goal = goal
        self.evaluate = evaluate
        self.predictor = predictor
        self.vanilla = vanilla
        self.half = half
        self.seen: dict[str, Outcome] = {}
        self._estimates: dict[tuple[str, int], Estimate] = {}

    def run(self, bases: Sequence[MethodConfig]) -> Answer:
        """Search over the thresholds of each of these methods."""
        everything = np.ones(len(self.half), dtype=bool)
        for base in bases:
            for part in (self.half, everything):
                self._refine(base, part)
        split, same = self._best(self.half), self._best(everything)
        return Answer(
            self.goal,
            None if split is None else self._found(split, self.half),
            None if same is None else self._found(same, everything),
            [self._found(outcome, self.half) for outcome in self._front(list(self.seen.values()), self.half)],
            len(self.seen),
            (int(self.half.sum()), int((~self.half).sum())),
        )

    def _refine(self, base: MethodConfig, part: NDArray[np.bool_]) -> None:
        self._try(base, [(fb, rb) for fb in COARSE_FB for rb in COARSE_RB])
        for step in STEPS:
            for _ in range(_ROUNDS):
                around = self._promising(base, part)
                before = len(self.seen)
                self._try(base, [place for outcome in around for place in _neighbours(outcome.point.threshold, step)])
                if len(self.seen) == before:
                    break

    def _try(self, base: MethodConfig, places: Sequence[tuple[float, float]]) -> None:
        points: dict[str, SweptPoint] = {}
        for fb, rb in places:
            point = SweptPoint(dataclasses.replace(base, name="bild"), ThresholdConfig(fb, rb), GRID)
            if point.key not in self.seen:
                points.setdefault(point.key, point)
        if points:
            self.seen.update(zip(points, self.evaluate(list(points.values())), strict=True))

    def _promising(self, base: MethodConfig, part: NDArray[np.bool_]) -> list[Outcome]:
        """The best points, and those just beyond the bound: the best neighbour may lie on either side of it."""
        own = [
            outcome for outcome in self.seen.values() if outcome.point.method == dataclasses.replace(base, name="bild")
        ]
        if self.goal.bound is None:
            edge = self._front(own, part)
            if len(edge) <= _FRONT_KEEP:
                return edge
            return [edge[round(i)] for i in np.linspace(0, len(edge) - 1, _FRONT_KEEP)]
        within = [o for o in own if self._slack(o, part) >= 0]
        beyond = [o for o in own if self._slack(o, part) < 0]
        within.sort(key=lambda o: -self._value(o, part))
        beyond.sort(key=lambda o: -self._slack(o, part))
        return within[:_KEEP] + beyond[:_KEEP]

    def _best(self, part: NDArray[np.bool_]) -> Outcome | None:
        within = [o for o in self.seen.values() if self.goal.bound is not None and self._slack(o, part) >= 0]
        return max(within, key=lambda o: (self._value(o, part), self._slack(o, part)), default=None)

    def _estimate(self, outcome: Outcome, part: NDArray[np.bool_]) -> Estimate:
        key = (outcome.point.key, hash(part.tobytes()))
        if key not in self._estimates:
            self._estimates[key] = self.predictor.estimate(outcome, self.vanilla, part)
        return self._estimates[key]

    def _value(self, outcome: Outcome, part: NDArray[np.bool_]) -> float:
        own = self._estimate(outcome, part)
        return own.speedup if self.goal.wanted == "speedup" else own.score

    def _slack(self, outcome: Outcome, part: NDArray[np.bool_]) -> float:
        """By how much a point keeps the bound; negative where it does not."""
        assert self.goal.bound is not None
        own = self._estimate(outcome, part)
        bounded = own.difference if self.goal.wanted == "speedup" else own.speedup
        return bounded - self.goal.bound + 1e-9

    def _front(self, outcomes: Sequence[Outcome], part: NDArray[np.bool_]) -> list[Outcome]:
        own = [self._estimate(outcome, part) for outcome in outcomes]
        taken: dict[tuple[float, float], Outcome] = {}
        for i in front([(e.speedup, e.score) for e in own]):
            taken.setdefault((own[i].speedup, own[i].score), outcomes[i])  # equal points once
        return list(taken.values())

    def _found(self, outcome: Outcome, part: NDArray[np.bool_]) -> Found:
        rest = ~part if not part.all() else part
        everything = np.ones(len(part), dtype=bool)
        return Found(
            outcome.point,
            self._estimate(outcome, part),
            self._estimate(outcome, rest),
            self._estimate(outcome, everything),
        )


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


def find(sweep: Sweep, goal: Goal) -> Answer:
    """Search over the thresholds of every rule set and draft limit of the sweep."""
    work, grown = sweep.work, sweep.grown
    with sweep.locked():
        usual = SweptPoint(MethodConfig("vanilla"), ThresholdConfig(), BASELINE)
        replay = grown.replays([usual.setting])[0]
        prices = sweep.prices()
        predictor = sweep.predictor()
        vanilla = predictor.outcome(usual, replay, prices)

        def evaluate(points: Sequence[SweptPoint]) -> list[Outcome]:
            replays = grown.replays([point.setting for point in points])
            return [predictor.outcome(p, r, prices) for p, r in zip(points, replays, strict=True)]

        # By the ids alone, so a half does not change with the version of a random generator.
        order = sorted(range(len(grown.tree.examples)), key=lambda i: place(grown.tree.examples[i].id, _SPLIT_SEED))
        half = np.zeros(len(order), dtype=bool)
        half[order[: (len(order) + 1) // 2]] = True
        bases = work.config.sweep.variants(work.config.method)
        return Search(goal, evaluate, predictor, vanilla, half).run(bases)
