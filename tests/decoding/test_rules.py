"""The drafted tokens that stand, and the meaning of the two rule sets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bild.decoding import Verified
from bild.decoding.methods import TOKEN_RULES
from bild.decoding.rules import KEEPS, Rules
from tests.decoding.settings import bild_rules, rules_of, speculative_rules
from tests.lanes import many

NLL = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, math.inf])


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[int], Verified]:
    """A draft of 0 to 8 tokens over a vocabulary of two, so that choices often agree."""
    n = draw(st.integers(0, 8))
    token = st.integers(2, 3)
    tokens = draw(st.lists(token, min_size=n, max_size=n))
    choice = draw(st.lists(token, min_size=n + 1, max_size=n + 1))
    nll = draw(st.lists(NLL, min_size=n, max_size=n))
    return tokens, Verified(choice, [0.0] * (n + 1), nll)


def verdict(choice: list[int], nll: list[float]) -> Verified:
    return Verified(choice, [0.0] * len(choice), nll)


# Each rule once more, as the paper and the authors' code say it.


def keep_exact(tokens: list[int], told: Verified) -> int:
    return next((i for i, token in enumerate(tokens) if token != told.choice[i]), len(tokens))


def keep_within(rb: float, tokens: list[int], told: Verified) -> int:
    for i, nll in enumerate(told.token_nll):
        if nll > rb and told.choice[i] != tokens[i]:
            return i
    return len(tokens)


def keep_within_first(rb: float, tokens: list[int], told: Verified) -> int:
    for i, nll in enumerate(told.token_nll):
        if nll > rb:
            return i if told.choice[i] != tokens[i] else len(tokens)
    return len(tokens)


def kept(rules: Rules, tokens: list[int], told: Verified) -> int:
    return rules.kept(tokens, told, [0.5] * len(tokens))


def nll(rb: float, scan: str = "all") -> Rules:
    return Rules(keep="nll", threshold=rb, scan=scan)


def test_exact_stops_at_the_first_other_token() -> None:
    exact = Rules(keep="exact")
    assert kept(exact, [5, 6, 7], verdict([5, 6, 7, 8], [9.0, 9.0, 9.0])) == 3
    assert kept(exact, [5, 6, 7], verdict([5, 4, 7, 8], [0.0, 0.7, 0.0])) == 1
    assert kept(exact, [], verdict([5], [])) == 0


def test_nll_looks_for_a_token_above_rb_that_differs() -> None:
    assert kept(nll(2.0), [5, 6], verdict([4, 4, 4], [2.0, 1.0])) == 2  # differs, but within rb
    assert kept(nll(2.0), [5, 6], verdict([5, 4, 4], [3.0, 3.0])) == 1  # the first is the large model's own
    assert kept(nll(2.0), [5, 6], verdict([4, 6, 4], [2.1, 0.0])) == 0


def test_nll_as_the_authors_scan_looks_at_one_token_only() -> None:
    assert kept(nll(2.0, "first"), [5, 6], verdict([5, 4, 4], [3.0, 3.0])) == 2
    assert kept(nll(2.0, "first"), [5, 6], verdict([5, 4, 4], [2.0, 3.0])) == 1
    assert kept(nll(2.0, "first"), [5, 6], verdict([4, 6, 4], [2.1, 0.0])) == 0


@many(300)
@given(draft=judged(), rb=NLL)
def test_the_one_keep_does_what_each_rule_says(draft: tuple[list[int], Verified], rb: float) -> None:
    assert kept(Rules(keep="exact"), *draft) == keep_exact(*draft)
    assert kept(nll(rb), *draft) == keep_within(rb, *draft)
    assert kept(nll(rb, "first"), *draft) == keep_within_first(rb, *draft)


@many(300)
@given(draft=judged(), threshold=NLL, top=st.sampled_from([None, 1, 2]))
def test_a_token_falls_where_its_rejection_score_is_above_the_threshold(
    draft: tuple[list[int], Verified], threshold: float, top: int | None
) -> None:
    """`Rules.rejection` and `Rules.rejects`, which trees go by, against `Rules.kept`."""
    tokens, told = draft
    told = told._replace(token_rank=[1 + (i % 3) for i in range(len(tokens))])
    for keep in KEEPS:
        cap = top if KEEPS[keep].capped else None
        rules = Rules(keep=keep, threshold=threshold if cap is None else min(threshold, 1e9), top=cap)
        evidence = zip(tokens, told.choice, told.choice_nll, told.token_nll, told.token_rank, strict=False)
        falls = [rules.rejects(t == c, 0.5, own, given, rank) for t, c, own, given, rank in evidence]
        assert kept(rules, tokens, told) == next((i for i, fell in enumerate(falls) if fell), len(tokens))


@many(150)
@given(draft=judged(), rb=NLL)
def test_the_authors_scan_never_keeps_less_and_what_it_takes_back_is_taken_back_by_both(
    draft: tuple[list[int], Verified], rb: float
) -> None:
    first, every = kept(nll(rb, "first"), *draft), kept(nll(rb), *draft)
    assert every <= first
    assert first in (every, len(draft[0]))


@many(150)
@given(draft=judged())
def test_a_looser_threshold_keeps_no_less(draft: tuple[list[int], Verified]) -> None:
    found = [kept(nll(rb), *draft) for rb in (0.0, 0.5, 1.0, 2.0, 5.0, math.inf)]
    assert found == sorted(found)
    assert found[-1] == len(draft[0])
    assert found[0] >= kept(Rules(keep="exact"), *draft)


@pytest.mark.parametrize("nlls", [[0.0, 1.0, 0.5], []])
def test_a_verdict_without_unlikely_tokens_keeps_all(nlls: list[float]) -> None:
    tokens = [7] * len(nlls)
    told = verdict([8] * (len(nlls) + 1), nlls)
    assert kept(nll(1.0), tokens, told) == kept(nll(1.0, "first"), tokens, told) == len(tokens)


def test_top_goes_by_the_rank_and_a_tie_with_the_choice_is_not_the_choice() -> None:
    told = Verified([5, 5, 5, 5], [0.0] * 4, [0.0] * 3, [1, 3, 1])  # the last token ties with the choice
    assert [kept(Rules(keep="top", threshold=k), [5, 6, 7], told) for k in (1, 2, 3)] == [1, 1, 3]


def test_a_cap_on_the_rank_goes_with_share_loss_and_nll() -> None:
    told = Verified([5, 5, 5], ln(0.4, 0.4, 0.4), ln(0.4, 0.3), [1, 3])
    for keep, threshold in (("share", 0.5), ("loss", 0.5), ("nll", 5.0)):
        assert kept(Rules(keep=keep, threshold=threshold), [5, 6], told) == 2
        assert kept(Rules(keep=keep, threshold=threshold, top=3), [5, 6], told) == 2
        assert kept(Rules(keep=keep, threshold=threshold, top=2), [5, 6], told) == 1


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
    assert kept(rules, [5], verdict([4, 4], [0.1])) == 0


def test_speculative_rules_have_no_thresholds() -> None:
    rules = speculative_rules(4)
    assert (rules.fb, rules.max_draft, rules.first, rules.verify_eos) == (0.0, 4, "large", True)
    assert (rules.keep, rules.ranks) == ("exact", False)


def ln(*probabilities: float) -> list[float]:
    return [-math.log(p) for p in probabilities]


@pytest.mark.parametrize(
    ("rule", "alpha", "stand"),
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
def test_a_cascade_keeps_what_loses_at_most_alpha(rule: str, alpha: float, stand: int) -> None:
    told = Verified([5, 5, 5, 5], ln(0.5, 0.5, 0.5, 0.5), ln(0.5, 0.4, 0.2))
    assert rules_of("cascade", rule=rule, alpha=alpha).kept([5, 6, 7], told, [0.1, 0.45, 0.9]) == stand
    assert rules_of("bild", keep=TOKEN_RULES[rule], alpha=alpha).kept([5, 6, 7], told, [0.1, 0.45, 0.9]) == stand


@pytest.mark.parametrize("rule", ["v2", "v3"])
def test_a_cascade_that_may_lose_nothing_is_exact(rule: str) -> None:
    told = Verified([5, 5, 5], ln(0.5, 0.5, 0.5), ln(0.5, 0.4999))
    assert kept(rules_of("cascade", rule=rule, alpha=0.0), [5, 6], told) == keep_exact([5, 6], told) == 1
