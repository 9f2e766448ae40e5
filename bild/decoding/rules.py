"""The two policies as data: when the small model stops, and which of its tokens the large one lets stand.

Sources: paper = arXiv 2302.07863v4, sections 3.2 (fallback) and 3.3 (rollback), Algorithm 1; authors = the authors'
implementation at commit ad37f5641; cascades = Narasimhan et al., *Faster Cascades via Speculative Decoding*, ICLR 2025,
in their greedy form. `docs/algorithm.md` says what each difference costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bild.config import MAX_DRAFT
from bild.decoding.actions import Verdict
from bild.decoding.adaptive_draft import Pace

KeepRule = Callable[[list[int], Verdict, list[float]], int]
"""(drafted tokens, verdict, their probabilities) -> how many of them stand; the large model's choice replaces the first
that does not."""
Objection = Callable[[bool, float, float, float], float]
"""(whether a drafted token is the large model's choice, its probability by the small model, -ln p of the choice, -ln p
of the token) -> how much the large model objects to it: a token is taken back where this is above the bar."""

DEFAULT_MAX_DRAFT = MAX_DRAFT


def keep_exact(tokens: list[int], verdict: Verdict, _probs: Sequence[float] = ()) -> int:
    """Keep a token only where it is the large model's own choice (speculative decoding, Leviathan et al. 2023)."""
    for i, (token, choice) in enumerate(zip(tokens, verdict.choice, strict=False)):
        if token != choice:
            return i
    return len(tokens)


def keep_within(rb: float) -> KeepRule:
    """Roll back to the first token with -ln p_large > rb *that differs* from the large model's choice (paper 3.3)."""

    def keep(tokens: list[int], verdict: Verdict, _probs: Sequence[float] = ()) -> int:
        for i, nll in enumerate(verdict.token_nll):
            if nll > rb and verdict.choice[i] != tokens[i]:
                return i
        return len(tokens)

    return keep


def keep_within_first(rb: float) -> KeepRule:
    """As the authors' code: look at the earliest token with -ln p_large > rb only.

    If the large model would have written that very token, nothing is rolled back and later tokens pass unseen.
    """

    def keep(tokens: list[int], verdict: Verdict, _probs: Sequence[float] = ()) -> int:
        for i, nll in enumerate(verdict.token_nll):
            if nll > rb:
                return i if verdict.choice[i] != tokens[i] else len(tokens)
        return len(tokens)

    return keep


def keep_below(objection: Objection, bar: float) -> KeepRule:
    """Take back the first token that the large model objects to by more than `bar`."""

    def keep(tokens: list[int], verdict: Verdict, probs: list[float]) -> int:
        choice, choice_nll, token_nll = verdict
        for i, token in enumerate(tokens):
            if objection(token == choice[i], probs[i], choice_nll[i], token_nll[i]) > bar:
                return i
        return len(tokens)

    return keep


def object_exactly(same: bool, _q: float, _choice_nll: float, _token_nll: float) -> float:
    """To every token that is not the large model's choice."""
    return -math.inf if same else math.inf


def object_by_nll(same: bool, _q: float, _choice_nll: float, token_nll: float) -> float:
    """BiLD: by -ln p of a token that is not the large model's choice (paper 3.3)."""
    return -math.inf if same else token_nll


def object_by_nll_first(_same: bool, _q: float, _choice_nll: float, token_nll: float) -> float:
    """As `object_by_nll`, before it is seen whether the token is the choice: for `Rules.scan` "first"."""
    return token_nll


def object_by_share(_same: bool, _q: float, choice_nll: float, token_nll: float) -> float:
    """Lenience, and the cascades' token rule V3: keep where p(x) >= (1 - alpha) max p."""
    return 1.0 - math.exp(choice_nll - token_nll)


def object_by_loss(_same: bool, _q: float, choice_nll: float, token_nll: float) -> float:
    """The cascades' token rule V2: keep where p(x) >= max p - alpha."""
    return math.exp(-choice_nll) - math.exp(-token_nll)


