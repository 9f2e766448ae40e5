"""The measured front: live timing in stages of a growing sub-sample, until every speedup is known well enough.

All points of a stage alternate with vanilla, example by example. What a stage decides (which points are given up, how
many examples come next) follows from the stored times alone, so a sweep that was killed decides the same again.

Which predicted points are measured: the baselines, the paper's settings, and a spread of the predicted front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from scipy.special import stdtrit

from bild.measure.aggregate import counted, sessions_of
from bild.measure.environment import busy_warning, state, uuid_of
from bild.measure.session import make_record, open_point
from bild.metrics import speedup
from bild.metrics.speedup import Speed
from bild.progress import track
from bild.report.format import half
from bild.results import Interval
from bild.results.locking import device_lock
from bild.results.reading import ANCHORS, ONE_POINT
from bild.results.sample import Sample
from bild.sweep.context import SweepWork
from bild.sweep.exact import SettledTexts, joined
from bild.sweep.grid import BASELINE, GRID
from bild.sweep.predict import Candidate
from bild.sweep.pricing import Pricing
from bild.tree import Tree

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


def open_folders(stack: ExitStack, work: SweepWork, chosen: Sequence[Candidate]) -> None:
    """Make or reopen the folders of the points that are measured; empty them where nothing is to be resumed."""
    # The sub-sample is no part of the identity: the split and the seed say which examples come next.
    shared = work.identity | {"sample": {"grows": True, "seed": work.config.task.seed}}
    for c in chosen:
        c.subject = open_point(stack, work.config, shared, c.point.method, c.point.threshold)
        if not work.config.resume:
            c.folder.clear()


@dataclass(frozen=True)
class Reached:
    """How well the speedups of a sweep are known."""

    width: float
    """Half the widest interval, relative."""
    sessions: int
    between: float | None
    """Standard deviation of the log of a speedup between sessions, the median over points; None: one cannot know it."""


class MeasuredFront:
    """Measures candidates stage by stage, vanilla first among them."""

    def __init__(
        self, work: SweepWork, candidates: Sequence[Candidate], tree: Tree, pricing: Pricing | None = None
    ) -> None:
        """`pricing` gets texts that are decoded for prices after every example, next to the measurement."""
        self.work = work
        self.candidates = list(candidates)
        self.tree = tree
        self.pricing = pricing
        self.grid = work.config.sweep
        self.examples = 0
        self._samples: dict[str, dict[str, Sample]] = {}
        self._speeds: dict[tuple[str, int], Speed] = {}
        """By point and number of examples."""

    def run(self, examples: int | None = None) -> int:
        """Measure until the widths or the budget are reached, write the records; return how many examples it took.

        Where their number is given, no more and no fewer are timed.
        """
        self.examples = min(examples or self.grid.least, len(self.work.queue))
        while True:
            self._stage()
            self._give_up()
            more = self._next() if examples is None else None
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

    def speed(self, candidate: Candidate) -> Speed:
        """Return its speedup over vanilla on the examples that it has, but for sessions that claims leave out."""
        key = candidate.point.key, self.examples
        if key not in self._speeds:
            found = self._counted(candidate)
            self._speeds[key] = speedup(
                [s.baseline_seconds for s in found],
                [s.seconds for s in found],
                [s.session for s in found],
                confidence=self.work.config.measure.confidence,
            )
        return self._speeds[key]

    def speedup(self, candidate: Candidate) -> Interval:
        """Return the ratio of total times."""
        return self.speed(candidate).total

    def reached(self) -> Reached:
        """Return how well the speedups are known, and what sessions differ by."""
        active = [c for c in self._active if c is not self.candidates[0]]
        between = [found for c in active if (found := self.speed(c).spread.between) is not None]
        width = max((relative_width(self.speedup(c)) for c in active), default=0.0)
        sessions = {s.session for c in active for s in self._counted(c)}
        return Reached(width, len(sessions), median(between) if between else None)

    def _counted(self, candidate: Candidate) -> list[Sample]:
        found = self.samples(candidate)
        return counted(found, sessions_of(found, candidate.folder.sessions()))

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
            beside = (lambda: None) if self.pricing is None else self.pricing.beside
            done = work.sessions.measure(work.queue[: self.examples], subjects, keep_going=True, beside=beside)
            what = f"{work.config.task.name}, {len(pending)} points on {self.examples} examples"
            for each in track(done, missing, what):
                if self.pricing is not None:
                    self.pricing.heard(each.beside)
        for c, subject in zip(pending, subjects, strict=True):
            c.failed = subject.failed
        self._samples.clear()
        self._speeds.clear()

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
        """Return how many examples the next stage has; None where all is known well enough, or no number would do."""
        active = self._active
        if not active or self.examples >= len(self.work.queue):
            return None
        # Both may be infinite: nothing is known of the error of a single example, and the budget may have no end.
        wanted = max(self._wanted(c) for c in active)
        affordable = self.grid.minutes * 60 / (self._seconds() / self.examples)
        most = int(min(affordable, 2 * self.examples, len(self.work.queue)))
        more = most if wanted >= most else math.ceil(wanted)
        return more if more > self.examples else None

    def _wanted(self, candidate: Candidate) -> float:
        """Return how many examples make a speedup known well enough; infinite where their error is not known at all.

        More examples take away their own part of the error alone. Where what sessions differ by is too much for the
        width, examples are worth their time until theirs is a quarter of that.
        """
        speed, level = self.speed(candidate), self.work.config.measure.confidence
        if relative_width(speed.total) <= self.grid.width or not speed.spread.error:
            return self.examples
        spread, sessions = speed.spread, len({s.session for s in self._counted(candidate)})
        shared = (spread.between or 0.0) ** 2 / sessions
        single = max(0.0, spread.error**2 - shared)
        aim = (math.log1p(self.grid.width) / float(stdtrit(spread.freedom, (1 + level) / 2))) ** 2
        left = aim - shared if aim > 1.25 * shared else shared / 4
        return self.examples * single / left * _MARGIN

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
        """Write the records: quality over all examples of the tree, times of those that were measured."""
        data, active = self.work.sample(self.examples), self._active
        settled = SettledTexts(self.work, self.tree)
        settled.settle([self.candidates[0], *active], {c.point.key: self.samples(c) for c in active})
        for c in active:
            samples = self.samples(c)
            if len(samples) < self.examples:
                continue
            exact, c.unsettled = settled.quality(c, self.candidates[0], samples)
            there = c.folder.record()
            if there is not None and there.task.data["hash"] == data.provenance["hash"] and there.quality == exact:
                continue
            now = state(self.work.device)
            environment = self.work.environment | {"state": now} | self.work.sessions.disturbed(busy_warning(now))
            assert c.subject is not None
            pair = self.work.sessions.describe()
            made = make_record(self.work.config, pair, data, c.subject, environment, self.work.identity)
            c.folder.finish(joined(made, exact))


def relative_width(interval: Interval) -> float:
    """Return the longer side of an interval, relative to what is estimated."""
    return half(interval) / interval.value
