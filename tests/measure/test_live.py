"""The live driver: the same texts as from memory, no position fed in vain, and every nanosecond in one phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.api import generate
from bild.config import DecodeConfig
from bild.decoding import Decoded, Draft, Drafted, Policy, Verified
from bild.decoding.loop import alone, big_little
from bild.engines import Engine, Summary
from bild.errors import BildError
from bild.measure import live
from bild.measure.live import PHASES, Run, common_prefix, run_live
from tests import lanes
from tests.decoding import restated
from tests.decoding.settings import bild_rules, speculative_rules
from tests.decoding.tables import EOS, FB, MAX_DRAFT, MAX_LENGTH, RB, START, Tables, decode, tables
from tests.engines import tiny
from tests.golden.sets import OWN, Golden, every_golden

many = lanes.many(100)
SOURCE = [5, 6, EOS]


class Clock:
    """A clock that stands still but for the work that engines say they do."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class TableEngine(Engine):
    """An engine over a random table. It notes the positions that it is fed, and refuses what the protocol forbids."""

    name = "table"
    eos = EOS

    def __init__(self, model: restated.NextToken, *, clock: Clock | None = None, cost: int = 0) -> None:
        self.model = model
        self.clock, self.cost, self.owed = clock or Clock(), cost, 0
        self.starts = 0
        self.widths = list[int]()
        self.text = list[int]()

    @property
    def length(self) -> int:  # type: ignore[override]
        return len(self.text)

    def start(self, source: Sequence[int], decode: DecodeConfig | None = None) -> None:
        assert list(source) == SOURCE
        self.starts += 1
        self.text, self.widths = [], []
        self.owed = 100 * self.cost  # the device is still at it when this returns

    def synchronize(self) -> None:
        self.clock.now += self.owed
        self.owed = 0

    def rewind(self, length: int) -> None:
        assert 0 <= length <= len(self.text)
        del self.text[length:]

    def step(self, tokens: Sequence[int], want: int = 1, ranks: bool = False) -> Summary:
        assert 1 <= want <= len(tokens)
        self.text += tokens
        self.widths.append(len(tokens))
        self.clock.now += self.cost
        n = len(self.text)
        seen = [self.model(self.text[:at]) for at in range(n - want + 1, n + 1)]
        given = [-logp[token] for logp, token in zip(seen, self.text[n - want + 1 :], strict=False)]
        return Summary([restated.best(logp) for logp in seen], [-max(logp) for logp in seen], given)


def bild(max_length: int = 24, rules: str = "paper", fb: float = 0.6, rb: float = 2.0, **switches: Any) -> Policy:
    return big_little(bild_rules(fb, rb, rules, **switches), start=START, eos=EOS, max_length=max_length)


def on_tables(policy: Policy, pair: Tables) -> Run:
    return run_live(policy, SOURCE, TableEngine(pair.large), TableEngine(pair.small))


PAIRS = [Tables(seed, 8, 3.0, 0.6, 1.0) for seed in range(30)]
"""For tests that look at each: texts with drafts of every length, fallbacks and rollbacks."""


# The same texts


@many
@given(
    pair=tables(),
    fb=FB,
    rb=RB,
    rules=st.sampled_from(["paper", "authors"]),
    max_draft=MAX_DRAFT,
    max_length=MAX_LENGTH,
    first=st.sampled_from(["small", "large"]),
    unsure=st.sampled_from(["drop", "verify"]),
)
def test_it_answers_as_one_would_who_reads_the_models_directly(
    pair: Tables, fb: float, rb: float, rules: str, max_draft: int, max_length: int, first: str, unsure: str
) -> None:
    def policy() -> Policy:
        return bild(max_length, rules, fb, rb, max_draft=max_draft, first=first, unsure=unsure)

    for p in pair.siblings():
        assert on_tables(policy(), p).decoded == decode(policy(), p, max_length=max_length)[0]


