"""The measured front: live timing in stages of a growing sub-sample, until every speedup is known well enough.

All points of a stage alternate with vanilla, example by example. What a stage decides (who is out, how many examples
come next) follows from the stored times alone, so a sweep that was killed decides the same again.

Which predicted points are measured: the baselines, the paper's settings, and a spread of the predicted front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bild.measure.environment import busy_warning, state
from bild.measure.interleave import Measurement, OpenPoint
from bild.measure.session import make_record, next_session, open_point
from bild.metrics.bootstrap import longer_side, ratio_of_totals
from bild.progress import track
from bild.results import Interval, config_hash
from bild.results.locking import device_lock
from bild.results.pareto import ANCHORS, ONE_POINT
from bild.results.predicted import PredictedPoint
from bild.results.sample import Sample
from bild.sweep.context import Work
from bild.sweep.grid import BASELINE, GRID, SweptPoint

_MARGIN = 1.1
"""So many times the examples that an interval's width asks for, since the width is itself an estimate."""


@dataclass
class Contender:
    """A point that is measured."""

    point: SweptPoint
    why: str
    """ "baseline", "published" or "front": only the last may be given up."""
    quality: float
    """Predicted over all examples, which is exact."""
    subject: OpenPoint
    gone: str | None = None
    """Why it was given up."""
    failed: str | None = None

    @property
    def in_it(self) -> bool:
        """Whether it is measured on."""
        return self.gone is None and self.failed is None


def open_contenders(stack: ExitStack, work: Work, chosen: Sequence[tuple[SweptPoint, str, float]]) -> list[Contender]:
    """The folders of the points (point, why, predicted quality), made or reopened."""
    # The sub-sample is no part of the identity: the split and the seed say which examples come next.
    shared = work.identity | {"sample": {"grows": True, "seed": work.config.task.seed}}
    return [
        Contender(point, why, quality, open_point(stack, work.config, shared, point.method, point.threshold))
        for point, why, quality in chosen
    ]


class Contest:
    """Measures contenders stage by stage."""

    def __init__(self, work: Work, contenders: Sequence[Contender], beside: Callable[[list[int]], None] | None) -> None:
        """`beside` is called with a source after every example: calibration, next to the measurement."""
        self.work = work
        self.contenders = list(contenders)
        self.beside = beside
        self.grid = work.config.sweep
        self.examples = 0
        self._samples: dict[int, dict[str, Sample]] = {}
        self._speedups: dict[tuple[int, int], Interval] = {}
        """By contender and number of examples."""

    def run(self) -> int:
        """Measure until the widths or the budget are reached, write the records; returns how many examples it took."""
        self.examples = min(self.grid.least, len(self.work.queue))
        while True:
            self._stage()
            self._judge()
            more = self._next()
            if more is None:
                break
            self.examples = more
        self._finish()
        return self.examples

    def samples(self, contender: Contender) -> list[Sample]:
        """Its finished examples among those of this stage, in the order of the queue."""
        index = self.contenders.index(contender)
        if index not in self._samples:
            self._samples[index] = {s.id: s for s in contender.subject.folder.samples()}
        by_id = self._samples[index]
        return [by_id[e.id] for e in self.work.queue[: self.examples] if e.id in by_id]

    def speedup(self, contender: Contender) -> Interval:
        """Over vanilla, on the examples that it has."""
        key = self.contenders.index(contender), self.examples
        if key not in self._speedups:
            found, measure = self.samples(contender), self.work.config.measure
            self._speedups[key] = ratio_of_totals(
                [s.baseline_seconds for s in found],
                [s.seconds for s in found],
                draws=measure.draws,
                confidence=measure.confidence,
                seed=measure.seed,
            )
        return self._speedups[key]

    def _stage(self) -> None:
        pending = [c for c in self.contenders if c.in_it and len(self.samples(c)) < self.examples]
        if not pending:
            return
        work, task = self.work, self.work.config.task
        measurement = Measurement(work.pair, work.config.engine.name, task, work.config.measure)
        points = [c.subject for c in pending]
        missing = max(self.examples - len(self.samples(c)) for c in pending)
        with device_lock(str(work.device)):
            done = measurement.measure(work.queue[: self.examples], points, next_session(points), keep_going=True)
            for _, example in track(done, missing, f"{task.name}, {len(pending)} points on {self.examples} examples"):
                if self.beside is not None:
                    self.beside(work.source(example))
        for c in pending:
            c.failed = c.subject.failed
        self._samples.clear()
        self._speedups.clear()

    def _judge(self) -> None:
        """Give up points of the front that are surely slower than one that is at least as good."""
        intervals = {id(c): self.speedup(c) for c in self.contenders if c.in_it}
        for c in self.contenders:
            if not c.in_it or c.why != FRONT:
                continue
            own = intervals[id(c)]
            better = [
                o for o in self.contenders if o.in_it and o.quality >= c.quality and intervals[id(o)].low > own.high
            ]
            if better:
                best = max(better, key=lambda o: intervals[id(o)].low)
                c.gone = (
                    f"after {self.examples} examples {own.value:.2f}x ({own.low:.2f} to {own.high:.2f}), surely slower "
                    f"than {best.point.label}, {intervals[id(best)].value:.2f}x, which is at least as good"
                )

    def _next(self) -> int | None:
        """How many examples the next stage has; None where all is known well enough, or time or examples are out."""
        alive = [c for c in self.contenders if c.in_it]
        if not alive or self.examples >= len(self.work.queue):
            return None
        width = max(relative_width(self.speedup(c)) for c in alive)
        if width <= self.grid.width:
            return None
        wanted = math.ceil(self.examples * (width / self.grid.width) ** 2 * _MARGIN)
        affordable = int(self.grid.minutes * 60 / (self._seconds() / self.examples))
        more = min(wanted, 2 * self.examples, affordable, len(self.work.queue))
        return more if more > self.examples else None

    def _seconds(self) -> float:
        """Time of the decoding so far, from the samples."""
        spent = 0
        baseline: dict[str, int] = {}
        for c in self.contenders:
            for s in self.samples(c):
                spent += s.ns.total if c.point.method.name != "vanilla" else 0
                baseline[s.id] = s.baselines_ns
        return (spent + sum(baseline.values())) / 1e9

    def _finish(self) -> None:
        data = self.work.sample(self.examples)
        for c in self.contenders:
            folder = c.subject.folder
            there = folder.record()
            whole = c.in_it and len(self.samples(c)) == self.examples
            if not whole or (there is not None and there.task.data["hash"] == data.provenance["hash"]):
                continue
            now = state(self.work.device)
            environment = self.work.environment | {"state": now, "busy": busy_warning(now)}
            folder.finish(
                make_record(self.work.config, self.work.pair, data, c.subject, environment, self.work.identity)
            )


