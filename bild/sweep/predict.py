"""From replayed decoding and prices to predicted points: quality, counts, seconds, speedups, and the front of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import settings, thresholds_of
from bild.metrics.bootstrap import interval, multiplicities
from bild.metrics.scorer import Scorer
from bild.results.pareto import front
from bild.results.parts import Counts, Interval, Method, Threshold
from bild.results.predicted import PredictedPoint, PredictedScore, PredictedSeconds
from bild.results.prices import Prices
from bild.sweep.grid import SweptPoint
from bild.tree.outcome import DRAWS

Floats = NDArray[np.float64]


class ReplayLike(Protocol):
    """What is used of a replayed point: per example, in one order."""

    @property
    def text(self) -> list[str]:
        """Finished texts."""

    @property
    def counts(self) -> Counts:
        """Summed over the examples."""

    def priced(self, prices: Prices) -> Floats:
        """Seconds of each example."""


@dataclass(frozen=True)
class Outcome:
    """One point over all examples: additive statistics of its texts [examples, statistics], and seconds [examples]."""

    point: SweptPoint
    table: Floats
    seconds: Floats
    counts: Counts


@dataclass(frozen=True)
class Estimate:
    """Score, difference to vanilla and speedup of a point over some of the examples."""

    score: float
    difference: float
    seconds: float
    """Per example."""
    speedup: float


class Predictor:
    """Turns replays over fixed examples into outcomes, and outcomes into points with intervals."""

    def __init__(self, scorer: Scorer, examples: int, confidence: float, seed: int = 0) -> None:
        self.scorer = scorer
        self.examples = examples
        self.confidence = confidence
        # One set of resamples for all points, so that all comparisons are paired; a replay's own are the same.
        self.draws = multiplicities(self.examples, DRAWS, seed)

    def outcome(self, point: SweptPoint, replay: ReplayLike, prices: Prices) -> Outcome:
        """What a replayed point comes to."""
        return Outcome(point, self.scorer.table(replay.text), replay.priced(prices), replay.counts)

    def estimate(self, outcome: Outcome, vanilla: Outcome, part: NDArray[np.bool_] | None = None) -> Estimate:
        """A point over part of the examples, without intervals."""
        part = np.ones(self.examples, dtype=bool) if part is None else part
        count = int(part.sum())
        score = self.scorer.score(outcome.table[part].sum(axis=0), count)
        base = self.scorer.score(vanilla.table[part].sum(axis=0), count)
        seconds, usual = outcome.seconds[part].sum(), vanilla.seconds[part].sum()
        return Estimate(score, score - base, float(seconds / count), float(usual / seconds))

    def points(self, outcomes: Sequence[Outcome], prices: Prices) -> list[PredictedPoint]:
        """All points with their intervals, and which of them make up the front. Vanilla must be among them."""
        vanilla = next(o for o in outcomes if o.point.method.name == "vanilla")
        base_scores = self._scores(vanilla)
        base_sums = self.draws @ vanilla.seconds
        found = [self._point(o, vanilla, base_scores, base_sums, prices) for o in outcomes]
        best = set(front([(p.speedup.value, p.quality.score) for p in found]))
        return [dataclasses.replace(p, front=i in best) for i, p in enumerate(found)]

    def _scores(self, outcome: Outcome) -> Floats:
        return self.scorer.scores(self.draws @ outcome.table, self.examples)

    def _point(
        self, outcome: Outcome, vanilla: Outcome, base_scores: Floats, base_sums: Floats, prices: Prices
    ) -> PredictedPoint:
        count = self.examples
        own = self.estimate(outcome, vanilla)
        scores = self._scores(outcome)
        sums = self.draws @ outcome.seconds
        quality = interval(own.score, scores, self.confidence)
        difference = interval(own.difference, scores - base_scores, self.confidence)
        seconds = interval(own.seconds, sums / count, self.confidence)
        speedup = interval(own.speedup, base_sums / sums, self.confidence)
        # Vanilla's speedup over itself is no prediction.
        off = 0.0 if outcome.point.method.name == "vanilla" else prices.error.speedup
        return PredictedPoint(
            label=outcome.point.label,
            method=method_record(outcome.point.method, outcome.point.threshold),
            threshold=threshold_record(outcome.point.method, outcome.point.threshold),
            quality=PredictedScore(quality.value, quality.low, quality.high),
            counts=outcome.counts,
            seconds=PredictedSeconds(
                own.seconds, *_wider(own.seconds, seconds.low, seconds.high, prices.error.relative)
            ),
            speedup=Interval(own.speedup, *_wider(own.speedup, speedup.low, speedup.high, off)),
            front=False,
            difference=difference,
        )


def _wider(value: float, low: float, high: float, relative: float) -> tuple[float, float]:
    """An interval of the choice of examples, joined with a relative error of another origin."""
    off = relative * value
    return max(0.0, value - float(np.hypot(value - low, off))), value + float(np.hypot(high - value, off))


def method_record(method: MethodConfig, threshold: ThresholdConfig) -> Method:
    """The method with all its switches resolved, as in the records of measured points."""
    switches = dict.fromkeys(field.name for field in dataclasses.fields(Method))
    return Method(**(switches | settings(method, threshold)))  # type: ignore[arg-type]


def threshold_record(method: MethodConfig, threshold: ThresholdConfig) -> Threshold:
    """The thresholds that the method heeds, null for the others."""
    return Threshold(**({"fb": None, "rb": None} | thresholds_of(method, threshold)))