@many
@given(pair=tables(), max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_speculative_and_vanilla_write_the_same_live(pair: Tables, max_draft: int, max_length: int) -> None:
    edges: dict[str, Any] = {"start": START, "eos": EOS, "max_length": max_length}
    speculative = on_tables(big_little(speculative_rules(max_draft), **edges), pair)
    vanilla = run_live(alone("large", **edges), SOURCE, TableEngine(pair.large), None)
    expected = restated.greedy(pair.large, [START], eos=EOS, max_length=max_length)
    assert speculative.decoded.tokens == vanilla.decoded.tokens == expected


def restarting(policy: Policy, source: list[int], engines: dict[str, Engine]) -> Decoded:
    """A driver that has nothing to remember wrongly: each ask begins with the encoder."""
    try:
        ask = next(policy)
        while True:
            made = engines[ask.author if isinstance(ask, Draft) else "large"]
            made.start(source)
            told: Any
            if isinstance(ask, Draft):
                told = Drafted(*made.draft(ask.prefix, ask.limit, ask.stop_below))  # type: ignore[arg-type]
            else:
                told = Verified(*made.step([*ask.prefix, *ask.tokens], want=len(ask.tokens) + 1))
            ask = policy.send(told)
    except StopIteration as stop:
        decoded: Decoded = stop.value
        return decoded


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("name", "make"), [*(("fused", make) for make in tiny.SMALL_MAKES), ("hf", "gated-silu"), ("hf", "mt5")]
)
def test_the_caches_are_as_if_the_engines_had_been_started_anew_before_each_ask(name: str, make: str) -> None:
    large = tiny.engine(name, tiny.model(make))
    small = tiny.engine(name, tiny.relative_of(tiny.model(make), noise=0.25), capacity=4)
    rollbacks = 0
    for seed in range(2):
        source = [*tiny.ids(6 + seed, seed), EOS]
        for rules in ("paper", "authors"):
            options: dict[str, Any] = {"rules": rules, "fb": 0.3, "rb": 0.3, "max_draft": 4, "max_length": 16}
            ours = run_live(bild(**options), source, large, small).decoded
            anew = restarting(bild(**options), source, {"large": large, "small": small})
            assert (ours.tokens, ours.origins) == (anew.tokens, anew.origins)
            for a, b in zip(ours.rounds, anew.rounds, strict=True):
                assert a.probs == pytest.approx(b.probs, rel=1e-3, abs=1e-5)
                assert a.token_nll == pytest.approx(b.token_nll, rel=1e-3, abs=1e-4)
            rollbacks += ours.origins.count("rollback")
    assert rollbacks, "the case is of no use"


def test_engines_can_be_used_again_and_again() -> None:
    for pair in PAIRS[:5]:
        large, small = TableEngine(pair.large), TableEngine(pair.small)
        runs = [run_live(bild(), SOURCE, large, small) for _ in range(3)]
        assert runs[0].decoded == runs[1].decoded == runs[2].decoded
        assert runs[0].large_passes == runs[2].large_passes
        assert large.starts == small.starts == 3


def test_an_engines_error_comes_out_and_the_next_run_is_none_the_worse() -> None:
    pair = PAIRS[1]
    large, small = TableEngine(pair.large), TableEngine(pair.small)
    expected = run_live(bild(), SOURCE, large, small).decoded

    def fails(prefix: Sequence[int]) -> Sequence[float]:
        if len(prefix) > 1:
            raise BildError("overflow")
        return pair.large(prefix)

    large.model = fails
    with pytest.raises(BildError, match="overflow"):
        run_live(bild(), SOURCE, large, small)
    large.model = pair.large
    assert run_live(bild(), SOURCE, large, small).decoded == expected


# Passes, and how many positions each is fed


