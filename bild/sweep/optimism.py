"""The optimism of a choice: chosen on random halves of the examples, looked at on the other halves.

Replays make this cheap: a choice is a comparison of sums over the examples of each half, for all settings that a search
has tried. The search itself is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from bild.metrics.arrays import Floats
from bild.metrics.jackknife import influences
from bild.sweep.config import Goal
from bild.sweep.predict import Candidate, Predictor

HALVINGS = 200


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

    As in `bild.metrics.jackknife`, without its correction for skewness and its bound for few texts.
    """
    count = int(halves[0].sum())
    squares = np.maximum(0.0, halves @ moved**2 - (halves @ moved) ** 2 / count)
    differ = halves @ changed
    squares += np.where(differ > 0, 2.0 * squares / np.maximum(differ, 1.0), 2.0 * worth**2)
    tails = [float(stdtrit(min(count - 1.0, max(1.0, few / 2.0)), confidence)) for few in differ.tolist()]
    return np.asarray(np.array(tails) * np.sqrt(squares / (count * (count - 1))))
