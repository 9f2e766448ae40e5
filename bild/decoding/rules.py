"""The two policies as data: when the small model stops, and which of its tokens the large one lets stand.

Sources: paper = arXiv 2302.07863v4, sections 3.2 (fallback) and 3.3 (rollback), Algorithm 1; authors = the authors'
implementation at commit ad37f5641. `docs/algorithm.md` says what each difference costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bild.decoding.actions import Verdict

KeepRule = Callable[[list[int], Verdict], int]
"""(drafted tokens, verdict) -> how many of them stand; the large model's choice replaces the first that does not."""

DEFAULT_MAX_DRAFT = 10
"""Paper 7.1.2."""


def keep_exact(tokens: list[int], verdict: Verdict) -> int:
    """Keep a token only where it is the large model's own choice (speculative decoding, Leviathan et al. 2023)."""
    for i, (token, choice) in enumerate(zip(tokens, verdict.choice, strict=False)):
        if token != choice:
            return i
    return len(tokens)


def keep_within(rb: float) -> KeepRule:
    """Roll back to the first token with -ln p_large > rb *that differs* from the large model's choice (paper 3.3)."""

    def keep(tokens: list[int], verdict: Verdict) -> int:
        for i, nll in enumerate(verdict.token_nll):
            if nll > rb and verdict.choice[i] != tokens[i]:
                return i
        return len(tokens)

    return keep


def keep_within_first(rb: float) -> KeepRule:
    """As the authors' code: look at the earliest token with -ln p_large > rb only.

    If the large model would have written that very token, nothing is rolled back and later tokens pass unseen.
    """

    def keep(tokens: list[int], verdict: Verdict) -> int:
        for i, nll in enumerate(verdict.token_nll):
            if nll > rb:
                return i if verdict.choice[i] != tokens[i] else len(tokens)
        return len(tokens)

    return keep


@dataclass(frozen=True)
class Rules:
    """One setting of the loop in `bild.decoding.loop`."""

    keep: KeepRule
    fb: float
    """Fallback threshold: the small model hands over when its largest probability is below it."""
    max_draft: int = DEFAULT_MAX_DRAFT
    first: str = "large"
    """Who writes the first token, "large" or "small"."""
    after_rollback: str = "small"
    """Who writes after a rollback."""
    unsure: str = "drop"
    """What becomes of the token that the small model was unsure of: "drop", or "verify" it with the others."""
    verify_eos: bool = True
    """Ask the large model about a draft that would end the text (end token, or length limit) before it does."""
    rollback_eos_ends: bool = True
    """Whether an end token written by a rollback ends the text."""


def bild_rules(
    fb: float,
    rb: float,
    rules: str = "paper",
    *,
    max_draft: int = DEFAULT_MAX_DRAFT,
    first: str | None = None,
    after_rollback: str | None = None,
    scan: str | None = None,
    unsure: str | None = None,
    verify_eos: bool | None = None,
) -> Rules:
    """BiLD under `rules` "paper" or "authors"; a switch that is not None wins over what the rule set says."""
    authors = rules == "authors"
    scan = scan or ("first" if authors else "all")
    if verify_eos is None:
        verify_eos = not authors
    return Rules(
        keep=keep_within_first(rb) if scan == "first" else keep_within(rb),
        fb=fb,
        max_draft=max_draft,
        first=first or "large",
        after_rollback=after_rollback or ("large" if authors else "small"),
        unsure=unsure or "drop",
        # With rb = inf nothing can be rolled back, so the verdict on a finished draft would be thrown away.
        verify_eos=verify_eos and rb < math.inf,
        rollback_eos_ends=not authors,
    )


def speculative_rules(max_draft: int = DEFAULT_MAX_DRAFT, *, first: str | None = None) -> Rules:
    """Exact greedy speculative decoding with a fixed window: its text is the large model's greedy text."""
    return Rules(keep=keep_exact, fb=0.0, max_draft=max_draft, first=first or "large")
