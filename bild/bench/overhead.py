"""What the Python between two forward passes costs: policy and live driver, over engines that answer at once."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from time import perf_counter_ns

from bild.config import MethodConfig, ThresholdConfig
from bild.decoding import policy_for
from bild.engines import Engine, Summary
from bild.measure.live import run_live
from bild.results.bench import Overhead, Spread
from bild.results.prices import interpolate

LENGTH = 128
DRAFT = 4
"""Tokens of a draft, before one that the small model is unsure of."""
_TIMES = 60
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
        self.agrees = [Summary([7] * want, [_SURE] * want, [_SURE] * (want - 1)) for want in range(LENGTH)]
        self.differs = [
            Summary([8] * want, [_SURE] * want, [_SURE] * (want - 2) + [_WRONG] * (want > 1)) for want in range(LENGTH)
        ]

    def start(self, source: Sequence[int]) -> None:
        """See `Engine.start`."""
        self.length = self.passes = 0

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        """See `Engine.step`."""
        self.length += len(tokens)
        self.passes += 1
        if want > 1:
            return self.differs[want] if self.passes % _ROLLBACK_EVERY == 0 else self.agrees[want]
        return self.unsure if self.passes % (DRAFT + 1) == 0 else self.sure

    def rewind(self, length: int) -> None:
        """See `Engine.rewind`."""
        self.length = length

    def synchronize(self) -> None:
        """See `Engine.synchronize`."""


def us_per_pass() -> tuple[Spread, float]:
    """(microseconds of Python for each forward pass, over texts of 128 tokens; forward passes of a round)."""
    large, small = ScriptedEngine(), ScriptedEngine()
    make = policy_for(MethodConfig("bild"), ThresholdConfig())
    taken: list[float] = []
    passes = rounds = 0
    enabled = gc.isenabled()
    gc.disable()  # as in a measurement
    try:
        for _ in range(_TIMES):
            policy = make(start=0, eos=1, max_length=LENGTH)
            began = perf_counter_ns()
            run = run_live(policy, [5, 6, 1], large, small)
            spent = perf_counter_ns() - began
            passes, rounds = large.passes + small.passes, len(run.decoded.rounds)
            taken.append(spent / 1e3 / passes)
    finally:
        if enabled:
            gc.enable()
    half = taken[len(taken) // 2 :]  # the first ones warm the caches
    return Spread.of(half), passes / rounds


def decode_overhead(engine: str | None, draft_ms: float | None, large_ms: Mapping[int, float]) -> Overhead:
    """The overhead, and its share of a round whose passes take what was measured.

    `draft_ms`: one step of the model that drafts; `large_ms`: wide passes by width, which are read off linearly.
    """
    us, passes = us_per_pass()
    if engine is None or draft_ms is None or not large_ms:
        return Overhead(us, passes, None, None, None)
    drafting = passes - 1
    round_ms = drafting * draft_ms + interpolate(dict(large_ms), round(drafting))
    return Overhead(us, passes, round_ms, us.median * passes / 1e3 / round_ms, engine)
