"""The measured front: live timing in stages of a growing sub-sample, until every speedup is known well enough.

All points of a stage alternate with vanilla, example by example. What a stage decides (which points are given up, how
many examples come next) follows from the stored times alone, so a sweep that was killed decides the same again.

Which predicted points are measured: the baselines, the paper's settings, and a spread of the predicted front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bild.measure.environment import busy_warning, disturbed, state
from bild.measure.gpu import uuid_of
from bild.measure.session import make_record, next_session, open_point
from bild.metrics import speedup
from bild.metrics.bootstrap import longer_side
from bild.progress import track
from bild.results import Interval
from bild.results.locking import device_lock
from bild.results.pareto import ANCHORS, ONE_POINT
from bild.results.sample import Sample
from bild.sweep.config import BASELINE, GRID
from bild.sweep.context import Work
from bild.sweep.predict import Candidate

FRONT = "front"
_MARGIN = 1.1
"""So many times the examples that an interval's width asks for, since the width is itself an estimate."""


def choose(candidates: Sequence[Candidate], most: int) -> None:
    """Say of each candidate why it is measured, if it is; one that was chosen before keeps its reason.

    Of the front's other points at most `most`: first the fastest at no loss of quality and at one point's, then always
    the one that is farthest in speed from all that were taken. Below 0, every point of the grid that can run live.
    """
    for c in candidates:
        if c.point.origin != GRID or (most < 0 and c.point.live):
            c.chosen = c.chosen or c.point.origin
    room = [c for c in candidates if c.predicted.front and c.point.origin == GRID]
    taken: list[Candidate] = []
    for allowed in (0.0, ONE_POINT):
        within = [c for c in room if -_difference(c) <= allowed + 1e-9]
        best = max(within, key=_speed, default=None)
        if best is not None and best not in taken and len(taken) < most:
            taken.append(best)
    ends = [c for c in candidates if c.point.origin == BASELINE and c.point.method.name in ANCHORS]

    def gap(one: Candidate) -> float:
        return min((abs(_speed(one) - _speed(other)) for other in (*ends, *taken)), default=0.0)

    while len(taken) < min(most, len(room)):
        taken.append(max((c for c in room if c not in taken), key=gap))
    for c in taken:
        c.chosen = c.chosen or FRONT


def _speed(candidate: Candidate) -> float:
    return candidate.predicted.speedup.value


def _difference(candidate: Candidate) -> float:
    difference = candidate.predicted.difference
    return 0.0 if difference is None else difference.value


def open_folders(stack: ExitStack, work: Work, chosen: Sequence[Candidate]) -> None:
    """Make or reopen the folders of the points that are measured; empty them where nothing is to be resumed."""
    # The sub-sample is no part of the identity: the split and the seed say which examples come next.
    shared = work.identity | {"sample": {"grows": True, "seed": work.config.task.seed}}
    for c in chosen:
        c.subject = open_point(stack, work.config, shared, c.point.method, c.point.threshold)
        if not work.config.resume:
            c.folder.clear()


