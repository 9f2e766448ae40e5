"""The loop: BiLD, speculative decoding and their relatives are this one generator under different `Rules`.

A policy yields what it wants to know and is sent the answer; it runs no model and holds no tensor. Drivers answer it:
live with two engines, or from memory.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bild.decoding.actions import Ask, Author, Draft, Drafted, Verified, Verify
from bild.decoding.adaptive_draft import Tally
from bild.decoding.rules import Rules


class Round(NamedTuple):
    """One draft and the large pass that ends it, as it happened."""

    start: int
    """Position of the first drafted token in the text at that time (the start token has position 0)."""
    drafted: list[int]
    probs: list[float]
    """The small model's probability of each drafted token; where `stop` is "unsure", also of the dropped one."""
    stop: str
    """The reason of its end: "limit", "unsure", "eos", or "none" where the large model wrote without a draft."""
    token_nll: list[float]
    """The large model's -ln p of each drafted token; empty if it was not asked."""
    kept: int
    """The number of drafted tokens that stand."""
    wrote: int | None
    """The token that the large model put after them, if any."""
    rollback: bool
    """`wrote` replaces a drafted token."""


@dataclass
class Decoded:
    """A finished text: ids with the start token, who wrote each, and the rounds."""

    tokens: list[int]
    origins: list[str]
    """Per token: "start", "small", "large" (at a fallback or the end of a draft) or "rollback" (large, taking back)."""
    rounds: list[Round] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    """CALM only: the decoder layers that each written token took."""
    depth: int | None = None
    """CALM only: the decoder's layers."""


# What is sent depends on what was yielded (Drafted for Draft, Verified for Verify), which the type cannot say.
Policy = Generator[Ask, Any, Decoded]


def big_little(rules: Rules, *, start: int, eos: int, max_length: int) -> Policy:
    """Decode with a small and a large model (paper, Algorithm 1). `max_length` counts the start token."""
    y, origins, rounds = [start], ["start"], list[Round]()
    writer, window, tally = rules.first, rules.max_draft, Tally()
    ranks, rejects = rules.ranks, rules.rejects if rules.stop == "oracle" else None
    while len(y) < max_length:
        drafted, probs, stop = list[int](), list[float](), "none"
        if writer == "small":
            limit = min(window, max_length - len(y))
            if rules.stop == "likely":
                drafted, probs, stop = yield from _draft_while_likely(y, limit, rules.fb, eos)
            else:
                drafted, probs, stop = yield Draft(y, limit, rules.fb, "small", rejects)
            if stop == "unsure" and rules.unsure == "drop":
                drafted = drafted[:-1]
        at = len(y)
        complete = bool(drafted) and (drafted[-1] == eos or at + len(drafted) == max_length)
        if complete and not rules.verify_eos and stop != "unsure":  # the tail stands unverified
            y += drafted
            origins += ["small"] * len(drafted)
            rounds.append(Round(at, drafted, probs, stop, [], len(drafted), None, False))
            break
        verdict: Verified = yield Verify(y, drafted, ranks)
        kept = rules.kept(drafted, verdict, probs)
        rollback = kept < len(drafted)
        y += drafted[:kept]
        origins += ["small"] * kept
        ends = complete and not rollback
        wrote = None if ends else verdict.choice[kept]
        rounds.append(Round(at, drafted, probs, stop, verdict.token_nll, kept, wrote, rollback))
        if wrote is None:
            break
        y.append(wrote)
        origins.append("rollback" if rollback else "large")
        if wrote == eos and (rules.rollback_eos_ends or not rollback):
            break
        writer = rules.after_rollback if rollback else "small"
        window = rules.next_window(window, len(drafted), rollback)
        if rules.pace is not None and probs:
            window = rules.pace.limit(tally.add(len(probs), stop == "unsure", kept, rollback))
    return Decoded(y, origins, rounds)


def _draft_while_likely(y: list[int], limit: int, least: float, eos: int) -> Generator[Draft, Drafted, Drafted]:
    """Draft token by token until the product of their probabilities is below `least`."""
    tokens, probs, likely = list[int](), list[float](), 1.0
    while True:
        told = yield Draft([*y, *tokens], 1)
        tokens.append(told.tokens[0])
        probs.append(told.probs[0])
        likely *= probs[-1]
        stop = "unsure" if likely < least else "eos" if tokens[-1] == eos else "limit"
        if stop != "limit" or len(tokens) == limit:
            return Drafted(tokens, probs, stop)  # type: ignore[arg-type]


def alone(author: Author, *, start: int, eos: int, max_length: int) -> Policy:
    """Decode by one model: `vanilla` is the large one, `small` the small one."""
    drafted: Drafted = yield Draft([start], max_length - 1, 0.0, author)
    tokens, probs, stop = drafted
    # What the large model writes by itself is no draft.
    rounds = [Round(1, tokens, probs, stop, [], len(tokens), None, False)] if author == "small" else []
    return Decoded([start, *tokens], ["start", *(author for _ in tokens)], rounds)
