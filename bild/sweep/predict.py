"""From replayed points and prices to predicted ones: quality, counts, seconds, speedups, and the front of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bild.decoding.policies import writes_vanilla
from bild.metrics import Scorer, mean_time, speedup
from bild.metrics.claims import Floats, difference, score_interval
from bild.results.interval import Difference, Interval
from bild.results.predicted import Agreement, Forecast, PredictedPoint, PredictedScore, PredictedSeconds
from bild.results.prices import PriceError, Prices
from bild.results.reading import front
from bild.sweep.grid import SweptPoint
from bild.tree import Replay

if TYPE_CHECKING:
    from bild.measure.interleave import OpenPoint
    from bild.results import PointFolder


@dataclass(eq=False)
class Candidate:
    """A point of a sweep, and all that is known of it so far."""

    point: SweptPoint
    table: Floats = field(repr=False)
    """[examples, statistics] of its texts, which add up."""
    seconds: Floats = field(repr=False)
    """[examples], by the prices so far; empty where there are none."""
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
    before: Forecast | None = None
    """As predicted before anything was measured."""
    unsettled: int = 0
    """Texts with a decision within rounding that stay as replayed."""

    @property
    def active(self) -> bool:
        """True while it is measured."""
        return self.chosen is not None and self.given_up is None and self.failed is None

    @property
    def folder(self) -> PointFolder:
        """The folder of its measurement, once that is opened."""
        assert self.subject is not None
        return self.subject.folder

    def to_record(self) -> PredictedPoint:
        """Return the prediction together with what came of measuring it."""
        finished = self.active and self.subject is not None and self.folder.finished
        return dataclasses.replace(
            self.predicted,
            chosen=self.chosen,
            measured=self.folder.path.name if finished else None,
            dropped=self.given_up or (f"failed on {self.failed}" if self.failed else None),
            agreement=self.agreement,
            before=self.before,
        )


@dataclass(frozen=True)
class Estimate:
    """Score, paired difference to vanilla and speedup of a candidate."""

    score: float
    difference: Difference
    seconds: float
    """Per example."""
    speedup: float


class Predictor:
    """Turns replays over fixed examples into candidates, and predicts these with intervals."""

    def __init__(self, scorer: Scorer, examples: int, confidence: float) -> None:
        self.scorer = scorer
        self.examples = examples
        self.confidence = confidence

    def candidate(self, point: SweptPoint, replay: Replay, prices: Prices) -> Candidate:
        """Return a replayed point as a candidate."""
        return Candidate(point, replay.table, replay.priced(prices), replay)

    def estimate(self, candidate: Candidate, vanilla: Candidate) -> Estimate:
        """Estimate a candidate beside vanilla."""
        exact = writes_vanilla(*candidate.point.setting)
        score = self.scorer.score(candidate.table.sum(axis=0), self.examples)
        paired = difference(candidate.table, vanilla.table, self.scorer, self.confidence, exact)
        seconds = float(candidate.seconds.sum())
        return Estimate(score, paired, seconds / self.examples, float(vanilla.seconds.sum()) / seconds)

    def predict(self, candidates: Sequence[Candidate], prices: Prices) -> None:
        """Predict all candidates, vanilla first among them, with their intervals.

        Mark those that make up the front: points that cannot run live are upper bounds, and on no front.
        """
        vanilla = candidates[0]
        for candidate in candidates:
            candidate.predicted = self._point(candidate, vanilla, prices)
        live = [candidate for candidate in candidates if candidate.point.live]
        for i in front([(c.predicted.speedup.value, c.predicted.quality.score) for c in live]):
            live[i].predicted = dataclasses.replace(live[i].predicted, front=True)

    def _point(self, candidate: Candidate, vanilla: Candidate, prices: Prices) -> PredictedPoint:
        assert candidate.replay is not None
        own = self.estimate(candidate, vanilla)
        quality = score_interval(candidate.table, self.scorer, self.confidence)
        seconds = mean_time(candidate.seconds.tolist(), confidence=self.confidence)
        speed = speedup(vanilla.seconds.tolist(), candidate.seconds.tolist(), confidence=self.confidence).total
        # Vanilla's speedup over itself is no prediction.
        off = 0.0 if candidate is vanilla else prices.error.speedup
        method, threshold = candidate.point.recorded()
        return PredictedPoint(
            label=candidate.point.label,
            method=method,
            threshold=threshold,
            quality=PredictedScore(quality.value, quality.low, quality.high),
            counts=candidate.replay.counts,
            seconds=PredictedSeconds(own.seconds, *_wider(seconds, prices.error.relative)),
            speedup=Interval(own.speedup, *_wider(speed, off)),
            front=False,
            difference=own.difference,
        )


def _wider(told: Interval, relative: float) -> tuple[float, float]:
    """Join an interval that comes from the choice of examples with a relative error of another origin."""
    if not told.known:
        return told.low, told.high
    off = relative * told.value
    below, above = float(np.hypot(told.value - told.low, off)), float(np.hypot(told.high - told.value, off))
    return max(0.0, told.value - below), told.value + above


@dataclass(frozen=True)
class Priced:
    """The seconds of a point and of vanilla by one set of prices, on the same examples."""

    own: Floats
    vanilla: Floats

    @property
    def speedup(self) -> float:
        """The ratio of totals."""
        return float(self.vanilla.sum() / self.own.sum())


def agreement(before: Priced, settled: Priced, measured: Floats, speedup: Interval, error: PriceError) -> Agreement:
    """Compare predictions with the measurement on the same examples.

    `before` and its `error` are of before the measurement, so nothing of what is judged is in them.
    """
    low, high = before.speedup * (1 - error.speedup), before.speedup * (1 + error.speedup)
    return Agreement(
        examples=len(measured),
        predicted=before.speedup,
        measured=speedup,
        predicted_seconds=float(before.own.mean()),
        measured_seconds=float(measured.mean()),
        inside=low <= speedup.high and speedup.low <= high,
        settled=settled.speedup,
        settled_seconds=float(settled.own.mean()),
    )
