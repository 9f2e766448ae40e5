"""Play a policy against answers that are written down."""

from __future__ import annotations

from bild.decoding import Decoded, Draft, Drafted, Policy, Verified, Verify, Write, Written
from bild.decoding.actions import Ask, Stop, Tell

START, END = 0, 1
A, B, C, D, E, X, Y = range(10, 17)

ANSWERS: dict[type, type] = {Draft: Drafted, Verify: Verified, Write: Written}
UNLIKELY = 9.0
"""An nll above every threshold used here; tokens that the large model would write itself have 0."""


def play(policy: Policy, *answers: Tell) -> tuple[Decoded, list[Ask]]:
    """The text, and every ask as it was when it was made. The answers must fit the asks and be used up."""
    asks = list[Ask]()
    try:
        ask = next(policy)
        for answer in answers:
            asks.append(ask._replace(prefix=list(ask.prefix)))
            assert type(answer) is ANSWERS[type(ask)], f"{answer} does not answer {ask}"
            ask = policy.send(answer)
    except StopIteration as stop:
        assert len(asks) == len(answers), f"ended before {answers[len(asks) :]}"
        return stop.value, asks
    raise AssertionError(f"asked {ask} after the last answer")


def drafts(*tokens: int, stop: Stop = "limit") -> Drafted:
    """The small model's answer. It is sure of everything, but for the last token of an "unsure" draft."""
    probs = [0.9] * len(tokens)
    if stop == "unsure":
        probs[-1] = 0.1
    return Drafted(list(tokens), probs, stop)


def writes(token: int) -> Verified:
    """The large model's answer where there is no draft to judge."""
    return Verified([token], [0.1], [])


def judges(draft: list[int], *choice: int, nll: list[float] | None = None) -> Verified:
    """The large model's answer to a draft: its own choices, one more than drafted tokens.

    Without `nll`, what it would have written itself is certain and everything else is UNLIKELY.
    """
    assert len(choice) == len(draft) + 1
    if nll is None:
        nll = [0.0 if token == own else UNLIKELY for token, own in zip(draft, choice, strict=False)]
    return Verified(list(choice), [0.0] * len(choice), nll)
