"""From replayed points and prices to predicted ones: quality, counts, seconds, speedups, and the front of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bild.metrics.bootstrap import interval, multiplicities
from bild.metrics.scorer import Scorer
from bild.results.pareto import front
from bild.results.parts import Interval
from bild.results.predicted import Agreement, PredictedPoint, PredictedScore, PredictedSeconds
from bild.results.prices import PriceError, Prices
from bild.sweep.grid import SweptPoint
from bild.tree import Replay
from bild.tree.outcome import DRAWS

if TYPE_CHECKING:
    from bild.measure.interleave import OpenPoint
    from bild.results import PointFolder

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Candidate:
    """A point of a sweep, and all that is known of it so far."""

    point: SweptPoint
    table: Floats = field(repr=False)
    """[examples, statistics] of its texts, which add up."""
    seconds: Floats = field(repr=False)
    """[examples], by the prices so far."""
    replay: Replay | None = field(default=None, repr=False)
    """Absent in a search: thousands of replays would hold every walk in memory."""
    predicted: PredictedPoint = field(init=False, repr=False)
    """Once `Predictor.predict` has had all candidates."""
    chosen: str | None = None
    """The reason to measure it: "baseline", "published", "front" or, where all are, "grid"; None: it is not."""
    subject: OpenPoint | None = field(default=None, repr=False)
    """Its measurement, where it is chosen and opened."""
    given_up: str | None = None
    """The reason for which it is no longer measured."""
    failed: str | None = None
    """The example and the error that its measurement ended with."""
    agreement: Agreement | None = None

    @property
    def active(self) -> bool:
        """True while it is measured."""
        return self.chosen is not None and self.given_up is None and self.failed is None

    @property
    def folder(self) -> PointFolder:
        """The folder of its measurement, once that is opened."""
        assert self.subject is not None
        return self.subject.folder

    def reprice(self, prices: Prices) -> None:
        """Take its seconds from other prices."""
        assert self.replay is not None
        self.seconds = self.replay.priced(prices)

    def to_record(self) -> PredictedPoint:
        """Return the prediction together with what came of measuring it."""
        finished = self.active and self.subject is not None and self.folder.record() is not None
        return dataclasses.replace(
            self.predicted,
            chosen=self.chosen,
            measured=self.folder.path.name if finished else None,
            dropped=self.given_up or (f"failed on {self.failed}" if self.failed else None),
            agreement=self.agreement,
        )


@dataclass(frozen=True)
class Estimate:
    """Score, difference to vanilla and speedup of a candidate over some of the examples."""

    score: float
    difference: float
    seconds: float
    """Per example."""
    speedup: float


class Predictor:
    """Turns replays over fixed examples into candidates, and predicts these with intervals."""

    def __init__(self, scorer: Scorer, examples: int, confidence: float, seed: int = 0) -> None:
        self.scorer = scorer
        self.examples = examples
        self.confidence = confidence
        # One set of resamples for all points, so that all comparisons are paired; a replay's own are the same.
        self.draws = multiplicities(self.examples, DRAWS, seed)

    def candidate(self, point: SweptPoint, replay: Replay, prices: Prices) -> Candidate:
        """Return a replayed point as a candidate."""
        return Candidate(point, self.scorer.table(replay.text), replay.priced(prices), replay)

    def estimate(self, candidate: Candidate, vanilla: Candidate, part: NDArray[np.bool_] | None = None) -> Estimate:
        """Estimate a candidate over part of the examples, without intervals."""
        part = np.ones(self.examples, dtype=bool) if part is None else part
        count = int(part.sum())
        score = self.scorer.score(candidate.table[part].sum(axis=0), count)
        base = self.scorer.score(vanilla.table[part].sum(axis=0), count)
        seconds, usual = candidate.seconds[part].sum(), vanilla.seconds[part].sum()
        return Estimate(score, score - base, float(seconds / count), float(usual / seconds))

    def predict(self, candidates: Sequence[Candidate], prices: Prices) -> None:
        """Predict all candidates, vanilla first among them, with their intervals.

        Mark those that make up the front: points that cannot run live are upper bounds, and on no front.
        """
        vanilla = candidates[0]
        base_scores, base_sums = self._scores(vanilla), self.draws @ vanilla.seconds
        for candidate in candidates:
            candidate.predicted = self._point(candidate, vanilla, base_scores, base_sums, prices)
        live = [candidate for candidate in candidates if candidate.point.live]
        for i in front([(c.predicted.speedup.value, c.predicted.quality.score) for c in live]):
            live[i].predicted = dataclasses.replace(live[i].predicted, front=True)

    def _scores(self, candidate: Candidate) -> Floats:
        return self.scorer.scores(self.draws @ candidate.table, self.examples)

    def _point(
        self, candidate: Candidate, vanilla: Candidate, base_scores: Floats, base_sums: Floats, prices: Prices
    ) -> PredictedPoint:
        assert candidate.replay is not None
        own = self.estimate(candidate, vanilla)
        scores = self._scores(candidate)
        sums = self.draws @ candidate.seconds
        quality = interval(own.score, scores, self.confidence)
        difference = interval(own.difference, scores - base_scores, self.confidence)
        seconds = interval(own.seconds, sums / self.examples, self.confidence)
        speedup = interval(own.speedup, base_sums / sums, self.confidence)
        # Vanilla's speedup over itself is no prediction.
        off = 0.0 if candidate is vanilla else prices.error.speedup
        method, threshold = candidate.point.recorded()
        return PredictedPoint(
            label=candidate.point.label,
            method=method,
            threshold=threshold,
            quality=PredictedScore(quality.value, quality.low, quality.high),
            counts=candidate.replay.counts,
            seconds=PredictedSeconds(
                own.seconds, *_wider(own.seconds, seconds.low, seconds.high, prices.error.relative)
            ),
            speedup=Interval(own.speedup, *_wider(own.speedup, speedup.low, speedup.high, off)),
            front=False,
            difference=difference,
        )


def _wider(value: float, low: float, high: float, relative: float) -> tuple[float, float]:
    """Join an interval that comes from the choice of examples with a relative error of another origin."""
    off = relative * value
    return max(0.0, value - float(np.hypot(value - low, off))), value + float(np.hypot(high - value, off))


def agreement(
    predicted: Sequence[float] | Floats,
    predicted_vanilla: Sequence[float] | Floats,
    measured: Sequence[float],
    speedup: Interval,
    error: PriceError,
) -> Agreement:
    """Compare a prediction with its measurement: seconds of each of the same examples, and the measured speedup."""
    own = float(np.sum(predicted_vanilla) / np.sum(predicted))
    low, high = own * (1 - error.speedup), own * (1 + error.speedup)
    return Agreement(
        examples=len(measured),
        predicted=own,
        measured=speedup,
        predicted_seconds=float(np.mean(predicted)),
        measured_seconds=float(np.mean(measured)),
        inside=low <= speedup.high and speedup.low <= high,
    )
