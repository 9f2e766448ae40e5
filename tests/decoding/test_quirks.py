"""The quirks of the authors' code, one by one: `rules=authors` has each, `rules=paper` does otherwise."""

from __future__ import annotations

from bild.decoding import Draft, Policy, Verify
from bild.decoding.loop import big_little
from tests.decoding.scripted import END, START, A, B, C, D, X, drafts, judges, play, writes
from tests.decoding.settings import bild_rules


def bild(rules: str, max_draft: int = 2, max_length: int = 32) -> Policy:
    return big_little(bild_rules(0.6, 5.0, rules, max_draft=max_draft), start=START, eos=END, max_length=max_length)


def test_quirk_1_the_first_token_is_the_large_models_by_both() -> None:
    for rules in ("authors", "paper"):
        decoded, asks = play(bild(rules), writes(END))
        assert asks == [Verify([START], [])]
        assert decoded.origins == ["start", "large"]


def test_quirk_2_after_a_rollback_the_large_model_goes_again() -> None:
    until_rollback = (writes(A), drafts(X, B), judges([X, B], C, B, B))
    decoded, asks = play(bild("authors"), *until_rollback, writes(D), drafts(END, stop="eos"))
    assert asks[3] == Verify([START, A, C], [])
    assert decoded.tokens == [START, A, C, D, END]
    assert decoded.origins == ["start", "large", "rollback", "large", "small"]


def test_quirk_2_mended_the_small_model_goes_on_after_a_rollback() -> None:
    until_rollback = (writes(A), drafts(X, B), judges([X, B], C, B, B))
    decoded, asks = play(bild("paper"), *until_rollback, drafts(END, stop="eos"), judges([END], END, X))
    assert asks[3] == Draft([START, A, C], 2, 0.6)
    assert decoded.tokens == [START, A, C, END]
    assert decoded.origins == ["start", "large", "rollback", "small"]


def test_quirk_3_an_unlikely_token_that_the_large_model_agrees_with_hides_later_wrong_ones() -> None:
    verdict = judges([B, X], B, C, END, nll=[5.1, 99.0])  # it would write B too, though it is unsure of it
    decoded, _ = play(bild("authors"), writes(A), drafts(B, X), verdict)
    assert decoded.tokens == [START, A, B, X, END]


def test_quirk_3_mended_later_wrong_tokens_are_seen() -> None:
    verdict = judges([B, X], B, C, END, nll=[5.1, 99.0])
    decoded, _ = play(bild("paper"), writes(A), drafts(B, X), verdict, drafts(END, stop="eos"), judges([END], END, X))
    assert decoded.tokens == [START, A, B, C, END]


def test_quirk_3_makes_quality_fall_where_rb_is_tightened() -> None:
    """With the looser threshold the wrong token is found; with the tighter one an earlier one hides it."""
    texts = {}
    for rb, rest in ((2.0, [writes(END)]), (1.0, [])):
        rules = bild_rules(0.6, rb, "authors", max_draft=2)
        verdict = judges([B, X], B, C, END, nll=[1.5, 9.0])
        decoded, _ = play(
            big_little(rules, start=START, eos=END, max_length=32), writes(A), drafts(B, X), verdict, *rest
        )
        texts[rb] = decoded.tokens
    assert texts == {2.0: [START, A, B, C, END], 1.0: [START, A, B, X, END]}


def test_quirk_4_a_tail_that_ends_in_the_end_token_is_never_verified() -> None:
    decoded, asks = play(bild("authors"), writes(A), drafts(X, END, stop="eos"))
    assert decoded.tokens == [START, A, X, END]
    assert len(asks) == 2


def test_quirk_4_a_tail_that_ends_by_its_length_is_never_verified() -> None:
    decoded, asks = play(bild("authors", max_length=4), writes(A), drafts(B, X))
    assert decoded.tokens == [START, A, B, X]
    assert len(asks) == 2


def test_quirk_4_mended_both_tails_are_verified() -> None:
    end = judges([X, END], B, C, C)
    decoded, _ = play(
        bild("paper"), writes(A), drafts(X, END, stop="eos"), end, drafts(END, stop="eos"), judges([END], END, X)
    )
    assert decoded.tokens == [START, A, B, END]
    decoded, _ = play(bild("paper", max_length=4), writes(A), drafts(B, X), judges([B, X], B, C, D))
    assert decoded.tokens == [START, A, B, C]


def test_quirk_5_an_end_token_written_by_a_rollback_does_not_end_the_text() -> None:
    decoded, asks = play(
        bild("authors"), writes(A), drafts(X, B), judges([X, B], END, B, B), writes(C), drafts(D, END, stop="eos")
    )
    assert asks[3] == Verify([START, A, END], [])
    assert decoded.tokens == [START, A, END, C, D, END]
    assert decoded.origins[2] == "rollback"


def test_quirk_5_mended_it_does() -> None:
    decoded, _ = play(bild("paper"), writes(A), drafts(X, B), judges([X, B], END, B, B))
    assert decoded.tokens == [START, A, END]
    assert decoded.origins == ["start", "large", "rollback"]