class MeasuredFront:
    """Measures candidates stage by stage."""

    def __init__(self, work: Work, candidates: Sequence[Candidate], beside: Callable[[list[int]], None] | None) -> None:
        """`beside` is called with a source after every example: calibration, next to the measurement."""
        self.work = work
        self.candidates = list(candidates)
        self.beside = beside
        self.grid = work.config.sweep
        self.examples = 0
        self._samples: dict[str, dict[str, Sample]] = {}
        self._speedups: dict[tuple[str, int], Interval] = {}
        """By point and number of examples."""

    def run(self) -> int:
        """Measure until the widths or the budget are reached, write the records; return how many examples it took."""
        self.examples = min(self.grid.least, len(self.work.queue))
        while True:
            self._stage()
            self._give_up()
            more = self._next()
            if more is None:
                break
            self.examples = more
        self._finish()
        return self.examples

    def samples(self, candidate: Candidate) -> list[Sample]:
        """Return its finished examples among those of this stage, in the order of the queue."""
        key = candidate.point.key
        if key not in self._samples:
            self._samples[key] = {s.id: s for s in candidate.folder.samples()}
        by_id = self._samples[key]
        return [by_id[e.id] for e in self.work.queue[: self.examples] if e.id in by_id]

    def speedup(self, candidate: Candidate) -> Interval:
        """Return its speedup over vanilla, on the examples that it has."""
        key = candidate.point.key, self.examples
        if key not in self._speedups:
            found = self.samples(candidate)
            self._speedups[key] = speedup(
                [s.baseline_seconds for s in found],
                [s.seconds for s in found],
                [s.session for s in found],
                confidence=self.work.config.measure.confidence,
            ).total
        return self._speedups[key]

    @property
    def _active(self) -> list[Candidate]:
        return [c for c in self.candidates if c.active]

    def _stage(self) -> None:
        pending = [c for c in self._active if len(self.samples(c)) < self.examples]
        if not pending:
            return
        work = self.work
        subjects = [c.subject for c in pending if c.subject is not None]
        missing = max(self.examples - len(self.samples(c)) for c in pending)
        with device_lock(uuid_of(work.device)):
            done = work.measured_with.measure(
                work.queue[: self.examples], subjects, next_session(subjects), keep_going=True
            )
            what = f"{work.config.task.name}, {len(pending)} points on {self.examples} examples"
            for _, example in track(done, missing, what):
                if self.beside is not None:
                    self.beside(work.source(example))
        for c, subject in zip(pending, subjects, strict=True):
            c.failed = subject.failed
        self._samples.clear()
        self._speedups.clear()

    def _give_up(self) -> None:
        """Give up points of the front that are surely slower than one that is at least as good."""
        active = self._active
        for c in active:
            if c.chosen != FRONT:
                continue
            own, quality = self.speedup(c), c.predicted.quality.score
            better = [o for o in active if o.predicted.quality.score >= quality and self.speedup(o).low > own.high]
            if better:
                best = max(better, key=lambda o: self.speedup(o).low)
                c.given_up = (
                    f"after {self.examples} examples {own.value:.2f}x ({own.low:.2f} to {own.high:.2f}), surely slower "
                    f"than {best.point.label}, {self.speedup(best).value:.2f}x, which is at least as good"
                )

    def _next(self) -> int | None:
        """Return how many examples the next stage has; None where all is known well enough, or nothing is left."""
        active = self._active
        if not active or self.examples >= len(self.work.queue):
            return None
        width = max(relative_width(self.speedup(c)) for c in active)
        if width <= self.grid.width:
            return None
        wanted = math.ceil(self.examples * (width / self.grid.width) ** 2 * _MARGIN)
        affordable = int(self.grid.minutes * 60 / (self._seconds() / self.examples))
        more = min(wanted, 2 * self.examples, affordable, len(self.work.queue))
        return more if more > self.examples else None

    def _seconds(self) -> float:
        """Return the time of the decoding so far, from the samples."""
        spent = 0
        baseline: dict[str, int] = {}
        for c in self.candidates:
            for s in self.samples(c):
                spent += s.ns.total if c.point.method.name != "vanilla" else 0
                baseline[s.id] = s.baselines_ns
        return (spent + sum(baseline.values())) / 1e9

    def _finish(self) -> None:
        data = self.work.sample(self.examples)
        for c in self._active:
            there = c.folder.record()
            if len(self.samples(c)) < self.examples or (
                there is not None and there.task.data["hash"] == data.provenance["hash"]
            ):
                continue
            now = state(self.work.device)
            environment = self.work.environment | {"state": now} | disturbed(self.work.device, busy_warning(now))
            assert c.subject is not None
            c.folder.finish(
                make_record(self.work.config, self.work.pair, data, c.subject, environment, self.work.identity)
            )


def relative_width(interval: Interval) -> float:
    """Return the longer side of an interval, relative to what is estimated."""
    return longer_side(interval.value, interval.low, interval.high) / interval.value
