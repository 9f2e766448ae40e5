"""The promises of every engine: start, step, rewind, length, draft."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.engines import Engine, build_engine
from bild.errors import BildError
from tests.engines.tiny import EOS, ROWS, START, engine, ids, library_text, model
from tests.lanes import many

NAMES = ["fused", "graph", "hf"]
every_engine = pytest.mark.parametrize("name", NAMES)
SOURCE = [*ids(9), EOS]
TEXT = [START, *ids(20, seed=1)]


def started(name: str, make: str = "gated-silu", **options: Any) -> Engine:
    made = engine(name, model(make), **options)
    made.start(SOURCE)
    return made


def near(values: list[float]) -> Any:
    return pytest.approx(values, rel=1e-4, abs=1e-5)


@cache
def greedy(make: str = "gated-silu", length: int = 12) -> list[int]:
    """The start token, and what the model writes."""
    return library_text(model(make), SOURCE, length)


# start, step, length


@every_engine
def test_length_counts_the_positions_that_were_fed(name: str) -> None:
    made = started(name)
    assert made.length == 0
    for n, tokens in ((1, [START]), (4, [5, 6, 7]), (5, [8])):
        made.step(tokens)
        assert made.length == n
    made.rewind(2)
    assert made.length == 2
    made.start(SOURCE)
    assert made.length == 0


@every_engine
def test_a_new_source_forgets_the_former_one(name: str) -> None:
    made, other = started(name), [*ids(5, seed=9), EOS]
    first = made.step(TEXT, want=len(TEXT))
    made.start(other)
    assert made.step(TEXT, want=len(TEXT)).choice_nll != near(first.choice_nll)
    made.start(SOURCE)
    assert made.step(TEXT, want=len(TEXT)) == first


@every_engine
@pytest.mark.parametrize("want", [1, 2, 5, len(TEXT)])
def test_a_step_reports_on_its_last_positions(name: str, want: int) -> None:
    whole = started(name).step(TEXT, want=len(TEXT))
    told = started(name).step(TEXT, want=want)
    assert told.choice == whole.choice[-want:]
    assert told.choice_nll == near(whole.choice_nll[-want:])
    assert told.token_nll == near(whole.token_nll[len(whole.token_nll) - (want - 1) :])
    assert (len(told.choice), len(told.choice_nll), len(told.token_nll)) == (want, want, want - 1)


@every_engine
@pytest.mark.parametrize("want", [1, 3])
def test_a_summary_is_made_of_plain_numbers(name: str, want: int) -> None:
    told = started(name).step(TEXT[:4], want=want)
    assert {type(token) for token in told.choice} == {int}
    assert {type(nll) for nll in told.choice_nll + told.token_nll} == {float}


@every_engine
def test_the_nll_of_the_choice_is_the_smallest_of_all(name: str) -> None:
    made = started(name)
    best = made.step([START])
    nlls = []
    for token in range(ROWS):
        made.rewind(0)
        nlls += made.step([START, token], want=2).token_nll
    assert best.choice == [nlls.index(min(nlls))]
    assert best.choice_nll == near([min(nlls)])
    assert sum(math.exp(-nll) for nll in nlls) == pytest.approx(1.0, abs=1e-5)


@every_engine
def test_synchronize_can_always_be_called(name: str) -> None:
    made = started(name)
    made.synchronize()
    assert made.step([START]) == started(name).step([START])


# rewind


@every_engine
@pytest.mark.parametrize("length", [6, 100, -1])
def test_rewinding_to_what_is_not_cached_is_refused_and_changes_nothing(name: str, length: int) -> None:
    made = started(name)
    made.step(TEXT[:5])
    with pytest.raises(ValueError, match=f"rewind to {length}: only 0 to 5 are cached"):
        made.rewind(length)
    assert made.length == 5
    fresh = started(name)
    fresh.step(TEXT[:5])
    assert made.step(TEXT[5:7], want=2) == fresh.step(TEXT[5:7], want=2)


@every_engine
@pytest.mark.parametrize("length", range(6))
def test_after_a_rewind_the_text_goes_on_as_if_it_had_never_been_longer(name: str, length: int) -> None:
    made = started(name)
    made.step([*TEXT[:length], *ids(5 - length, seed=5)])
    made.rewind(length)
    told = made.step(TEXT[length:10], want=10 - length)
    fresh = started(name).step(TEXT[:10], want=10 - length)
    assert told.choice == fresh.choice
    assert told.choice_nll == near(fresh.choice_nll)
    assert told.token_nll == near(fresh.token_nll)


MOVES = st.lists(
    st.one_of(
        st.lists(st.integers(2, ROWS - 1), min_size=1, max_size=9),  # a step over these tokens
        st.floats(0.0, 1.0),  # a rewind to this share of the length
    ),
    min_size=1,
    max_size=14,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make"),
    [*((name, make) for name in ("fused", "graph") for make in ("t5-v1.0", "mt5", "deep-decoder")), ("hf", "mt5")],
)
@many(25)
@given(moves=MOVES)
def test_no_interleaving_of_steps_and_rewinds_leaves_a_trace(name: str, make: str, moves: list[Any]) -> None:
    made, fed = _engine(name, make), list[int]()
    made.start(SOURCE)
    for move in moves:
        if isinstance(move, float):
            made.rewind(int(move * len(fed)))
            fed = fed[: made.length]
        else:
            made.step(move, want=len(move))
            fed += move
        assert made.length == len(fed)
    end = [7, 11]
    told = made.step(end, want=2)
    fresh = _engine("hf", make, "fresh")
    fresh.start(SOURCE)
    expected = fresh.step(fed + end, want=2)
    assert told.choice_nll == near(expected.choice_nll)
    assert told.token_nll == near(expected.token_nll)
    assert told.choice == expected.choice


@cache
def _engine(name: str, make: str, use: str = "tested") -> Engine:
    return engine(name, model(make), capacity=6)  # so that it grows in the middle of it


# draft


@every_engine
def test_a_draft_writes_on_greedily_up_to_its_limit(name: str) -> None:
    tokens, probs, stop = started(name).draft([START], 5, 0.0)
    assert tokens == greedy()[1:6]
    assert stop == "limit"
    assert len(probs) == 5


@every_engine
def test_a_draft_of_one_token_is_one_step(name: str) -> None:
    made, told = started(name), started(name).step([START])
    tokens, probs, stop = made.draft([START], 1, 0.0)
    assert (tokens, stop) == (told.choice, "limit")
    assert probs == pytest.approx([math.exp(-told.choice_nll[0])], rel=1e-12)  # exp(-log(x)) and 1 / x round apart
    assert made.length == 1


@every_engine
def test_a_draft_may_begin_with_more_than_one_token(name: str) -> None:
    text = greedy()
    tokens, _, _ = started(name).draft(text[:4], 3, 0.0)
    assert tokens == text[4:7]


@every_engine
def test_the_probabilities_of_a_draft_are_the_models(name: str) -> None:
    made = started(name)
    tokens, probs, _ = made.draft([START], 8, 0.0)
    judged = started(name).step([START, *tokens], want=9)
    assert probs == pytest.approx([math.exp(-nll) for nll in judged.token_nll], rel=1e-4)
    assert all(0.0 < prob < 1.0 for prob in probs)


@every_engine
def test_the_last_token_of_a_draft_is_not_cached(name: str) -> None:
    made = started(name)
    tokens, _, _ = made.draft([START], 4, 0.0)
    assert made.length == 4  # the start token and three of them
    told = made.step(tokens[-1:])
    assert told.choice == [greedy()[5]]


@every_engine
def test_a_draft_stops_at_the_end_token(name: str) -> None:
    text = greedy()
    end = next(token for token in text[3:] if token not in text[1:3])
    made = started(name, eos=end)
    tokens, probs, stop = made.draft([START], 10, 0.0)
    assert stop == "eos"
    assert tokens == text[1 : text.index(end) + 1]
    assert len(probs) == len(tokens)
    assert made.length == len(tokens)


@every_engine
def test_a_draft_that_ends_at_its_limit_says_that_it_ended(name: str) -> None:
    assert started(name, eos=greedy()[1]).draft([START], 1, 0.0)[2] == "eos"


@every_engine
def test_a_draft_stops_at_the_token_that_it_is_unsure_of_and_returns_it(name: str) -> None:
    _, probs, _ = started(name).draft([START], 10, 0.0)
    lowest = probs.index(min(probs))
    assert lowest > 0, "the case is of no use"
    made = started(name)
    tokens, seen, stop = made.draft([START], 10, math.nextafter(min(probs), 1.0))
    assert stop == "unsure"
    assert tokens == greedy()[1 : lowest + 2]
    assert seen == pytest.approx(probs[: lowest + 1])
    assert made.length == lowest + 1


@every_engine
def test_a_token_at_the_threshold_is_sure_enough(name: str) -> None:
    _, probs, _ = started(name).draft([START], 1, 0.0)
    assert started(name).draft([START], 1, probs[0])[2] == "limit"


@every_engine
def test_unsure_goes_before_the_end_and_the_limit(name: str) -> None:
    assert started(name, eos=greedy()[1]).draft([START], 1, 1.1)[2] == "unsure"


# build_engine


@pytest.mark.parametrize("name", NAMES)
def test_engines_are_built_by_name(name: str) -> None:
    made = build_engine(name, model("mt5"), dtype="fp32", eos=7, vocabulary=ROWS)
    assert isinstance(made, Engine)
    assert (made.name, made.eos) == (name, 7)


def test_an_unknown_engine_is_refused_in_words() -> None:
    with pytest.raises(BildError, match=r"engine=warp is not known: choose .*hf.*fused.*graph"):
        build_engine("warp", model("mt5"), dtype="fp32", eos=EOS, vocabulary=ROWS)
