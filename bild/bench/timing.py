"""The loop of a bench: every backend, every width and the machine's own rates, in a new order in each repeat.

Drift of the machine then hits all alike, and ratios are taken repeat by repeat. What fails is told and left out; what
was measured until Ctrl-C is kept. Below it, the Python between two forward passes, timed over engines that answer at
once.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import NamedTuple

from bild.bench.backends import Backend, EngineBackend, Timed
from bild.bench.config import BenchConfig
from bild.config import DecodeConfig, MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import Engine, Summary
from bild.errors import told
from bild.measure.live import run_live
from bild.progress import collector_off, track
from bild.results.bench import LongSource, Overhead, Spread
from bild.results.prices import interpolate

_ROUNDS_NS = 150_000_000
_ROUNDS = 8


LONG_PEERS = ("generate", "ctranslate2")
"""Peers that are timed behind long sources, too, as every engine is."""


@dataclass
class Measured:
    """All timings, by the backend's name and the repeat."""

    decodes: dict[str, dict[int, Timed]] = field(default_factory=dict)
    long: dict[int, dict[str, dict[int, Timed]]] = field(default_factory=dict)
    """By length of the source, name and repeat."""
    verification_ns: dict[str, dict[int, dict[int, int]]] = field(default_factory=dict)
    """By name, width and repeat: the median pass."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Backends that failed, and why."""
    verification_failures: dict[str, dict[int, str]] = field(default_factory=dict)
    repeats: int = 0
    """Whole ones."""
    interrupted: bool = False


class _Job(NamedTuple):
    kind: str  # "decode", "verify" (all widths of one engine, so that their ratios are taken close in time) or "rate"
    name: str
    length: int | None = None
    """Of the source, where it is one of the long ones."""


