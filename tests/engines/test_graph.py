"""The graph engine, uncaptured on a CPU, against the library's modules: widths, buckets, rewinds, run-ahead."""

from __future__ import annotations

import random

import pytest

from bild.decoding.loop import alone, big_little
from bild.engines.graph import GraphEngine
from bild.engines.graph_programs import SOURCES, WIDTHS
from bild.errors import BildError
from bild.measure.live import run_live
from tests.decoding.settings import bild_rules, speculative_rules
from tests.engines.tiny import EOS, MAKES, SMALL_MAKES, START, build, engine, ids, model, relative_of

SOURCE = [*ids(9, seed=3), EOS]


def close(a: list[float], b: list[float]) -> bool:
    return a == pytest.approx(b, rel=1e-4, abs=1e-4)


def graph(make: str, **options: object) -> GraphEngine:
    made = engine("graph", model(make), **options)
    assert isinstance(made, GraphEngine)
    return made


@pytest.mark.parametrize("make", SMALL_MAKES)
def test_every_width_and_both_sides_of_every_bucket_edge_agree_with_the_library(make: str) -> None:
    edges = sorted({w + d for w in WIDTHS[:7] for d in (-1, 0, 1)} - {0})
    fast, oracle = graph(make, capacity=64), engine("hf", model(make))
    for made in (fast, oracle):
        made.start(SOURCE)
        made.step([START, *ids(4)])
    for width in edges:
        tokens = ids(width, seed=width)
        mine, theirs = fast.step(tokens, want=width), oracle.step(tokens, want=width)
        assert mine.choice == theirs.choice
        assert close(mine.choice_nll, theirs.choice_nll)
        assert close(mine.token_nll, theirs.token_nll)
        for made in (fast, oracle):
            made.rewind(5)


def test_source_lengths_around_a_bucket_edge_agree_and_share_no_state() -> None:
    fast, oracle = graph("mt5"), engine("hf", model("mt5"))
    for length in (SOURCES[0] - 1, SOURCES[0], SOURCES[0] + 1, 3, SOURCES[1]):
        source = [*ids(length - 1, seed=length), EOS]
        fast.start(source)
        oracle.start(source)
        mine, theirs = fast.step([START, 5, 6], want=3), oracle.step([START, 5, 6], want=3)
        assert mine.choice == theirs.choice
        assert close(mine.choice_nll, theirs.choice_nll)
    assert sorted(fast.sources) == [SOURCES[0], SOURCES[1]]


def test_any_interleaving_of_steps_and_rewinds_leaves_no_trace() -> None:
    dice = random.Random(7)
    fast, oracle = graph("t5-v1.0", capacity=16), engine("hf", model("t5-v1.0"))
    fast.start(SOURCE)
    oracle.start(SOURCE)
    fast.step([START])
    oracle.step([START])
    for _ in range(60):
        if dice.random() < 0.4:
            length = dice.randint(1, fast.length)
            fast.rewind(length)
            oracle.rewind(length)
        tokens = ids(dice.randint(1, 5), seed=dice.randrange(1000))
        assert close(fast.step(tokens).choice_nll, oracle.step(tokens).choice_nll)
        assert fast.length == oracle.length


@pytest.mark.spread(4)
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 7, 10, 20])
def test_a_draft_that_runs_ahead_is_the_draft_step_by_step(ahead: bool, limit: int) -> None:
    fast, oracle = graph("t5-v1.0"), engine("hf", model("t5-v1.0"))
    fast.ahead = ahead
    for threshold in (0.0, 0.2, 0.5):
        for feed in ([START], [START, 7], [START, 9, 4]):
            fast.start(SOURCE)
            oracle.start(SOURCE)
            before = fast.passes
            tokens, probs, stop = fast.draft(feed, limit, threshold)
            assert (tokens, stop) == oracle.draft(feed, limit, threshold)[::2]
            assert len(probs) == len(tokens)
            assert fast.length == len(feed) + len(tokens) - 1  # the last token is not cached
            assert fast.passes - before == len(tokens) + (ahead and len(tokens) < limit)
            mine, theirs = fast.step([tokens[-1], 5], want=2), oracle.step([tokens[-1], 5], want=2)
            assert mine.choice == theirs.choice
            assert close(mine.choice_nll, theirs.choice_nll)


def test_room_grows_and_what_was_cached_stays() -> None:
    fast, oracle = graph("mt5", capacity=4), engine("hf", model("mt5"))
    fast.start(SOURCE)
    oracle.start(SOURCE)
    for seed in range(6):
        tokens = ids(7, seed=seed)
        assert close(fast.step(tokens).choice_nll, oracle.step(tokens).choice_nll)
    assert fast.capacity >= 42


def test_more_tokens_than_the_widest_step_are_refused() -> None:
    made = graph("t5-v1.0")
    made.start(SOURCE)
    with pytest.raises(BildError, match="at most 128 new tokens"):
        made.step([START] * 129)


@pytest.mark.spread(2)
@pytest.mark.parametrize("make", sorted(MAKES))
def test_policies_write_the_same_text_as_on_the_library(make: str) -> None:
    large = model(make)
    small = relative_of(large, 0.3)
    rows = large.config.vocab_size
    engines = {name: (engine(name, large), engine(name, small)) for name in ("graph", "hf")}
    dice = random.Random(5)
    for n in range(3):
        source = [*ids(dice.randint(3, 40), seed=n, below=rows), EOS]
        for rules in (
            bild_rules(dice.random(), 4 * dice.random(), dice.choice(["paper", "authors"])),
            speculative_rules(5),
        ):
            texts = [
                run_live(big_little(rules, start=START, eos=EOS, max_length=24), source, *engines[name]).decoded.tokens
                for name in ("graph", "hf")
            ]
            assert texts[0] == texts[1]
        greedy = [
            run_live(alone("large", start=START, eos=EOS, max_length=24), source, pair[0], None).decoded.tokens
            for pair in engines.values()
        ]
        assert greedy[0] == greedy[1]


def test_the_head_of_mt5_with_250112_rows() -> None:
    module = build("mt5", vocab_size=250_112)
    fast, oracle = engine("graph", module), engine("hf", module)
    fast.start(SOURCE)
    oracle.start(SOURCE)
    tokens = [START, 250_000, 17]
    mine, theirs = fast.step(tokens, want=3), oracle.step(tokens, want=3)
    assert mine.choice == theirs.choice  # ids above 2**16 survive the trip through fp32
    assert close(mine.token_nll, theirs.token_nll)
