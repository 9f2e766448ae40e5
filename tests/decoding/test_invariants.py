"""Laws that hold for every pair of models and every setting, shown on random ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bild.decoding import Draft, Drafted, Policy, Rules, Verified, Verify
from bild.decoding.loop import alone, big_little
from tests import lanes
from tests.decoding import restated
from tests.decoding.settings import bild_rules, speculative_rules
from tests.decoding.tables import EOS, FB, MAX_DRAFT, MAX_LENGTH, RB, START, Tables, decode, tables

many = lanes.many(120)

WRITER = st.sampled_from(["large", "small"])
RULES = st.sampled_from(["paper", "authors"])


@st.composite
def bild_settings(draw: st.DrawFn, rules: st.SearchStrategy[str] = RULES) -> Rules:
    """Any setting of BiLD that the options allow."""
    return bild_rules(
        draw(FB),
        draw(RB),
        draw(rules),
        max_draft=draw(MAX_DRAFT),
        first=draw(st.none() | WRITER),
        after_rollback=draw(st.none() | WRITER),
        scan=draw(st.none() | st.sampled_from(["first", "all"])),
        unsure=draw(st.none() | st.sampled_from(["drop", "verify"])),
        verify_eos=draw(st.none() | st.booleans()),
    )


def policy(rules: Rules, max_length: int) -> Policy:
    return big_little(rules, start=START, eos=EOS, max_length=max_length)


def text(pair: Tables, rules: Rules, max_length: int) -> list[int]:
    return decode(policy(rules, max_length), pair, max_length=max_length)[0].tokens


def greedy(pair: Tables, author: str, max_length: int, *prefix: int) -> list[int]:
    return restated.greedy(getattr(pair, author), [START, *prefix], eos=EOS, max_length=max_length)


# The algorithm, against a second writing of it


@many
@given(pair=tables(), fb=FB, rb=RB, max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_rules_authors_writes_what_the_authors_code_writes(
    pair: Tables, fb: float, rb: float, max_draft: int, max_length: int
) -> None:
    said: dict[str, Any] = {"fb": fb, "rb": rb, "max_draft": max_draft}
    for p in pair.siblings():
        expected = restated.authors(p.small, p.large, **said, start=START, eos=EOS, max_length=max_length)
        assert text(p, bild_rules(fb, rb, "authors", max_draft=max_draft), max_length) == expected.tokens


@many
@given(pair=tables(), fb=FB, rb=RB, max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_rules_authors_makes_the_passes_of_the_authors_code_in_their_order(
    pair: Tables, fb: float, rb: float, max_draft: int, max_length: int
) -> None:
    said: dict[str, Any] = {"fb": fb, "rb": rb, "max_draft": max_draft}
    rules = bild_rules(fb, rb, "authors", max_draft=max_draft)
    for p in pair.siblings():
        expected = restated.authors(p.small, p.large, **said, start=START, eos=EOS, max_length=max_length)
        _, talk = decode(policy(rules, max_length), p, max_length=max_length)
        passes = [x for _, told in talk for x in ("S" * len(told.tokens) if isinstance(told, Drafted) else "L")]
        assert passes == [call[0] for call in expected.calls]


@many
@given(
    pair=tables(),
    fb=FB,
    rb=RB,
    max_draft=MAX_DRAFT,
    max_length=MAX_LENGTH,
    first=WRITER,
    after_rollback=WRITER,
)
def test_rules_paper_writes_what_a_naive_reading_writes(
    pair: Tables, fb: float, rb: float, max_draft: int, max_length: int, first: str, after_rollback: str
) -> None:
    said: dict[str, Any] = {"max_draft": max_draft, "first": first, "after_rollback": after_rollback}
    for p in pair.siblings():
        expected = restated.paper(p.small, p.large, fb=fb, rb=rb, **said, start=START, eos=EOS, max_length=max_length)
        assert text(p, bild_rules(fb, rb, **said), max_length) == expected


# Settings under which a method is another one


@many
@given(
    pair=tables(),
    fb=FB,
    max_draft=MAX_DRAFT,
    max_length=MAX_LENGTH,
    first=WRITER,
    after_rollback=WRITER,
    unsure=st.sampled_from(["drop", "verify"]),
)
def test_rules_paper_with_rb_0_is_greedy_decoding_by_the_large_model(
    pair: Tables, fb: float, max_draft: int, max_length: int, first: str, after_rollback: str, unsure: str
) -> None:
    rules = bild_rules(fb, 0.0, max_draft=max_draft, first=first, after_rollback=after_rollback, unsure=unsure)
    assert text(pair, rules, max_length) == greedy(pair, "large", max_length)


@many
@given(pair=tables(), max_draft=MAX_DRAFT, max_length=MAX_LENGTH, first=WRITER)
def test_speculative_decoding_is_greedy_decoding_by_the_large_model(
    pair: Tables, max_draft: int, max_length: int, first: str
) -> None:
    rules = speculative_rules(max_draft, first=first)
    assert text(pair, rules, max_length) == greedy(pair, "large", max_length)


@many
@given(pair=tables(), rules=RULES, max_length=MAX_LENGTH)
def test_without_thresholds_the_small_model_writes_on_after_the_first_token(
    pair: Tables, rules: str, max_length: int
) -> None:
    first = restated.best(pair.large([START]))
    written = text(pair, bild_rules(0.0, math.inf, rules, max_draft=max_length), max_length)
    assert written == greedy(pair, "small", max_length, first)


@many
@given(pair=tables(), rules=RULES, max_length=MAX_LENGTH)
def test_without_thresholds_and_with_the_small_model_first_it_writes_everything(
    pair: Tables, rules: str, max_length: int
) -> None:
    bild = bild_rules(0.0, math.inf, rules, max_draft=max_length, first="small")
    decoded, talk = decode(policy(bild, max_length), pair, max_length=max_length)
    assert decoded.tokens == greedy(pair, "small", max_length)
    assert [ask for ask, _ in talk] == [Draft([START], max_length - 1)]


@many
@given(pair=tables(), fb=st.sampled_from([1.0, 1.5, 3.0]), rb=RB, rules=RULES, max_length=MAX_LENGTH, first=WRITER)
def test_a_small_model_that_is_never_sure_enough_leaves_the_text_to_the_large_one(
    pair: Tables, fb: float, rb: float, rules: str, max_length: int, first: str
) -> None:
    decoded, _ = decode(policy(bild_rules(fb, rb, rules, first=first), max_length), pair, max_length=max_length)
    assert decoded.tokens == greedy(pair, "large", max_length)
    assert set(decoded.origins[1:]) == {"large"}


@many
@given(pair=tables(), author=WRITER, max_length=MAX_LENGTH)
def test_a_model_alone_writes_its_greedy_text_in_one_ask(pair: Tables, author: Any, max_length: int) -> None:
    decoded, talk = decode(alone(author, start=START, eos=EOS, max_length=max_length), pair, max_length=max_length)
    assert decoded.tokens == greedy(pair, author, max_length)
    assert [ask for ask, _ in talk] == [Draft([START], max_length - 1, 0.0, author)]
    assert decoded.origins == ["start"] + [author] * (len(decoded.tokens) - 1)


@many
@given(pair=tables(), fb=FB, rb=RB, rules=RULES, max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_the_large_model_as_its_own_draft_is_never_taken_back(
    pair: Tables, fb: float, rb: float, rules: str, max_draft: int, max_length: int
) -> None:
    twins = replace(pair, likeness=1.0)
    bild = bild_rules(fb, rb, rules, max_draft=max_draft)
    decoded, _ = decode(policy(bild, max_length), twins, max_length=max_length)
    assert decoded.tokens == greedy(twins, "large", max_length)
    assert not any(r.rollback for r in decoded.rounds)


# What every text and its rounds look like


@many
@given(pair=tables(), rules=bild_settings(), max_length=st.integers(1, 24))
def test_a_text_never_exceeds_its_length_and_stops_early_only_at_the_end_token(
    pair: Tables, rules: Rules, max_length: int
) -> None:
    written = text(pair, rules, max_length)
    assert written[0] == START
    assert len(written) == max_length or (len(written) < max_length and written[-1] == EOS)


@many
@given(pair=tables(), rules=bild_settings(st.just("paper")), max_length=MAX_LENGTH)
def test_under_rules_paper_the_end_token_stands_at_the_end_only(pair: Tables, rules: Rules, max_length: int) -> None:
    assert EOS not in text(pair, rules, max_length)[:-1]


@many
@given(pair=tables(), rules=bild_settings(), max_length=MAX_LENGTH)
def test_an_end_token_inside_a_text_was_written_by_a_rollback(pair: Tables, rules: Rules, max_length: int) -> None:
    decoded, _ = decode(policy(rules, max_length), pair, max_length=max_length)
    inside = [o for t, o in zip(decoded.tokens[:-1], decoded.origins[:-1], strict=True) if t == EOS]
    assert set(inside) <= {"rollback"}


@many
@given(pair=tables(), rules=st.one_of(bild_settings(), st.builds(speculative_rules, MAX_DRAFT)), max_length=MAX_LENGTH)
def test_the_rounds_tell_the_text_and_who_wrote_it(pair: Tables, rules: Rules, max_length: int) -> None:
    decoded, _ = decode(policy(rules, max_length), pair, max_length=max_length)
    tokens, origins = [START], ["start"]
    for r in decoded.rounds:
        assert r.start == len(tokens)
        assert r.rollback == (r.kept < len(r.drafted))
        tokens += r.drafted[: r.kept]
        origins += ["small"] * r.kept
        if r.wrote is not None:
            tokens.append(r.wrote)
            origins.append("rollback" if r.rollback else "large")
    assert (tokens, origins) == (decoded.tokens, decoded.origins)


@many
@given(pair=tables(), rules=bild_settings(), max_length=MAX_LENGTH)
def test_the_rounds_tell_what_was_asked_and_answered(pair: Tables, rules: Rules, max_length: int) -> None:
    decoded, talk = decode(policy(rules, max_length), pair, max_length=max_length)
    drafts = [(len(a.prefix), t.probs, t.stop) for a, t in talk if isinstance(a, Draft) and isinstance(t, Drafted)]
    verdicts = [(a.tokens, t.token_nll) for a, t in talk if isinstance(a, Verify) and isinstance(t, Verified)]
    assert [(r.start, r.probs, r.stop) for r in decoded.rounds if r.stop != "none"] == drafts
    judged = [r for r in decoded.rounds if r.wrote is not None or r.token_nll]
    assert [(r.drafted, r.token_nll) for r in judged] == verdicts


@many
@given(pair=tables(), rules=bild_settings(), max_length=MAX_LENGTH)
def test_the_numbers_in_the_rounds_are_what_the_models_said(pair: Tables, rules: Rules, max_length: int) -> None:
    decoded, _ = decode(policy(rules, max_length), pair, max_length=max_length)
    before = [START]
    for r in decoded.rounds:
        assert len(r.probs) == len(r.drafted) + (r.stop == "unsure" and rules.unsure == "drop")
        for i, prob in enumerate(r.probs):
            assert prob == math.exp(max(pair.small(before + r.drafted[:i])))
            assert (prob < rules.fb) == (r.stop == "unsure" and i == len(r.probs) - 1)
        for i, nll in enumerate(r.token_nll):
            assert nll == -pair.large(before + r.drafted[:i])[r.drafted[i]]
        if r.wrote is not None:
            assert r.wrote == restated.best(pair.large(before + r.drafted[: r.kept]))
        before += r.drafted[: r.kept] + ([] if r.wrote is None else [r.wrote])


@many
@given(pair=tables(), fb=FB, rb=RB, max_draft=MAX_DRAFT, max_length=MAX_LENGTH)
def test_under_rules_paper_a_small_token_stands_only_within_both_thresholds(
    pair: Tables, fb: float, rb: float, max_draft: int, max_length: int
) -> None:
    decoded, _ = decode(policy(bild_rules(fb, rb, max_draft=max_draft), max_length), pair, max_length=max_length)
    for at, (token, origin) in enumerate(zip(decoded.tokens, decoded.origins, strict=True)):
        if origin == "small":
            said = pair.large(decoded.tokens[:at])
            assert math.exp(max(pair.small(decoded.tokens[:at]))) >= fb
            assert -said[token] <= rb or token == restated.best(said)
