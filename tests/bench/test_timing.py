"""The loop: every backend in every repeat, in a new order; failures are told; Ctrl-C keeps what was measured."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bild.bench.backends import Backend, EngineBackend, Timed
from bild.bench.config import BenchConfig
from bild.bench.timing import InterleavedRun, Measured, ScriptedEngine, decode_overhead, us_per_pass

SOURCES = {None: [[5, 1], [6, 1]]}
PLAN = BenchConfig(tokens=3, widths=[1, 2, 4], cached=2, repeats=4, warmup=2, seed=0)


class Noted(Backend):
    """Writes down that it was called."""

    def __init__(self, name: str, calls: list[tuple[str, int]], fails_at: int = -1, error: type = ValueError) -> None:
        self.name, self.calls, self.fails_at, self.error = name, calls, fails_at, error

    def decode(self, source: Sequence[int], tokens: int) -> Timed:
        assert not gc.isenabled()
        self.calls.append((self.name, source[0]))
        if len([name for name, _ in self.calls if name == self.name]) == self.fails_at:
            raise self.error("it\n broke")
        return Timed([7] * (tokens + 1), 1000, 3000 * len(self.name), tokens)


def run(*backends: Noted, plan: BenchConfig = PLAN) -> Measured:
    probes = {"read": lambda: 1.0}
    return InterleavedRun({backend.name: backend for backend in backends}, probes, plan, SOURCES).run("test")


def test_every_entrant_in_every_repeat_on_the_same_source_in_a_new_order() -> None:
    calls: list[tuple[str, int]] = []
    measured = run(*(Noted(name, calls) for name in ("a", "b", "c", "d")))
    rounds = [calls[at : at + 4] for at in range(0, len(calls), 4)]
    assert len(rounds) == PLAN.warmup + PLAN.repeats
    for one in rounds:
        assert {name for name, _ in one} == {"a", "b", "c", "d"}
        assert len({source for _, source in one}) == 1
    assert len({tuple(name for name, _ in one) for one in rounds}) > 1
    assert {name: list(found) for name, found in measured.decodes.items()} == {name: [0, 1, 2, 3] for name in "abcd"}
    assert measured.repeats == 4
    assert measured.rates == {"read": [1.0] * 4}
    assert gc.isenabled()


def test_the_order_comes_from_the_seed() -> None:
    first, again, other = ([], [], [])  # type: ignore[var-annotated]
    for calls, seed in ((first, 0), (again, 0), (other, 1)):
        run(*(Noted(name, calls) for name in "abcd"), plan=replace(PLAN, seed=seed))
    assert first == again != other


@pytest.mark.parametrize("fails_at", [1, 4])
def test_one_that_fails_is_told_and_left_out_and_the_others_go_on(fails_at: int) -> None:
    calls: list[tuple[str, int]] = []
    measured = run(Noted("good", calls), Noted("bad", calls, fails_at))
    assert measured.failures == {"bad": "it broke"}
    assert len([name for name, _ in calls if name == "bad"]) == fails_at
    assert len(measured.decodes["good"]) == 4
    assert not measured.interrupted


def test_ctrl_c_keeps_what_was_measured() -> None:
    calls: list[tuple[str, int]] = []
    measured = run(Noted("good", calls), Noted("bad", calls, 5, KeyboardInterrupt))
    assert measured.interrupted
    assert measured.repeats == 2
    assert len(measured.decodes["good"]) >= 2
    assert len(measured.decodes["bad"]) == 2
    assert gc.isenabled()


class Picky(ScriptedEngine):
    """Takes no four tokens at once."""

    def step(self, tokens: Sequence[int], want: int = 1):  # type: ignore[no-untyped-def]
        if len(tokens) == 4:
            raise RuntimeError("four are too many")
        return super().step(tokens, want)

    def rewind(self, length: int) -> None:
        assert length <= self.length
        super().rewind(length)


def test_wide_passes_by_width_and_a_width_that_fails() -> None:
    backend = EngineBackend(Picky(), start=0, rows=50)
    measured = InterleavedRun({"e": backend}, {}, PLAN, SOURCES).run("test")
    assert {width: list(ns) for width, ns in measured.verification_ns["e"].items()} == {
        1: [0, 1, 2, 3],
        2: [0, 1, 2, 3],
    }
    assert measured.verification_failures == {"e": {4: "four are too many"}}
    assert len(measured.decodes["e"]) == 4
    assert measured.decodes["e"][0].rest == 3
    assert len(measured.decodes["e"][0].tokens) == 4


def test_the_python_between_two_passes_takes_a_few_microseconds() -> None:
    us, passes = us_per_pass()
    # The aim is 15, on a quiet machine; here it only must not be of another order.
    assert 0.1 < us.low < 60
    assert us.low <= us.median <= us.high
    assert 5 < passes < 7  # four drafted, one that it was unsure of, one verification


def test_its_share_of_a_round() -> None:
    found = decode_overhead("fused", 2.0, {1: 10.0, 4: 16.0, 8: 20.0})
    assert found.round_ms is not None
    assert found.share is not None
    drafting = found.passes_per_round - 1
    assert found.round_ms == pytest.approx(2.0 * drafting + 17.0)  # width 5 lies a quarter between 4 and 8
    assert found.share == pytest.approx(found.us_per_pass.median * found.passes_per_round / found.round_ms / 1e3)
    # At T5-small's shape a round takes above 50 ms: the bound is 3 %.
    assert found.us_per_pass.low * found.passes_per_round < 0.03 * 50_000
    assert decode_overhead(None, None, {}).share is None
