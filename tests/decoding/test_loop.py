"""Every switch of the loop, by answers that are written down."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bild.decoding import Decoded, Draft, Drafted, Round, Verify
from bild.decoding.actions import Ask, Tell
from bild.decoding.loop import alone, big_little
from tests.decoding.scripted import END, START, UNLIKELY, A, B, C, D, E, X, Y, drafts, judges, play, writes
from tests.decoding.settings import bild_rules, speculative_rules

FB, RB = 0.6, 5.0


def bild(*answers: Tell, rules: str = "paper", max_length: int = 32, **switches: Any) -> tuple[Decoded, list[Ask]]:
    made = bild_rules(switches.pop("fb", FB), switches.pop("rb", RB), rules, **switches)
    return play(big_little(made, start=START, eos=END, max_length=max_length), *answers)


def one_model(author: Any, *answers: Tell, max_length: int = 32) -> tuple[Decoded, list[Ask]]:
    return play(alone(author, start=START, eos=END, max_length=max_length), *answers)


# A whole text


def test_a_text_with_every_kind_of_round() -> None:
    decoded, asks = bild(
        writes(A),
        drafts(B, C),
        judges([B, C], B, C, D),  # all kept, and one more
        drafts(X, Y),
        judges([X, Y], E, Y, Y),  # X taken back for E, Y goes with it
        drafts(A, X, stop="unsure"),
        judges([A], A, B),  # X dropped, B in its place
        drafts(C, END, stop="eos"),
        judges([C, END], C, END, X),  # the end is confirmed; what would follow it is not written
        max_draft=2,
    )
    assert decoded.tokens == [START, A, B, C, D, E, A, B, C, END]
    assert decoded.origins == [
        "start", "large", "small", "small", "large", "rollback", "small", "large", "small", "small"
    ]  # fmt: skip
    assert decoded.rounds == [
        Round(1, [], [], "none", [], 0, A, False),
        Round(2, [B, C], [0.9, 0.9], "limit", [0.0, 0.0], 2, D, False),
        Round(5, [X, Y], [0.9, 0.9], "limit", [UNLIKELY, 0.0], 0, E, True),
        Round(6, [A], [0.9, 0.1], "unsure", [0.0], 1, B, False),
        Round(8, [C, END], [0.9, 0.9], "eos", [0.0, 0.0], 2, None, False),
    ]
    assert asks == [
        Verify([START], []),
        Draft([START, A], 2, FB),
        Verify([START, A], [B, C]),
        Draft([START, A, B, C, D], 2, FB),
        Verify([START, A, B, C, D], [X, Y]),
        Draft([START, A, B, C, D, E], 2, FB),
        Verify([START, A, B, C, D, E], [A]),
        Draft([START, A, B, C, D, E, A, B], 2, FB),
        Verify([START, A, B, C, D, E, A, B], [C, END]),
    ]


@pytest.mark.parametrize("author", ["large", "small"])
def test_a_model_alone_is_asked_once_for_everything(author: str) -> None:
    decoded, asks = one_model(author, drafts(A, B, END, stop="eos"), max_length=9)
    assert asks == [Draft([START], 8, 0.0, author)]
    assert decoded.tokens == [START, A, B, END]
    assert decoded.origins == ["start", author, author, author]


def test_only_the_small_models_own_text_is_a_draft() -> None:
    assert one_model("large", drafts(A, END, stop="eos"))[0].rounds == []
    small = one_model("small", drafts(A, END, stop="eos"))[0].rounds
    assert small == [Round(1, [A, END], [0.9, 0.9], "eos", [], 2, None, False)]


# first


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_first_is_the_large_model_unless_told_otherwise(rules: str) -> None:
    _, asks = bild(writes(END), rules=rules)
    assert asks == [Verify([START], [])]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_first_small_drafts_from_the_start_token(rules: str) -> None:
    decoded, asks = bild(drafts(A), judges([A], A, END), rules=rules, first="small", max_draft=1)
    assert asks == [Draft([START], 1, FB), Verify([START], [A])]
    assert decoded.origins == ["start", "small", "large"]


# max_draft and fb go into the ask


@pytest.mark.parametrize("max_draft", [1, 3, 10])
def test_a_draft_is_asked_for_max_draft_tokens_and_stops_below_fb(max_draft: int) -> None:
    _, asks = bild(writes(A), drafts(X, stop="unsure"), writes(END), fb=0.37, max_draft=max_draft)
    assert asks[1] == Draft([START, A], max_draft, 0.37, "small")


def test_max_draft_is_ten_unless_told_otherwise() -> None:
    _, asks = bild(writes(A), drafts(X, stop="unsure"), writes(END))
    assert asks[1] == Draft([START, A], 10, FB)


def test_the_large_model_writes_one_token_after_each_full_draft() -> None:
    decoded, asks = bild(writes(A), drafts(B), judges([B], B, C), drafts(D), judges([D], D, END), max_draft=1)
    assert decoded.tokens == [START, A, B, C, D, END]
    assert decoded.origins == ["start", "large", "small", "large", "small", "large"]
    assert [len(ask.prefix) for ask in asks] == [1, 2, 2, 4, 4]


# unsure


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_the_token_that_it_was_unsure_of_is_dropped(rules: str) -> None:
    decoded, asks = bild(writes(A), drafts(B, X, stop="unsure"), judges([B], B, END), rules=rules)
    assert asks[2] == Verify([START, A], [B])
    assert decoded.tokens == [START, A, B, END]
    assert decoded.rounds[1].probs == [0.9, 0.1]


def test_unsure_of_its_first_token_makes_an_ordinary_large_step() -> None:
    decoded, asks = bild(writes(A), drafts(X, stop="unsure"), writes(END))
    assert asks[2] == Verify([START, A], [])
    assert decoded.rounds[1] == Round(2, [], [0.1], "unsure", [], 0, END, False)


def test_unsure_verify_sends_it_along() -> None:
    decoded, asks = bild(
        writes(A), drafts(B, C, stop="unsure"), judges([B, C], B, X, END, nll=[0.1, 4.9]), unsure="verify"
    )
    assert asks[2] == Verify([START, A], [B, C])
    assert decoded.tokens == [START, A, B, C, END]  # C is within rb, so it stands though X was likelier
    assert decoded.origins == ["start", "large", "small", "small", "large"]


def test_unsure_verify_takes_it_back_like_any_other() -> None:
    decoded, _ = bild(writes(A), drafts(B, X, stop="unsure"), judges([B, X], B, END, END), unsure="verify")
    assert decoded.tokens == [START, A, B, END]
    assert decoded.origins[-1] == "rollback"


def test_unsure_verify_sends_along_an_unsure_end_token_even_where_tails_are_not_verified() -> None:
    decoded, asks = bild(
        writes(A),
        drafts(END, stop="unsure"),
        judges([END], B, B),
        drafts(END, stop="eos"),
        unsure="verify",
        verify_eos=False,
    )
    assert asks[2] == Verify([START, A], [END])
    assert decoded.tokens == [START, A, B, END]


# rollback and after_rollback


def test_a_rollback_replaces_the_first_unlikely_token_and_drops_what_follows() -> None:
    decoded, _ = bild(writes(A), drafts(B, X, D), judges([B, X, D], B, C, Y, Y), drafts(END, stop="eos"),
                      judges([END], END, X), max_draft=3)  # fmt: skip
    assert decoded.tokens == [START, A, B, C, END]
    assert decoded.origins == ["start", "large", "small", "rollback", "small"]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_a_token_at_the_threshold_stands(rules: str) -> None:
    decoded, _ = bild(writes(A), drafts(X, stop="limit"), judges([X], B, END, nll=[RB]), rules=rules, max_draft=1)
    assert decoded.tokens == [START, A, X, END]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_a_token_just_above_the_threshold_does_not(rules: str) -> None:
    above = math.nextafter(RB, math.inf)
    decoded, _ = bild(
        writes(A), drafts(X), judges([X], B, END, nll=[above]), writes(END),
        rules=rules, max_draft=1, after_rollback="large",
    )  # fmt: skip
    assert decoded.tokens == [START, A, B, END]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_after_rollback_small_drafts_next(rules: str) -> None:
    _, asks = bild(
        writes(A), drafts(X), judges([X], B, C), drafts(C, stop="unsure"), writes(END),
        rules=rules, max_draft=1, after_rollback="small",
    )  # fmt: skip
    assert asks[3] == Draft([START, A, B], 1, FB)


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_after_rollback_large_steps_once_more(rules: str) -> None:
    decoded, asks = bild(
        writes(A), drafts(X), judges([X], B, C), writes(END), rules=rules, max_draft=1, after_rollback="large"
    )
    assert asks[3] == Verify([START, A, B], [])
    assert decoded.origins == ["start", "large", "rollback", "large"]
    assert decoded.rounds[-1] == Round(3, [], [], "none", [], 0, END, False)


def test_infinite_rb_keeps_whatever_the_large_model_thinks_of_it() -> None:
    decoded, asks = bild(writes(A), drafts(X, Y), judges([X, Y], B, C, END, nll=[50.0, math.inf]), rb=math.inf,
                         max_draft=2)  # fmt: skip
    assert decoded.tokens == [START, A, X, Y, END]
    assert len(asks) == 3


# scan: which of the unlikely tokens are looked at


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_scan_all_passes_over_the_large_models_own_unlikely_choice(rules: str) -> None:
    unsure_of_itself = judges([B, X], B, C, D, nll=[6.0, 7.0])
    decoded, _ = bild(writes(A), drafts(B, X), unsure_of_itself, writes(END), rules=rules, max_draft=2, scan="all",
                      after_rollback="large")  # fmt: skip
    assert decoded.tokens == [START, A, B, C, END]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_scan_first_looks_at_the_earliest_unlikely_token_only(rules: str) -> None:
    unsure_of_itself = judges([B, X], B, C, END, nll=[6.0, 7.0])
    decoded, _ = bild(writes(A), drafts(B, X), unsure_of_itself, rules=rules, max_draft=2, scan="first")
    assert decoded.tokens == [START, A, B, X, END]


# verify_eos: a draft that would end the text


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_verify_eos_asks_before_an_end_token_ends_the_text(rules: str) -> None:
    decoded, asks = bild(
        writes(A), drafts(B, END, stop="eos"), judges([B, END], B, END, X), rules=rules, verify_eos=True
    )
    assert asks[-1] == Verify([START, A], [B, END])
    assert decoded.tokens == [START, A, B, END]
    assert decoded.rounds[-1].wrote is None


def test_verify_eos_goes_on_where_the_end_is_taken_back() -> None:
    decoded, _ = bild(writes(A), drafts(END, stop="eos"), judges([END], B, C), drafts(END, stop="eos"),
                      judges([END], END, C))  # fmt: skip
    assert decoded.tokens == [START, A, B, END]
    assert decoded.origins == ["start", "large", "rollback", "small"]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_without_verify_eos_the_tail_stands_unseen(rules: str) -> None:
    decoded, asks = bild(writes(A), drafts(X, END, stop="eos"), rules=rules, verify_eos=False)
    assert decoded.tokens == [START, A, X, END]
    assert len(asks) == 2
    assert decoded.rounds[-1] == Round(2, [X, END], [0.9, 0.9], "eos", [], 2, None, False)


def test_infinite_rb_asks_for_no_verdict_that_it_would_throw_away() -> None:
    decoded, _ = bild(writes(A), drafts(X, END, stop="eos"), rb=math.inf)
    assert decoded.tokens == [START, A, X, END]


def test_verify_eos_covers_a_tail_that_ends_by_its_length() -> None:
    decoded, asks = bild(writes(A), drafts(B, X), judges([B, X], B, C, D), max_length=4)
    assert asks[-2:] == [Draft([START, A], 2, FB), Verify([START, A], [B, X])]
    assert decoded.tokens == [START, A, B, C]
    assert decoded.origins[-1] == "rollback"


def test_a_confirmed_tail_at_the_length_limit_gets_no_further_token() -> None:
    decoded, _ = bild(writes(A), drafts(B, C), judges([B, C], B, C, D), max_length=4)
    assert decoded.tokens == [START, A, B, C]
    assert decoded.rounds[-1] == Round(2, [B, C], [0.9, 0.9], "limit", [0.0, 0.0], 2, None, False)


def test_a_tail_taken_back_before_the_length_limit_goes_on() -> None:
    decoded, asks = bild(writes(A), drafts(X, C), judges([X, C], B, C, D), drafts(C), judges([C], C, D), max_length=4)
    assert asks[3] == Draft([START, A, B], 1, FB)
    assert decoded.tokens == [START, A, B, C]


# The large model's end token


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_an_end_token_of_the_large_model_ends_the_text(rules: str) -> None:
    decoded, _ = bild(writes(A), drafts(B), judges([B], B, END), rules=rules, max_draft=1)
    assert decoded.tokens == [START, A, B, END]


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_an_end_token_as_the_first_token_makes_an_empty_text(rules: str) -> None:
    decoded, _ = bild(writes(END), rules=rules)
    assert decoded.tokens == [START, END]
    assert decoded.origins == ["start", "large"]


# The edges of max_length, which counts the start token


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_max_length_1_has_room_for_nothing(rules: str) -> None:
    decoded, asks = bild(rules=rules, max_length=1)
    assert decoded == Decoded([START], ["start"], [])
    assert asks == []


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_max_length_2_is_one_large_step(rules: str) -> None:
    decoded, asks = bild(writes(A), rules=rules, max_length=2)
    assert decoded.tokens == [START, A]
    assert asks == [Verify([START], [])]


def test_max_length_2_with_the_small_model_first_is_one_token_and_its_verdict() -> None:
    decoded, asks = bild(drafts(X), judges([X], A, B), max_length=2, first="small")
    assert decoded.tokens == [START, A]
    assert asks == [Draft([START], 1, FB), Verify([START], [X])]
    decoded, asks = bild(drafts(X), max_length=2, first="small", rules="authors")
    assert decoded.tokens == [START, X]


def test_max_length_2_with_an_unsure_small_model_first_falls_back() -> None:
    decoded, asks = bild(drafts(X, stop="unsure"), writes(A), max_length=2, first="small")
    assert decoded.tokens == [START, A]
    assert asks == [Draft([START], 1, FB), Verify([START], [])]


def test_max_length_3_leaves_a_draft_of_one() -> None:
    decoded, asks = bild(writes(A), drafts(B), judges([B], B, C), max_length=3)
    assert asks == [Verify([START], []), Draft([START, A], 1, FB), Verify([START, A], [B])]
    assert decoded.tokens == [START, A, B]
    decoded, asks = bild(writes(A), drafts(X), max_length=3, rules="authors")
    assert decoded.tokens == [START, A, X]


def test_max_length_3_after_a_fallback_ends_with_the_large_model() -> None:
    for rules in ("paper", "authors"):
        decoded, _ = bild(writes(A), drafts(X, stop="unsure"), writes(B), max_length=3, rules=rules)
        assert decoded.tokens == [START, A, B]
        assert decoded.origins == ["start", "large", "large"]


@pytest.mark.parametrize("author", ["large", "small"])
@pytest.mark.parametrize("max_length", [2, 3])
def test_a_model_alone_is_asked_for_what_fits(author: str, max_length: int) -> None:
    tokens = [A, B][: max_length - 1]
    decoded, asks = one_model(author, drafts(*tokens), max_length=max_length)
    assert asks == [Draft([START], max_length - 1, 0.0, author)]
    assert decoded.tokens == [START, *tokens]


# Speculative decoding is the same loop


def test_speculative_keeps_exactly_what_the_large_model_would_write() -> None:
    rules = speculative_rules(3)
    decoded, asks = play(
        big_little(rules, start=START, eos=END, max_length=32),
        writes(A),
        drafts(B, X, C),
        judges([B, X, C], B, D, C, Y, nll=[3.0, 0.7, 0.1]),  # a near miss is a miss
        drafts(END, stop="eos"),
        judges([END], END, X),
    )
    assert decoded.tokens == [START, A, B, D, END]
    assert asks[1] == Draft([START, A], 3, 0.0)  # it never stops for want of confidence
    assert asks[3] == Draft([START, A, B, D], 3, 0.0)


# Drafts that stop by another rule


def one(token: int, prob: float, stop: Any = "limit") -> Drafted:
    return Drafted([token], [prob], stop)


def test_a_draft_may_stop_when_its_product_of_probabilities_is_small() -> None:
    rules = speculative_rules(4, fb=0.5, stop="likely", unsure="verify")
    decoded, asks = play(
        big_little(rules, start=START, eos=END, max_length=7),
        writes(A),
        one(B, 0.9),
        one(C, 0.6),
        one(D, 0.9),  # 0.486: the last of its draft, and verified with it
        judges([B, C, D], B, C, D, E),
        one(END, 0.8, "eos"),
        judges([END], END, X),
    )
    assert decoded.tokens == [START, A, B, C, D, E, END]
    assert [ask.prefix[-1] for ask in asks if isinstance(ask, Draft)] == [A, B, C, E]
    assert {ask.limit for ask in asks if isinstance(ask, Draft)} == {1}
    assert [r.stop for r in decoded.rounds] == ["none", "unsure", "eos"]


def test_a_window_learns_from_its_rounds() -> None:
    rules = speculative_rules(2, stop="adaptive")
    _, asks = play(
        big_little(rules, start=START, eos=END, max_length=32),
        writes(A),
        drafts(B, C),
        judges([B, C], B, C, D),  # all stand: 4
        drafts(A, B, C, D),
        judges([A, B, C, D], A, X, C, D, E),  # one does not: 3
        drafts(A, B, C),
        judges([A, B, C], A, B, X, D),  # 2
        drafts(END, stop="eos"),
        judges([END], END, X),
    )
    assert [ask.limit for ask in asks if isinstance(ask, Draft)] == [2, 4, 3, 2]