@dataclass
class InterleavedRun:
    """Backends and probes, ready to be measured."""

    backends: Mapping[str, Backend]
    probes: Mapping[str, Callable[[], float]]
    config: BenchConfig
    sources: Mapping[int | None, Sequence[Sequence[int]]]
    """Token ids, taken in turn by the repeats: the usual ones (None), and others by their length."""
    measured: Measured = field(default_factory=Measured)

    def _source(self, repeat: int, length: int | None = None) -> Sequence[int]:
        """Return what all backends of a repeat decode; the warm-up has the first ones."""
        sources = self.sources[length]
        return sources[repeat % len(sources)]

    def run(self, what: str) -> Measured:
        """Warm up, then measure; Ctrl-C ends it early."""
        measured = self.measured
        repeats = range(-self.config.warmup, self.config.repeats)
        total = len(repeats) * len(self._jobs())
        jobs = ((repeat, job) for repeat in repeats for job in self._shuffled(repeat))
        gc.collect()
        gc.freeze()  # what is there stays, and makes no later collection longer
        try:
            with collector_off():
                for repeat, job in track(jobs, total, what):
                    self._do(repeat, job)
            measured.repeats = self.config.repeats
        except KeyboardInterrupt:
            measured.interrupted = True
        finally:
            gc.unfreeze()
        return measured

    def _jobs(self) -> list[_Job]:
        long = (*self.config.engines, *LONG_PEERS)
        return [
            *(_Job("decode", name, at) for at in self.sources for name in self.backends if at is None or name in long),
            *(_Job("verify", name) for name, each in self.backends.items() if isinstance(each, EngineBackend)),
            *(_Job("rate", name) for name in self.probes),
        ]

    def _shuffled(self, repeat: int) -> list[_Job]:
        """Return all jobs of a repeat. Taken when the one before has ended, which makes it whole."""
        self.measured.repeats = max(0, repeat)
        gc.collect()
        jobs = self._jobs()
        random.Random(f"{self.config.seed}-{repeat}").shuffle(jobs)
        return jobs

    def _do(self, repeat: int, job: _Job) -> None:
        measured = self.measured
        if job.kind == "rate":
            rate = self.probes[job.name]()
            if repeat >= 0:
                measured.rates.setdefault(job.name, []).append(rate)
            return
        if job.name in measured.failures:
            return
        if job.kind == "verify":
            self._verify(job.name, repeat)
            return
        try:
            timed = self.backends[job.name].decode(self._source(repeat, job.length), self.config.tokens)
        except Exception as error:  # libraries raise all kinds; the others go on
            measured.failures[job.name] = told(error)
            return
        if repeat < 0:
            return
        kept = measured.decodes if job.length is None else measured.long.setdefault(job.length, {})
        kept.setdefault(job.name, {})[repeat] = timed

    def _verify(self, name: str, repeat: int) -> None:
        """Time a few rounds of one pass by each width, and the median by width; fewer rounds where passes take long."""
        backend, config, measured = self.backends[name], self.config, self.measured
        assert isinstance(backend, EngineBackend)
        failed = measured.verification_failures.setdefault(name, {})
        taken: dict[int, list[int]] = {width: [] for width in config.widths if width not in failed}
        dice, rounds = random.Random(f"{config.seed}-{repeat}-{name}"), 0
        while rounds < _ROUNDS and sum(map(sum, taken.values())) < _ROUNDS_NS:
            rounds += 1
            for width in dice.sample(list(taken), len(taken)):
                try:
                    taken[width].append(backend.verify(self._source(repeat), width, config.cached))
                except Exception as error:
                    failed[width] = told(error)
                    del taken[width]
        if repeat >= 0:
            for width, ns in taken.items():
                measured.verification_ns.setdefault(name, {}).setdefault(width, {})[repeat] = sorted(ns)[len(ns) // 2]


def ms_of(timed: Timed) -> float:
    """Return the milliseconds of a token after the first."""
    return timed.rest_ns / 1e6 / max(1, timed.rest)


def by_source(measured: Measured, name: str, baseline: str) -> dict[int, LongSource] | None:
    """Return the decodings behind long sources, the first token's speed beside the baseline's."""
    rows = {}
    for length, found in sorted(measured.long.items()):
        decodes, beside = found.get(name), found.get(baseline, {})
        if not decodes:
            continue
        speedups = [beside[repeat].ttft_ns / timed.ttft_ns for repeat, timed in decodes.items() if repeat in beside]
        rows[length] = LongSource(
            Spread.of(timed.ttft_ns / 1e6 for timed in decodes.values()),
            Spread.of(speedups) if speedups else None,
            Spread.of(map(ms_of, decodes.values())),
        )
    return rows or None


_LENGTH = 128
_DRAFT = 4
"""Tokens of a draft, before one that the small model is unsure of."""
_TEXTS = 60
_SURE, _UNSURE, _WRONG = 0.1, 3.0, 9.0  # -ln p
_ROLLBACK_EVERY = 6


class ScriptedEngine(Engine):
    """Answers from a script: its passes take next to no time, and the method around them does all its work.

    As a small model it is unsure of every fifth token; as a large one it takes back a token in every sixth round.
    """

    name = "scripted"

    def __init__(self) -> None:
        self.eos, self.length, self.passes = -1, 0, 0
        self.sure, self.unsure = Summary([7], [_SURE], []), Summary([7], [_UNSURE], [])
        self.agrees = [Summary([7] * want, [_SURE] * want, [_SURE] * (want - 1)) for want in range(_LENGTH)]
        self.differs = [
            Summary([8] * want, [_SURE] * want, [_SURE] * (want - 2) + [_WRONG] * (want > 1)) for want in range(_LENGTH)
        ]

    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        """See `Engine.start`."""
        self.length = self.passes = 0

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        self.length += len(tokens)
        self.passes += 1
        if want > 1:
            return self.differs[want] if self.passes % _ROLLBACK_EVERY == 0 else self.agrees[want]
        return self.unsure if self.passes % (_DRAFT + 1) == 0 else self.sure

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        self.length = length

    def synchronize(self) -> None:
        """See `Engine.synchronize`."""


def us_per_pass() -> tuple[Spread, float]:
    """Return the microseconds of Python for each forward pass, over texts of 128 tokens, and the passes of a round."""
    large, small = ScriptedEngine(), ScriptedEngine()
    make = policy_for(MethodConfig("bild"), ThresholdConfig())
    taken: list[float] = []
    passes = rounds = 0
    with collector_off():  # as in a measurement
        for _ in range(_TEXTS):
            policy = make(start=0, eos=1, max_length=_LENGTH)
            began = perf_counter_ns()
            run = run_live(policy, [5, 6, 1], large, small)
            spent = perf_counter_ns() - began
            passes, rounds = large.passes + small.passes, len(run.decoded.rounds)
            taken.append(spent / 1e3 / passes)
    half = taken[len(taken) // 2 :]  # the first ones warm the caches
    return Spread.of(half), passes / rounds


def decode_overhead(engine: str | None, draft_ms: float | None, large_ms: Mapping[int, float]) -> Overhead:
    """Return the overhead, and its share of a round whose passes take what was measured.

    `draft_ms`: one step of the model that drafts; `large_ms`: verification passes by width, between which is a line.
    """
    us, passes = us_per_pass()
    if engine is None or draft_ms is None or not large_ms:
        return Overhead(us, passes, None, None, None)
    drafting = passes - 1
    round_ms = drafting * draft_ms + interpolate(dict(large_ms), round(drafting))
    return Overhead(us, passes, round_ms, us.median * passes / 1e3 / round_ms, engine)
