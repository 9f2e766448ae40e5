"""The loop of a bench: every entrant, every width and the machine's own rates, in a new order in each repeat.

Drift of the machine then hits all alike, and ratios are taken repeat by repeat. What fails is told and left out; what
was measured until Ctrl-C is kept.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bild.bench.backends import EngineEntrant, Entrant, Timed
from bild.progress import track

_ROUNDS_NS = 150_000_000
_ROUNDS = 8


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    sources: Sequence[Sequence[int]]
    """Token ids, taken in turn by the repeats; all entrants of a repeat decode the same."""
    tokens: int
    widths: Sequence[int]
    cached: int
    repeats: int
    warmup: int
    seed: int

    def source(self, repeat: int) -> Sequence[int]:
        """The source of a repeat; the warm-up has the first ones."""
        return self.sources[repeat % len(self.sources)]


@dataclass
class Measured:
    """What came out, by the entrant's name and the repeat."""

    decodes: dict[str, dict[int, Timed]] = field(default_factory=dict)
    wide_ns: dict[str, dict[int, dict[int, int]]] = field(default_factory=dict)
    """By name, width and repeat: the median pass."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Entrants that failed, and why."""
    wide_failures: dict[str, dict[int, str]] = field(default_factory=dict)
    repeats: int = 0
    """Whole ones."""
    interrupted: bool = False


class _Job(NamedTuple):
    kind: str  # "decode", "wide" (all widths of one engine, so that their ratios are taken close in time) or "rate"
    name: str


class Contest:
    """Entrants and probes, ready to be measured."""

    def __init__(self, entrants: Mapping[str, Entrant], probes: Mapping[str, Callable[[], float]], plan: Plan) -> None:
        self.entrants, self.probes, self.plan = entrants, probes, plan
        self.measured = Measured()

    def run(self, what: str) -> Measured:
        """Warm up, then measure; Ctrl-C ends it early."""
        measured, plan = self.measured, self.plan
        repeats = range(-plan.warmup, plan.repeats)
        total = len(repeats) * len(self._jobs())
        jobs = ((repeat, job) for repeat in repeats for job in self._shuffled(repeat))
        enabled = gc.isenabled()
        gc.collect()
        gc.freeze()  # what is there stays, and makes no later collection longer
        gc.disable()  # a collection inside a timed pass would be charged to it
        try:
            for repeat, job in track(jobs, total, what):
                self._do(repeat, job)
            measured.repeats = plan.repeats
        except KeyboardInterrupt:
            measured.interrupted = True
        finally:
            gc.unfreeze()
            if enabled:
                gc.enable()
        return measured

    def _jobs(self) -> list[_Job]:
        jobs = [_Job("decode", name) for name in self.entrants]
        for name, entrant in self.entrants.items():
            if isinstance(entrant, EngineEntrant):
                jobs.append(_Job("wide", name))
        return jobs + [_Job("rate", name) for name in self.probes]

    def _shuffled(self, repeat: int) -> list[_Job]:
        """All jobs of a repeat. Taken when the one before has ended, which makes it whole."""
        self.measured.repeats = max(0, repeat)
        gc.collect()
        jobs = self._jobs()
        random.Random(f"{self.plan.seed}-{repeat}").shuffle(jobs)
        return jobs

    def _do(self, repeat: int, job: _Job) -> None:
        measured, plan = self.measured, self.plan
        if job.kind == "rate":
            rate = self.probes[job.name]()
            if repeat >= 0:
                measured.rates.setdefault(job.name, []).append(rate)
            return
        if job.name in measured.failures:
            return
        if job.kind == "wide":
            self._wide(job.name, repeat)
            return
        try:
            timed = self.entrants[job.name].decode(plan.source(repeat), plan.tokens)
        except Exception as error:  # libraries raise all kinds; the others go on
            measured.failures[job.name] = _told(error)
            return
        if repeat >= 0:
            measured.decodes.setdefault(job.name, {})[repeat] = timed

    def _wide(self, name: str, repeat: int) -> None:
        """A few rounds of one pass by each width, and the median by width; fewer rounds where passes take long."""
        entrant, plan, measured = self.entrants[name], self.plan, self.measured
        assert isinstance(entrant, EngineEntrant)
        failed = measured.wide_failures.setdefault(name, {})
        taken: dict[int, list[int]] = {width: [] for width in plan.widths if width not in failed}
        dice, rounds = random.Random(f"{plan.seed}-{repeat}-{name}"), 0
        while rounds < _ROUNDS and sum(map(sum, taken.values())) < _ROUNDS_NS:
            rounds += 1
            for width in dice.sample(list(taken), len(taken)):
                try:
                    taken[width].append(entrant.wide(plan.source(repeat), width, plan.cached))
                except Exception as error:
                    failed[width] = _told(error)
                    del taken[width]
        if repeat >= 0:
            for width, ns in taken.items():
                measured.wide_ns.setdefault(name, {}).setdefault(width, {})[repeat] = sorted(ns)[len(ns) // 2]


def _told(error: Exception) -> str:
    """What an error says, on one line and not at length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