def relative_width(interval: Interval) -> float:
    """The longer side of an interval, relative to what is estimated."""
    return longer_side(interval.value, interval.low, interval.high) / interval.value


def sweep_hash(work: Work, tree: str, points: Sequence[SweptPoint]) -> str:
    """What names a sweep: the examples, pair, engine, machine and versions, and its points."""
    return config_hash(
        work.identity | {"tree": tree, "data": work.data.provenance["hash"], "points": [p.key for p in points]}
    )


FRONT = "front"


def choose(points: Sequence[SweptPoint], predicted: Sequence[PredictedPoint], most: int) -> list[str | None]:
    """Why each point is measured ("baseline", "published", "front"), or None: in the order of the points.

    Of the front's other points at most `most`: first the fastest at no loss of quality and at one point's, then always
    the one that is farthest in speed from all that were taken. Below 0, every point of the grid ("grid").
    """
    if most < 0:
        return [point.why for point in points]
    why: list[str | None] = [point.why if point.why != GRID else None for point in points]
    room = [i for i, (point, own) in enumerate(zip(points, predicted, strict=True)) if own.front and point.why == GRID]
    taken: list[int] = []
    for allowed in (0.0, ONE_POINT):
        within = [i for i in room if -_difference(predicted[i]) <= allowed + 1e-9]
        if within and len(taken) < most:
            best = max(within, key=lambda i: predicted[i].speedup.value)
            taken += [best] if best not in taken else []
    ends = [i for i, point in enumerate(points) if point.why == BASELINE and point.method.name in ANCHORS]
    while len(taken) < min(most, len(room)):
        there = [predicted[i].speedup.value for i in (*ends, *taken)]

        def gap(i: int, there: list[float] = there) -> float:
            return min((abs(predicted[i].speedup.value - speed) for speed in there), default=0.0)

        taken.append(max((i for i in room if i not in taken), key=gap))
    for i in taken:
        why[i] = FRONT
    return why


def _difference(point: PredictedPoint) -> float:
    return point.difference.value if point.difference is not None else 0.0
