"""The loop: BiLD, speculative decoding and their relatives are one generator under different `Rules`; and beside it the
policies of one model, alone or with early exits (CALM).

A policy yields what it wants to know and is sent the answer; it runs no model and holds no tensor. Drivers answer it:
live with two engines, or from memory.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bild.decoding.actions import Ask, Author, Confidence, Draft, Drafted, Verified, Verify, Write, Written
from bild.decoding.rules import Rules, Tally


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


DEFAULT_DECAY = 4.0
"""The paper's tau."""


@dataclass(frozen=True)
class ExitRule:
    """The rule by which CALM writes a token from the first decoder layer that is confident enough.

    Source: Schuster et al., *Confident Adaptive Language Modeling*, NeurIPS 2022, arXiv 2207.07061. The engine that
    leaves between layers, and makes up for the layers that it left out, is told only the thresholds.
    """

    threshold: float
    """lambda, 0..1: 1 without a decay is vanilla decoding."""
    confidence: Confidence = "state"
    """The measure compared with it (section 3.5): "state" is the cosine similarity of the hidden states before and
    behind the layer, "softmax" the difference of the two largest probabilities behind it."""
    decay: float | None = DEFAULT_DECAY
    """tau, >= 0, of the threshold that falls along the text; None keeps it constant."""
    min_layers: int = 1

    @property
    def first_exit(self) -> int:
        """The fewest layers of a token: two hidden states can be compared from the second layer on."""
        return max(2, self.min_layers) if self.confidence == "state" else self.min_layers

    def thresholds(self, limit: int) -> list[float]:
        """Return the threshold at each of `limit` positions: clip(0.9 lambda + 0.1 exp(-tau t / N), 0, 1) (eq. 5)."""
        if self.decay is None:
            return [self.threshold] * limit
        decay = self.decay
        return [min(max(0.9 * self.threshold + 0.1 * math.exp(-decay * t / limit), 0.0), 1.0) for t in range(limit)]


def adaptive(rule: ExitRule, *, start: int, eos: int, max_length: int) -> Policy:
    """Decode greedily by the large model, each token as early as the rule allows. `max_length` counts the start token.

    N of the decay is the most tokens that can be written.
    """
    limit = max_length - 1
    written: Written = yield Write([start], rule.thresholds(limit), rule.confidence, rule.first_exit)
    tokens = written.tokens
    return Decoded([start, *tokens], ["start", *("large" for _ in tokens)], [], written.layers, written.depth)