def object_by_difference(same: bool, q: float, choice_nll: float, _token_nll: float) -> float:
    """The cascades' token rule V1, q(x) >= max p - alpha, and the difference rule, max q >= max p - alpha.

    A greedy draft is the small model's choice, so q(x) is max q and the two are one. A token that is deferred on
    becomes the large model's choice, so one that is this choice already stands.
    """
    return -math.inf if same else math.exp(-choice_nll) - q


def object_by_doubt(same: bool, q: float, _choice_nll: float, _token_nll: float) -> float:
    """Chow's rule: keep where max q >= 1 - alpha."""
    return -math.inf if same else 1.0 - q


_OBJECTIONS: dict[str, Objection] = {
    "v1": object_by_difference,
    "v2": object_by_loss,
    "v3": object_by_share,
    "chow": object_by_doubt,
    "difference": object_by_difference,
}


@dataclass(frozen=True)
class Rules:
    """One setting of the loop in `bild.decoding.loop`.

    `objection`, `bar` and `scan` say what `keep` does to whoever answers for many bars at once.
    """

    keep: KeepRule
    objection: Objection
    bar: float
    fb: float
    """Fallback threshold: the small model hands over when its largest probability is below it."""
    stop: str = "unsure"
    """What is compared with `fb`: "unsure" the probability of a token, "likely" the product of the draft's so far.
    "oracle" stops just before the first token that would be taken back, which only a replay can know."""
    adapts: bool = False
    """The draft's limit grows by 2 after a round without a rollback, and shrinks by 1 after any other."""
    scan: str = "all"
    """ "first": only the earliest token above the bar is looked at, and stands if it is the large model's choice."""
    max_draft: int = DEFAULT_MAX_DRAFT
    """The limit of a draft; with `adapts` or a `pace`, of the first one."""
    pace: Pace | None = None
    """Sets the limit after every round, in the place of a fixed one."""
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

    def next_window(self, window: int, drafted: int, rollback: bool) -> int:
        """The limit of the next draft where it `adapts`; a round without a draft leaves it as it is."""
        if not self.adapts or not drafted:
            return window
        return max(1, window - 1) if rollback else window + 2


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
        objection=object_by_nll_first if scan == "first" else object_by_nll,
        bar=rb,
        scan=scan,
        fb=fb,
        max_draft=max_draft,
        first=first or "large",
        after_rollback=after_rollback or ("large" if authors else "small"),
        unsure=unsure or "drop",
        # With rb = inf nothing can be rolled back, so the verdict on a finished draft would be thrown away.
        verify_eos=verify_eos and rb < math.inf,
        rollback_eos_ends=not authors,
    )


def speculative_rules(
    max_draft: int = DEFAULT_MAX_DRAFT,
    *,
    first: str | None = None,
    fb: float = 0.0,
    stop: str = "unsure",
    unsure: str = "drop",
    adapts: bool = False,
) -> Rules:
    """Exact greedy speculative decoding: its text is the large model's greedy text, whatever stops the drafts."""
    return Rules(
        keep=keep_exact,
        objection=object_exactly,
        bar=0.0,
        fb=fb,
        stop=stop,
        adapts=adapts,
        max_draft=max_draft,
        first=first or "large",
        unsure=unsure,
    )


def cascade_rules(rule: str, alpha: float, max_draft: int = DEFAULT_MAX_DRAFT, *, first: str | None = None) -> Rules:
    """A speculative cascade with a fixed window.

    `rule` is one of `bild.config.CASCADES`, `alpha` (0..1) is how much a drafted token may lose.
    """
    objection = _OBJECTIONS[rule]
    keep = keep_below(objection, alpha)
    return Rules(keep=keep, objection=objection, bar=alpha, fb=0.0, max_draft=max_draft, first=first or "large")


def oracle_rules(rb: float, max_draft: int = DEFAULT_MAX_DRAFT, *, first: str | None = None) -> Rules:
    """Drafts that end just before the first token that BiLD would take back at `rb` (at 0: exact decoding)."""
    return Rules(
        keep=keep_within(rb),
        objection=object_by_nll,
        bar=rb,
        fb=0.0,
        stop="oracle",
        max_draft=max_draft,
        first=first or "large",
    )
