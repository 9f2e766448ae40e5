"""Stop and keep rules as data: when a draft ends, and which of its tokens the large model lets stand.

Sources: paper = arXiv 2302.07863v4, sections 3.2 (fallback) and 3.3 (rollback), Algorithm 1; authors = the authors'
implementation at commit ad37f5641; cascades = Narasimhan et al., *Faster Cascades via Speculative Decoding*, ICLR 2025,
in their greedy form. `docs/algorithm.md` says what each difference costs.

A keep rule is a rejection score and the threshold it is compared with: a drafted token falls where its score is above
the threshold. Whatever the rule, a token that is the large model's own choice stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bild.decoding.actions import Verified
from bild.errors import BildError

Score = Callable[[float, float, float, int], float]
"""(q, choice_nll, token_nll, rank) -> rejection score of a drafted token that is not the large model's choice.

q is the small model's probability of the token, `choice_nll` and `token_nll` are the large model's -ln p of its own
choice and of the token, `rank` is the token's place among its probabilities, 1 for the likeliest; 0 where not asked."""


@dataclass(frozen=True)
class KeepRule:
    """One way to judge drafted tokens."""

    score: Score
    threshold: str | None
    """The name of the threshold that the score is compared with; None compares with 0."""
    words: str
    """The condition on which a drafted token stands, in words."""
    ranks: bool = False
    """The score needs the token's rank."""
    capped: bool = False
    """`threshold.top` may cap the rank besides."""


KEEPS: dict[str, KeepRule] = {
    "nll": KeepRule(
        lambda _q, _choice_nll, token_nll, _rank: token_nll, "rb", "-ln p <= rb (BiLD, paper 3.3)", capped=True
    ),
    "exact": KeepRule(lambda *_: math.inf, None, "it is the large model's choice (speculative decoding)"),
    "share": KeepRule(
        lambda _q, choice_nll, token_nll, _rank: 1.0 - math.exp(choice_nll - token_nll),
        "alpha",
        "p >= (1 - alpha) max p (lenience; the cascades' token rule V3)",
        capped=True,
    ),
    "loss": KeepRule(
        lambda _q, choice_nll, token_nll, _rank: math.exp(-choice_nll) - math.exp(-token_nll),
        "alpha",
        "p >= max p - alpha (the cascades' token rule V2)",
        capped=True,
    ),
    # A greedy draft is the small model's choice, so q is max q, and the token rule V1 and the difference rule are one.
    "difference": KeepRule(
        lambda q, choice_nll, _token_nll, _rank: math.exp(-choice_nll) - q,
        "alpha",
        "q >= max p - alpha (the cascades' token rule V1, the difference rule)",
    ),
    "doubt": KeepRule(lambda q, _choice_nll, _token_nll, _rank: 1.0 - q, "alpha", "q >= 1 - alpha (Chow's rule)"),
    # A token that ties with the choice has no token above it, and yet is not the choice.
    "top": KeepRule(
        lambda _q, _choice_nll, _token_nll, rank: max(rank, 2), "top", "its rank under p is at most top", ranks=True
    ),
}
"""Every keep rule by name; p is the large model's probability, q the small one's."""

STOPS: dict[str, str] = {
    "window": "max_draft tokens are drafted",
    "unsure": "the small model's probability of a token is below fb (paper 3.2)",
    "likely": "the product of the draft's probabilities is below fb",
    "adaptive": "a window is full that grows by 2 after a round without a rollback and shrinks by 1 after any other",
    "auto": "another token no longer pays by measured costs (the same as max_draft=auto)",
    "oracle": "the next token would be rejected, which only the replay of a decision tree can know",
}
"""Every stop rule by name, in words. `max_draft` and the end of the text end a draft under each of them."""

BY_FB = ("unsure", "likely")
"""The stop rules that go by the fallback threshold."""


@dataclass(frozen=True)
class Rules:
    """One setting of the loop in `bild.decoding.loop`: plain values, so that equal settings are equal and hashable."""

    keep: str = "nll"
    """A name in `KEEPS`."""
    threshold: float = 0.0
    """The value that a rejection score must not exceed."""
    top: int | None = None
    """Reject any token of a higher rank than this besides; None: whatever its rank."""
    fb: float = 0.0
    """The fallback threshold: the small model hands over when its largest probability is below it."""
    stop: str = "unsure"
    """The probability that `fb` is compared with: under "unsure" the token's, under "likely" the draft's so far.
    "oracle" stops just before the first token that would be rejected, which only a replay can know."""
    adapts: bool = False
    """The draft's limit grows by 2 after a round without a rollback, and shrinks by 1 after any other."""
    scan: str = "all"
    """ "first": only the earliest token above the threshold is looked at, and all stand if it is the large model's
    choice, as in the authors' code; "all": tokens that are its choice are passed over (paper 3.3)."""
    max_draft: int = 10
    """The limit of a draft; with `adapts` or a `pace`, of the first one."""
    pace: Pace | None = None
    """Sets the limit after every round, in the place of a fixed one."""
    first: str = "large"
    """The model that writes the first token, "large" or "small"."""
    after_rollback: str = "small"
    """The model that writes after a rollback."""
    unsure: str = "drop"
    """The fate of the token that the small model was unsure of: "drop", or "verify" it with the others."""
    verify_eos: bool = True
    """Ask the large model about a draft that would end the text (end token, or length limit) before it does."""
    rollback_eos_ends: bool = True
    """An end token written by a rollback ends the text."""

    @property
    def ranks(self) -> bool:
        """A verdict must tell the ranks of the drafted tokens."""
        return self.top is not None or KEEPS[self.keep].ranks

    def rejection(self, same: bool, q: float, choice_nll: float, token_nll: float, rank: int) -> float:
        """Return the rejection score of one drafted token; `same`: it is the large model's own choice."""
        if same and self.scan == "all":
            return -math.inf
        if self.top is not None and rank > self.top and not same:
            return math.inf
        return KEEPS[self.keep].score(q, choice_nll, token_nll, rank)

    def rejects(self, same: bool, q: float, choice_nll: float, token_nll: float, rank: int) -> bool:
        """Return whether the large model takes a token back, if nothing before it is taken back."""
        return self.rejection(same, q, choice_nll, token_nll, rank) > self.threshold

    def kept(self, tokens: Sequence[int], verdict: Verified, probs: Sequence[float]) -> int:
        """Return how many of the drafted tokens stand; the large model's choice replaces the first that does not.

        `probs` are the small model's probabilities of the tokens.
        """
        choice, choice_nll, token_nll, ranks = verdict
        for i, token in enumerate(tokens):
            same = token == choice[i]
            if self.rejects(same, probs[i], choice_nll[i], token_nll[i], ranks[i] if ranks else 0):
                return len(tokens) if same else i
        return len(tokens)

    def next_window(self, window: int, drafted: int, rollback: bool) -> int:
        """Return the limit of the next draft where it `adapts`; a round without a draft leaves it as it is."""
        if not self.adapts or not drafted:
            return window
        return max(1, window - 1) if rollback else window + 2


