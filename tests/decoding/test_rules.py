"""Which drafted tokens stand, and what the two rule sets mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bild.config import CASCADES
from bild.decoding import Verdict, bild_rules, speculative_rules
from bild.decoding.rules import cascade_rules, keep_below, keep_exact, keep_within, keep_within_first, oracle_rules

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


def ln(*probabilities: float) -> list[float]:
    return [-math.log(p) for p in probabilities]


@pytest.mark.parametrize(
    ("rule", "alpha", "kept"),
    [
        # The choice has p = 0.5. Tokens: its own (q 0.1), another with p 0.4 (q 0.45), another with p 0.2 (q 0.9).
        ("v3", 0.1, 1),  # p >= 0.45
        ("v3", 0.25, 2),  # p >= 0.375
        ("v3", 0.625, 3),  # p >= 0.1875
        ("v2", 0.05, 1),
        ("v2", 0.125, 2),
        ("v2", 0.31, 3),
        ("v1", 0.0, 1),  # q >= 0.5
        ("v1", 0.0625, 3),
        ("difference", 0.0625, 3),
        ("chow", 0.5, 1),  # q >= 0.5
        ("chow", 0.5625, 3),
    ],
)
def test_a_cascade_keeps_what_loses_at_most_alpha(rule: str, alpha: float, kept: int) -> None:
    told = Verdict([5, 5, 5, 5], ln(0.5, 0.5, 0.5, 0.5), ln(0.5, 0.4, 0.2))
    assert cascade_rules(rule, alpha).keep([5, 6, 7], told, [0.1, 0.45, 0.9]) == kept


@pytest.mark.parametrize("rule", ["v2", "v3"])
def test_a_cascade_that_may_lose_nothing_is_exact(rule: str) -> None:
    told = Verdict([5, 5, 5], ln(0.5, 0.5, 0.5), ln(0.5, 0.4999))
    assert cascade_rules(rule, 0.0).keep([5, 6], told, [1.0, 1.0]) == keep_exact([5, 6], told) == 1


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(draft=judged(), bar=NLL)
def test_objections_say_what_the_keep_rules_do(draft: tuple[list[int], Verdict], bar: float) -> None:
    tokens, told = draft
    probs = [0.5] * len(tokens)
    every = [bild_rules(0.5, bar), speculative_rules(), oracle_rules(bar)]
    every += [cascade_rules(rule, min(bar, 1.0)) for rule in CASCADES]
    for rules in every:
        assert rules.keep(tokens, told, probs) == keep_below(rules.objection, rules.bar)(tokens, told, probs)
