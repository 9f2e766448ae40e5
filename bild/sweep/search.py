"""`sweep.find`: the best thresholds under a bound, or the whole front, by a grid that is refined down to 0.01.

Each method of the sweep is searched over all thresholds that it goes by. A replayed point is a step function of its
thresholds, exact and cheap, so a grid that is refined around its best cells finds the same point in every run, which a
sampler would not. The tree grows where the search goes.

Quality is heeded by the lower one-sided end of the paired difference, not by its estimate: of thousands of settings,
the one whose estimate looks best has mostly been lucky. What keeps a bound by that end has an even chance to be shown
on as many other examples, so `sweep.power` asks for more than it. `optimism` tells by how much a choice flatters itself
even so: chosen on random halves of the examples, looked at on the other halves. Replays make this cheap, as a choice is
a comparison of sums over the examples of each half, for all settings that were tried; the search is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding.policies import writes_vanilla
from bild.metrics.claims import LEAST, Floats, influences
from bild.progress import say
from bild.results.interval import FARTHEST
from bild.results.reading import front
from bild.sweep.config import Goal
from bild.sweep.grid import STEPS, SweptPoint, begun, neighbours, searched
from bild.sweep.predict import Candidate, Estimate, Predictor

Evaluate = Callable[[Sequence[SweptPoint]], list[Candidate]]

END, POINT = "end", "point"
"""Quality by the lower end of the paired difference, or by its point estimate, as the paper chose."""
_KEEP = 6
_FRONT_KEEP = 24
HALVINGS = 200
_ROUNDS = 3
"""Repeats of one step, as long as they find something better."""


@dataclass(frozen=True)
class Found:
    """A point, what is known of it on the examples that it was chosen on, and the bound that it was chosen at."""

    point: SweptPoint
    estimate: Estimate
    bound: float = 0.0


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
    """The setting that reaches the goal, none where no setting keeps the bound; of each method at each margin; or the
    front, from slow to fast."""
    none: list[tuple[str, float]]
    """The methods of which no setting keeps a margin, and that margin."""
    by_point: Found | None
    """The setting by point estimates, as the paper chose, where one setting is wanted."""
    optimism: Optimism | None


class Aim(NamedTuple):
    """One setting that is looked for: for a goal, with quality by its lower end or by its estimate."""

    goal: Goal
    rule: str

    def value(self, own: Estimate) -> float:
        """Return what should be large."""
        return own.speedup if self.goal.wanted == "speedup" else self._quality(own)

    def slack(self, own: Estimate) -> float:
        """Return by how much the bound is kept; negative where it is not."""
        bound = self.goal.bound
        kept = self._quality(own) + bound if self.goal.wanted == "speedup" else own.speedup - bound
        return kept + 1e-9

    def best(self, among: Iterable[Found]) -> Found | None:
        """Return the best of those that keep the bound."""
        within = [found for found in among if self.slack(found.estimate) >= 0]
        best = max(within, key=lambda f: (self.value(f.estimate), self.slack(f.estimate)), default=None)
        return best and Found(best.point, best.estimate, self.goal.bound)

    def promising(self, among: Collection[Found]) -> list[Found]:
        """Return the best points, and those just beyond the bound: the best neighbour may lie on either side of it."""
        if self.goal.wanted == "front":
            return spread_out(_front(among), _FRONT_KEEP)
        within = [f for f in among if self.slack(f.estimate) >= 0]
        beyond = [f for f in among if self.slack(f.estimate) < 0]
        within.sort(key=lambda f: -self.value(f.estimate))
        beyond.sort(key=lambda f: -self.slack(f.estimate))
        return within[:_KEEP] + beyond[:_KEEP]

    def _quality(self, own: Estimate) -> float:
        found = own.difference
        return found.value - self.goal.reach * (found.value - found.lower) if self.rule == END else found.value


class Hunt:
    """One method refined towards one aim, by the points alone that it asked for: no hunt hangs on another."""

    def __init__(self, base: MethodConfig, aim: Aim) -> None:
        self.base = base
        self.aim = aim
        self.own: dict[str, Found] = {}

    def asks(self, known: Mapping[str, Estimate]) -> Iterator[dict[str, SweptPoint]]:
        """Yield points by their keys, which must be known when it goes on."""
        names = searched(self.base)
        yield from self._ask(begun([self.base]), known)
        for steps in zip(*(STEPS[name] for name in names), strict=True):
            for _ in range(_ROUNDS):
                around, before = self.aim.promising(self.own.values()), len(self.own)
                step = dict(zip(names, steps, strict=True))
                yield from self._ask([near for f in around for near in neighbours(f.point, step)], known)
                if len(self.own) == before:
                    break

    def _ask(self, points: Sequence[SweptPoint], known: Mapping[str, Estimate]) -> Iterator[dict[str, SweptPoint]]:
        new = {point.key: point for point in points if point.key not in self.own}
        if new:
            yield new
            self.own |= {key: Found(point, known[key]) for key, point in new.items()}


class Search:
    """Refines grids towards a goal. All hunts go on together: each step grows and replays their points at once."""

    def __init__(self, goal: Goal, evaluate: Evaluate, predictor: Predictor, vanilla: Candidate) -> None:
        self.goal = goal
        self.evaluate = evaluate
        self.predictor = predictor
        self.vanilla = vanilla
        self.known: dict[str, Estimate] = {}
        self._kept: dict[str, Candidate] = {}
        """All that was tried, for the optimism of a single choice."""

    def run(self, bases: Sequence[MethodConfig]) -> Answer:
        """Search over the thresholds of each of these methods."""
        hunts = [Hunt(base, aim) for base in bases for aim in self._aims(base)]
        self._follow(hunts)
        tried = {key: found for hunt in hunts for key, found in hunt.own.items()}
        none, by_point, seen = list[tuple[str, float]](), None, None
        if self.goal.wanted == "front":
            chosen = _front(tried.values())
        elif self.goal.wanted == "methods":
            chosen, none = _of_each_method(hunts)
        else:
            best = Aim(self.goal, END).best(tried.values())
            chosen, by_point = [best] if best else [], Aim(self.goal, POINT).best(tried.values())
            seen = optimism(self.goal, self.predictor, self.vanilla, [self._kept[key] for key in tried])
        name, examples = self.predictor.scorer.name, self.predictor.examples
        return Answer(self.goal, name, examples, len(tried), chosen, none, by_point, seen)

    def _aims(self, base: MethodConfig) -> list[Aim]:
        if self.goal.wanted != "methods":
            return [Aim(self.goal, rule) for rule in ((END,) if self.goal.wanted == "front" else (END, POINT))]
        # What writes vanilla's text loses nothing: one margin stands for all.
        margins = [0.0] if writes_vanilla(base, ThresholdConfig()) else self.goal.margins
        return [Aim(Goal("speedup", margin, reach=self.goal.reach), END) for margin in margins]

    def _follow(self, hunts: Sequence[Hunt]) -> None:
        ways = [hunt.asks(self.known) for hunt in hunts]
        while asked := {at: ask for at, way in enumerate(ways) if (ask := next(way, None))}:
            new = {key: point for ask in asked.values() for key, point in ask.items() if key not in self.known}
            for key, candidate in zip(new, self.evaluate(list(new.values())) if new else [], strict=True):
                self.known[key] = self.predictor.estimate(candidate, self.vanilla)
                if self.goal.wanted in ("speedup", "quality"):
                    self._kept[key] = candidate
            ways = [ways[at] for at in asked]
            say(f"searching: {len(self.known):,} settings so far, {len(ways)} of {len(hunts)} searches go on")


def _of_each_method(hunts: Sequence[Hunt]) -> tuple[list[Found], list[tuple[str, float]]]:
    """Return the best setting of each method at each of its margins; and the methods of which none keeps a margin."""
    chosen: list[Found] = []
    none = []
    for name, aim in dict.fromkeys((hunt.base.name, hunt.aim) for hunt in hunts):
        best = aim.best(found for hunt in hunts if hunt.base.name == name for found in hunt.own.values())
        if best is None:
            none.append((name, aim.goal.bound))
        else:
            chosen.append(best)
    return chosen, none


def _front(among: Iterable[Found]) -> list[Found]:
    own = list(among)
    taken: dict[tuple[float, float], Found] = {}
    for i in front([(f.estimate.speedup, f.estimate.difference.lower) for f in own]):
        estimate = own[i].estimate
        taken.setdefault((estimate.speedup, estimate.difference.lower), own[i])  # equal points once
    return list(taken.values())


def spread_out(front: Sequence[Found], most: int) -> list[Found]:
    """Return at most so many of a front, evenly from end to end."""
    if len(front) <= most:
        return list(front)
    return [front[i] for i in sorted({round(i) for i in np.linspace(0, len(front) - 1, most)})]


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
        lower = own[i] - goal.reach * below(here, moved, changed, worth, predictor.confidence)
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
    errors = np.sqrt(squares / (count * (count - 1)))
    return np.array(tails) * np.where(errors > LEAST, errors, FARTHEST)