AUTO = "auto"
_STOOD, _FELL = 4.0, 1.0
"""A Beta prior of the share that stands: 0.8 before the first verdict, as if five had been seen."""
_STEPS = 4.0
"""Sure steps that count as seen before the first one."""


@dataclass(frozen=True)
class DraftCosts:
    """Seconds of the parts of a round on one pair, engine and machine. BildError for values that are no costs."""

    small: float
    """One small step."""
    large: tuple[tuple[int, float], ...]
    """(width, one large pass of so many new positions), by rising width from 1 to at least 2; linear in between."""
    rest: float = 0.0
    """Seconds of a round besides its passes."""

    def __post_init__(self) -> None:
        widths, passes = [width for width, _ in self.large], [seconds for _, seconds in self.large]
        rising = widths[:1] == [1] and len(widths) > 1 and widths == sorted(set(widths))
        if not rising or not all(math.isfinite(x) and x > 0.0 for x in (self.small, *passes)) or not self.rest >= 0.0:
            raise BildError(
                f"{self} are no costs of drafts: they are positive seconds, of a small step and of large passes by "
                "rising width from 1 on."
            )

    @property
    def longest(self) -> int:
        """The longest draft whose verification has a price, >= 1."""
        return self.large[-1][0] - 1

    def passes(self) -> list[float]:
        """Return the seconds of a large pass of width 1, 2, ... `longest` + 1."""
        found = [self.large[0][1]]
        for (before, low), (width, high) in zip(self.large, self.large[1:], strict=False):
            found += [low + (high - low) * (w - before) / (width - before) for w in range(before + 1, width + 1)]
        return found


@dataclass
class Tally:
    """Counts over the drafts of one text so far."""

    steps: int = 0
    """Small steps."""
    unsure: int = 0
    """Small steps that ended a draft because the small model was unsure."""
    stood: int = 0
    """Drafted tokens that stand."""
    fell: int = 0
    """Drafted tokens that were taken back; those behind such a token were not judged and do not count."""

    def add(self, steps: int, unsure: bool, stood: int, fell: bool) -> Tally:
        """Count one more round."""
        self.steps += steps
        self.unsure += unsure
        self.stood += stood
        self.fell += fell
        return self


class Pace:
    """The limit of the next draft under `stop=auto`, by costs and this text so far; equal ones give equal limits.

    A draft ends where another token stops paying. Let `a` be the share of drafted tokens that stand, `u` the share of
    small steps that are sure, `s` the time of a small step and `V(w)` that of a large pass of width w. A round that may
    draft up to L tokens writes, on the mean, 1 + sum_{j=1..L} (u a)^j tokens: the j-th is there and stands with
    (u a)^j, and one is the large model's. It takes rest + s sum_{j<L} u^j for its steps and V(1) + sum_{j=1..L} u^j
    (V(j+1) - V(j)) for its pass. The limit is the L of the highest ratio of the two, which by the renewal-reward
    theorem is the rate of a text in which a and u stay as they are. With u = 1 this is (1 + sum a^j) / (L s + V(L+1) +
    rest), as in Leviathan et al. 2023, but for a pass that is not free.
    """

    def __init__(self, costs: DraftCosts) -> None:
        self.costs = costs
        passes = costs.passes()
        self._wider: Sequence[float] = [passes[j] - passes[j - 1] for j in range(1, len(passes))]
        """Seconds that the j-th drafted token adds to the large pass."""

    def limit(self, tally: Tally) -> int:
        """Return the limit, 1 to `costs.longest`; of equally good limits the shortest."""
        sure = 1.0 - tally.unsure / (tally.steps + _STEPS)
        stand = sure * (tally.stood + _STOOD) / (tally.stood + tally.fell + _STOOD + _FELL)
        small = self.costs.small
        tokens, seconds = 1.0, self.costs.rest + self.costs.large[0][1]
        there = gain = 1.0
        best, limit = 0.0, 1
        for length, wider in enumerate(self._wider, 1):
            seconds += there * small
            there *= sure
            gain *= stand
            seconds += there * wider
            tokens += gain
            if tokens > best * seconds:
                best, limit = tokens / seconds, length
        return limit