@many
@given(pair=tables(), fb=FB, rb=RB, max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_the_passes_are_those_that_the_engines_made(
    pair: Tables, fb: float, rb: float, max_draft: int, max_length: int
) -> None:
    large, small = TableEngine(pair.large), TableEngine(pair.small)
    run = run_live(bild(max_length, fb=fb, rb=rb, max_draft=max_draft), SOURCE, large, small)
    assert run.large_passes == large.widths
    assert run.small_passes == small.widths


def no_more_than(ours: list[int], theirs: list[int]) -> bool:
    """As many passes, none of them wider."""
    return len(ours) == len(theirs) and all(a <= b for a, b in zip(ours, theirs, strict=True))


def widths(calls: list[str], model: str) -> list[int]:
    return [int(call[1:]) for call in calls if call[0] == model]


@many
@given(pair=tables(), fb=FB, rb=RB, max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_rules_authors_takes_the_authors_passes_and_none_is_wider(
    pair: Tables, fb: float, rb: float, max_draft: int, max_length: int
) -> None:
    said: dict[str, Any] = {"fb": fb, "rb": rb, "max_draft": max_draft}
    for p in pair.siblings():
        theirs = restated.authors(p.small, p.large, **said, start=START, eos=EOS, max_length=max_length)
        run = on_tables(bild(max_length, "authors", **said), p)
        assert no_more_than(run.large_passes, widths(theirs.calls, "L"))
        assert no_more_than(run.small_passes, widths(theirs.calls, "S"))


@every_golden
def test_on_the_golden_sets_too_and_a_rollback_saves_positions(golden: Golden) -> None:
    pair = golden.pair()
    for case in golden.cases[::2]:
        thresholds = {"fb": case["fallback"], "rb": case["rollback"]}
        limits = {"max_draft": case["max_draft"], "max_length": case["max_length"]}
        output = generate(pair, case["input"], rules="authors", **thresholds, **limits)
        theirs = widths(case["calls"], "L")
        assert no_more_than(output.run.large_passes, theirs), case
        assert no_more_than(output.run.small_passes, widths(case["calls"], "S")), case
        # After a rollback the authors' large model reads once more what it had read and let stand; ours does not.
        again = sum(r.kept + 1 for r in output.rounds if r.rollback)
        assert sum(output.run.large_passes) == sum(theirs) - again, case


def test_a_text_with_every_kind_of_round_feeds_what_the_caches_lack() -> None:
    """S: start; a b c d: kept; x y: taken back; u: dropped as unsure; then the end."""
    a, b, c, d, x, y, u = range(2, 9)
    final = [START, a, b, c, d, u, x, EOS]
    large = {tuple(final[:n]): final[n] for n in range(1, len(final))}
    small = {
        (START, a): (b, 0.9),
        (START, a, b): (c, 0.9),  # two drafted, the large model adds d
        (START, a, b, c, d): (x, 0.9),
        (START, a, b, c, d, x): (y, 0.9),  # two drafted, x is taken back for u
        (START, a, b, c, d, u): (y, 0.2),  # unsure: dropped, the large model writes x
        (START, a, b, c, d, u, x): (EOS, 0.9),  # the end, confirmed
    }

    def large_model(prefix: Sequence[int]) -> list[float]:
        likely = large.get(tuple(prefix), a)
        return [-0.01 if token == likely else -9.0 for token in range(9)]

    def small_model(prefix: Sequence[int]) -> list[float]:
        likely, prob = small[tuple(prefix)]
        return [math.log(prob if token == likely else (1 - prob) / 8) for token in range(9)]

    run = run_live(bild(max_draft=2), SOURCE, TableEngine(large_model), TableEngine(small_model))
    assert run.decoded.tokens == final
    assert run.decoded.origins == ["start", "large", "small", "small", "large", "rollback", "large", "small"]
    # S | a b c | d x y (y: cut) | u | x EOS; the last tokens fed, since a prediction behind them is asked for
    assert run.large_passes == [1, 3, 3, 1, 2]
    # S a, b | c d, x (x: cut) | u | x
    assert run.small_passes == [2, 1, 2, 1, 1, 1]


@pytest.mark.parametrize(("author", "other"), [("large", "small"), ("small", "large")])
def test_a_model_alone_is_fed_each_token_once_and_the_other_is_not_started(author: Any, other: str) -> None:
    pair = PAIRS[1]
    engines: dict[str, Any] = {author: TableEngine(getattr(pair, author)), other: None}
    run = run_live(alone(author, start=START, eos=EOS, max_length=12), SOURCE, engines["large"], engines["small"])
    passes = {"large": run.large_passes, "small": run.small_passes}
    assert passes[author] == [1] * (len(run.decoded.tokens) - 1)
    assert passes[other] == []
    assert run.phases_ns[f"encode_{other}"] == run.phases_ns[other] == 0


@pytest.mark.parametrize("together", [False, True])
def test_a_model_encodes_when_it_is_first_asked_or_with_the_other_where_they_share(together: bool) -> None:
    def ends(prefix: Sequence[int]) -> list[float]:
        return [0.0 if token == EOS else -9.0 for token in range(5)]

    large, small = TableEngine(ends), TableEngine(ends)
    large.starts_together = small.starts_together = together
    authors = bild_rules(0.1, 2.0, "authors", first="small")
    run = run_live(big_little(authors, start=START, eos=EOS, max_length=8), SOURCE, large, small)
    assert (run.large_passes, run.small_passes) == ([], [1])
    assert (large.starts, small.starts) == (int(together), 1)
    if not together:
        assert run.phases_ns["encode_large"] == 0


def test_generate_starts_only_the_models_that_a_method_asks() -> None:
    pair = Golden(OWN, "t5").pair()
    for method, idle in (("vanilla", "small"), ("small", "large")):
        phases = generate(pair, [7, 9, EOS], method=method).run.phases_ns
        assert phases[f"encode_{idle}"] == phases[idle] == 0
    assert min(generate(pair, [7, 9, EOS]).run.phases_ns.values()) > 0


# Time


def timed(policy: Policy, pair: Tables, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, int]:
    """A run in which a large step takes 10 ns, a small one 3 and an encoder 100 steps; and what the clock then says."""
    clock = Clock()
    monkeypatch.setattr(live, "perf_counter_ns", clock)
    large, small = TableEngine(pair.large, clock=clock, cost=10), TableEngine(pair.small, clock=clock, cost=3)
    return run_live(policy, SOURCE, large, small), clock.now


@pytest.mark.parametrize("pair", PAIRS[:8])
def test_each_phase_has_the_time_of_its_own_passes(pair: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    run, elapsed = timed(bild(), pair, monkeypatch)
    assert run.phases_ns == {
        "encode_large": 1000,
        "encode_small": 300,
        "small": 3 * len(run.small_passes),
        "large": 10 * len(run.large_passes),
        "rest": 0,
    }
    assert run.total_ns == elapsed


def test_the_time_of_the_policy_itself_is_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(live, "perf_counter_ns", clock)

    def slow(policy: Policy) -> Policy:
        told, ask = None, next(policy)
        while True:
            clock.now += 7
            told = yield ask
            try:
                ask = policy.send(told)
            except StopIteration as stop:
                return stop.value

    pair = PAIRS[2]
    engines = [TableEngine(model, clock=clock, cost=1) for model in (pair.large, pair.small)]
    run = run_live(slow(bild()), SOURCE, *engines)
    asks = len(decode(bild(), pair, max_length=24)[1])
    assert run.phases_ns["rest"] == 7 * asks
    assert run.total_ns == clock.now


@pytest.mark.parametrize("method", ["bild", "speculative", "vanilla", "small"])
def test_by_a_real_clock_the_phases_sum_to_the_total(method: str) -> None:
    runs = [generate(Golden(OWN, "mt5").pair(), [7, 9, 30, EOS], method=method).run for _ in range(5)]
    for run in runs:
        assert tuple(run.phases_ns) == PHASES
        assert sum(run.phases_ns.values()) == run.total_ns
        assert min(run.phases_ns.values()) >= 0
    # On a busy machine something else may run in between once.
    assert min(run.phases_ns["rest"] / run.total_ns for run in runs) < 0.5


# common_prefix

TEXT = st.lists(st.integers(0, 2), max_size=8)


@many
@given(a=TEXT, b=TEXT)
def test_common_prefix_counts_the_leading_items_that_are_shared(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


@many
@given(a=TEXT, b=TEXT)
def test_common_prefix_takes_sequences_of_different_types(a: list[int], b: list[int]) -> None:
    assert common_prefix(a, tuple(b)) == common_prefix(tuple(a), b) == common_prefix(a, b)
