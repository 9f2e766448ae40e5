"""Which drafted tokens stand, and what the two rule sets mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bild.decoding import Verdict, bild_rules, speculative_rules
from bild.decoding.rules import keep_exact, keep_within, keep_within_first

NLL = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, math.inf])


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[int], Verdict]:
    """A draft of 0 to 8 tokens over a vocabulary of two, so that choices often agree."""
    n = draw(st.integers(0, 8))
    token = st.integers(2, 3)
    tokens = draw(st.lists(token, min_size=n, max_size=n))
    choice = draw(st.lists(token, min_size=n + 1, max_size=n + 1))
    nll = draw(st.lists(NLL, min_size=n, max_size=n))
    return tokens, Verdict(choice, [0.0] * (n + 1), nll)


def verdict(choice: list[int], nll: list[float]) -> Verdict:
    return Verdict(choice, [0.0] * len(choice), nll)


def test_keep_exact_stops_at_the_first_other_token() -> None:
    assert keep_exact([5, 6, 7], verdict([5, 6, 7, 8], [9.0, 9.0, 9.0])) == 3
    assert keep_exact([5, 6, 7], verdict([5, 4, 7, 8], [0.0, 0.7, 0.0])) == 1
    assert keep_exact([], verdict([5], [])) == 0


def test_keep_within_looks_for_a_token_above_rb_that_differs() -> None:
    keep = keep_within(2.0)
    assert keep([5, 6], verdict([4, 4, 4], [2.0, 1.0])) == 2  # differs, but within rb
    assert keep([5, 6], verdict([5, 4, 4], [3.0, 3.0])) == 1  # the first is the large model's own
    assert keep([5, 6], verdict([4, 6, 4], [2.1, 0.0])) == 0


def test_keep_within_first_looks_at_one_token_only() -> None:
    keep = keep_within_first(2.0)
    assert keep([5, 6], verdict([5, 4, 4], [3.0, 3.0])) == 2
    assert keep([5, 6], verdict([5, 4, 4], [2.0, 3.0])) == 1
    assert keep([5, 6], verdict([4, 6, 4], [2.1, 0.0])) == 0


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(draft=judged(), rb=NLL)
def test_the_authors_scan_never_keeps_less_and_what_it_takes_back_is_taken_back_by_both(
    draft: tuple[list[int], Verdict], rb: float
) -> None:
    first, every = keep_within_first(rb)(*draft), keep_within(rb)(*draft)
    assert every <= first
    assert first in (every, len(draft[0]))


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(draft=judged())
def test_a_looser_threshold_keeps_no_less(draft: tuple[list[int], Verdict]) -> None:
    kept = [keep_within(rb)(*draft) for rb in (0.0, 0.5, 1.0, 2.0, 5.0, math.inf)]
    assert kept == sorted(kept)
    assert kept[-1] == len(draft[0])
    assert kept[0] >= keep_exact(*draft)


@pytest.mark.parametrize("nlls", [[0.0, 1.0, 0.5], []])
def test_a_verdict_without_unlikely_tokens_keeps_all(nlls: list[float]) -> None:
    tokens = [7] * len(nlls)
    told = verdict([8] * (len(nlls) + 1), nlls)
    assert keep_within(1.0)(tokens, told) == keep_within_first(1.0)(tokens, told) == len(tokens)


def test_the_switches_of_the_two_rule_sets() -> None:
    paper, authors = bild_rules(0.6, 5.0), bild_rules(0.6, 5.0, "authors")
    assert (paper.first, paper.after_rollback, paper.unsure) == ("large", "small", "drop")
    assert (paper.verify_eos, paper.rollback_eos_ends) == (True, True)
    assert (authors.first, authors.after_rollback, authors.unsure) == ("large", "large", "drop")
    assert (authors.verify_eos, authors.rollback_eos_ends) == (False, False)
    assert paper.max_draft == authors.max_draft == 10


@pytest.mark.parametrize("rules", ["paper", "authors"])
def test_a_switch_that_is_given_wins_over_the_rule_set(rules: str) -> None:
    for value in ("small", "large"):
        assert bild_rules(0.6, 5.0, rules, first=value).first == value
        assert bild_rules(0.6, 5.0, rules, after_rollback=value).after_rollback == value
    for value in ("drop", "verify"):
        assert bild_rules(0.6, 5.0, rules, unsure=value).unsure == value
    for verified in (True, False):
        assert bild_rules(0.6, 5.0, rules, verify_eos=verified).verify_eos == verified


def test_thresholds_of_zero_are_zero() -> None:
    """The authors' `fb=0.0` became 0.6 and their `rb=0.0` became 5.0."""
    rules = bild_rules(0.0, 0.0, "authors")
    assert rules.fb == 0.0
    assert rules.keep([5], verdict([4, 4], [0.1])) == 0


def test_speculative_rules_have_no_thresholds() -> None:
    rules = speculative_rules(4)
    assert (rules.fb, rules.max_draft, rules.first, rules.verify_eos) == (0.0, 4, "large", True)
    assert rules.keep is keep_exact
